"""The command line, driven as a user drives it: a real process in a real folder."""

import json
import os
import re
import subprocess
import sys
from functools import partial

import pytest

from peering import KEYS, Pages, giving

APPLICATION = """
from preheat.adapters.mapping import MappingCache
from preheat.caches import SearchCache

down = set()

def load(key):
    if key in down:
        raise OSError(f"{key} is not to be had")
    return {"key": key, "text": key * 20}

def caches():
    return [
        MappingCache({}, load, name="pages", priority=8),
        SearchCache(lambda query: tuple(query.split()), version="1", capacity_bytes=50_000),
    ]

def broken():
    down.update(f"page {n}" for n in range(5))
    return caches()

async def service():
    from preheat import CacheWarmupService
    made = CacheWarmupService()
    for cache in caches():
        made.register(cache)
    return made

number = 7
"""
RECORD = """
import asyncio, shop
from preheat import CacheWarmupService

async def main():
    async with CacheWarmupService() as service:
        pages, search = shop.caches()
        service.register(pages)
        service.register(search)
        for n in range(200):
            pages.get(f"page {n % 20}")
            search.get(f"query {n % 10}")

asyncio.run(main())
"""


MEASURE = """
import asyncio, shop
from preheat import CacheWarmupService

async def main():
    async with CacheWarmupService(holdout_ratio=0.5, seed=3) as service:
        pages, search = shop.caches()
        service.register(pages)
        service.register(search)
        await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
        for n in range(400):
            search.get(f"query {n % 10}")

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(APPLICATION)
    subprocess.run([sys.executable, "-c", RECORD], cwd=folder, check=True)
    return folder


@pytest.fixture
def preheat(shop):
    def call(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "preheat.cli", *arguments],
            cwd=shop,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return call


def test_plan_shows_budget_phases_and_what_was_left_out(preheat):
    shown = preheat("plan", "shop:caches", "--budget-mb", "100")
    assert shown.returncode == 0
    assert "budget 100.0 MiB" in shown.stdout
    assert "critical" in shown.stdout
    assert "pages" in shown.stdout


def test_plan_explains_every_candidate(preheat):
    tree = json.loads(preheat("plan", "shop:caches", "--explain", "--json").stdout)
    assert tree["candidates"] == len(tree["items"]) == 30
    assert all(item["decision"] for item in tree["items"])
    decisions = [item["decision"] for item in tree["items"]]
    assert decisions.count("planned") == tree["planned_items"]
    assert sum(decision.startswith("left out") for decision in decisions) == tree["left_out_items"]


def test_each_strategy_plans_differently_and_says_why(preheat):
    whys = [
        json.loads(preheat("plan", "shop:caches", "--strategy", name, "--json").stdout)["why"]
        for name in ("aggressive", "balanced", "conservative", "adaptive", "priority-based")
    ]
    assert len(set(whys)) == 5


def test_explained_plan_is_readable_without_a_terminal(preheat):
    shown = preheat("plan", "shop:caches", "--explain").stdout
    assert "page 7" in shown
    assert "\x1b" not in shown


def test_run_loads_and_exits_with_zero(preheat):
    shown = preheat("run", "shop:caches", "--json")
    tree = json.loads(shown.stdout)
    assert shown.returncode == 0
    assert tree["counts"]["loaded"] == tree["planned_items"] > 0
    assert sum(tree["counts"].values()) == tree["planned_items"]


def test_run_names_the_items_that_failed_and_exits_with_three(preheat):
    shown = preheat("run", "shop:broken")
    assert shown.returncode == 3
    assert "failed: pages:page 3: OSError: page 3 is not to be had" in shown.stdout


def test_a_function_may_give_a_service(preheat):
    assert preheat("plan", "shop:service").returncode == 0


def test_only_the_named_cache_is_warmed(preheat):
    tree = json.loads(preheat("plan", "shop:caches", "--cache", "search", "--json").stdout)
    assert {name for phase in tree["phases"] for name in phase["caches"]} == {"search"}


def test_status_shows_the_last_run(preheat):
    preheat("run", "shop:caches")
    shown = preheat("status")
    assert shown.returncode == 0
    assert "balanced:" in shown.stdout
    assert json.loads(preheat("status", "--json").stdout)["last"]["schema"] == "preheat-report/1"


def test_history_shows_hit_rates_and_top_items(preheat):
    tree = json.loads(preheat("history", "--top", "3", "--json").stdout)
    assert [(c["name"], c["hits"], c["misses"]) for c in tree["caches"]] == [("pages", 180, 20), ("search", 190, 10)]
    assert [len(cache["top"]) for cache in tree["caches"]] == [3, 3]
    assert "90.0%" in preheat("history").stdout


LEARN = """
import asyncio, shop
from preheat import CacheWarmupService

async def main():
    async with CacheWarmupService(seed=1) as service:
        search = shop.caches()[1]
        service.register(search)
        for n in range(4000):
            search.get(f"query {n * n % 1009 % (150 + n // 10)}")
            if n % 100 == 0:
                service.ledger.history()
        service._training.look()

asyncio.run(main())
"""


def test_history_model_tells_who_predicts_and_what_matters(preheat, shop, tmp_path):
    assert "nothing has been learned" in preheat("history", "model").stdout
    environment = {"CACHE_WARMUP_STATE_DIR": str(tmp_path), "PYTHONPATH": str(shop)}
    subprocess.run([sys.executable, "-c", LEARN], env=os.environ | environment, check=True)
    preheat = partial(preheat, **environment)
    learned = json.loads(preheat("history", "model", "--features", "3", "--json").stdout)["models"]["search"]
    assert learned["accesses"] == 4000
    assert 0.0 <= learned["captured"] <= 1.0
    assert len(learned["importance"]) == 3
    shown = preheat("history", "model").stdout
    assert f"search: {learned['predictor']} predicts, learned from 4,000 accesses" in shown
    assert next(iter(learned["importance"])) in shown


def test_check_finds_a_sound_environment_sound(preheat):
    shown = preheat("check")
    assert shown.returncode == 0
    assert "ERROR" not in shown.stdout
    assert re.search(r"memory: .* pressure (LOW|MODERATE|HIGH)\n", shown.stdout)  # others here may make it stall


def test_check_says_what_is_wrong_and_how_to_mend_it(preheat, tmp_path):
    (tmp_path / "file").write_text("")
    shown = preheat("check", "--state-dir", str(tmp_path / "file"))
    assert shown.returncode == 1
    assert "ERROR" in shown.stdout
    assert "to mend it: set CACHE_WARMUP_STATE_DIR" in shown.stdout


def test_check_shows_memory_and_what_a_plan_may_fill(preheat):
    shown = preheat("check", CACHE_WARMUP_MEMORY_BUDGET_MB="64").stdout
    labels = (
        "limit",
        "source",
        "working set",
        "headroom",
        "reserve",
        "pressure",
        "pressure figures",
        "pressure signals",
    )
    assert [label for label in labels if f"\n        {label}: " not in shown] == []
    assert "budget, aggressive: 64.0 MiB" in shown


def test_check_gives_the_same_to_programs(preheat):
    tree = json.loads(preheat("check", "--json").stdout)
    reading, budgets = tree["reading"], tree["budget_bytes"]
    assert tree["working_set_bytes"] == max(0, reading["used_bytes"] - reading["reclaimable_bytes"])
    assert reading["available_bytes"] == max(0, reading["limit_bytes"] - tree["working_set_bytes"])
    assert set(budgets) == {"aggressive", "balanced", "conservative", "adaptive", "priority_based"}
    assert 0 < budgets["conservative"] < budgets["balanced"] < budgets["aggressive"]
    assert budgets["aggressive"] + tree["reserve_bytes"] <= reading["available_bytes"]
    assert tree["pressure"] in {"LOW", "MODERATE", "HIGH"}  # what else runs on the machine may stall
    assert tree["memory"]["source"] == reading["source"]


def test_check_shows_which_signals_would_be_listened_to(preheat, tmp_path):
    import os

    os.mkfifo(tmp_path / "fifo")
    tree = json.loads(preheat("check", "--json", MEMORY_PRESSURE_WATCH=str(tmp_path / "fifo")).stdout)
    assert tree["signals"][0] == f"systemd {tmp_path}/fifo (FIFO)"
    assert tree["signals"][0] in tree["memory"]["pressure signals"]
    off = json.loads(preheat("check", "--json", MEMORY_PRESSURE_WATCH="/dev/null").stdout)
    assert off["signals"] == []
    assert off["no_signals_from"] == ["MEMORY_PRESSURE_WATCH switches them off"]
    assert off["memory"]["pressure signals"] == "none, memory is read at intervals alone"


def test_the_target_may_stand_in_the_project_file(preheat, shop):
    (shop / "preheat.toml").write_text('target = "shop:caches"\nstrategy = "aggressive"\n')
    try:
        assert json.loads(preheat("plan", "--json").stdout)["strategy"] == "aggressive"
        from_environment = preheat("plan", "--json", CACHE_WARMUP_STRATEGY="conservative")
        assert json.loads(from_environment.stdout)["strategy"] == "conservative"
        from_option = preheat("plan", "--json", "--strategy", "adaptive", CACHE_WARMUP_STRATEGY="conservative")
        assert json.loads(from_option.stdout)["strategy"] == "adaptive"
    finally:
        (shop / "preheat.toml").unlink()


def test_status_shows_what_each_cache_won(preheat, shop):
    subprocess.run([sys.executable, "-c", MEASURE], cwd=shop, check=True)
    shown = preheat("status").stdout
    search = next(line for line in shown.splitlines() if line.strip().startswith("search"))
    assert re.search(r"decayed_frequency\t[+-]\d+\.\d\d \([+-]\d+\.\d\d to [+-]\d+\.\d\d\)\t[+-]\d+\.\d\d \(", search)
    assert re.search(r"[\d.]+ s, \d+ requests$", search.rstrip())
    assert "steady: " in shown
    tree = json.loads(preheat("status", "--json").stdout)["last"]
    caches = {cache["cache"]: cache for cache in tree["caches"]}
    assert caches["search"]["uplift"]["low"] <= caches["search"]["uplift"]["points"]
    assert tree["uplift"]["saved_low"] <= tree["uplift"]["saved_seconds"] <= tree["uplift"]["saved_high"]


def test_status_lists_past_runs_newest_first(preheat, shop):
    for strategy in ("conservative", "aggressive"):
        preheat("run", "shop:caches", "--strategy", strategy)
    shown = preheat("status", "--runs", "2").stdout
    assert shown.index("aggressive") < shown.index("conservative")
    assert "not measured" in shown
    runs = json.loads(preheat("status", "--runs", "2", "--json").stdout)["runs"]
    assert [run["strategy"] for run in runs] == ["aggressive", "conservative"]
    assert all(run["started"] > 1.7e9 for run in runs)


def test_the_gains_of_past_runs_are_summed_up_by_cache_and_predictor(preheat, shop):
    for _ in range(2):
        subprocess.run([sys.executable, "-c", MEASURE], cwd=shop, check=True)
    tree = json.loads(preheat("status", "--runs", "2", "--json").stdout)
    (gain,) = tree["gains"]
    assert (gain["cache"], gain["predictor"], gain["runs"]) == ("search", "decayed_frequency", 2)
    assert gain["accesses"] == 800
    points = [next(c["uplift"]["points"] for c in run["caches"] if c["uplift"]) for run in tree["runs"]]
    assert gain["low"] <= gain["points"] <= gain["high"]
    assert gain["points"] == pytest.approx(sum(points) / 2)
    assert re.search(r"search\tdecayed_frequency\t2\t800\t[+-]", preheat("status", "--runs", "2").stdout)


def test_a_run_kept_by_an_older_version_is_shown_with_its_switches(preheat, shop, tmp_path):
    from preheat._store import SqliteStore

    report = json.loads(preheat("run", "shop:caches", "--json").stdout)
    report["uplift"] = {"points": 2.0, "low": 1.0, "high": 3.0, "saved_seconds": 4.0, "accesses": 9}
    switch = {"at": 1.7e9, "before": "adaptive", "after": "conservative", "reason": "HIGH pressure"}
    older = {name: report[name] for name in report if name not in {"caches", "steady", "switches"}}
    store = SqliteStore(tmp_path)
    store.save_report(1.0, older)
    store.save_report(2.0, report | {"switches": [switch]})
    store.close()
    shown = preheat("status", "--runs", "9", "--state-dir", str(tmp_path))
    assert shown.returncode == 0
    assert "adaptive -> conservative: HIGH pressure" in shown.stdout
    assert shown.stdout.count("+2.00 (+1.00 to +3.00)") == 2
    assert "adaptive -> conservative" in preheat("status", "--state-dir", str(tmp_path)).stdout


def test_strategies_may_stand_in_the_project_file(preheat, shop):
    (shop / "pyproject.toml").write_text(
        "[tool.preheat.strategies.balanced]\nshare = 0.1\n[tool.preheat.strategies.night]\nshare = 0.9\n"
    )
    try:
        trees = [
            json.loads(preheat("plan", "shop:caches", "--strategy", name, "--json").stdout)
            for name in ("night", "balanced", "aggressive")
        ]
        assert trees[0]["budget_bytes"] > trees[2]["budget_bytes"] > trees[1]["budget_bytes"]
        assert "night" in json.loads(preheat("check", "--json").stdout)["budget_bytes"]
        (shop / "pyproject.toml").write_text("[tool.preheat.strategies.night]\nshar = 0.9\n")
        refused = preheat("plan", "shop:caches", "--strategy", "night")
        assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
        assert "strategy 'night': shar is not a rule; did you mean 'share'?" in refused.stderr
        (shop / "pyproject.toml").write_text("[tool.preheat]\nstrategies = 3\n")
        assert "strategies is 3; it has to be at most 100 tables" in preheat("plan", "shop:caches").stderr
    finally:
        (shop / "pyproject.toml").unlink()


MISTAKES = {
    "misspelt strategy": (("plan", "shop:caches", "--strategy", "agressive"), "did you mean 'aggressive'?"),
    "negative budget": (("plan", "shop:caches", "--budget-mb", "-5"), "memory_budget_mb is -5.0"),
    "budget that is no number": (("plan", "shop:caches", "--budget-mb", "nan"), "memory_budget_mb is nan"),
    "unknown cache": (("run", "shop:caches", "--cache", "page"), "did you mean 'pages'?"),
    "module that does not exist": (("plan", "shopp:caches"), "shopp can't be imported"),
    "attribute that does not exist": (("plan", "shop:cache"), "shop has no 'cache'"),
    "target without attribute": (("plan", "shop"), "has to be module:attribute"),
    "target that can't be warmed": (("plan", "shop:number"), "is a int"),
    "no target": (("plan",), "nothing says what to warm"),
    "unknown option": (("plan", "--budgt", "3"), "No such option"),
    "no state folder": (("status", "--state-dir", "nowhere"), "there is no state folder nowhere"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_two(preheat, mistake):
    arguments, sentence = MISTAKES[mistake]
    shown = preheat(*arguments)
    assert shown.returncode == 2
    assert sentence in shown.stderr
    assert "Traceback" not in shown.stderr


def test_an_unknown_variable_is_refused_with_the_nearest_known(preheat):
    shown = preheat("plan", "shop:caches", CACHE_WARMUP_BATCHSIZE="3")
    assert shown.returncode == 2
    assert "did you mean 'CACHE_WARMUP_BATCH_SIZE'?" in shown.stderr


def test_control_characters_in_keys_do_not_reach_the_terminal(shop, tmp_path):
    record = RECORD.replace("page {n % 20}", "page\\x1b[31m {n % 20}")
    (tmp_path / "shop.py").write_text(APPLICATION)
    subprocess.run([sys.executable, "-c", record], cwd=tmp_path, check=True)
    command = [sys.executable, "-m", "preheat.cli", "plan", "shop:caches", "--explain"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "\x1b" not in shown.stdout
    assert "page\\x1b[31m 3" in shown.stdout


def test_help_has_an_example_for_each_command(preheat):
    for command in ("plan", "run", "status", "history", "check"):
        assert "Example: " in preheat(command, "--help").stdout


TIGHT = """
import time
from preheat import CacheWarmupService, create_warmup_item
from preheat.adapters.mapping import MappingCache
from preheat.errors import ItemTooLarge
from preheat.testing import MIB, ScriptedMemory

memory = ScriptedMemory([], limit_bytes=1024 * MIB)

def load(key):
    if key == "giant":
        raise ItemTooLarge("giant is one")
    if key == "030":
        memory._available = 1 * MIB
        time.sleep(0.1)
    return bytes(1000)

def service(*keys):
    made = CacheWarmupService(memory=memory, holdout_ratio=0.0, batch_size=2, concurrency_limit=1)
    made.register(MappingCache({}, load, name="pages"))
    columns = {"size_bytes": 1000, "usage_frequency": 1.0, "warmup_cost": 1.0}
    rows = [create_warmup_item("pages", key, **columns) for key in keys or [f"{n:03}" for n in range(60)]]
    made.register_candidate_source(lambda history: rows)
    return made

def with_a_giant():
    return service("small", "giant", "another")
"""


@pytest.fixture
def tight(tmp_path):
    (tmp_path / "tight.py").write_text(TIGHT)

    def call(*arguments):
        command = [sys.executable, "-m", "preheat.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    return call


def test_a_run_stopped_by_pressure_says_why_and_what_it_undid(tight):
    shown = tight("run", "tight:service", "--strategy", "aggressive")
    assert shown.returncode == 4
    assert re.search(r"^undone: 0\.0\d MiB accounted, (-?[\d.]+|not) measured$", shown.stdout, re.MULTILINE)
    pressure = re.findall(r"^\d\d:\d\d:\d\d\.\d{3}  ([\d.]+) MiB available  (.*)$", shown.stdout, re.MULTILINE)
    assert pressure == [
        ("1.00", "LOW -> CRITICAL: stops and undoes what nobody used"),
        ("1.00", "the run was stopped: pressure"),
    ]
    assert "stopped: pressure" in shown.stdout
    status = tight("status")
    assert status.returncode == 0
    assert set(shown.stdout.splitlines()) <= set(status.stdout.splitlines())
    last = json.loads(tight("status", "--json").stdout)["last"]
    assert last["rolled_back_bytes"] > 0
    assert last["counts"]["rolled_back"] > 0


def test_an_item_that_is_too_large_is_no_failure_of_the_run(tight):
    shown = tight("run", "tight:with_a_giant", "--strategy", "aggressive")
    assert shown.returncode == 0, shown.stderr
    assert "2 loaded, 1 too large in" in shown.stdout
    assert "failed:" not in shown.stdout


NEW_FIELDS = ("estimated_bytes", "sizes", "rolled_back_bytes", "released_bytes", "memory_events", "corrections")


def test_status_shows_a_report_of_the_version_before_memory_was_told(tight, tmp_path):
    from preheat._store import SqliteStore

    tight("run", "tight:with_a_giant", "--state-dir", "old")
    store = SqliteStore(tmp_path / "old")
    (report,) = store.reports(1)
    older = {name: value for name, value in report.items() if name not in NEW_FIELDS}
    assert len(older) == len(report) - len(NEW_FIELDS)
    del older["counts"]["too_large"]
    store.save_report(2e9, older)
    store.close()
    shown = tight("status", "--state-dir", "old")
    assert shown.returncode == 0, shown.stderr
    assert "memory: 0.00 MiB estimated" in shown.stdout
    assert tight("run", "tight:with_a_giant", "--state-dir", "old").returncode == 0


# ------------------------------------------------------------------------------------------------------ saved plans


def test_a_plan_is_saved_reviewed_edited_and_run(preheat, tmp_path):
    file = tmp_path / "plan.json"
    saved = preheat("plan", "shop:caches", "--save", str(file))
    assert saved.returncode == 0
    tree = json.loads(file.read_text())
    pages = tree["phases"]["critical"]
    assert len(pages) > 3
    del pages[0]
    file.write_text(json.dumps(tree))
    ran = preheat("run", "shop:caches", "--plan", str(file), "--json")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    planned = sum(len(items) for items in tree["phases"].values())
    assert report["planned_items"] == planned == report["counts"]["loaded"]
    assert list(tmp_path.iterdir()) == [file]


def test_a_saved_plan_is_fitted_to_the_budget_of_now(preheat, tmp_path):
    file = tmp_path / "plan.json"
    preheat("plan", "shop:caches", "--save", str(file))
    ran = preheat("run", "shop:caches", "--plan", str(file), "--budget-mb", "0.001", "--json")
    assert json.loads(ran.stdout)["planned_bytes"] <= 1048
    assert re.search(r"left out of the saved plan: \d+ items; other items save more", ran.stderr)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text.replace('"pages"', '"sites"'), "no cache is registered as 'sites'"),
        (lambda text: text.replace('"priority"', '"prio"'), r"plan.json: phases, critical\[0\], item pages:page "),
        (lambda text: text.replace('"balanced"', '"bold"'), "there is no strategy 'bold'"),
        (lambda text: text[:-10], r"plan.json, line \d+: no JSON"),
    ],
)
def test_an_edit_that_can_not_be_is_one_sentence(preheat, tmp_path, change, sentence):
    file = tmp_path / "plan.json"
    preheat("plan", "shop:caches", "--save", str(file))
    file.write_text(change(file.read_text()))
    ran = preheat("run", "shop:caches", "--plan", str(file))
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert re.search(sentence, ran.stderr)


def test_a_plan_that_is_not_there_or_can_not_be_written_is_one_sentence(preheat, tmp_path):
    ran = preheat("run", "shop:caches", "--plan", "nowhere.json")
    assert (ran.returncode, ran.stderr) == (2, "preheat: nowhere.json can't be read: No such file or directory\n")
    made = preheat("plan", "shop:caches", "--save", str(tmp_path / "no/plan.json"))
    assert made.returncode == 2
    assert made.stderr.endswith("no/plan.json: No such file or directory\n")


def test_a_saved_plan_has_its_strategy_already(preheat):
    ran = preheat("run", "shop:caches", "--plan", "plan.json", "--strategy", "balanced")
    assert (ran.returncode, "give --plan or --strategy, not both" in ran.stderr) == (2, True)


def test_an_explained_plan_shows_what_makes_the_value(preheat):
    shown = preheat("plan", "shop:caches", "--explain").stdout
    assert re.search(
        r"^ +1 critical +pages .* B  priority  8  +\d+% x \S+ s = +\S+ s/MiB  page \d+  \(planned\)$", shown, re.M
    )


def test_run_loads_each_item_in_one_shard(preheat):
    plan = json.loads(preheat("plan", "shop:caches", "--save", "plan.json", "--json").stdout)
    assert plan
    runs = [
        json.loads(preheat("run", "shop:caches", "--plan", "plan.json", "--shard", f"{n}/3", "--json").stdout)
        for n in (1, 2, 3)
    ]
    whole = json.loads(preheat("run", "shop:caches", "--plan", "plan.json", "--json").stdout)
    assert sum(run["counts"]["loaded"] for run in runs) == whole["counts"]["loaded"] > 0
    assert all(run["counts"]["loaded"] < whole["counts"]["loaded"] for run in runs)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "x/y", "1/0", "1/5000", "-1/3", "²/3"])
def test_a_shard_that_can_not_be_is_one_sentence(preheat, shard):
    shown = preheat("run", "shop:caches", f"--shard={shard}")
    assert shown.returncode == 2
    assert "--shard is" in shown.stderr
    assert "Traceback" not in shown.stderr


PEERED = """
from preheat import CacheWarmupService, create_warmup_item
from preheat.adapters.mapping import MappingCache
from preheat.codecs import TextCodec

def service():
    made = CacheWarmupService(holdout_ratio=0.0)
    made.register(MappingCache({}, str, name="pages", codec=TextCodec()))
    columns = {"size_bytes": 100, "usage_frequency": 1.0, "warmup_cost": 1.0}
    rows = [create_warmup_item("pages", f"page {n}", **columns) for n in range(60)]
    made.register_candidate_source(lambda history: rows)
    return made
"""


def test_a_run_tells_what_came_from_peers(tmp_path):
    (tmp_path / "peered.py").write_text(PEERED)
    with giving(tmp_path / "warm", Pages(), KEYS[:40]) as port:
        environment = {"CACHE_WARMUP_PEERS": f"http://127.0.0.1:{port}", "CACHE_WARMUP_APPLICATION_VERSION": "1"}
        shown = subprocess.run(
            [sys.executable, "-m", "preheat.cli", "run", "peered:service", "--strategy", "aggressive"],
            cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    assert "60 loaded" in shown.stdout
    assert re.search(r"^from peers: 40 items, 0\.0\d MiB, in \d+ requests$", shown.stdout, re.MULTILINE)
