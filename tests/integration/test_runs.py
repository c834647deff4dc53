"""The runs of a service: one at a time, joined, watched, waited for by phase, paused, stopped and gone on with."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from builders import GIB, item, reading
from preheat import CacheWarmupService, execute_memory_aware_warmup, get_cache_warmup_service
from preheat._model import ItemStatus, PhaseOutcome, WarmupItem, WarmupProgress, WarmupReport
from preheat.errors import InvalidSetting, UsageError, WarmupBrokenOff, WarmupInProgress
from running import Plain

pytestmark = pytest.mark.usefixtures("no_leaked_threads", "state_dir")


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CACHE_WARMUP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)  # for those that keep theirs elsewhere
    return tmp_path / "state"


class Gated(Plain):
    """Loads on the loop, as many items as it is let."""

    def __init__(self, rows: Sequence[WarmupItem], open_for: int = 10**9, bad: Sequence[str] = ()) -> None:
        super().__init__("c")
        self.rows, self.open_for, self.bad = rows, open_for, bad
        self.began = asyncio.Event()

    def get_warmup_candidates(self, history: Any, rates: Any) -> Sequence[WarmupItem]:
        return self.rows

    async def warmup_item(self, item: WarmupItem) -> Any:
        self.began.set()
        while len(self.calls) >= self.open_for:
            await asyncio.sleep(0.001)
        if item.ref.key in self.bad:
            self.calls.append(item.ref.key)
            raise ValueError("no")
        return super().warmup_item(item)


def two_phases(n: int = 10) -> list[WarmupItem]:
    return [item(f"{i:02}", priority=9 if i < n // 2 else 5) for i in range(n)]


def service(*caches: Any, **changes: Any) -> CacheWarmupService:
    made = CacheWarmupService(memory=lambda: reading(4 * GIB, 8 * GIB), holdout_ratio=0, **changes)
    for cache in caches:
        made.register(cache)
    return made


def scene(play: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def within() -> Any:
        async with asyncio.timeout(30.0):
            return await play()

    return asyncio.run(within())


async def begin(warm: CacheWarmupService, cache: Gated, **how: Any) -> asyncio.Task[WarmupReport]:
    plan = await warm.create_warmup_plan("aggressive")
    task = asyncio.create_task(warm.execute_warmup_plan(plan, **how))
    await cache.began.wait()
    return task


# ---------------------------------------------------------------------------------------------------- one at a time


def test_a_second_caller_is_told_or_joins_in_this_service_and_in_others(tmp_path: Path):
    async def play() -> None:
        cache, other = Gated(two_phases(), 3), Gated([], 0)
        async with service(cache) as first, service(other, state_dir=str(tmp_path / "elsewhere")) as second:
            task = await begin(first, cache)
            for warm in (first, second):
                plan = await warm.create_warmup_plan("aggressive")
                with pytest.raises(WarmupInProgress, match="join it"):
                    await warm.execute_warmup_plan(plan)
            joined = asyncio.create_task(second.execute_warmup_plan(plan, join=True))
            await asyncio.sleep(0.01)
            cache.open_for = 10**9
            assert await joined is await task
            assert (await task).count(ItemStatus.LOADED) == 10
            assert (await second.execute_warmup_plan(plan)).stopped is None

    scene(play)


def test_who_joined_and_is_cancelled_does_not_end_the_run():
    async def play() -> None:
        cache = Gated(two_phases(), 3)
        async with service(cache) as warm:
            task = await begin(warm, cache)
            joined = asyncio.create_task(warm.execute_warmup_plan(await warm.create_warmup_plan(), join=True))
            await asyncio.sleep(0.01)
            joined.cancel()
            with pytest.raises(asyncio.CancelledError):
                await joined
            cache.open_for = 10**9
            assert (await task).count(ItemStatus.LOADED) == 10

    scene(play)


def test_who_joined_a_run_whose_caller_is_cancelled_is_told():
    async def play() -> None:
        cache = Gated(two_phases(), 3)
        async with service(cache) as warm:
            task = await begin(warm, cache)
            joined = asyncio.create_task(warm.execute_warmup_plan(await warm.create_warmup_plan(), join=True))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(WarmupBrokenOff):
                await joined
            assert (await warm.wait_for_phase("background")).stopped == "cancelled"

    scene(play)


def test_a_run_of_another_thread_is_joined_from_this_one(tmp_path: Path):
    started, go_on = threading.Event(), threading.Event()

    def elsewhere() -> None:
        async def play() -> None:
            cache = Plain("c", lambda item: started.set() or (go_on.wait(20.0) and None))
            cache.get_warmup_candidates = lambda history, rates: two_phases()  # type: ignore[method-assign]
            async with service(cache, state_dir=str(tmp_path / "elsewhere")) as warm:
                reports.append(await warm.execute_warmup_plan(await warm.create_warmup_plan("aggressive")))

        asyncio.run(play())

    async def play() -> None:
        async with service() as warm:
            plan = await warm.create_warmup_plan()
            await asyncio.to_thread(started.wait, 20.0)
            joined = asyncio.create_task(warm.execute_warmup_plan(plan, join=True))
            await asyncio.sleep(0.01)
            go_on.set()
            assert (await joined).count(ItemStatus.LOADED) == 10

    reports: list[WarmupReport] = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    scene(play)
    thread.join()
    assert len(reports) == 1


def test_a_forked_child_has_a_place_of_its_own():
    async def play() -> int:
        cache = Gated(two_phases(), 3)
        async with service(cache) as warm:
            task = await begin(warm, cache)
            child = os.fork()
            if child == 0:
                from preheat._runs import _take_seat

                os._exit(0 if _take_seat()[1] else 1)
            status = os.waitpid(child, 0)[1]
            cache.open_for = 10**9
            await task
            return os.waitstatus_to_exitcode(status)

    assert scene(play) == 0


# ----------------------------------------------------------------------------------------------------------- readiness


def test_critical_done_opens_the_door_and_the_rest_goes_on_behind_it():
    async def play() -> None:
        cache = Gated(two_phases(), 5)
        async with service(cache) as warm:
            waiting = asyncio.create_task(warm.wait_for_phase())  # before there is a run
            await asyncio.sleep(0.01)
            task = await begin(warm, cache)
            outcome = await waiting
            assert (outcome.phase, outcome.counts, outcome.is_warm) == ("critical", {ItemStatus.LOADED: 5}, True)
            assert not task.done()
            assert await warm.wait_for_phase("critical") == outcome, "who comes later need not wait"
            cache.open_for = 10**9
            assert (await warm.wait_for_phase("standard")).is_warm
            await task
            assert await warm.wait_for_phase("background") == PhaseOutcome("background", {})

    scene(play)


def test_a_phase_that_failed_or_is_empty_opens_too_and_says_so():
    async def play() -> None:
        cache = Gated(two_phases(4), bad=["00", "01"])
        async with service(cache) as warm:
            await (await begin(warm, cache))
            critical = await warm.wait_for_phase("critical")
            assert (critical.is_warm, critical.reason) == (False, "2 put off")
            assert (await warm.wait_for_phase("background")).reason == "the phase had no items"

    scene(play)


def test_a_stop_opens_the_door_with_its_reason():
    async def play() -> None:
        cache = Gated(two_phases(), 2)
        async with service(cache) as warm:
            task = await begin(warm, cache)
            waiting = [asyncio.create_task(warm.wait_for_phase(phase)) for phase in ("critical", "standard")]
            await warm.cancel_warmup(abandon=True)
            critical, standard = await asyncio.gather(*waiting)
            assert critical.stopped == standard.stopped == "cancelled"
            assert critical.reason.startswith("the run was stopped (cancelled)")
            assert (await task).stopped == "cancelled"

    scene(play)


def test_where_warm_up_is_switched_off_the_door_is_open():
    async def play() -> None:
        async with service(Gated(two_phases()), enabled=False) as warm:
            await warm.execute_warmup_plan(await warm.create_warmup_plan())
            assert (await warm.wait_for_phase()).stopped == "disabled"

    scene(play)


def test_a_phase_that_does_not_exist_is_named():
    async def play() -> None:
        async with service() as warm:
            with pytest.raises(InvalidSetting, match="did you mean 'critical'"):
                await warm.wait_for_phase("critcal")

    scene(play)


# ------------------------------------------------------------------------------------------------------------ control


def test_a_run_is_paused_and_continued():
    async def play() -> None:
        cache = Gated(two_phases(40), 10)
        async with service(cache) as warm:
            assert (await warm.pause_warmup(), await warm.continue_warmup()) == (False, False)
            task = await begin(warm, cache)
            assert await warm.pause_warmup()
            cache.open_for = 10**9
            await asyncio.sleep(0.05)
            held = len(cache.calls)
            status = await warm.get_warmup_status()
            assert (status["progress"]["paused"], held < 40) == (True, True)
            assert await warm.continue_warmup()
            assert (await task).count(ItemStatus.LOADED) == 40

    scene(play)


def test_a_run_that_was_stopped_is_resumed_without_loading_anything_twice():
    async def play() -> None:
        cache = Gated(two_phases(40), 15)
        async with service(cache, concurrency_limit=2) as warm:
            with pytest.raises(UsageError, match="none to resume"):
                await warm.resume_warmup()
            task = await begin(warm, cache)
            await warm.cancel_warmup(abandon=True)
            stopped = await task
            assert 0 < stopped.count(ItemStatus.LOADED) < 40
            cache.open_for = 10**9
            resumed = await warm.resume_warmup()
            assert (resumed.stopped, resumed.count(ItemStatus.LOADED)) == (None, 40)
            assert resumed.attempts == 40 - stopped.count(ItemStatus.LOADED)
            assert sorted(cache.calls) == sorted(set(cache.calls))
            assert (await warm.get_warmup_status())["last"]["counts"]["loaded"] == 40
            again = await warm.resume_warmup()
            assert (again.attempts, again.count(ItemStatus.LOADED)) == (0, 40)

    scene(play)


def test_a_run_ends_at_its_deadline_and_is_gone_on_with():
    async def play() -> None:
        cache = Gated(two_phases(), 4)
        async with service(cache, deadline_seconds=0.3) as warm:
            report = await (await begin(warm, cache))
            assert (report.stopped, report.count(ItemStatus.LOADED)) == ("deadline", 4)
            cache.open_for = 10**9
            assert (await warm.resume_warmup()).count(ItemStatus.LOADED) == 10

    scene(play)


def test_a_cancel_while_the_run_is_being_made_is_not_lost(monkeypatch):
    async def play() -> None:
        cache = Gated(two_phases())
        async with service(cache) as warm:
            plan = await warm.create_warmup_plan("aggressive")
            gate, making = threading.Event(), threading.Event()
            make = warm._make_run

            def slowly(*arguments: Any) -> Any:
                making.set()
                gate.wait(20.0)
                return make(*arguments)

            monkeypatch.setattr(warm, "_make_run", slowly)
            task = asyncio.create_task(warm.execute_warmup_plan(plan))
            await asyncio.to_thread(making.wait, 20.0)
            assert await warm.cancel_warmup()
            gate.set()
            assert ((await task).stopped, cache.calls) == ("cancelled", [])

    scene(play)


# ----------------------------------------------------------------------------------------------------------- progress


def test_progress_is_watched_at_ones_own_pace_until_the_run_has_ended():
    async def watch(warm: CacheWarmupService) -> list[WarmupProgress]:
        return [progress async for progress in warm.watch_warmup()]

    async def play() -> None:
        cache = Gated(two_phases(), 3)
        async with service(cache) as warm:
            watching = [asyncio.create_task(watch(warm)) for _ in range(2)]
            task = await begin(warm, cache)
            await asyncio.sleep(0.25)
            cache.open_for = 10**9
            await task
            for seen in await asyncio.gather(*watching):
                assert (seen[-1].done, seen[-1].total) == (10, 10)
                assert sorted(progress.done for progress in seen) == [progress.done for progress in seen]
                assert len(seen) >= 2

    scene(play)


def test_a_callback_that_fails_does_not_take_the_watchers_their_progress(caplog):
    def fail(progress: WarmupProgress) -> None:
        raise RuntimeError("the terminal is gone")

    async def play() -> None:
        cache = Gated(two_phases(), 3)
        async with service(cache) as warm:
            watching = asyncio.create_task(_last(warm))
            task = await begin(warm, cache, on_progress=fail)
            await asyncio.sleep(0.15)
            cache.open_for = 10**9
            await task
            assert (await watching).done == 10

    async def _last(warm: CacheWarmupService) -> Any:
        last = None
        async for progress in warm.watch_warmup():
            last = progress
        return last

    scene(play)
    assert caplog.text.count("the progress callback failed") == 1


def test_the_one_call_that_plans_and_runs_joins_too(monkeypatch):
    async def play() -> None:
        warm = await get_cache_warmup_service()
        cache = Gated(two_phases(), 3)
        try:
            warm.register(cache)
            task = asyncio.create_task(execute_memory_aware_warmup("aggressive"))
            await cache.began.wait()
            joined = asyncio.create_task(execute_memory_aware_warmup(join=True))
            await asyncio.sleep(0.2)
            cache.open_for = 10**9
            assert await joined is await task
        finally:
            await warm.close()

    scene(play)
