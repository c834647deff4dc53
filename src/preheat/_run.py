"""The performer: does what the state machine in `_execution` says, and tells it what happened.

Synchronous caches are loaded in a pool of threads, a batch at a time; coroutine caches on the loop.  Memory is read
before every decision, but not more often than each 20 ms, because a process that allocates dies faster than any
notification arrives; and by a watch beside the loop, for the times in which nothing has to be decided.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import sys
import time
from array import array
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import numpy as np

from preheat._attempt import Allowance, kinds_of, load_async, load_batch, settle_batch, undo_batch, undo_of
from preheat._collector import calm_collector
from preheat._events import MemoryLog
from preheat._execution import (
    Cancel,
    Ended,
    Event,
    Execution,
    Finish,
    Instruction,
    Load,
    MemoryRead,
    RollBack,
    RolledBack,
    Start,
    Tick,
    WakeAt,
)
from preheat._footing import Footing
from preheat._model import (
    PHASES,
    STATUS_CODE,
    ItemResult,
    ItemStatus,
    MemoryEventKind,
    MemoryPressureLevel,
    MemoryReading,
    PressureResponse,
    StrategySwitch,
    WarmupPlan,
    WarmupProgress,
    WarmupReport,
)
from preheat._plan.ordering import resolve_needs
from preheat._pressure import expected_level, outlook_level
from preheat.abc import Clock, PressureCallback, ReportsMemory, WarmableCache

logger = logging.getLogger("preheat")

READING_SECONDS = 0.02
PROGRESS_SECONDS = 0.1

ProgressCallback = Callable[[WarmupProgress], None]


class Watch(Protocol):
    """What a run needs of a memory watch."""

    def read(self) -> tuple[MemoryPressureLevel, MemoryReading | None]:
        """Read memory now, and what it means."""
        ...

    def subscribe(self, tell: PressureCallback, *, interval_seconds: float) -> Callable[[], None]:
        """Hear of every change of level from now on; returns what ends that."""
        ...


class Run:
    """One run of a plan.  Made, started once with `perform`, and readable from any thread meanwhile."""

    def __init__(
        self,
        plan: WarmupPlan,
        caches: Mapping[str, WarmableCache],
        *,
        watch: Watch,
        concurrency_limit: int,
        batch_size: int,
        release_memory: Callable[[], None] = lambda: None,
        phase_delay_seconds: float = 0.0,
        on_progress: ProgressCallback | None = None,
        memory_log: MemoryLog | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.plan = plan
        self._caches, self._watch, self._clock = caches, watch, clock
        self._on_progress, self._release_memory = on_progress, release_memory
        self._memory_log = memory_log or MemoryLog()
        self._items = items = plan.candidates.take(plan.order)
        names = [items.caches[code] for code in items.cache.tolist()]
        phase = np.repeat(np.arange(len(plan.chosen), dtype=np.int8), [len(rows) for rows in plan.chosen])
        kind_of = kinds_of(caches)
        self._reporting = {name for name, cache in caches.items() if isinstance(cache, ReportsMemory)}
        self._execution = Execution(
            names,
            array("q", items.size_bytes.tobytes()),
            array("b", phase.tobytes()),
            resolve_needs(items),
            budget_bytes=plan.budget.granted_bytes,
            reserve_bytes=plan.budget.reserve_bytes,
            kinds=[kind_of[name](key) if name in kind_of else "" for name, key in zip(names, items.keys, strict=True)]
            if kind_of
            else (),
            concurrency_limit=concurrency_limit,
            batch_size=batch_size,
            phase_delay_seconds=phase_delay_seconds,
            footing=_footing_of(plan),
            takes=plan.fallback.takes[plan.order].tolist() if plan.fallback is not None else (),
            seed=plan.seed,
            describe=lambda n: str(items.ref(n)),
        )
        self._threads = concurrency_limit + 1  # one is always there to undo, whatever the loads are waiting for
        self._level = self._outlook = MemoryPressureLevel.LOW
        self._planned_bytes = plan.size_bytes
        self._was_held = self._is_short = self._is_cancelled = False
        self._broken: BaseException | None = None
        self._read_at = -float("inf")
        self._before: MemoryReading | None = None
        self._peak: MemoryReading | None = None
        self._begun = self._shown = self._unix_offset = 0.0
        self._wake_at: float | None = None
        self._running_on: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._loads_begun = self._loads_ended = 0
        self._rolled_back_bytes = 0
        self._before_undoing: MemoryReading | None = None

    def progress(self) -> WarmupProgress:
        """The run as it stands."""
        state = self._execution
        return WarmupProgress(
            phase=PHASES[min(max(state.phase, 0), len(PHASES) - 1)],
            done=state.done,
            total=len(state.results),
            loaded_bytes=state.guard.loaded_bytes,
            budget_bytes=self.plan.budget.granted_bytes,
            pressure=self._level,
            elapsed_seconds=self._clock() - self._begun if self._begun else 0.0,
            strategy=state.footing.strategy,
            switches=self._switches(),
        )

    def cancel(self) -> None:
        """Ask the run to end; what is in flight is awaited.  From any thread, also before it has begun."""
        self._is_cancelled = True
        self._post(Cancel(self._clock()))

    async def perform(self) -> WarmupReport:
        """Run to the end and report.  Item failures are rows of the report; cancellation passes through."""
        self._running_on = asyncio.get_running_loop()
        self._begun = self._clock()
        self._unix_offset = time.time() - self._begun
        self._before = self._read()[1]  # its pressure counts when the loop reads again, at once
        first_event = self._memory_log.mark()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="preheat-load")
        stop_watching = self._watch.subscribe(self._wake_up, interval_seconds=READING_SECONDS)
        try:
            with calm_collector():
                stopped = await self._loop(pool)
            await asyncio.get_running_loop().run_in_executor(pool, self._clear_up)
        finally:
            stop_watching()
            for task in self._tasks:
                task.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
        self._show(force=True)
        return self._report(stopped, first_event)

    async def _loop(self, pool: ThreadPoolExecutor) -> str | None:
        event: Event = Cancel(self._clock()) if self._is_cancelled else Start(self._clock())
        while True:
            for happened in (*self._memory_events(), event):
                for instruction in self._execution.handle(happened):
                    if isinstance(instruction, Finish):
                        self._note_end(instruction.stopped)
                        return instruction.stopped
                    self._obey(instruction, pool)
            self._note_hold()
            self._show()
            event = await self._next_event()
            if self._broken is not None:
                raise self._broken

    async def _next_event(self) -> Event:
        if not self._events.empty():
            return self._events.get_nowait()
        until = self._clock() + PROGRESS_SECONDS
        if self._wake_at is not None:
            until = min(until, self._wake_at)
        try:
            # not `wait_for`, which before Python 3.12 loses a cancellation that an event comes with
            async with asyncio.timeout(max(0.0, until - self._clock())):
                return await self._events.get()
        except TimeoutError:
            self._wake_at = None
            return Tick(self._clock())

    def _obey(self, instruction: Instruction, pool: ThreadPoolExecutor) -> None:
        match instruction:
            case Load():
                self._spawn(self._load(instruction, pool))
            case RollBack():
                self._spawn(self._roll_back(instruction.positions, pool))
            case WakeAt():
                self._wake_at = instruction.at

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finish_task)

    def _finish_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._broken = task.exception()
            self._events.put_nowait(Tick(self._clock()))

    async def _load(self, load: Load, pool: ThreadPoolExecutor) -> None:
        items = [self._items[n] for n in load.positions]
        cache = self._caches[items[0].ref.cache]
        allowance = Allowance(load.reserved_bytes, load.spare_bytes)
        growth = self._measure_growth(is_asked=not self._execution.guard.is_known(load.positions[0]))
        if inspect.iscoroutinefunction(cache.warmup_item):
            results = await load_async(cache, items, allowance, self._may_begin)
        else:
            work = partial(load_batch, cache, items, allowance, self._may_begin)
            begun = await asyncio.get_running_loop().run_in_executor(pool, work)
            results = await settle_batch(items, begun, allowance)
        self._note_loads(cache, results)
        self._events.put_nowait(Ended(self._clock(), load.positions, results, growth()))

    def _measure_growth(self, *, is_asked: bool) -> Callable[[], int]:
        """A function that tells by how much the process has grown at the most since now, in bytes.

        0 where that is not known: another load went on meanwhile, or the process has been larger before.
        """
        is_alone = self._loads_begun == self._loads_ended
        self._loads_begun += 1
        number, peak_before = self._loads_begun, peak_process_bytes()
        resident = self._read()[1] if is_asked and is_alone else None

        def grown_bytes() -> int:
            self._loads_ended += 1
            if resident is None or number != self._loads_begun:
                return 0
            peak = peak_process_bytes()
            return peak - resident.process_bytes if peak > peak_before else 0

        return grown_bytes

    async def _roll_back(self, positions: tuple[int, ...], pool: ThreadPoolExecutor) -> None:
        if self._before_undoing is None:
            self._before_undoing = self._read()[1]
        keys, codes = self._items.keys, self._items.cache
        undo = [undo_of(self._caches[name]) for name in self._items.caches]
        loads = ((undo[codes[n]], keys[n]) for n in positions)
        work = partial(undo_batch, loads, self._release_memory, self._process_bytes)
        released = await asyncio.get_running_loop().run_in_executor(pool, work)
        self._rolled_back_bytes += sum(released)
        self._note_undone(positions, released)
        self._events.put_nowait(RolledBack(self._clock(), positions, released))

    def _clear_up(self) -> None:
        """Give back what loading left behind; after a roll-back also the memory that garbage pins."""
        if self._before_undoing is not None:
            gc.collect()
        self._release_memory()

    # -------------------------------------------------------------------------------------------- memory

    def _memory_events(self) -> list[Event]:
        now = self._clock()
        if now - self._read_at < READING_SECONDS:
            return []
        self._read_at = now
        level, reading = self._read()
        response = self._execution.footing.response(level)
        self._is_short = response >= PressureResponse.PAUSE  # whoever tells of changes may be held up
        if level != self._level:
            self._note_pressure(reading, f"{self._level.name} -> {level.name}: {_ANSWERS[response]}")
            self._level = level
        if reading is not None:
            left_bytes = self._planned_bytes - self._execution.guard.loaded_bytes
            self._outlook = outlook_level(reading, left_bytes, self._outlook)
        return [MemoryRead(now, level, reading, self._outlook)]

    def _read(self) -> tuple[MemoryPressureLevel, MemoryReading | None]:
        level, reading = self._watch.read()
        if reading is not None and (self._peak is None or reading.process_bytes > self._peak.process_bytes):
            self._peak = reading
        return level, reading

    def _process_bytes(self) -> int:
        reading = self._watch.read()[1]
        return reading.process_bytes if reading is not None else 0

    def _wake_up(self, level: MemoryPressureLevel, reading: MemoryReading) -> None:
        """The level has changed: whoever noticed tells it here, from any thread."""
        self._is_short = self._execution.footing.response(level) >= PressureResponse.PAUSE
        self._read_at = -float("inf")
        self._post(Tick(self._clock()))

    def _may_begin(self) -> bool:
        """Whether the next item of a batch in flight may be loaded; asked from any thread."""
        return not self._is_short and self._execution.stopped is None

    def _post(self, event: Event) -> None:
        loop = self._running_on
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._events.put_nowait, event)

    # ------------------------------------------------------------------------------------ the memory log

    def _note_pressure(self, reading: MemoryReading | None, cause: str) -> None:
        available_bytes = reading.available_bytes if reading is not None else 0
        self._memory_log.track("", MemoryEventKind.PRESSURE, available_bytes, cause)

    def _note_hold(self) -> None:
        pauses = self._execution.footing.response(self._level) >= PressureResponse.PAUSE
        held = self._execution.is_paused and not pauses
        if held != self._was_held:
            self._was_held = held
            self._note_pressure(self._read()[1], "others take memory: waits" if held else "goes on")

    def _note_end(self, stopped: str | None) -> None:
        if stopped is not None:
            self._note_pressure(self._read()[1], f"the run was stopped: {stopped}")

    def _note_loads(self, cache: WarmableCache, results: Collection[ItemResult | None]) -> None:
        if cache.name in self._reporting:
            return  # it has told it already
        sizes = [r.size_bytes for r in results if r is not None and r.status is ItemStatus.LOADED]
        if sizes:
            self._memory_log.track(cache.name, MemoryEventKind.ALLOCATION, sum(sizes), "warm-up", len(sizes))

    def _note_undone(self, positions: Sequence[int], released: Sequence[int]) -> None:
        sizes, codes = np.array(released), self._items.cache[list(positions)]
        for code, name in enumerate(self._items.caches):
            mine = sizes[(codes == code) & (sizes > 0)]
            if len(mine) and name not in self._reporting:
                self._memory_log.track(name, MemoryEventKind.ROLLBACK, int(mine.sum()), "undone", len(mine))

    # ------------------------------------------------------------------------------------------ outcome

    def _show(self, *, force: bool = False) -> None:
        now = self._clock()
        if self._on_progress is None or (now - self._shown < PROGRESS_SECONDS and not force):
            return
        self._shown = now
        try:
            self._on_progress(self.progress())
        except Exception:
            logger.exception("the progress callback failed and is not called again")
            self._on_progress = None

    def _report(self, stopped: str | None, first_event: int) -> WarmupReport:
        state, after = self._execution, self._read()[1]
        return WarmupReport(
            plan=self.plan,
            status=np.array(state.results.codes, np.int8),
            loaded_bytes=np.array(state.results.sizes, np.int64),
            reasons=state.results.reasons,
            stopped=stopped,
            before=self._before,
            peak=self._peak,
            after=after,
            seconds=self._clock() - self._begun,
            phase_seconds={
                PHASES[p]: state.phase_ended[p] - begun
                for p, begun in state.phase_started.items()
                if p in state.phase_ended
            },
            attempts=state.attempts,
            sizes=state.guard.learned(),
            rolled_back_bytes=self._rolled_back_bytes,
            released_bytes=_shrunk(self._before_undoing, after),
            events=self._memory_log.events_after(first_event),
            switches=self._switches(),
        )

    def _switches(self) -> tuple[StrategySwitch, ...]:
        """The switches so far, at their instants in Unix seconds."""
        return tuple(switch._replace(at=switch.at + self._unix_offset) for switch in self._execution.switches)


_ANSWERS = {
    PressureResponse.CONTINUE: "full speed",
    PressureResponse.SLOW: "half as many loads at a time",
    PressureResponse.PAUSE: "pauses",
    PressureResponse.STOP: "stops",
    PressureResponse.ROLL_BACK: "stops and undoes what nobody used",
}


def _footing_of(plan: WarmupPlan) -> Footing:
    own, milder = (plan.strategy, plan.pressure_response), plan.fallback
    if milder is None:
        return Footing(*own)
    planned_with, expected = plan.budget.reading, plan.budget.pressure
    if planned_with is not None:
        expected = max(expected, expected_level(planned_with, plan.size_bytes))
    return Footing(*own, milder.strategy, milder.pressure_response, expected)


def _shrunk(before: MemoryReading | None, after: MemoryReading | None) -> int | None:
    return before.process_bytes - after.process_bytes if before is not None and after is not None else None


def peak_process_bytes() -> int:
    """The most memory that this process ever had resident; 0 where the system does not tell."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def report_without_running(plan: WarmupPlan, why: str) -> WarmupReport:
    """The report of a run that never began: every item SKIPPED."""
    skipped = STATUS_CODE[ItemStatus.SKIPPED]
    return WarmupReport(
        plan=plan,
        status=np.full(len(plan), skipped, np.int8),
        loaded_bytes=np.zeros(len(plan), np.int64),
        reasons={},
        stopped=why,
        before=None,
        peak=None,
        after=None,
        seconds=0.0,
        phase_seconds={},
        attempts=0,
    )
