# Two commands for everybody:  make demo   make test
# The long figures:            make faults make bench

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CORPUS ?=
QUERIES ?=
DEMO_ARGS := $(if $(CORPUS),--corpus "$(CORPUS)") $(if $(QUERIES),--queries "$(QUERIES)") $(ARGS)

PURE := src/preheat/_columns.py,src/preheat/_model.py,src/preheat/abc.py,src/preheat/errors.py,\
src/preheat/_settings.py,src/preheat/_bad_lines.py,src/preheat/codecs.py,src/preheat/_history/*,\
src/preheat/_analysis/*,src/preheat/_portable/*,src/preheat/_store/compact.py,src/preheat/_store/encoding.py,\
src/preheat/_store/older.py,src/preheat/_snapshot/layout.py,src/preheat/_snapshot/merging.py,src/preheat/_predict/*,\
src/preheat/_plan/*,src/preheat/_pressure.py,src/preheat/_execution/*,src/preheat/_guard/*,src/preheat/_measure.py,\
src/preheat/_summary.py,src/preheat/_replay/*,src/preheat/_choose.py,src/preheat/_footing.py,\
src/preheat/_interval.py,src/preheat/_pace.py,src/preheat/_steady.py,src/preheat/_past.py,src/preheat/_origin/*,\
src/preheat/_sharing/*,src/preheat/_reach.py,src/preheat/_fleet.py,src/preheat/_rolling.py,\
src/preheat/_pool/contributions.py,src/preheat/_pool/folding.py,src/preheat/_pool/encoding.py,src/preheat/_pool/adding.py,\
src/preheat/_pool/items.py,src/preheat/_pool/rows.py,src/preheat/_page/*,src/preheat/_readiness.py,\
src/preheat/_exposure.py,src/preheat/_tally.py,src/preheat/_figures.py,src/preheat/caches/_query.py,\
src/preheat/caches/candidates.py,src/preheat/adapters/patterns.py,src/preheat/django/configuration.py,\
src/preheat/_samples.py,src/preheat/caches/_digests.py,src/preheat/caches/_duel.py,src/preheat/caches/_ghosts.py,\
src/preheat/_blocks.py,src/preheat/_living.py,src/preheat/caches/_policy.py,src/preheat/caches/_queues.py,\
src/preheat/caches/_warmed.py,src/preheat/_bulk/adding.py,src/preheat/_bulk/packing.py,src/preheat/_bulk/sharding.py,\
src/preheat/_bulk/steps.py,src/preheat/_peering/choice.py,src/preheat/_peering/wire.py

# what tells our memory from that of others runs alone; the rest in parts side by side, for much of it waits
ALONE := tests/faults/test_memory.py tests/faults/test_pressure_signals.py
PARTS := "tests/faults tests/shell $(ALONE:%=--ignore=%)" "tests/pure tests/properties" "tests/integration" \
  "tests/contract tests/edges tests/house"

.PHONY: help demo test docs faults bench clean

help:
	@sed -n '1,2p' Makefile

$(VENV)/.ready: pyproject.toml examples/codesearch/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "preheat needs Python 3.11 or newer; $(PYTHON) is missing or older. Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "setting up $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --only-binary=:all: \
	  'setuptools>=77' wheel -r examples/codesearch/requirements.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --only-binary=:all: --no-build-isolation --editable '.[test]'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --only-binary=:all: --upgrade --no-deps \
	  --target $(VENV)/ml 'lightgbm>=4.3' 'scipy>=1.11'
	@touch $@

demo: $(VENV)/.ready
	@PYTHONPATH=examples $(BIN)/python -m codesearch demo $(DEMO_ARGS)

test: $(VENV)/.ready
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@rm -f .coverage .coverage.*
	@$(BIN)/coverage run -m pytest --quiet $(ALONE)
	@logs=$$(mktemp -d); n=0; for part in $(PARTS); do n=$$((n + 1)); \
	   { $(BIN)/coverage run -m pytest --quiet $$part >$$logs/$$n 2>&1 || touch $$logs/failed; } & \
	 done; wait; cat $$logs/[0-9]; test ! -e $$logs/failed; status=$$?; rm -rf $$logs; exit $$status
	@PYTHONPATH=$(VENV)/ml $(BIN)/coverage run -m pytest --quiet -k tree tests/pure  # the extra ml, which slows training
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --fail-under=95 --include='$(subst $() ,,$(PURE))'


docs: $(VENV)/.ready
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet && echo "build/site/index.html"

faults: $(VENV)/.ready
	@PREHEAT_FAULT_RUNS=1000 $(BIN)/python -m pytest tests/faults --quiet

bench: $(VENV)/.ready
	@missed=0; for script in bench/*.py bench/fleet; do echo "== $$script"; $(BIN)/python $$script || missed=1; done; exit $$missed

clean:
	@rm -rf $(VENV) .demo .coverage .coverage.* build dist src/*.egg-info
