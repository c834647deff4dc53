"""The promised API, end to end: traffic, a plan, a run, what it won; and every setting of the environment at work."""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import preheat
from builders import GIB, HeldCache, reading
from preheat import (
    CacheWarmupService,
    MemoryPressureLevel,
    WarmupStrategy,
    create_warmup_item,
    execute_memory_aware_warmup,
    get_cache_warmup_service,
    validate_warmup_environment,
)
from preheat._model import MIB, ItemStatus
from preheat._predict.blend import pool_name
from preheat._store import SqliteStore
from preheat.abc import CacheStatistics, ItemRef, ItemResult, WarmupItem
from preheat.caches import EmbeddingCache, FileCache, ProjectCache, SearchCache
from preheat.errors import InvalidSetting, UnknownCache, UnknownStrategy, UsageError, WarmupInProgress

pytestmark = pytest.mark.usefixtures("no_leaked_threads", "state_dir")

STRATEGIES = list(WarmupStrategy)


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CACHE_WARMUP_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def plenty() -> Any:
    return reading(4 * GIB, 8 * GIB)


class Watched(HeldCache):
    """A cache that says what was done to it."""

    def __init__(self, name: str = "watched", load: Callable[[WarmupItem], Any] = lambda item: None) -> None:
        super().__init__(name)
        self.batches: list[int] = []
        self.starts: list[tuple[str, float]] = []
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        self._load = load

    def warmup_item(self, item: WarmupItem) -> ItemResult:
        return self.warmup_items([item])[0]

    def warmup_items(self, items: Sequence[WarmupItem]) -> list[ItemResult]:
        with self._lock:
            self.batches.append(len(items))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return [self._load_one(item) for item in items]
        finally:
            with self._lock:
                self._at_once -= 1

    def _load_one(self, item: WarmupItem) -> ItemResult:
        self.starts.append((item.ref.key, time.monotonic()))
        self._load(item)
        self.held[item.ref.key] = item.size_bytes
        return ItemResult(ItemStatus.LOADED, item.size_bytes)

    def undo_warmup(self, key: str) -> int:
        return self.held.pop(key, 0)


def rows(n: int, cache: str = "watched", **columns: Any) -> list[WarmupItem]:
    columns = {"size_bytes": 1000, "usage_frequency": 1.0, "warmup_cost": 1.0} | columns
    return [create_warmup_item(cache, f"{i:03}", **columns) for i in range(n)]


@asynccontextmanager
async def service_with(
    *caches: Any, items: Sequence[WarmupItem] = (), **changes: Any
) -> AsyncIterator[CacheWarmupService]:
    changes = {"memory": plenty} | changes
    async with CacheWarmupService(**changes) as service:
        for cache in caches:
            service.register(cache)
        if items:
            service.register_candidate_source(lambda history: items)
        yield service


def four_caches(root: Path) -> dict[str, Any]:
    """A small search service on all four caches, as an application would build it."""
    for n in range(6):
        folder = root / f"p{n}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "main.py").write_text(f"def function_{n}(): return {n}\n" * 50)

    def encode(texts: Sequence[str]) -> Any:
        return np.array([np.frombuffer(text.ljust(64)[:64].encode(), np.uint8) for text in texts], np.float32)

    files: Any = FileCache(lambda path, content: content.decode().splitlines(), root=root, capacity_bytes=MIB)
    projects: Any = ProjectCache(lambda path: sorted(p.name for p in path.iterdir()), root=root, capacity_bytes=MIB)
    embeddings = EmbeddingCache(encode, model="bytes-64", capacity_bytes=MIB)

    def search(query: str, project: str) -> list[Any]:
        time.sleep(0.001)
        vector = embeddings.get(query)
        return [query, projects.get(project), float(vector.sum()), files.get(f"{project}/main.py")[0]]

    searches: Any = SearchCache(
        search,
        version="1",
        capacity_bytes=MIB,
        needs=lambda query, project: [
            projects.ref(project),
            files.ref(f"{project}/main.py"),
            embeddings.ref(query),
        ],
    )
    return {cache.name: cache for cache in (searches, files, embeddings, projects)}


def ask(caches: dict[str, Any], n: int, project: int | None = None) -> Any:
    return caches["search"].get(f"query number {n}", project=f"p{(n if project is None else project) % 6}")


# ---------------------------------------------------------------------------------------------- the promised snippets

SNIPPETS = {
    "one call": """
        results = await execute_memory_aware_warmup(strategy=WarmupStrategy.BALANCED, memory_budget_mb=500.0)
    """,
    "plan and run": """
        service = await get_cache_warmup_service()
        plan = await service.create_warmup_plan(WarmupStrategy.AGGRESSIVE)
        results = await service.execute_warmup_plan(plan)
    """,
    "status": """
        status = await service.get_warmup_status()
        if status["active"]:
            progress = status["progress"]
            print(f"Warmup progress: {progress['progress_percent']:.1f}%")
    """,
}


async def run_as_written(snippet: str, **names: Any) -> dict[str, Any]:
    """The names that `snippet` leaves, run as the body of a coroutine that knows the package's public names."""
    body = textwrap.indent(textwrap.dedent(SNIPPETS[snippet]), "    ")
    scope = {name: getattr(preheat, name) for name in preheat.__all__} | names
    exec(f"async def written():\n{body}\n    return locals()", scope)
    return await scope["written"]()


@pytest.fixture
def shared(tmp_path: Path) -> Any:
    """The process's own service over a cache of thirty items."""

    @asynccontextmanager
    async def opened(load: Callable[[WarmupItem], Any] = lambda item: None) -> AsyncIterator[Watched]:
        cache = Watched(load=load)
        async with await get_cache_warmup_service() as service:
            service._memory = plenty
            service.register(cache)
            service.register_candidate_source(lambda history: rows(30))
            yield cache

    return opened


def test_the_one_call_works_as_written(shared):
    async def scene() -> None:
        async with shared() as cache:
            left = await run_as_written("one call")
            assert left["results"].plan.strategy == "balanced"
            assert left["results"].plan.budget.granted_bytes == 500 * MIB
            assert len(cache.held) == left["results"].count(ItemStatus.LOADED) == len(left["results"].plan) > 0

    asyncio.run(scene())


def test_plan_and_run_work_as_written(shared):
    async def scene() -> None:
        async with shared() as cache:
            left = await run_as_written("plan and run")
            assert await get_cache_warmup_service() is left["service"]
            assert left["plan"].strategy == "aggressive"
            assert len(left["plan"]) == left["results"].count(ItemStatus.LOADED) == len(cache.held)

    asyncio.run(scene())


def test_status_works_as_written_during_a_run_and_after_it(shared, capsys):
    async def scene() -> None:
        gate = threading.Event()
        async with shared(load=lambda item: gate.wait(10.0) and None) as cache:
            service = await get_cache_warmup_service()
            run = asyncio.create_task(execute_memory_aware_warmup())
            while not cache.starts:
                await asyncio.sleep(0.002)
            left = await run_as_written("status", service=service)
            assert left["status"]["active"] is True
            assert left["progress"]["phase"] == "standard"
            gate.set()
            await run
            after = (await run_as_written("status", service=service))["status"]
            assert (after["active"], after["progress"]) == (False, None)
            assert after["last"]["counts"]["loaded"] == len(cache.held)

    asyncio.run(scene())
    assert capsys.readouterr().out == "Warmup progress: 0.0%\n"


def test_after_close_the_process_gets_a_new_service(shared):
    async def scene() -> None:
        async with shared():
            first = await get_cache_warmup_service()
        async with await get_cache_warmup_service() as second:
            assert first is not second

    asyncio.run(scene())


# ------------------------------------------------------------------------------------------------------- the main job


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_plans_and_runs_over_four_caches(tmp_path, strategy):
    async def scene() -> None:
        caches = four_caches(tmp_path / "corpus")
        async with service_with(*caches.values(), holdout_ratio=0.0) as service:
            for n in range(12):
                for _ in range(12 - n):
                    ask(caches, n)
            for cache in caches.values():
                cache.clear()
            service.register_candidate_source(
                lambda history: [create_warmup_item(*caches["project"].ref("p0"), priority=7, size_bytes=300)]
            )
            plan = await service.create_warmup_plan(strategy)
            report = await service.execute_warmup_plan(plan)
            assert len(plan) == report.count(ItemStatus.LOADED) == sum(len(cache) for cache in caches.values())
            projects = [held.key for held in caches["project"].held_values()]
            assert strategy is not WarmupStrategy.PRIORITY_BASED or projects == ["p0"]
            assert strategy is WarmupStrategy.CONSERVATIVE or len(plan) > 0
            assert plan.size_bytes <= plan.budget.granted_bytes
            statistics = [cache.get_warmup_statistics() for cache in caches.values()]
            assert sum(s.warmed_bytes for s in statistics) == report.accounted_bytes
            assert caches["search"].get_warmup_statistics().misses == 12

    asyncio.run(scene())


def test_a_restarted_process_is_warm_with_what_was_asked_for_before(tmp_path):
    async def first() -> list[Any]:
        caches = four_caches(tmp_path / "corpus")
        async with service_with(*caches.values()):
            return [ask(caches, n % 8) for n in range(80)]

    async def second() -> tuple[Any, list[Any], int]:
        caches = four_caches(tmp_path / "corpus")
        async with service_with(*caches.values(), holdout_ratio=0.0) as service:
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            answers = [ask(caches, n % 8) for n in range(80)]
            return report, answers, caches["search"].get_warmup_statistics().misses

    cold = asyncio.run(first())
    report, warm, misses = asyncio.run(second())
    assert cold == warm
    assert (misses, report.stopped) == (0, None)
    assert len(report.plan) == report.count(ItemStatus.LOADED)


def test_dependencies_are_loaded_before_what_needs_them_so_that_nothing_misses_twice(tmp_path):
    async def scene() -> None:
        caches = four_caches(tmp_path / "corpus")
        async with service_with(*caches.values(), holdout_ratio=0.0) as service:
            for n in range(12):
                ask(caches, n)
            for cache in caches.values():
                cache.clear()
            plan = await service.create_warmup_plan("aggressive")
            order = [plan.candidates.ref(row) for row in plan.order.tolist()]
            for ref in order:
                if ref.cache == "search":
                    needs = plan.candidates[list(plan.candidates.refs()).index(ref)].dependencies
                    assert len(needs) == 3
                    assert all(order.index(need) < order.index(ref) for need in needs)

    asyncio.run(scene())


def test_uplift_appears_after_traffic_and_is_kept(tmp_path, state_dir):
    async def scene() -> dict[str, Any]:
        caches = four_caches(tmp_path / "corpus")
        async with service_with(*caches.values(), holdout_ratio=0.3, seed=5) as service:
            for n in range(40):
                for _ in range(3):
                    ask(caches, n)
            for cache in caches.values():
                cache.clear()
            await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            assert (await service.get_warmup_status())["last"]["uplift"] is None
            assert WarmupStrategy.BALANCED is service.get_recommended_strategy()
            for n in range(40):
                ask(caches, n)
            uplift = (await service.get_warmup_status())["last"]["uplift"]
            assert WarmupStrategy.AGGRESSIVE is service.get_recommended_strategy()
            return uplift

    async def next_process() -> dict[str, Any]:
        async with service_with() as service:
            return (await service.get_warmup_status())["last"]["uplift"]

    uplift = asyncio.run(scene())
    assert uplift["low"] <= uplift["points"] <= uplift["high"]
    assert uplift["points"] > 0
    assert uplift["warmed_hit"] == uplift["warmed_asked"] > 0 == uplift["held_out_hit"]
    assert uplift["saved_seconds"] > 0
    assert uplift == asyncio.run(next_process())


# ------------------------------------------------------------------------------------------- each variable takes effect


def planned_with(monkeypatch: Any, variables: dict[str, str], n: int = 50, **changes: Any) -> Any:
    for name, value in variables.items():
        monkeypatch.setenv(f"CACHE_WARMUP_{name}", value)

    async def scene() -> Any:
        cache = Watched()
        async with service_with(cache, items=rows(n), **changes) as service:
            return await service.create_warmup_plan()

    return asyncio.run(scene())


def executed_with(monkeypatch: Any, variables: dict[str, str], cache: Watched, items: Sequence[WarmupItem]) -> Any:
    for name, value in ({"HOLDOUT_RATIO": "0"} | variables).items():
        monkeypatch.setenv(f"CACHE_WARMUP_{name}", value)

    async def scene() -> Any:
        async with service_with(cache, items=items) as service:
            return await service.execute_warmup_plan(await service.create_warmup_plan())

    return asyncio.run(scene())


def test_enabled_false_plans_and_loads_nothing(monkeypatch):
    cache = Watched()
    report = executed_with(monkeypatch, {"ENABLED": "false"}, cache, rows(5))
    assert (
        len(report.plan.candidates),
        report.plan.budget.granted_bytes,
        report.stopped,
        cache.held,
    ) == (0, 0, "disabled", {})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_configured_strategy_is_used_and_an_argument_beats_it(monkeypatch, strategy):
    monkeypatch.setenv("CACHE_WARMUP_STRATEGY", strategy.value.upper())
    assert strategy.value == planned_with(monkeypatch, {}).strategy

    async def scene() -> str:
        async with service_with(Watched(), items=rows(3)) as service:
            return (await service.create_warmup_plan("conservative")).strategy

    assert asyncio.run(scene()) == "conservative"


def test_the_configured_budget_lowers_and_never_raises(monkeypatch):
    free = planned_with(monkeypatch, {}).budget.granted_bytes
    assert planned_with(monkeypatch, {"MEMORY_BUDGET_MB": "0.015625"}).budget.granted_bytes == MIB // 64
    assert free == planned_with(monkeypatch, {"MEMORY_BUDGET_MB": "1000000"}).budget.granted_bytes


def test_the_lower_of_configured_and_given_budget_counts(monkeypatch):
    monkeypatch.setenv("CACHE_WARMUP_MEMORY_BUDGET_MB", "2")

    async def scene() -> list[int]:
        async with service_with(Watched(), items=rows(3)) as service:
            plans = [await service.create_warmup_plan(memory_budget_mb=mb) for mb in (None, 1.0, 3.0)]
            return [plan.budget.granted_bytes // MIB for plan in plans]

    assert asyncio.run(scene()) == [2, 1, 2]


def test_a_budget_limits_what_is_planned(monkeypatch):
    plan = planned_with(monkeypatch, {"MEMORY_BUDGET_MB": "0.01", "HOLDOUT_RATIO": "0"})
    assert 10 == len(plan) == int(0.01 * MIB) // 1000


@pytest.mark.parametrize("size", [1, 7])
def test_a_bulk_loader_sees_the_configured_batch_size(monkeypatch, size):
    cache = Watched()
    executed_with(monkeypatch, {"BATCH_SIZE": str(size), "CONCURRENCY_LIMIT": "1"}, cache, rows(40))
    assert (size, 40) == (max(cache.batches), sum(cache.batches))


@pytest.mark.parametrize("limit", [1, 3])
def test_loaders_never_see_more_than_the_configured_concurrency_limit(monkeypatch, limit):
    cache = Watched(load=lambda item: time.sleep(0.001))
    report = executed_with(monkeypatch, {"CONCURRENCY_LIMIT": str(limit), "BATCH_SIZE": "1"}, cache, rows(300))
    assert 1 <= cache.most_at_once <= limit
    assert report.origins[0].highest_limit <= limit


def test_a_configured_rate_is_kept_and_reported(monkeypatch):
    limits = {"RATE_LIMITS": '{"watched": 100}', "BATCH_SIZE": "1"}
    report = executed_with(monkeypatch, limits, Watched(), rows(60))
    (origin,) = report.origins
    assert (origin.origin, origin.requests) == ("watched", 60)
    assert report.seconds >= 0.45
    assert origin.limited_seconds > 0.2


def test_the_configured_delay_lies_between_phases(monkeypatch):
    cache = Watched()
    items = [*rows(1, priority=9), create_warmup_item("watched", "later", usage_frequency=9.0, warmup_cost=1.0)]
    executed_with(monkeypatch, {"PHASE_DELAY_MS": "150"}, cache, items)
    starts = dict(cache.starts)
    assert 0.15 <= starts["later"] - starts["000"] < 5.0


def test_the_configured_folder_holds_the_state(monkeypatch, tmp_path):
    monkeypatch.setenv("CACHE_WARMUP_STATE_DIR", str(tmp_path / "elsewhere"))
    planned_with(monkeypatch, {})
    assert (tmp_path / "elsewhere" / "history.db").exists()
    assert not (tmp_path / "state").exists()


def test_the_configured_share_is_held_out(monkeypatch):
    assert len(planned_with(monkeypatch, {"HOLDOUT_RATIO": "0"}, 500).held_out) == 0
    assert 200 < len(planned_with(monkeypatch, {"HOLDOUT_RATIO": "0.5"}, 500).held_out) < 300


def test_the_configured_seed_decides_the_draw(monkeypatch):
    ratio = {"HOLDOUT_RATIO": "0.3"}
    draws = [planned_with(monkeypatch, ratio | {"SEED": seed}, 200) for seed in ("7", "7", "8")]
    assert draws[0].held_out.tolist() == draws[1].held_out.tolist() != draws[2].held_out.tolist()
    assert draws[0].seed == 7


def test_without_a_seed_each_plan_draws_anew_and_can_be_drawn_again(monkeypatch):
    ratio = {"HOLDOUT_RATIO": "0.3"}
    first, second = (planned_with(monkeypatch, ratio, 200) for _ in range(2))
    assert first.held_out.tolist() != second.held_out.tolist()
    again = planned_with(monkeypatch, ratio | {"SEED": str(first.seed)}, 200)
    assert first.held_out.tolist() == again.held_out.tolist()


def test_the_configured_number_of_items_is_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("CACHE_WARMUP_MAX_HISTORY_ITEMS", "4")

    async def scene() -> int:
        caches = four_caches(tmp_path / "corpus")
        async with service_with(caches["embedding"]) as service:
            for n in range(50):
                caches["embedding"].get(f"text {n}")
            caches["embedding"].clear()
            return len((await service.create_warmup_plan("aggressive")).candidates)

    assert asyncio.run(scene()) <= 5


def test_the_configured_time_between_saves_is_kept(monkeypatch, tmp_path, state_dir):
    from preheat._store import SqliteStore

    monkeypatch.setenv("CACHE_WARMUP_FLUSH_SECONDS", "0.05")

    async def scene() -> int:
        caches = four_caches(tmp_path / "corpus")
        async with service_with(caches["embedding"]):
            caches["embedding"].get("a text")
            reader = SqliteStore(state_dir)
            try:
                until = time.monotonic() + 5.0
                while (known := reader.load()) is None and time.monotonic() < until:
                    await asyncio.sleep(0.02)
            finally:
                reader.close()
            return len(known or ())

    assert asyncio.run(scene()) == 1


# ------------------------------------------------------------------------------------------------- mistakes and faults


def test_an_unknown_variable_is_refused_by_the_service(monkeypatch):
    monkeypatch.setenv("CACHE_WARMUP_STRATEGIE", "balanced")
    with pytest.raises(InvalidSetting, match=r"CACHE_WARMUP_STRATEGIE is not a setting.*CACHE_WARMUP_STRATEGY"):
        CacheWarmupService()


def test_a_misspelt_strategy_is_refused_wherever_it_is_written(monkeypatch):
    async def scene() -> None:
        async with service_with() as service:
            with pytest.raises(UnknownStrategy, match="no strategy 'agressive'; did you mean 'aggressive'"):
                await service.create_warmup_plan("agressive")

    asyncio.run(scene())
    monkeypatch.setenv("CACHE_WARMUP_STRATEGY", "balancd")
    with pytest.raises(UnknownStrategy, match="did you mean 'balanced'"):
        CacheWarmupService()


@pytest.mark.parametrize("budget", [-1.0, float("nan"), float("inf")])
def test_a_budget_that_is_none_is_refused(budget):
    async def scene() -> None:
        async with service_with() as service:
            with pytest.raises(InvalidSetting, match="memory_budget_mb is "):
                await service.create_warmup_plan(memory_budget_mb=budget)

    asyncio.run(scene())


def test_an_unknown_cache_is_refused_with_the_nearest_name():
    async def scene() -> None:
        async with service_with(Watched("search"), items=rows(1, "serch")) as service:
            with pytest.raises(UnknownCache, match="no cache is registered as 'serch'; did you mean 'search'"):
                await service.create_warmup_plan()
            with pytest.raises(UnknownCache, match="'serch'"):
                service.unregister("serch")

    asyncio.run(scene())


def test_a_plan_for_a_cache_that_has_gone_is_refused():
    async def scene() -> None:
        async with service_with(Watched(), items=rows(2)) as service:
            plan = await service.create_warmup_plan("aggressive")
            service.unregister("watched")
            with pytest.raises(UnknownCache, match="call register"):
                await service.execute_warmup_plan(plan)

    asyncio.run(scene())


def test_what_cannot_be_warmed_or_has_a_taken_name_is_not_registered():
    async def scene() -> None:
        cache = Watched()
        async with service_with(cache) as service:
            service.register(cache)  # again does nothing
            with pytest.raises(InvalidSetting, match="can't be warmed"):
                service.register({})
            with pytest.raises(InvalidSetting, match="another cache is registered as 'watched'"):
                service.register(Watched())

    asyncio.run(scene())


@pytest.mark.parametrize(
    "wrong",
    [
        WarmupItem(ItemRef("watched", "k"), 5, -5),
        WarmupItem(ItemRef("watched", "k"), 5, 5, float("nan")),
        WarmupItem(ItemRef("watched", "k"), 0),
    ],
)
def test_a_source_that_names_an_item_that_cannot_be_is_told_so(wrong):
    async def scene() -> None:
        async with service_with(Watched(), items=[*rows(2), wrong]) as service:
            with pytest.raises(UsageError, match="item watched:k: "):
                await service.create_warmup_plan()

    asyncio.run(scene())


def test_a_cycle_is_refused_with_the_cycle_in_the_message():
    a = create_warmup_item("watched", "a", dependencies=[("watched", "b")])
    b = create_warmup_item("watched", "b", dependencies=[("watched", "a")])

    async def scene() -> None:
        async with service_with(Watched(), items=[a, b]) as service:
            with pytest.raises(UsageError, match=r"watched:[ab] -> watched:[ab] -> watched:[ab]"):
                await service.create_warmup_plan()

    asyncio.run(scene())


def test_a_run_in_which_a_loader_raises_finishes_and_names_the_item():
    def load(item: WarmupItem) -> None:
        if item.ref.key == "002":
            raise ValueError("the source is broken")

    async def scene() -> None:
        async with service_with(Watched(load=load), items=rows(6), holdout_ratio=0.0) as service:
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            assert {str(ref): reason for ref, reason in report.failures.items()} == {
                "watched:002": "ValueError: the source is broken"
            }
            assert (report.count(ItemStatus.LOADED), report.count(ItemStatus.FAILED), report.stopped) == (5, 1, None)
            last = (await service.get_warmup_status())["last"]
            assert last["failures"] == [{"item": "watched:002", "reason": "ValueError: the source is broken"}]
            assert sum(last["counts"].values()) == last["planned_items"] == 6

    asyncio.run(scene())


def test_a_cache_whose_candidates_cannot_be_had_costs_its_own_warm_up_alone(caplog):
    class Broken(Watched):
        def get_warmup_candidates(self, history: Any, rates: Any) -> Sequence[WarmupItem]:
            raise RuntimeError("no candidates today")

    async def scene() -> None:
        async with service_with(Broken("broken"), Watched(), items=rows(3), holdout_ratio=0.0) as service:
            assert len(await service.create_warmup_plan("aggressive")) == 3

    asyncio.run(scene())
    assert "the candidates of cache 'broken' could not be had" in caplog.text


def test_a_folder_that_cannot_be_used_costs_the_record_and_nothing_else(state_dir):
    state_dir.write_text("in the way")

    async def scene() -> None:
        cache = Watched()
        async with service_with(cache, items=rows(3), holdout_ratio=0.0) as service:
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            assert report.count(ItemStatus.LOADED) == 3
            assert "can't be used" in (await service.get_warmup_status())["fault"]

    asyncio.run(scene())
    assert state_dir.read_text() == "in the way"


def test_the_status_says_who_keeps_the_history_and_with_what():
    async def scene() -> None:
        async with service_with(Watched()) as first, service_with(Watched()) as second:
            told = [await each.get_warmup_status() for each in (first, second)]
            version = sqlite3.sqlite_version
            assert [each["store"] for each in told] == [
                {"owner": True, "sqlite_version": version},
                {"owner": False, "sqlite_version": version},
            ]
            assert [each["caution"] for each in told] == [None, None]
            assert told[0]["fault"] is None
            assert "another process owns" in told[1]["fault"]

    asyncio.run(scene())


def test_after_a_run_that_never_ended_less_is_planned_until_one_ends(state_dir):
    async def scene() -> list[int]:
        planned = []
        async with service_with(Watched(), items=rows(100), holdout_ratio=0.0) as service:
            for _ in range(2):
                plan = await service.create_warmup_plan("aggressive")
                planned.append(len(plan))
                assert bool(plan.adapted) == (len(plan) < 100)
                await service.execute_warmup_plan(plan)
        return planned

    store = SqliteStore(state_dir)
    store.begin_start(1.0)
    store.close()
    assert asyncio.run(scene()) == [50, 100]


def test_a_run_that_is_cancelled_is_one_that_ended():
    async def scene() -> None:
        cache = Watched(load=lambda item: time.sleep(0.01))
        async with service_with(cache, items=rows(100), holdout_ratio=0.0, batch_size=1) as service:
            run = asyncio.create_task(service.execute_warmup_plan(await service.create_warmup_plan("aggressive")))
            while not cache.starts:
                await asyncio.sleep(0.001)
            await service.cancel_warmup()
            await run
        async with service_with(Watched()) as service:
            assert (await service.get_warmup_status())["caution"] is None

    asyncio.run(scene())


@pytest.mark.parametrize("available", [0, 10 * MIB])
def test_without_memory_nothing_is_planned_and_nothing_breaks(available):
    async def scene() -> None:
        cache = Watched()
        async with service_with(cache, items=rows(3), memory=lambda: reading(available, 8 * GIB)) as service:
            plan = await service.create_warmup_plan("aggressive")
            report = await service.execute_warmup_plan(plan)
            assert (plan.budget.granted_bytes, len(report.status), cache.held) == (0, 0, {})
            assert MemoryPressureLevel.CRITICAL is plan.budget.pressure
            assert WarmupStrategy.CONSERVATIVE is service.get_recommended_strategy()

    asyncio.run(scene())


# ------------------------------------------------------------------------------------------------------ runs in flight


def test_a_second_run_at_the_same_time_is_refused_and_one_after_it_is_not():
    gate = threading.Event()

    async def scene() -> None:
        cache = Watched(load=lambda item: gate.wait(10.0) and None)
        async with service_with(cache, items=rows(3)) as service:
            plan = await service.create_warmup_plan("aggressive")
            first = asyncio.create_task(service.execute_warmup_plan(plan))
            while not cache.starts:
                await asyncio.sleep(0.002)
            with pytest.raises(WarmupInProgress, match="cancel_warmup"):
                await service.execute_warmup_plan(plan)
            gate.set()
            await first
            await service.execute_warmup_plan(plan)
            assert len(service.ledger.reports(10)) == 2

    asyncio.run(scene())


def test_cancel_ends_the_run_and_says_whether_there_was_one():
    gate = threading.Event()

    async def scene() -> None:
        cache = Watched(load=lambda item: gate.wait(10.0) and None)
        async with service_with(cache, items=rows(50), concurrency_limit=1, batch_size=1) as service:
            assert await service.cancel_warmup() is False
            run = asyncio.create_task(service.execute_warmup_plan(await service.create_warmup_plan("aggressive")))
            while not cache.starts:
                await asyncio.sleep(0.002)
            assert await service.cancel_warmup() is True
            gate.set()
            report = await run
            assert report.stopped == "cancelled"
            assert 1 == report.count(ItemStatus.LOADED) == len(cache.held)
            assert (await service.get_warmup_status())["last"]["stopped"] == "cancelled"
            assert await service.cancel_warmup() is False

    asyncio.run(scene())


def test_a_cancelled_task_leaves_the_service_ready_for_the_next_run():
    async def scene() -> None:
        cache = Watched(load=lambda item: time.sleep(0.005))
        async with service_with(cache, items=rows(100), concurrency_limit=1, batch_size=1) as service:
            plan = await service.create_warmup_plan("aggressive")
            run = asyncio.create_task(service.execute_warmup_plan(plan))
            while not cache.starts:
                await asyncio.sleep(0.002)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            assert (await service.get_warmup_status())["active"] is False
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            assert None is report.stopped

    asyncio.run(scene())


def test_one_service_runs_in_two_event_loops_one_after_the_other():
    cache = Watched()
    service = CacheWarmupService(memory=plenty, holdout_ratio=0.0)
    service.register(cache)
    service.register_candidate_source(lambda history: rows(5))

    async def scene() -> int:
        return (await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))).count(
            ItemStatus.LOADED
        )

    try:
        assert [asyncio.run(scene()), asyncio.run(scene())] == [5, 5]
    finally:
        asyncio.run(service.close())


def test_progress_is_told_up_to_the_end():
    async def scene() -> list[float]:
        seen: list[float] = []
        async with service_with(Watched(), items=rows(20)) as service:
            plan = await service.create_warmup_plan("aggressive")
            await service.execute_warmup_plan(plan, on_progress=lambda progress: seen.append(progress.progress_percent))
        return seen

    seen = asyncio.run(scene())
    assert seen[-1] == 100.0
    assert sorted(seen) == seen


def test_a_registered_strategy_is_used_by_name():
    async def scene() -> None:
        async with service_with(Watched(), items=[*rows(3), *rows(1, priority=1)]) as service:
            service.register_strategy("Only-Mine", share=0.1, min_priority=5, why="ours")
            plan = await service.create_warmup_plan("only_mine")
            assert (plan.strategy, plan.why) == ("Only-Mine", "ours")
            with pytest.raises(InvalidSetting, match=r"strategy 'x'.*colour"):
                service.register_strategy("x", share=0.1, colour="red")
            with pytest.raises(InvalidSetting, match="share is 7"):
                service.register_strategy("x", share=7)

    asyncio.run(scene())


def test_strategies_of_the_settings_change_rows_and_add_some(monkeypatch):
    tables = '{"balanced": {"share": 0.5}, "night": {"share": 0.9, "min_priority": 5}}'
    monkeypatch.setenv("CACHE_WARMUP_STRATEGIES", tables)

    async def scene() -> None:
        async with service_with(Watched(), items=rows(3)) as service:
            budgets = [(await service.create_warmup_plan(name)).budget for name in ("night", "balanced")]
            assert budgets[0].granted_bytes / budgets[1].granted_bytes == pytest.approx(0.9 / 0.5)

    asyncio.run(scene())
    monkeypatch.setenv("CACHE_WARMUP_STRATEGIES", '{"night": {"shar": 1}}')
    with pytest.raises(InvalidSetting, match="shar is not a rule; did you mean 'share'"):
        CacheWarmupService()


def test_a_strategy_must_not_fall_back_to_nothing():
    service = CacheWarmupService()
    with pytest.raises(UnknownStrategy, match="did you mean 'conservative'"):
        service.register_strategy("mine", share=0.5, falls_back_to="conservativ")
    service.register_strategy("mine", share=0.5, falls_back_to="conservative")


def test_an_adaptive_plan_knows_what_it_falls_back_to_and_an_ordinary_one_never_changes():
    async def scene() -> None:
        items = [*rows(3), *rows(4, priority=9)[3:]]
        async with service_with(Watched(), items=items, holdout_ratio=0.0) as service:
            plan = await service.create_warmup_plan("adaptive")
            assert plan.fallback is not None
            assert (plan.fallback.strategy, int(plan.fallback.takes.sum())) == ("conservative", 1)
            assert plan.adapted == ()
            assert (await service.create_warmup_plan("balanced")).fallback is None
            assert plan.predictors == {"watched": "decayed_frequency"}

    asyncio.run(scene())


def test_what_was_learned_serves_the_next_process(tmp_path):
    def searching():
        cache = SearchCache(lambda query: query.split(), version="1", capacity_bytes=20_000)
        return cache, lambda n: cache.get(f"query {n * n % 251 % (40 + n // 40)}")

    async def first() -> None:
        cache, search = searching()
        async with service_with(cache, state_dir=str(tmp_path), seed=1) as service:
            for n in range(4000):
                search(n)
                if n % 100 == 0:
                    service.ledger.history()
            service._training.look()
            assert {"search"} == set(service._training.models())

    async def second() -> None:
        cache, _ = searching()
        async with service_with(cache, state_dir=str(tmp_path), seed=1) as service:
            kept = service._training.models()["search"]
            assert kept.learned is not None
            plan = await service.create_warmup_plan("aggressive")
            assert plan.predictors == {"search": pool_name(kept.pool)}
            assert len(plan) > 0

    asyncio.run(first())
    asyncio.run(second())


def test_a_service_with_a_predictor_of_its_own_learns_nothing():
    def everything(history: Any, horizon_seconds: Any) -> Any:
        return np.ones(len(history))

    async def scene() -> None:
        cache = SearchCache(lambda query: query.split(), version="1", capacity_bytes=20_000)
        async with service_with(cache, predictor=everything) as service:
            cache.get("one")
            plan = await service.create_warmup_plan("aggressive")
            assert plan.predictors == {"search": "everything"}
            assert service._trained is None

    asyncio.run(scene())


def test_a_quota_bounds_what_a_plan_fills_of_a_cache():
    async def scene() -> None:
        bounds = {"watched": 2.5 * 100 / MIB}  # two and a half of its items
        items = [row._replace(size_bytes=100) for row in rows(4)]
        async with service_with(Watched(), items=items, holdout_ratio=0.0, quotas_mb=bounds) as service:
            assert len(await service.create_warmup_plan("aggressive")) == 2
        async with service_with(Watched(), items=items, holdout_ratio=0.0) as service:
            assert len(await service.create_warmup_plan("aggressive")) == 4

    asyncio.run(scene())


def test_what_past_runs_won_moves_the_adaptive_strategy(tmp_path):
    async def scene() -> None:
        caches = four_caches(tmp_path / "corpus")
        async with service_with(*caches.values(), holdout_ratio=0.3, seed=5) as service:
            for n in range(40):
                for _ in range(3):
                    ask(caches, n)
            first = await service.create_warmup_plan("adaptive")
            for cache in caches.values():
                cache.clear()
            await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            for n in range(40):
                for _ in range(3):
                    ask(caches, n)
            assert (await service.get_warmup_status())["last"]["steady"] is not None
            for cache in caches.values():
                cache.clear()
            second = await service.create_warmup_plan("adaptive")
            assert first.adapted == ()
            assert "1 of the last 1 measured runs with a clear result" in second.adapted[0]
            assert second.budget.granted_bytes > first.budget.granted_bytes

    asyncio.run(scene())


def test_the_headroom_is_watched_for_a_strategy_that_adapts_and_for_no_other():
    async def scene(strategy: str) -> bool:
        async with service_with(Watched(), strategy=strategy):
            return any(thread.name == "preheat-memory" for thread in threading.enumerate())

    assert [asyncio.run(scene(name)) for name in ("adaptive", "balanced")] == [True, False]


def test_a_growing_application_is_left_what_it_will_take():
    readings = 0

    def shrinking() -> Any:
        nonlocal readings
        readings += 1
        return reading(4 * GIB - readings * 20 * MIB, 8 * GIB)

    async def scene() -> None:
        async with service_with(Watched(), items=rows(3), memory=shrinking) as service:
            service._watch._clock = lambda: float(readings)  # a second from reading to reading
            for _ in range(20):
                service._watch.read()
            plan = await service.create_warmup_plan("adaptive")
            assert "headroom falls by 20" in plan.adapted[0]
            assert WarmupStrategy.BALANCED is service.get_recommended_strategy()

    asyncio.run(scene())


def test_a_predictor_can_be_swapped(tmp_path):
    asked: list[int] = []

    def nothing(history: Any, horizon: Any) -> Any:
        asked.append(len(history))
        return np.zeros(len(history))

    async def scene() -> int:
        caches = four_caches(tmp_path / "corpus")
        async with service_with(caches["embedding"], predictor=nothing) as service:
            caches["embedding"].get("a text")
            caches["embedding"].clear()
            return len(await service.create_warmup_plan("aggressive"))

    assert (asyncio.run(scene()), asked) == (0, [1])


# ----------------------------------------------------------------------------------------------------------- the check


def findings(**changes: Any) -> dict[str, tuple[str, str]]:
    arguments = {"environ": {}, "memory": plenty} | changes
    return {finding.subject: (finding.severity, finding.text) for finding in validate_warmup_environment(**arguments)}


def test_a_sound_environment_has_no_findings_but_good_ones(tmp_path):
    found = findings(environ={"CACHE_WARMUP_STATE_DIR": str(tmp_path / "state")})
    assert {"settings", "state", "memory", "budgets"} == set(found)
    assert {"ok"} == {severity for severity, _ in found.values()}
    assert "no history yet" in found["state"][1]
    assert all(name in found["budgets"][1] for name in STRATEGIES)


def test_a_wrong_setting_is_an_error_with_its_remedy():
    (finding,) = validate_warmup_environment({"CACHE_WARMUP_BATCH_SIZE": "0"}, memory=plenty)
    assert (finding.subject, finding.severity) == ("settings", "error")
    assert "CACHE_WARMUP_BATCH_SIZE is '0'" in finding.text
    assert finding.mend
    (finding,) = validate_warmup_environment({"CACHE_WARMUP_STRATEGY": "fast"}, memory=plenty)
    assert "there is no strategy 'fast'" in finding.text


def test_the_check_tells_a_switched_off_warm_up_and_a_folder_in_use(tmp_path):
    async def scene() -> dict[str, tuple[str, str]]:
        async with service_with() as service:
            service.ledger.flush()
            return findings(
                environ={"CACHE_WARMUP_STATE_DIR": service.settings.state_dir, "CACHE_WARMUP_ENABLED": "no"}
            )

    found = asyncio.run(scene())
    assert found["enabled"] == ("warning", "warm-up is switched off")
    assert found["state"][0] == "warning"
    assert "another process owns it" in found["state"][1]


def test_the_check_tells_a_folder_that_cannot_be_used_and_memory_that_is_short(tmp_path):
    (tmp_path / "file").write_text("x")
    found = findings(
        environ={"CACHE_WARMUP_STATE_DIR": str(tmp_path / "file")}, memory=lambda: reading(10 * MIB, 8 * GIB)
    )
    assert found["state"][0] == "error"
    assert found["memory"][0] == "error"
    assert "pressure CRITICAL" in found["memory"][1]


def test_the_check_leaves_the_folder_free_for_the_service(tmp_path, state_dir):
    findings(environ={"CACHE_WARMUP_STATE_DIR": str(state_dir)})

    async def scene() -> str | None:
        async with service_with() as service:
            return (await service.get_warmup_status())["fault"]

    assert asyncio.run(scene()) is None


# -------------------------------------------------------------------------------------- what others do to the service


def in_loop(test: Callable[..., Any]) -> Callable[..., None]:
    """The coroutine `test` as a test of its own loop."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


@in_loop
async def test_pressure_callbacks_are_told_until_they_are_removed_and_their_faults_stay_theirs() -> None:
    readings = iter([plenty(), plenty(), reading(GIB, 8 * GIB)])
    told: list[MemoryPressureLevel] = []

    def fail(level: MemoryPressureLevel, seen: Any) -> None:
        raise RuntimeError("the callback is broken")

    async with service_with(
        Watched(load=lambda item: time.sleep(0.03)),
        items=rows(6),
        memory=lambda: next(readings, reading(GIB, 8 * GIB)),
        batch_size=1,
        concurrency_limit=1,
        holdout_ratio=0.0,
    ) as service:
        plan = await service.create_warmup_plan("aggressive")
        service.add_memory_pressure_callback(fail)
        remove = service.add_memory_pressure_callback(lambda level, seen: told.append(level))
        report = await service.execute_warmup_plan(plan)
        assert told == [MemoryPressureLevel.MODERATE]
        assert report.count(ItemStatus.LOADED) == 6
        remove()
        await service.execute_warmup_plan(plan)
        assert told == [MemoryPressureLevel.MODERATE]


@in_loop
async def test_a_cache_whose_statistics_fail_costs_its_own_warmup_alone() -> None:
    class Broken(Watched):
        def get_warmup_statistics(self) -> CacheStatistics:
            raise RuntimeError("the statistics are broken")

        def get_warmup_candidates(self, history: Any, rates: Any) -> Sequence[WarmupItem]:
            return rows(3, "broken")

    class Sound(Watched):
        def get_warmup_candidates(self, history: Any, rates: Any) -> Sequence[WarmupItem]:
            return rows(3)

    async with service_with(Broken("broken"), Sound()) as service:
        plan = await service.create_warmup_plan("aggressive")
        assert {ref.cache for ref in plan.candidates.refs()} == {"watched"}


@in_loop
async def test_settings_come_whole_or_by_name_but_not_both() -> None:
    settings = CacheWarmupService().settings
    with pytest.raises(InvalidSetting, match="so seed can't be given beside them"):
        CacheWarmupService(settings, seed=3)


@in_loop
async def test_a_cache_registered_after_close_is_served_and_starts_no_thread(tmp_path: Path) -> None:
    service = CacheWarmupService(memory=plenty)
    caches = four_caches(tmp_path / "corpus")
    service.register(caches["file"])
    await service.close()
    service.register(caches["project"])
    assert caches["project"].get("p1") == ["main.py"]


@in_loop
async def test_a_run_can_be_cancelled_from_another_thread() -> None:
    started = threading.Event()

    def load(item: WarmupItem) -> None:
        started.set()
        time.sleep(0.01)

    async with service_with(Watched(load=load), items=rows(200), batch_size=1, concurrency_limit=1) as service:
        plan = await service.create_warmup_plan("aggressive")

        def cancel() -> None:
            started.wait()
            asyncio.run(service.cancel_warmup())

        canceller = threading.Thread(target=cancel)
        canceller.start()
        report = await service.execute_warmup_plan(plan)
        canceller.join()
        assert report.stopped == "cancelled"
        assert 0 < report.count(ItemStatus.LOADED) < len(plan)


@in_loop
async def test_a_saved_plan_is_run_by_another_process_inside_what_memory_allows_then() -> None:
    async with service_with(Watched(), items=rows(10, size_bytes=10 * MIB), holdout_ratio=0.0) as service:
        text = preheat.plan_to_json(await service.create_warmup_plan("aggressive"))
    later = Watched()
    scarce = functools.partial(reading, 80 * MIB, 128 * MIB)
    async with service_with(later, memory=scarce) as service:
        plan = await service.fit_warmup_plan(preheat.plan_from_json(text))
        assert 0 < plan.size_bytes <= plan.budget.granted_bytes < 100 * MIB
        report = await service.execute_warmup_plan(plan)
    assert report.count(ItemStatus.LOADED) == len(later.held) == len(plan)


@in_loop
async def test_a_saved_plan_is_fitted_to_an_argument_a_cache_and_the_caches_there_are() -> None:
    async with service_with(Watched(), items=rows(10), holdout_ratio=0.0) as service:
        saved = preheat.plan_from_json(preheat.plan_to_json(await service.create_warmup_plan("aggressive")))
        assert len(saved) == 10
        assert len(await service.fit_warmup_plan(saved, memory_budget_mb=3000 / MIB)) == 3
        assert len(await service.fit_warmup_plan(saved)) == 10
    async with service_with(Watched("watches")) as service:
        with pytest.raises(UnknownCache, match="did you mean 'watches'"):
            await service.fit_warmup_plan(saved)


def test_what_the_service_forgets_is_gone_from_its_folder(state_dir):
    async def scene():
        embeddings = EmbeddingCache(lambda texts: np.zeros((len(texts), 4), np.float32), model="m", capacity_bytes=MIB)
        async with service_with(embeddings) as service:
            for text in ("secret one", "secret two", "kept"):
                embeddings.get(text)
            history = service.ledger.history()
            secrets = [key for key, what in zip(history.keys, history.recipes, strict=True) if "secret" in what]
            assert await service.forget("embedding", [*secrets, "unknown"]) == 2
            assert len(service.ledger.history()) == 1
        return secrets

    secrets = asyncio.run(scene())
    left = b"".join(path.read_bytes() for path in state_dir.iterdir())
    assert b"kept" in left
    assert all(text.encode() not in left for text in (*secrets, "secret"))
