"""The workers of a run: time limits, giving up, pausing, and how many of them there are."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from builders import item, plan_of
from preheat._loaders import ABANDON_SECONDS
from preheat._model import ItemResult, ItemStatus, PhaseOutcome, WarmupItem, WarmupProgress, WarmupReport
from preheat._run import Run
from preheat._turns import Turn, Turns
from running import Async, Plain, Undoable, perform, reasons, run_of, some, statuses

pytestmark = pytest.mark.usefixtures("no_leaked_threads")

LATE = "its loader took longer than an item may (item_timeout_seconds)"


def keep(cache: Any, item: WarmupItem) -> ItemResult:
    cache.held[item.ref.key] = item.size_bytes
    return ItemResult(ItemStatus.LOADED, item.size_bytes)


class OnLoop(Undoable):
    """Loads by a coroutine that is given."""

    def __init__(self, load: Callable[[WarmupItem], Any]) -> None:
        super().__init__("c")
        self.load = load

    async def warmup_item(self, item: WarmupItem) -> Any:
        self.calls.append(item.ref.key)
        await self.load(item)
        return keep(self, item)


class Deaf:
    """A load of one key, or of each, that does not heed its cancellation until `enough` is set."""

    def __init__(self, key: str | None = None) -> None:
        self.key, self.enough = key, threading.Event()
        self.cancelled: list[str] = []

    async def __call__(self, item: WarmupItem) -> None:
        await asyncio.sleep(0)
        while self.key in (None, item.ref.key) and not self.enough.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                self.cancelled.append(item.ref.key)


# ------------------------------------------------------------------------------------------------------- time limits


async def hang_at_01(item: WarmupItem) -> None:
    await asyncio.sleep(60.0 if item.ref.key == "01" else 0.0)


def test_a_load_on_the_loop_that_hangs_is_cancelled_and_the_others_are_loaded():
    cache = OnLoop(hang_at_01)
    report = perform(run_of(cache, some(5), item_timeout_seconds=0.05))
    assert statuses(report) == {"00": "loaded", "01": "failed", "02": "loaded", "03": "loaded", "04": "loaded"}
    assert (reasons(report), cache.calls.count("01")) == ({"01": LATE}, 3)


def test_a_load_that_does_not_heed_its_cancellation_is_left_alone_and_undone_when_it_ends():
    async def scene() -> WarmupReport:
        task = asyncio.create_task(run.perform())
        while len(deaf.cancelled) < 3:
            await asyncio.sleep(0.01)
        deaf.enough.set()
        return await asyncio.wait_for(task, 10.0)

    deaf = Deaf("01")
    cache = OnLoop(deaf)
    run = run_of(cache, some(4), item_timeout_seconds=0.05, concurrency_limit=1)
    report = asyncio.run(scene())
    assert report.count(ItemStatus.LOADED) + report.count(ItemStatus.FAILED) == 4
    assert set(cache.held) - {"01"} == {"00", "02", "03"}
    assert sum(report.loaded_bytes) == 100 * report.count(ItemStatus.LOADED)


def test_a_loader_that_makes_an_error_of_its_own_of_the_cancellation_is_late_all_the_same():
    async def convert(item: WarmupItem) -> None:
        try:
            await hang_at_01(item)
        except asyncio.CancelledError:
            raise ConnectionError("broken") from None

    report = perform(run_of(OnLoop(convert), some(3), item_timeout_seconds=0.05))
    assert reasons(report) == {"01": LATE}


def test_a_load_in_a_thread_that_hangs_is_left_alone_and_undone_when_it_ends():
    gate, entered = threading.Event(), []

    def hang(item: WarmupItem) -> Any:
        entered.append(item.ref.key)
        if item.ref.key == "01" and entered.count("01") == 1:
            gate.wait(10.0)
        return None

    cache = Undoable("c", hang)
    report = perform(run_of(cache, some(6), item_timeout_seconds=0.1, concurrency_limit=2))
    assert set(statuses(report).values()) == {"loaded"}, "its second attempt went well"
    gate.set()
    until = time.monotonic() + 5.0
    while "01" not in cache.undone and time.monotonic() < until:
        time.sleep(0.005)
    assert cache.undone == ["01"], "the late one was undone"


def test_threads_that_never_come_back_do_not_hold_up_the_run():
    gate = threading.Event()
    cache = Plain(load=lambda item: gate.wait(20.0) and None)
    report = perform(run_of(cache, some(4), item_timeout_seconds=0.03, concurrency_limit=2))
    gate.set()
    assert report.counts[ItemStatus.FAILED] == 4
    assert set(reasons(report).values()) == {LATE}


def test_a_batch_that_hangs_fails_as_one_and_its_items_are_tried_again():
    class HangsOnce(OnLoop):
        async def warmup_items(self, items: Any) -> Any:
            self.batches.append(len(items))
            await asyncio.sleep(60.0 if len(self.batches) == 1 else 0.0)
            return [keep(self, item) for item in items]

    async def at_once(item: WarmupItem) -> None:
        pass

    cache = HangsOnce(at_once)
    cache.batches = []
    report = perform(run_of(cache, some(7), item_timeout_seconds=0.05, batch_size=4, concurrency_limit=1))
    assert (report.count(ItemStatus.LOADED), report.attempts) == (7, 7 + 4)
    assert cache.batches[0] == 4  # the first three go one by one


def test_an_awaitable_of_a_plain_function_that_hangs_is_cancelled():
    async def later(item: WarmupItem) -> ItemResult:
        await hang_at_01(item)
        return ItemResult(ItemStatus.LOADED, 10)

    report = perform(run_of(Plain(load=later), some(4), item_timeout_seconds=0.05))
    assert reasons(report) == {"01": LATE}


def test_of_a_run_that_workers_share_only_the_load_that_hangs_is_late():
    async def hang_once(item: WarmupItem) -> None:
        await asyncio.sleep(60.0 if item.ref.key == "70" and cache.calls.count("70") == 1 else 0.0)

    cache = OnLoop(hang_once)
    report = perform(run_of(cache, some(200), item_timeout_seconds=0.1, concurrency_limit=8))
    assert set(statuses(report).values()) == {"loaded"}, "its second attempt went well"
    assert sorted(set(cache.calls)) == sorted(cache.held)
    assert cache.calls.count("70") == 2


# ------------------------------------------------------------------------------------------------------------ giving up


def stopped_after(run: Run, begun: list[str], seconds: float = 5.0, **how: Any) -> WarmupReport:
    async def scene() -> WarmupReport:
        task = asyncio.create_task(run.perform())
        while not begun:
            await asyncio.sleep(0.001)
        run.cancel(**how)
        return await asyncio.wait_for(task, seconds)

    return asyncio.run(scene())


def test_a_load_on_the_loop_that_is_given_up_clears_up_before_the_run_ends():
    async def tidy(item: WarmupItem) -> None:
        try:
            await asyncio.sleep(60.0)
        finally:
            await asyncio.sleep(0.01)
            closed.append(item.ref.key)

    closed: list[str] = []
    cache = OnLoop(tidy)
    report = stopped_after(run_of(cache, some(9)), cache.calls, abandon=True)
    assert (report.stopped, set(statuses(report).values())) == ("cancelled", {"skipped"})
    assert closed == cache.calls
    given_up = {key for key, why in reasons(report).items() if why.startswith("given up")}
    assert given_up == set(cache.calls)


def test_of_runs_that_workers_share_only_what_was_being_loaded_is_given_up():
    async def hang_from_70_on(item: WarmupItem) -> None:
        await asyncio.sleep(60.0 if item.ref.key >= "70" else 0.0)
        begun.append(item.ref.key) if item.ref.key == "69" else None

    begun: list[str] = []
    cache = OnLoop(hang_from_70_on)
    report = stopped_after(run_of(cache, some(100), concurrency_limit=8), begun, abandon=True)
    loaded = {key for key, status in statuses(report).items() if status == "loaded"}
    assert loaded == set(cache.held) <= {f"{n:02}" for n in range(70)}
    given_up = {key for key, why in reasons(report).items() if why.startswith("given up")}
    assert loaded | given_up == set(cache.calls)
    assert len(given_up) <= 8


def test_runs_that_workers_share_go_on_after_a_pause_with_what_had_not_begun():
    async def pause_at_70(item: WarmupItem) -> None:
        await asyncio.sleep(0)
        if item.ref.key == "70":
            run.pause()
            asyncio.get_running_loop().call_later(0.05, lambda: (paused.append(len(cache.calls)), run.resume()))

    paused: list[int] = []
    cache = OnLoop(pause_at_70)
    run = run_of(cache, some(300), concurrency_limit=8)
    report = perform(run)
    assert len(cache.calls) == len(set(cache.calls)) == report.count(ItemStatus.LOADED) == report.attempts == 300
    assert paused[0] < 300


def test_one_deaf_load_of_a_run_that_workers_share_is_left_alone_and_undone():
    deaf = Deaf("70")
    cache = OnLoop(deaf)

    async def scene() -> WarmupReport:
        report = await asyncio.wait_for(run.perform(), 20.0)
        deaf.enough.set()
        return report

    run = run_of(cache, some(100), item_timeout_seconds=0.05, concurrency_limit=4)
    report = asyncio.run(scene())
    assert {key: status for key, status in statuses(report).items() if status != "loaded"} == {"70": "failed"}
    assert len(deaf.cancelled) >= 3, "each of its attempts was cancelled, in vain"


def test_a_load_on_the_loop_that_clears_up_for_ever_is_left_alone():
    stubborn = Deaf()
    cache = OnLoop(stubborn)

    async def scene() -> WarmupReport:
        task = asyncio.create_task(run.perform())
        while not cache.calls:
            await asyncio.sleep(0.001)
        run.cancel(abandon=True)
        report = await asyncio.wait_for(task, ABANDON_SECONDS * 10)
        stubborn.enough.set()
        await asyncio.sleep(0.05)
        return report

    run = run_of(cache, some(3), concurrency_limit=1)
    report = asyncio.run(scene())
    assert (report.stopped, report.count(ItemStatus.SKIPPED)) == ("cancelled", 3)
    assert cache.held == {}, "what it loaded afterwards was undone"


def test_a_load_in_a_thread_that_is_given_up_is_undone_when_it_ends():
    gate = threading.Event()
    cache = Undoable("c", lambda item: gate.wait(10.0) and None)
    report = stopped_after(run_of(cache, some(9), concurrency_limit=2), cache.calls, abandon=True)
    assert (report.stopped, report.count(ItemStatus.SKIPPED)) == ("cancelled", 9)
    gate.set()
    until = time.monotonic() + 5.0
    while not cache.undone and time.monotonic() < until:
        time.sleep(0.005)
    assert (cache.undone, cache.held) == (cache.calls, {})


def test_at_its_deadline_a_run_ends_whatever_its_loaders_do():
    gate = threading.Event()
    cache = Plain(load=lambda item: gate.wait(20.0) and None)
    report = perform(run_of(cache, some(4), deadline_seconds=0.1))
    gate.set()
    assert (report.stopped, report.count(ItemStatus.SKIPPED)) == ("deadline", 4)


def test_the_cancellation_of_a_run_reaches_its_loads_before_it_passes_through():
    async def scene() -> None:
        task = asyncio.create_task(run.perform())
        while not cache.calls:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert closed == cache.calls
        assert [each for each in asyncio.all_tasks() if each is not asyncio.current_task()] == []

    async def tidy(item: WarmupItem) -> None:
        try:
            await asyncio.sleep(60.0)
        finally:
            closed.append(item.ref.key)

    closed: list[str] = []
    cache = OnLoop(tidy)
    run = run_of(cache, some(9))
    asyncio.run(scene())


def test_what_a_loader_raises_to_end_the_process_ends_the_run():
    class Stop(BaseException):
        pass

    async def stop(item: WarmupItem) -> None:
        raise Stop

    def stop_here(item: WarmupItem) -> None:
        raise Stop

    for cache in (OnLoop(stop), Plain(load=stop_here)):
        with pytest.raises(Stop):
            perform(run_of(cache, some(3)))


# -------------------------------------------------------------------------------------------------- pause and going on


@pytest.mark.parametrize("kind", [Plain, Async])
def test_a_paused_run_starts_nothing_until_it_goes_on(kind):
    async def scene() -> tuple[int, int, WarmupReport]:
        task = asyncio.create_task(run.perform())
        while len(cache.calls) < 5:
            await asyncio.sleep(0.001)
        run.pause()
        while not run.progress().is_paused:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        before = len(cache.calls)
        await asyncio.sleep(0.05)
        after = len(cache.calls)
        run.resume()
        return before, after, await asyncio.wait_for(task, 20.0)

    cache = kind(load=lambda item: time.sleep(0.002))
    run = run_of(cache, some(90), concurrency_limit=2)
    before, after, report = asyncio.run(scene())
    assert before == after < 90
    assert (report.count(ItemStatus.LOADED), len(cache.calls)) == (90, 90)


def test_a_run_goes_on_with_another_and_loads_nothing_twice():
    async def waiting(item: WarmupItem) -> None:
        await asyncio.sleep(0.002)

    cache = OnLoop(waiting)
    plan = plan_of(some(60))
    run = run_of(cache, some(60), concurrency_limit=3)
    report = stopped_after(run, cache.calls)
    assert report.stopped == "cancelled"
    loaded = set(cache.held)
    again = Run(run.plan, {"c": cache}, watch=run._watch, concurrency_limit=3, batch_size=4, before=report)
    assert again.progress().done == len(loaded) == report.count(ItemStatus.LOADED)
    second = perform(again)
    assert (second.stopped, second.count(ItemStatus.LOADED), second.accounted_bytes) == (None, 60, 6000)
    assert second.attempts == 60 - len(loaded)
    assert sorted(cache.calls) == sorted(set(cache.calls)), "nothing was loaded twice"
    assert len(plan) == 60


def test_what_an_earlier_run_loaded_counts_against_the_budget():
    cache = Plain()
    run = run_of(cache, some(10), granted_bytes=1000, concurrency_limit=1)
    report = perform(run)
    assert report.accounted_bytes == 1000
    again = perform(Run(run.plan, {"c": cache}, watch=run._watch, concurrency_limit=1, batch_size=1, before=report))
    assert (again.attempts, again.accounted_bytes, again.stopped) == (0, 1000, None)


# ------------------------------------------------------------------------------------------------ what it tells


def test_phases_are_told_as_they_end_with_what_became_of_their_items():
    def load(item: WarmupItem) -> None:
        if item.ref.key == "bad":
            raise ValueError("no")

    told: list[PhaseOutcome] = []
    rows = [item("first", priority=9), item("bad", priority=9), item("second")]
    perform(run_of(Plain(load=load), rows, on_phase=told.append))
    critical, standard = told[:2]
    assert (critical.phase, critical.counts) == ("critical", {ItemStatus.LOADED: 1, ItemStatus.FAILED: 1})
    assert (critical.is_warm, critical.reason) == (False, "1 failed")
    assert (standard.phase, standard.is_warm, standard.reason) == ("standard", True, "")


def test_progress_tells_how_fast_it_goes():
    seen: list[WarmupProgress] = []
    perform(run_of(Plain(load=lambda item: time.sleep(0.01)), some(60), on_progress=seen.append, concurrency_limit=1))
    assert seen[-1].items_per_second > 0
    assert seen[-1].bytes_per_second == pytest.approx(100 * seen[-1].items_per_second)
    assert all(progress.remaining_seconds is not None for progress in seen if progress.done)


def test_the_log_has_a_line_for_each_step_with_fields_and_never_a_key(caplog):
    def load(item: WarmupItem) -> None:
        if item.ref.key == "secret-canary-1":
            raise ValueError("secret-canary-1 is not there")

    rows = [item(f"secret-canary-{n}", priority=9 if n else 5) for n in range(3)]
    with caplog.at_level(logging.DEBUG, "preheat"):
        perform(run_of(Plain(load=load), rows))
    events = [record.event for record in caplog.records if hasattr(record, "event")]
    assert events[0] == "warmup_started"
    assert events[-2:] == ["warmup_ended", "warmup_item_failed"]
    assert events.count("warmup_phase_ended") >= 2
    shown = "\n".join(f"{record.getMessage()} {record.__dict__} {record.exc_text}" for record in caplog.records)
    assert "canary" not in shown
    (failed,) = (record for record in caplog.records if getattr(record, "event", "") == "warmup_item_failed")
    assert (failed.kind, failed.item[:2]) == ("ValueError", "c:")


def test_a_run_that_is_stopped_says_so_in_the_log(caplog):
    run = run_of(Plain(), some(3))
    run.cancel()
    with caplog.at_level(logging.INFO, "preheat"):
        perform(run)
    (stopped,) = (record for record in caplog.records if getattr(record, "event", "") == "warmup_stopped")
    assert (stopped.stopped, stopped.items) == ("cancelled", 3)


# ---------------------------------------------------------------------------------------------------- tasks and turns


def test_there_are_no_more_tasks_than_loads_at_the_same_time():
    async def scene() -> int:
        task = asyncio.create_task(run.perform())
        most = 0
        while not task.done():
            most = max(most, len(asyncio.all_tasks()))
            await asyncio.sleep(0)
        assert (await task).count(ItemStatus.LOADED) == 5000
        return most

    run = run_of(Async(), [item(str(n)) for n in range(5000)], concurrency_limit=8)
    assert asyncio.run(scene()) <= 8 + 4  # the run, this one, and what undoing or closing takes


def test_loads_that_never_wait_do_not_keep_everybody_else_from_the_loop():
    class Ready(Plain):
        async def warmup_item(self, item: WarmupItem) -> ItemResult:
            return ItemResult(ItemStatus.LOADED, 1)

    async def scene() -> int:
        task = asyncio.create_task(run.perform())
        turns = 0
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    run = run_of(Ready(), [item(str(n)) for n in range(20_000)], concurrency_limit=4)
    assert asyncio.run(scene()) > 5


def test_turns_go_round_and_a_worker_that_has_stepped_back_by_itself_need_not():
    class Clock:
        at = 0.0

        def __call__(self) -> float:
            return self.at

    async def scene() -> list[str]:
        clock, order = Clock(), []
        turns = Turns(clock)
        first, second = Turn(turns), Turn(turns)
        assert not first.is_over(), "it has only come"
        clock.at = 1.0
        assert first.is_over()
        await asyncio.sleep(0)
        assert not first.is_over(), "there was another turn of the loop meanwhile"

        async def wait(turn: Turn, name: str) -> None:
            await turn.next()
            order.append(name)

        await asyncio.gather(wait(first, "first"), wait(second, "second"))
        return order

    assert asyncio.run(scene()) == ["first", "second"]
