"""The performer, with small caches and a memory that follows a script."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from builders import GIB, item, plan_of, reading
from preheat._events import MemoryLog
from preheat._execution import MAX_ATTEMPTS
from preheat._limit import load_limit_bytes
from preheat._memory import SystemMemory
from preheat._model import (
    ItemResult,
    ItemStatus,
    MemoryPressureLevel,
    PressureResponse,
    PressureResponses,
    WarmupItem,
    WarmupProgress,
    WarmupReport,
)
from preheat._plan.fallback import with_fallback
from preheat._plan.strategy import STRATEGIES
from preheat._run import Run, report_without_running
from preheat.errors import ItemTooLarge
from running import Async, Bulk, Plain, Script, Undoable, Weather, perform, reasons, run_of, some, statuses

pytestmark = pytest.mark.usefixtures("no_leaked_threads")

LOW, MODERATE, HIGH, CRITICAL = MemoryPressureLevel


# ----------------------------------------------------------------------------------------------------------- outcomes


@pytest.mark.parametrize("kind", [Plain, Async, Undoable, Bulk])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_every_kind_of_cache_is_loaded_whole(kind, batch_size):
    cache = kind()
    report = perform(run_of(cache, some(10), batch_size=batch_size))
    assert {f"{n:02}": 100 for n in range(10)} == cache.held
    assert {"loaded"} == set(statuses(report).values())
    assert (report.stopped, report.accounted_bytes, report.attempts) == (None, 1000, 10)
    assert sum(report.counts.values()) == len(report.plan)


def test_synchronous_loaders_run_in_threads_of_the_pool_and_asynchronous_ones_on_the_loop():
    plain, loop = Plain("p"), Async("a")
    perform(run_of([plain, loop], [item("p:x"), item("a:y")]))
    assert all(name.startswith("preheat-load") for name in plain.threads)
    assert {threading.current_thread().name} == loop.threads


def test_a_plain_function_that_gives_an_awaitable_is_awaited():
    async def later(item):
        return ItemResult(ItemStatus.LOADED, 7)

    report = perform(run_of(Plain(load=later), some(3)))
    assert ({"loaded"}, 21) == (set(statuses(report).values()), report.accounted_bytes)


def test_an_empty_plan_is_done_at_once():
    report = perform(run_of(Plain(), []))
    assert (report.stopped, len(report.status), report.attempts) == (None, 0, 0)


def raising(error: BaseException) -> Callable[[WarmupItem], Any]:
    def load(item: WarmupItem) -> None:
        if item.ref.key == "01":
            raise error

    return load


@pytest.mark.parametrize("kind", [Plain, Async])
@pytest.mark.parametrize(
    "error", [ValueError("no value"), asyncio.CancelledError("somebody else's"), TimeoutError("slow"), KeyError("k")]
)
def test_an_item_whose_loader_raises_fails_by_name_and_the_others_do_not(kind, error):
    cache = kind(load=raising(error))
    report = perform(run_of(cache, some(3)))
    assert statuses(report) == {"00": "loaded", "01": "failed", "02": "loaded"}
    assert {"01": f"{type(error).__name__}: {error}"} == reasons(report)
    assert [str(ref) for ref in report.failures] == ["c:01"]
    assert cache.calls.count("01") == MAX_ATTEMPTS


def test_an_item_that_fails_once_is_loaded_in_the_end():
    def load(item: WarmupItem) -> None:
        if len(cache.calls) == 1:
            raise ConnectionError

    cache = Plain(load=load)
    report = perform(run_of(cache, some(1)))
    assert (statuses(report), report.attempts) == ({"00": "loaded"}, 2)
    assert reasons(report) == {}


def test_one_bad_item_of_a_bulk_load_is_found_and_the_others_are_loaded():
    cache = Bulk(bad=["05"])
    report = perform(run_of(cache, some(7), batch_size=4, concurrency_limit=1))
    assert [key for key, status in statuses(report).items() if status != "loaded"] == ["05"]
    assert reasons(report) == {"05": "ValueError: 05 is bad"}
    assert cache.batches == [["03", "04", "05", "06"]]  # the first three go one by one


@pytest.mark.parametrize(
    "answer", [None, 7, "text", ("loaded", 1), ItemResult("done", 1), ItemResult(ItemStatus.LOADED, None)]
)
@pytest.mark.parametrize("kind", [Plain, Async])
def test_an_answer_that_is_no_result_is_a_failure(kind, answer):
    report = perform(run_of(kind(load=lambda item: answer if item.ref.key == "01" else None), some(2)))
    expected = "loaded" if answer is None else "failed"
    assert {"00": "loaded", "01": expected} == statuses(report)
    assert (answer is None) == (reasons(report) == {})


@pytest.mark.parametrize("size", [-1, 1.5, "big"])
def test_a_size_that_is_none_is_a_failure(size):
    report = perform(run_of(Plain(load=lambda item: ItemResult(ItemStatus.LOADED, size)), some(1)))
    assert {"00": f"warmup_item gave {size!r} as its size in bytes"} == reasons(report)
    assert report.accounted_bytes == 0


def test_a_size_of_numpy_is_a_size():
    import numpy as np

    report = perform(run_of(Plain(load=lambda item: ItemResult(ItemStatus.LOADED, np.int64(5))), some(2)))
    assert report.accounted_bytes == 10


@pytest.mark.parametrize(
    "answer", [lambda results: results[:-1], lambda results: [None] * len(results), lambda _: None]
)
def test_a_bulk_answer_that_is_none_fails_its_items_and_not_the_run(answer):
    cache = Bulk(answer=answer)
    report = perform(run_of(cache, some(7), batch_size=4, concurrency_limit=1))
    assert len(cache.batches[0]) == 4  # the first three go one by one
    assert len(report.plan) == sum(report.counts.values())
    assert report.stopped is None


def test_a_reason_with_a_lone_surrogate_is_made_printable():
    report = perform(run_of(Plain(load=raising(ValueError("caf\udce9"))), some(2)))
    assert reasons(report) == {"01": "ValueError: caf\\udce9"}


def test_dependants_wait_for_what_they_need_and_are_skipped_without_it():
    cache = Plain(load=raising(ValueError("no")))
    rows = [item("00"), item("01"), item("a", "00"), item("b", "01"), item("c", "b")]
    report = perform(run_of(cache, rows, batch_size=10))
    assert statuses(report) == {"00": "loaded", "01": "failed", "a": "loaded", "b": "skipped", "c": "skipped"}
    assert reasons(report)["b"] == "it needs c:01, which ended as failed"
    assert cache.calls.index("00") < cache.calls.index("a")


def test_never_more_loaders_at_once_than_the_limit():
    now, most, lock = [0], [0], threading.Lock()

    def load(_: WarmupItem) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.005)
        with lock:
            now[0] -= 1

    perform(run_of(Plain(load=load), some(20), concurrency_limit=3))
    assert most[0] == 3


def test_what_turns_out_larger_than_the_budget_is_given_back():
    cache = Undoable("c", lambda item: ItemResult(ItemStatus.LOADED, cache.held.setdefault(item.ref.key, 700)))
    report = perform(run_of(cache, some(3), granted_bytes=1000, concurrency_limit=1))
    assert statuses(report) == {"00": "loaded", "01": "rejected", "02": "rejected"}
    assert (cache.held, report.accounted_bytes) == ({"00": 700}, 700)


# ----------------------------------------------------------------------------------------------------------- pressure

CRITICALLY_LOW = 10 * 2**20


def test_critical_pressure_rolls_back_newest_first_and_frees_memory():
    freed = []
    memory = Script(*[4 * GIB] * 3, CRITICALLY_LOW)
    cache = Undoable("c", lambda item: time.sleep(0.03))
    run = run_of(
        cache, some(40), memory=memory, concurrency_limit=1, release_memory=lambda: freed.append(len(cache.held))
    )
    report = perform(run)
    counts = report.counts
    assert report.stopped == "pressure"
    assert counts[ItemStatus.ROLLED_BACK] > 0
    assert 0 == counts[ItemStatus.LOADED] == report.accounted_bytes
    assert counts[ItemStatus.ROLLED_BACK] + counts[ItemStatus.SKIPPED] == 40
    assert cache.held == {}
    assert freed
    first = cache.undone[: counts[ItemStatus.ROLLED_BACK] - 1]
    assert sorted(first, reverse=True) == first


def test_what_traffic_uses_survives_a_roll_back_and_stays_counted():
    memory = Script(*[4 * GIB] * 3, CRITICALLY_LOW)
    cache = Undoable("c", lambda item: time.sleep(0.03), in_use=["00"])
    report = perform(run_of(cache, some(40), memory=memory, concurrency_limit=1))
    assert statuses(report)["00"] == "loaded"
    assert (cache.held, report.accounted_bytes) == ({"00": 100}, 100)


def test_a_cache_that_cannot_undo_keeps_what_it_has():
    memory = Script(*[4 * GIB] * 3, CRITICALLY_LOW)
    cache = Plain("c", lambda item: time.sleep(0.03))
    report = perform(run_of(cache, some(40), memory=memory, concurrency_limit=1))
    assert report.stopped == "pressure"
    assert len(cache.held) == report.count(ItemStatus.LOADED) > 0
    assert sum(cache.held.values()) == report.accounted_bytes


def test_an_undo_that_raises_keeps_its_item_and_not_the_run(caplog):
    def fail(key: str) -> int:
        raise RuntimeError("locked")

    cache = Undoable("c", lambda item: time.sleep(0.03))
    cache.undo_warmup = fail
    report = perform(run_of(cache, some(40), memory=Script(*[4 * GIB] * 3, CRITICALLY_LOW), concurrency_limit=1))
    assert len(cache.held) == report.count(ItemStatus.LOADED) > 0
    assert "an item of cache 'c' could not be undone" in caplog.text


def test_high_pressure_pauses_and_relief_goes_on():
    high = GIB // 2
    memory = Script(*[4 * GIB] * 2, *[high] * 6, 4 * GIB)
    report = perform(run_of(Plain(load=lambda item: time.sleep(0.002)), some(60), memory=memory, concurrency_limit=1))
    assert [event.cause for event in report.events if event.kind == "pressure"] == [
        "LOW -> HIGH: pauses",
        "HIGH -> LOW: full speed",
    ]
    assert (report.stopped, report.count(ItemStatus.LOADED)) == (None, 60)


def test_a_run_that_begins_at_critical_pressure_loads_nothing():
    cache = Plain()
    report = perform(run_of(cache, some(5), memory=Script(CRITICALLY_LOW)))
    assert (report.stopped, cache.calls, report.count(ItemStatus.SKIPPED)) == ("pressure", [], 5)


def test_a_memory_that_cannot_be_read_leaves_the_level_as_it_was():
    report = perform(run_of(Plain(), some(5), memory=Script(OSError("no /proc"))))
    assert (report.stopped, report.count(ItemStatus.LOADED), report.before, report.after) == (None, 5, None, None)


def test_readings_before_at_the_peak_and_after_are_kept():
    memory = Script(4 * GIB, GIB * 7 // 2, 3 * GIB, 4 * GIB)
    report = perform(run_of(Plain(load=lambda item: time.sleep(0.03)), some(6), memory=memory, concurrency_limit=1))
    held = [GIB - available // 8 for available in (4 * GIB, 3 * GIB, 4 * GIB)]
    assert held == [seen.process_bytes for seen in (report.before, report.peak, report.after)]


# ------------------------------------------------------------------------------------------------- cancel and progress


@pytest.mark.parametrize("items", [1, 40])
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_a_coroutine_function_that_forgets_to_await_fails_and_says_so(items):
    class Forgetful(Plain):
        async def warmup_item(self, item: WarmupItem) -> Any:
            return asyncio.sleep(0, ItemResult(ItemStatus.LOADED, 7))

    report = perform(run_of(Forgetful(), some(items)))
    assert report.count(ItemStatus.FAILED) == items
    assert set(reasons(report).values()) == {"warmup_item gave a coroutine, not an ItemResult"}


def test_cancel_awaits_what_is_in_flight_and_reports():
    async def scene() -> WarmupReport:
        task = asyncio.create_task(run.perform())
        while not cache.calls:
            await asyncio.sleep(0.001)
        run.cancel()
        await asyncio.sleep(0.01)
        gate.set()
        return await asyncio.wait_for(task, 10.0)

    gate = threading.Event()
    cache = Plain(load=lambda item: gate.wait(10.0) and None)
    run = run_of(cache, some(9), concurrency_limit=2)
    report = asyncio.run(scene())
    assert report.stopped == "cancelled"
    assert (report.count(ItemStatus.LOADED), report.count(ItemStatus.SKIPPED)) == (1, 8)
    assert len(cache.held) == 1


@pytest.mark.parametrize("kind", [Plain, Async])
def test_the_cancellation_of_its_task_passes_through(kind):
    async def scene() -> None:
        task = asyncio.create_task(run.perform())
        while not cache.calls:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        called = len(cache.calls)
        await asyncio.sleep(0.05)
        assert len(cache.calls) <= called + 1  # what was in flight; nothing new starts

    cache = kind(load=lambda item: time.sleep(0.01))
    run = run_of(cache, some(200), concurrency_limit=1)
    asyncio.run(scene())


def test_a_cancelled_batch_of_an_asynchronous_cache_stops_inside():
    async def scene() -> None:
        task = asyncio.create_task(run.perform())
        while not begun:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(20):
            await asyncio.sleep(0)
        assert begun == ["00"]

    class Waiting(Plain):
        async def warmup_item(self, item: WarmupItem) -> Any:
            begun.append(item.ref.key)
            await asyncio.sleep(60)

    begun: list[str] = []
    run = run_of(Waiting(), some(5), batch_size=5, concurrency_limit=1)
    asyncio.run(scene())


def test_a_cancellation_is_never_lost_however_it_falls():
    async def scene(seconds: float) -> bool:
        task = asyncio.create_task(run_of(Async(), some(300), concurrency_limit=2).perform())
        await asyncio.sleep(seconds)
        if task.done():
            return False
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(task), 5.0)
        return task.cancelled()

    cancelled = [asyncio.run(scene(n * 0.0007)) for n in range(25)]
    assert any(cancelled)


def test_progress_comes_at_the_end_and_never_goes_back():
    seen: list[WarmupProgress] = []
    perform(run_of(Plain(load=lambda item: time.sleep(0.02)), some(30), on_progress=seen.append, concurrency_limit=2))
    assert (seen[-1].done, seen[-1].total, seen[-1].progress_percent, seen[-1].loaded_bytes) == (30, 30, 100.0, 3000)
    assert sorted(p.done for p in seen) == [p.done for p in seen]
    assert len(seen) >= 3
    assert all(p.budget_bytes == 10**9 for p in seen)


def test_a_progress_callback_that_raises_is_called_once_and_breaks_nothing(caplog):
    calls = []

    def fail(progress: WarmupProgress) -> None:
        calls.append(progress)
        raise RuntimeError("the terminal is gone")

    with caplog.at_level(logging.ERROR, "preheat"):
        report = perform(run_of(Plain(load=lambda item: time.sleep(0.02)), some(20), on_progress=fail))
    assert (report.count(ItemStatus.LOADED), len(calls)) == (20, 1)
    assert "the progress callback failed" in caplog.text


def test_progress_can_be_read_before_and_during_a_run():
    run = run_of(Plain(load=lambda item: seen.append(run.progress())), some(3), concurrency_limit=1)
    seen: list[WarmupProgress] = []
    assert (run.progress().done, run.progress().total, run.progress().elapsed_seconds) == (0, 3, 0.0)
    perform(run)
    assert [progress.done for progress in seen] == [0, 1, 2]
    assert [progress.phase for progress in seen] == ["standard"] * 3


def test_the_pause_between_phases_is_measured_by_the_clock_it_is_given():
    class Fast:
        """A clock on which each look takes a second."""

        now = 0.0

        def __call__(self) -> float:
            self.now += 1.0
            return self.now

    started: dict[str, float] = {}
    clock = Fast()
    run = run_of(
        Plain(load=lambda item: started.setdefault(item.ref.key, clock.now) and None),
        [item("first", priority=9), item("second")],
        phase_delay_seconds=100.0,
        clock=clock,
    )
    begun = time.monotonic()
    report = perform(run)
    assert started["second"] - started["first"] >= 100.0
    assert time.monotonic() - begun < 15.0
    assert {"critical", "standard"} == set(report.phase_seconds)
    assert report.seconds >= 100.0


def test_a_bug_in_the_run_is_raised_and_not_waited_for():
    def fail() -> None:
        raise RuntimeError("release")

    cache = Undoable("c", lambda item: time.sleep(0.03))
    run = run_of(
        cache, some(40), memory=Script(*[4 * GIB] * 3, CRITICALLY_LOW), concurrency_limit=1, release_memory=fail
    )
    with pytest.raises(RuntimeError, match="release"):
        perform(run)


def test_a_run_that_never_began_skips_everything():
    report = report_without_running(plan_of(some(3)), "disabled")
    assert (report.stopped, report.count(ItemStatus.SKIPPED), report.accounted_bytes) == ("disabled", 3, 0)


# ------------------------------------------------------------------------------------------- what memory did, and why


def test_what_a_loader_finds_too_large_is_not_tried_again():
    cache = Plain(load=raising(ItemTooLarge("01 is a giant")))
    report = perform(run_of(cache, some(3)))
    assert statuses(report) == {"00": "loaded", "01": "too_large", "02": "loaded"}
    assert (reasons(report), cache.calls.count("01")) == ({"01": "01 is a giant"}, 1)


def test_loaders_are_told_a_limit_below_what_is_available():
    limits: list[int | None] = []
    cache = Plain(load=lambda item: limits.append(load_limit_bytes()))
    perform(run_of(cache, some(3), memory=Script(GIB), granted_bytes=4 * GIB))
    assert len(limits) == 3
    assert all(limit is not None and 0 < limit <= GIB // 2 for limit in limits)


def test_the_report_tells_estimated_and_accounted_bytes_by_kind():
    class Kinds(Plain):
        def kind_of(self, key: str) -> str:
            return key[-1]

    cache = Kinds(load=lambda item: ItemResult(ItemStatus.LOADED, 250 if item.ref.key.endswith("1") else 100))
    report = perform(run_of(cache, some(12)))
    assert {("1", 2, 200, 500), ("0", 2, 200, 200)} <= {size[1:5] for size in report.sizes}
    assert sum(size.accounted_bytes for size in report.sizes) == report.accounted_bytes


def test_a_load_that_holds_more_than_its_value_is_seen_to():
    def load(item: WarmupItem) -> ItemResult:
        held = bytearray(b"x" * 48 * 2**20)
        return ItemResult(ItemStatus.LOADED, len(held) // 8)

    report = perform(run_of(Plain(load=load), some(3), granted_bytes=GIB, memory=SystemMemory()))
    (size,) = report.sizes
    # where the process has been larger before, a peak can't be seen
    assert size.peak_ratio == 0.0 or 4.0 < size.peak_ratio <= 16.0


def test_loads_and_roll_backs_of_a_run_are_events():
    log = MemoryLog()
    log.track("c", "allocation", 1, "before the run")
    memory = Script(*[4 * GIB] * 6, CRITICALLY_LOW)
    cache = Undoable("c", lambda item: time.sleep(0.02))
    report = perform(run_of(cache, some(40), memory=memory, concurrency_limit=1, memory_log=log))
    done = report.counts[ItemStatus.ROLLED_BACK]
    told = [(str(event.kind), event.cache, event.cause) for event in report.events]
    assert told.count(("allocation", "c", "warm-up")) == done
    assert ("pressure", "", "LOW -> CRITICAL: stops and undoes what nobody used") in told
    assert ("rollback", "c", "undone") in told
    assert told[-1] == ("pressure", "", "the run was stopped: pressure")
    assert log.statistics()["c"].current_bytes == 1
    assert report.rolled_back_bytes == 100 * done
    assert report.released_bytes is not None


def test_a_cache_that_reports_by_itself_is_not_reported_twice():
    class Reports(Undoable):
        def report_memory_to(self, track: Any) -> None:
            raise AssertionError("the run does not ask for it")

    memory = Script(*[4 * GIB] * 6, CRITICALLY_LOW)
    cache = Reports("c", lambda item: time.sleep(0.02))
    report = perform(run_of(cache, some(40), memory=memory, concurrency_limit=1))
    assert {str(event.kind) for event in report.events} == {"pressure"}


def test_a_run_that_undid_nothing_released_nothing():
    report = perform(run_of(Plain(), some(3)))
    assert (report.rolled_back_bytes, report.released_bytes) == (0, None)


def test_a_hold_while_others_take_memory_is_told():
    taken = [7 * GIB - n * 2**28 for n in range(22)]  # of 8 GiB; MODERATE begins at 2
    memory = Script(*taken, *[GIB * 3 // 2] * 40)
    report = perform(run_of(Plain(load=lambda item: time.sleep(0.02)), some(60), memory=memory, concurrency_limit=1))
    causes = [event.cause for event in report.events if event.kind == "pressure"]
    assert causes == ["LOW -> MODERATE: half as many loads at a time", "others take memory: waits", "goes on"]
    assert report.stopped is None


def test_all_loaders_waiting_do_not_hold_up_a_roll_back():
    gate = threading.Event()
    undone_first: list[bool] = []

    class Stuck(Undoable):
        def undo_warmup(self, key: str) -> int:
            undone_first.append(not gate.is_set())
            gate.set()
            return super().undo_warmup(key)

    def load(item: WarmupItem) -> None:
        if int(item.ref.key) > 3:
            gate.wait(10.0)

    cache = Stuck("c", load)
    report = perform(run_of(cache, some(12), memory=Script(*[4 * GIB] * 6, CRITICALLY_LOW), concurrency_limit=2))
    assert report.stopped == "pressure"
    assert undone_first[0]


def test_the_watch_wakes_a_run_that_waits():
    weather = Weather(Script())
    gate = threading.Event()

    def low(level: MemoryPressureLevel = CRITICAL) -> None:
        weather._memory = Script(CRITICALLY_LOW)
        for tell in list(weather.subscribers):
            tell(level, reading(CRITICALLY_LOW))

    async def scene() -> WarmupReport:
        task = asyncio.create_task(run.perform())
        while not cache.calls:
            await asyncio.sleep(0.001)
        low()
        while not any(event.kind == "pressure" for event in log.events()):
            await asyncio.sleep(0.001)
        gate.set()
        return await task

    log = MemoryLog()
    cache = Plain(load=lambda item: gate.wait(10.0) and None)
    run = run_of(cache, some(5), watch=weather, memory_log=log)
    assert asyncio.run(scene()).stopped == "pressure"
    assert weather.subscribers == []


def test_the_collector_is_as_it_was_after_a_run():
    before = gc.get_threshold()
    seen: list[tuple[int, int, int]] = []
    perform(run_of(Plain(load=lambda item: seen.append(gc.get_threshold())), some(3)))
    assert gc.get_threshold() == before
    assert all(threshold[0] > before[0] for threshold in seen)


# ------------------------------------------------------------------------------------------- what others do wrong


def test_a_run_cancelled_before_it_begins_loads_nothing():
    cache = Plain()
    run = run_of(cache, some(3))
    run.cancel()
    report = perform(run)
    assert (report.stopped, report.count(ItemStatus.SKIPPED), cache.calls) == ("cancelled", 3, [])


def test_a_run_goes_on_after_high_pressure_whose_end_nobody_tells():
    weather = Weather(Script())

    async def scene() -> WarmupReport:
        task = asyncio.create_task(run.perform())
        while not cache.calls:
            await asyncio.sleep(0.001)
        for tell in weather.subscribers:  # and another subscriber holds up what comes after it
            tell(HIGH, reading())
        return await asyncio.wait_for(task, 10.0)

    cache = Plain(load=lambda item: time.sleep(0.005))
    run = run_of(cache, some(20), watch=weather, concurrency_limit=1)
    report = asyncio.run(scene())
    assert (report.stopped, report.count(ItemStatus.LOADED)) == (None, 20)


@pytest.mark.parametrize("size", [2**48 + 1, 2**62, 2**63, 2**64, 10**30])
@pytest.mark.parametrize("kind", [Plain, Undoable])
def test_a_size_that_no_process_could_hold_is_a_failure_of_its_item(kind, size):
    report = perform(run_of(kind("c", lambda item: ItemResult(ItemStatus.LOADED, size)), some(2)))
    assert set(reasons(report).values()) == {f"warmup_item gave {size!r} as its size in bytes"}


@pytest.mark.parametrize("kind", [ValueError("no kind"), None, 7, []])
def test_a_cache_that_fails_to_tell_kinds_is_loaded_as_if_all_were_alike(kind, caplog):
    class Kinds(Plain):
        def kind_of(self, key: str) -> Any:
            if isinstance(kind, Exception):
                raise kind
            return kind

    report = perform(run_of(Kinds(), some(5)))
    assert [size[:3] for size in report.sizes] == [("c", "", 5)]
    assert caplog.text.count("could not be told apart") == 1


# --------------------------------------------------------------------------------------------------------- strategies

FAST = 40.0  # seconds of the run's clock in a real one


def fast_clock() -> float:
    return time.monotonic() * FAST


def adaptive_run(cache: Any, memory: Any, items: Sequence[WarmupItem], **changes: Any) -> Run:
    plan = with_fallback(plan_of(items, profile="adaptive"), STRATEGIES["adaptive"], STRATEGIES["conservative"])
    arguments = {"watch": Weather(memory), "concurrency_limit": 1, "batch_size": 1, "clock": fast_clock} | changes
    return Run(plan, {cache.name: cache}, **arguments)


def some_of_each() -> list[WarmupItem]:
    """Alike in value per byte, so that there is no knee; two of ten are critical."""
    return [item(f"{n:02}", rate=1.0, priority=9 if n < 2 else 5) for n in range(10)]


HEAD = 8 * GIB // 10  # HIGH of 8 GiB


def test_a_run_falls_back_returns_and_tells_both_with_their_reasons():
    seen: list[WarmupProgress] = []
    run = adaptive_run(Plain(), Script(4 * GIB, HEAD, 4 * GIB), some_of_each(), on_progress=seen.append)
    before = time.time()
    report = perform(run)
    assert {"loaded"} == set(statuses(report).values())
    down, up = report.switches
    assert (down.before, down.after, down.reason) == ("adaptive", "conservative", "HIGH pressure")
    assert (up.before, up.after) == ("conservative", "adaptive")
    assert up.reason.startswith("memory as expected for ")
    assert before - 1 < down.at < up.at, "in Unix seconds"
    assert seen[-1].switches == report.switches
    assert seen[-1].strategy == "adaptive"


def test_what_the_milder_strategy_does_not_take_is_skipped_if_memory_stays_short():
    # HIGH at first, then MODERATE for good
    report = perform(adaptive_run(Plain(), Script(4 * GIB, HEAD, 3 * GIB // 2), some_of_each()))
    assert [key for key, status in statuses(report).items() if status == "loaded"] == ["00", "01"]
    assert report.stopped is None
    assert len(report.switches) == 1
    assert set(reasons(report).values()) == {
        "not started: the run went on as conservative (HIGH pressure), which does not take it"
    }


@pytest.mark.parametrize(("planned_with", "switches"), [(reading(4 * GIB), 0), (None, 1)], ids=["known", "unknown"])
def test_pressure_that_the_plan_itself_will_bring_is_no_reason_to_fall_back(planned_with, switches):
    """The control: a plan that does not say what memory it was made for is taken to leave it as it was."""
    cache = Plain(load=lambda item: time.sleep(0.02))
    items = [item(f"{n:02}", rate=1.0, size=GIB // 10) for n in range(22)]
    plan = with_fallback(plan_of(items, 4 * GIB), STRATEGIES["adaptive"], STRATEGIES["conservative"])
    plan = replace(plan, budget=plan.budget._replace(reading=planned_with))
    memory: Any = lambda: reading(4 * GIB - sum(cache.held.values()))  # noqa: E731
    watch = Weather(memory)
    run = Run(plan, {"c": cache}, watch=watch, concurrency_limit=1, batch_size=1, clock=fast_clock)
    report = perform(run)
    assert len(report.switches) == switches
    assert (len(cache.held) == 22) == (not switches)
    assert watch.read()[0] == (LOW if switches else MODERATE)


def test_a_run_does_about_pressure_what_its_strategy_says():
    cautious = PressureResponses(PressureResponse.STOP, PressureResponse.STOP, PressureResponse.STOP)
    plan = replace(plan_of(some(3)), pressure_response=cautious)
    cache, log = Undoable(), MemoryLog()
    memory = Weather(Script(4 * GIB, 3 * GIB // 2))
    report = perform(Run(plan, {"c": cache}, watch=memory, concurrency_limit=1, batch_size=1, memory_log=log))
    assert report.stopped == "pressure"
    assert cache.undone == []
    assert any(event.cause == "LOW -> MODERATE: stops" for event in log.events())
