"""What a service knows of memory: events that add up, estimates that are put right, limits, and pressure."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from builders import GIB, HeldCache, reading
from preheat import CacheWarmupService, create_warmup_item, load_limit_bytes
from preheat._model import MIB, ItemStatus, MemoryEventKind, MemoryPressureLevel, MemoryReading
from preheat._summary import report_summary
from preheat.abc import ItemResult, WarmupItem
from preheat.adapters.mapping import MappingCache
from preheat.caches import FileCache
from preheat.errors import InvalidSetting, ItemTooLarge, UnknownCache

pytestmark = pytest.mark.usefixtures("no_leaked_threads")


class Memory:
    """Memory that a test sets."""

    def __init__(self, available_bytes: int = 4 * GIB) -> None:
        self.available_bytes = available_bytes
        self.fails = False

    def __call__(self) -> MemoryReading:
        if self.fails:
            raise OSError("memory can't be read")
        return reading(self.available_bytes, 8 * GIB)


class Scaled(HeldCache):
    """A cache whose items weigh so many times what they are taken for."""

    def __init__(self, factor: int = 1, size_bytes: int = 100) -> None:
        super().__init__("scaled")
        self.factor, self._size_bytes = factor, size_bytes

    def estimate_item_size(self, item: WarmupItem) -> Any:
        return self._size_bytes

    def warmup_item(self, item: WarmupItem) -> ItemResult:
        self.held[item.ref.key] = self._size_bytes * self.factor
        return ItemResult(ItemStatus.LOADED, self.held[item.ref.key])


def items(n: int, cache: str = "scaled", **columns: Any) -> list[WarmupItem]:
    columns = {"usage_frequency": 1.0, "warmup_cost": 1.0, "size_bytes": 100} | columns
    return [create_warmup_item(cache, f"{i:03}", **columns) for i in range(n)]


@asynccontextmanager
async def service_of(
    tmp_path: Path, *caches: Any, rows: Sequence[WarmupItem] = (), **changes: Any
) -> AsyncIterator[CacheWarmupService]:
    changes = {"memory": Memory(), "state_dir": str(tmp_path / "state"), "holdout_ratio": 0.0, "seed": 1} | changes
    async with CacheWarmupService(**changes) as service:
        for cache in caches:
            service.register(cache)
        if rows:
            service.register_candidate_source(lambda history: rows)
        yield service


async def planned_sizes(service: CacheWarmupService) -> set[int]:
    plan = await service.create_warmup_plan("aggressive")
    return set(plan.candidates.size_bytes.tolist())


# -------------------------------------------------------------------------------------------------- events add up


def sums(service: CacheWarmupService, cache: str) -> tuple[int, int]:
    events = [event for event in service.get_memory_events() if event.cache == cache]
    taken = sum(event.size_bytes for event in events if event.kind is MemoryEventKind.ALLOCATION)
    return taken, sum(event.size_bytes for event in events) - taken


@pytest.mark.parametrize("is_short", [False, True], ids=["run", "run and roll-back"])
def test_events_of_a_real_cache_add_up_to_what_it_holds(tmp_path, is_short):
    async def scene() -> None:
        memory = Memory()

        def load(key: str) -> bytes:
            if is_short and key == "030":
                memory.available_bytes = 10 * MIB
                time.sleep(0.06)
            return bytes(1000)

        cache = MappingCache({}, load, name="pages")
        async with service_of(tmp_path, cache, rows=items(60, "pages"), memory=memory, batch_size=4) as service:
            cache.get("by traffic")
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            statistics = service.get_memory_statistics()["pages"]
            taken, dropped = sums(service, "pages")
            assert (statistics.allocated_bytes, statistics.released_bytes) == (taken, dropped)
            assert statistics.current_bytes == taken - dropped == cache.get_warmup_statistics().used_bytes
            assert statistics.peak_bytes >= statistics.current_bytes
            assert report.rolled_back_bytes == dropped
            assert (report.stopped == "pressure") == is_short == (dropped > 0)
            assert cache.mapping.keys() >= {"by traffic"}
            assert len(cache.mapping) == 1 + report.count(ItemStatus.LOADED)

    asyncio.run(scene())


def test_events_told_by_hand_are_counted_and_mistakes_refused(tmp_path):
    async def scene() -> None:
        async with service_of(tmp_path, Scaled()) as service:
            service.track_cache_memory_event("scaled", "allocation", 500, "a test", items=5)
            service.track_cache_memory_event("scaled", MemoryEventKind.EVICTION, 200, items=2)
            assert service.get_memory_statistics()["scaled"] == (300, 500, 500, 200, 2)
            assert [event.size_bytes for event in service.get_memory_events(newest=1)] == [200]
            with pytest.raises(UnknownCache, match="did you mean 'scaled'"):
                service.track_cache_memory_event("scald", "allocation", 1)
            with pytest.raises(InvalidSetting):
                service.track_cache_memory_event("scaled", "allocated", 1)
            with pytest.raises(InvalidSetting):
                service.track_cache_memory_event("scaled", "allocation", -1)

    asyncio.run(scene())


# ------------------------------------------------------------------------------------------------ estimates put right


def test_estimates_wrong_ten_times_are_right_in_the_next_plan_and_after_a_restart(tmp_path):
    async def scene() -> None:
        async with service_of(tmp_path, Scaled(factor=10), rows=items(20)) as service:
            plan = await service.create_warmup_plan("aggressive")
            report = await service.execute_warmup_plan(plan)
            assert set(plan.candidates.size_bytes.tolist()) == {100}
            assert (report.sizes[0].estimated_bytes, report.accounted_bytes) == (2000, 20_000)
            assert await planned_sizes(service) == {1000}
        async with service_of(tmp_path, Scaled(factor=10), rows=items(20)) as service:
            assert await planned_sizes(service) == {1000}
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            assert report.sizes[0].estimated_bytes == report.accounted_bytes == 20_000
            assert await planned_sizes(service) == {1000}  # what was right is not put right again

    asyncio.run(scene())


def test_kinds_of_files_are_corrected_apart(tmp_path):
    async def scene() -> None:
        root = tmp_path / "files"
        root.mkdir()
        for n in range(8):
            (root / f"{n}.py").write_bytes(b"x" * 1000)
            (root / f"{n}.bin").write_bytes(b"x" * 1000)

        def parse(path: Any, content: bytes) -> bytes:
            return content * (20 if str(path).endswith(".py") else 1)

        files: Any = FileCache(parse, root=root, capacity_bytes=100 * MIB)
        rows = [
            create_warmup_item("file", f"{n}{kind}", size_bytes=1000, usage_frequency=1.0, warmup_cost=1.0)
            for n in range(8)
            for kind in (".py", ".bin")
        ]
        async with service_of(tmp_path, files, rows=rows) as service:
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            assert report.count(ItemStatus.LOADED) == 16
            plan = await service.create_warmup_plan("aggressive")
            sizes = dict(zip(plan.candidates.keys, plan.candidates.size_bytes.tolist(), strict=True))
            assert {20_000 < sizes[f"{n}.py"] < 22_000 for n in range(8)} == {True}
            assert {1000 <= sizes[f"{n}.bin"] < 1500 for n in range(8)} == {True}

    asyncio.run(scene())


def test_items_of_unknown_size_are_taken_for_what_their_cache_says(tmp_path):
    async def scene() -> None:
        async with service_of(tmp_path, Scaled(size_bytes=700), rows=items(3, size_bytes=0)) as service:
            assert await planned_sizes(service) == {700}

    asyncio.run(scene())


@pytest.mark.parametrize("answer", [ValueError("none"), None, "big", float("nan"), float("inf"), -5])
def test_a_cache_that_fails_to_estimate_leaves_sizes_unknown(tmp_path, answer):
    class Wrong(Scaled):
        def estimate_item_size(self, item: WarmupItem) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

    async def scene() -> None:
        async with service_of(tmp_path, Wrong(), rows=items(5, size_bytes=0)) as service:
            assert await planned_sizes(service) == {0}
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            assert report.count(ItemStatus.LOADED) == 5
            assert await planned_sizes(service) == {100}  # a run has taught it

    asyncio.run(scene())


@pytest.mark.parametrize("answer", [2**62, 2**63, 1e300])
def test_an_estimate_beyond_all_memory_is_left_out_and_breaks_no_plan(tmp_path, answer):
    class Wrong(Scaled):
        def estimate_item_size(self, item: WarmupItem) -> Any:
            return answer

    async def scene() -> None:
        async with service_of(tmp_path, Wrong(), rows=items(5, size_bytes=0)) as service:
            plan = await service.create_warmup_plan("aggressive")
            assert (len(plan), len(plan.candidates)) == (0, 5)

    asyncio.run(scene())


def test_a_cache_that_fails_to_tell_kinds_is_planned_and_loaded(tmp_path):
    class Wrong(Scaled):
        def kind_of(self, key: str) -> str:
            raise RuntimeError("no kind")

    async def scene() -> None:
        async with service_of(tmp_path, Wrong(factor=3), rows=items(5)) as service:
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            assert report.count(ItemStatus.LOADED) == 5
            assert await planned_sizes(service) == {300}

    asyncio.run(scene())


# ------------------------------------------------------------------------------------------------------------- limits


def test_a_loader_that_finds_its_value_too_large_costs_that_item_alone(tmp_path):
    from preheat.cli.run import exit_code

    async def scene() -> None:
        def load(key: str) -> bytes:
            limit = load_limit_bytes()
            if key in {"003", "007"}:
                assert limit is not None
                raise ItemTooLarge(f"{key} has 9 TB; {limit} is the limit")
            return bytes(1000)

        async with service_of(tmp_path, MappingCache({}, load, name="pages"), rows=items(10, "pages")) as service:
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            summary = json.loads(json.dumps(report_summary(report), allow_nan=False))
            assert (summary["counts"]["too_large"], summary["counts"]["loaded"]) == (2, 8)
            assert sum(summary["counts"].values()) == len(report.plan) == 10
            assert (report.attempts, summary["failures"], exit_code(report)) == (10, [], 0)
            assert {why.partition(" ")[0] for why in report.reasons.values()} == {"003", "007"}
            assert summary.keys() >= {
                "estimated_bytes",
                "sizes",
                "rolled_back_bytes",
                "released_bytes",
                "memory_events",
            }
            assert await service.get_warmup_status() == await service.get_warmup_status()
            assert (await service.get_warmup_status())["last"]["counts"] == summary["counts"]

    asyncio.run(scene())


# ----------------------------------------------------------------------------------------------------------- pressure


async def until(condition: Any) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("end", ["removed", "closed"])
def test_a_callback_hears_of_pressure_outside_of_a_run_until_it_ends(tmp_path, monkeypatch, end):
    monkeypatch.setattr("preheat._service.CALLBACK_SECONDS", 0.02)

    async def scene() -> None:
        memory, told = Memory(), list[str]()
        async with service_of(tmp_path, memory=memory) as service:
            remove = service.add_memory_pressure_callback(lambda level, seen: told.append(level.name))
            memory.available_bytes = 10 * MIB
            await until(lambda: told == ["CRITICAL"])
            memory.available_bytes = 4 * GIB
            await until(lambda: told[-1] == "LOW")
            heard = list(told)
            if end == "removed":
                remove()
                remove()
            else:
                await service.close()
            memory.available_bytes = 10 * MIB
            service.get_recommended_strategy()  # reads memory
            await asyncio.sleep(0.08)
            assert told == heard
            assert "preheat-memory" not in {thread.name for thread in threading.enumerate()}

    asyncio.run(scene())


def test_a_monitor_that_fails_in_the_middle_of_a_run_breaks_nothing(tmp_path, caplog):
    async def scene() -> None:
        class Failing(Scaled):
            def warmup_item(self, item: WarmupItem) -> ItemResult:
                memory.fails = item.ref.key != "000"
                time.sleep(0.005)
                return super().warmup_item(item)

        memory = Memory()
        async with service_of(tmp_path, Failing(), rows=items(30), memory=memory) as service:
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            assert (report.stopped, report.count(ItemStatus.LOADED), report.after) == (None, 30, None)
            memory.fails = False
            again = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            assert again.count(ItemStatus.LOADED) == 30

    asyncio.run(scene())
    assert caplog.text.count("memory can't be read; ") == 1


def test_a_run_cancelled_while_it_gets_ready_does_not_begin(tmp_path):
    async def scene() -> None:
        cache = Scaled()
        async with service_of(tmp_path, cache, rows=items(5)) as service:
            plan = await service.create_warmup_plan("aggressive")
            begin_run = service.ledger.begin_run
            getting_ready, may_begin = threading.Event(), threading.Event()

            def slowly(made: Any) -> None:
                getting_ready.set()
                may_begin.wait(10.0)
                begin_run(made)

            service.ledger.begin_run = slowly  # type: ignore[method-assign]
            task = asyncio.create_task(service.execute_warmup_plan(plan))
            await until(getting_ready.is_set)
            assert await service.cancel_warmup()
            may_begin.set()
            report = await task
            assert (report.stopped, report.count(ItemStatus.SKIPPED), cache.held) == ("cancelled", 5, {})

    asyncio.run(scene())


def test_runs_after_each_other_have_events_of_their_own(tmp_path):
    async def scene() -> None:
        cache = Scaled()
        async with service_of(tmp_path, cache, rows=items(5)) as service:
            for _ in range(2):
                report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
                assert sum(event.size_bytes for event in report.events) == 500
            assert service.get_memory_statistics()["scaled"].allocated_bytes == 1000

    asyncio.run(scene())


def test_the_level_is_low_again_for_the_next_run_after_a_stop(tmp_path):
    async def scene() -> None:
        memory = Memory()

        class Short(Scaled):
            def warmup_item(self, item: WarmupItem) -> ItemResult:
                if item.ref.key == "010" and not self.held.get("done"):
                    self.held["done"] = 1
                    memory.available_bytes = 10 * MIB
                time.sleep(0.005)
                return super().warmup_item(item)

        async with service_of(tmp_path, Short(), rows=items(40), memory=memory, concurrency_limit=2) as service:
            plan = await service.create_warmup_plan("aggressive")
            stopped = await service.execute_warmup_plan(plan)
            assert stopped.stopped == "pressure"
            memory.available_bytes = 4 * GIB
            report = await service.execute_warmup_plan(plan)
            assert (report.stopped, report.count(ItemStatus.LOADED)) == (None, 40)
            assert service._watch.level == MemoryPressureLevel.LOW

    asyncio.run(scene())


def test_a_state_folder_without_corrections_or_with_wrong_ones_is_read(tmp_path):
    from preheat._store import SqliteStore

    for kept in (None, {"a": 1}, [["scaled", "", 2.0, 10**30, 0.0], ["scaled", "", 1e9, 1, 0.0], 7]):
        folder = tmp_path / os.urandom(4).hex()
        store = SqliteStore(folder)
        store.save_report(1.0, {"uplift": None} | ({} if kept is None else {"corrections": kept}))
        store.close()

        async def scene(folder: Path = folder) -> None:
            async with service_of(tmp_path, Scaled(), rows=items(5), state_dir=str(folder)) as service:
                assert await planned_sizes(service) == {100}

        asyncio.run(scene())
