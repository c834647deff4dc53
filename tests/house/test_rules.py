"""The rules of the house: layers, documented settings, nothing that runs what it reads."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from preheat._plan.strategy import STRATEGIES, StrategyProfile
from preheat._settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def test_modules_import_only_from_the_layers_below():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--config", "pyproject.toml", "--no-cache"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stdout


def test_every_setting_is_documented_under_its_name_in_the_environment():
    page = (ROOT / "docs/reference/settings.md").read_text()
    names = [f"{PREFIX}{field.upper()}" for field in Settings.__dataclass_fields__]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_page_of_settings_names_no_setting_that_does_not_exist():
    page = (ROOT / "docs/reference/settings.md").read_text()
    known = {f"{PREFIX}{field.upper()}" for field in Settings.__dataclass_fields__}
    assert set(re.findall(rf"`({PREFIX}[A-Z_]+)`", page)) <= known


def test_every_rule_of_a_strategy_is_documented_with_its_default():
    page = (ROOT / "docs/reference/settings.md").read_text()
    documented = re.findall(r"^\| `([a-z_]+)` \| (?:`(.*?)`|none)? *\|", page, re.MULTILINE)
    fields = {name: field for name, field in StrategyProfile.__dataclass_fields__.items() if name != "name"}
    assert [name for name, _ in documented] == list(fields)
    plain = StrategyProfile("plain", 1.0, "")
    shown = {name: getattr(plain, name) for name, text in documented if text}
    shown["pressure_response"] = [response.name.lower() for response in plain.pressure_response]
    assert shown == {name: read_default(text, shown[name]) for name, text in documented if text}


def read_default(text, like):
    value = json.loads(text)
    return type(like)(value) if isinstance(value, list) else value


@pytest.mark.parametrize("page", ["README.md", "docs/explanation/strategies.md"])
def test_the_tables_of_strategies_have_every_strategy_with_its_share(page):
    text = (ROOT / page).read_text()
    missing = [
        name
        for name, row in STRATEGIES.items()
        if not re.search(rf"\| `{name}` \|[^\n]*{row.share * 100:.0f} ?%", text)
    ]
    assert missing == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_nothing_runs_or_unpickles_what_it_reads(source):
    tree = ast.parse(source.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    reached = {(node.value.id, node.attr) for node in ast.walk(tree) if is_dotted(node)}
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    assert {name.partition(".")[0] for name in imported}.isdisjoint(RUNS_WHAT_IT_READS)
    assert named.isdisjoint({"eval", "exec", "compile", "__import__"})
    assert reached.isdisjoint({("builtins", "eval"), ("builtins", "exec"), ("np", "load"), ("np", "fromfile")})
    assert "allow_pickle" not in arguments


RUNS_WHAT_IT_READS = {"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle", "yaml"}


def is_dotted(node):
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)


VOCABULARY = "cache item history candidate budget headroom reserve pressure plan phase run report uplift snapshot"


def test_the_glossary_has_the_whole_vocabulary():
    page = (ROOT / "docs/reference/glossary.md").read_text()
    assert [word for word in VOCABULARY.split() if f"**{word}**" not in page] == []
