"""The performer: does what the state machine in `_execution` says, and tells it what happened.

Synchronous caches are loaded in a pool of threads, a batch at a time; coroutine caches on the loop.  Memory is read
before every decision, but not more often than each 20 ms, because a process that allocates dies faster than any
notification arrives.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from typing import Any

import numpy as np

from preheat._execution import (
    Cancel,
    Ended,
    Event,
    Execution,
    Finish,
    Instruction,
    Load,
    PressureChanged,
    RollBack,
    RolledBack,
    Start,
    Tick,
    WakeAt,
)
from preheat._model import (
    PHASES,
    STATUS_CODE,
    ItemResult,
    ItemStatus,
    MemoryPressureLevel,
    MemoryReading,
    WarmupItem,
    WarmupPlan,
    WarmupProgress,
    WarmupReport,
)
from preheat._plan.ordering import resolve_needs
from preheat.abc import Clock, LoadsInBulk, MemoryMonitor, PressureCallback, UndoesWarmup, WarmableCache

logger = logging.getLogger("preheat")

READING_SECONDS = 0.02
PROGRESS_SECONDS = 0.1

PressureRule = Callable[[MemoryReading, MemoryPressureLevel], MemoryPressureLevel]
ProgressCallback = Callable[[WarmupProgress], None]


class Run:
    """One run of a plan.  Made, started once with `perform`, and readable from any thread meanwhile."""

    def __init__(
        self,
        plan: WarmupPlan,
        caches: Mapping[str, WarmableCache],
        *,
        memory: MemoryMonitor,
        pressure_rule: PressureRule,
        concurrency_limit: int,
        batch_size: int,
        release_memory: Callable[[], None] = lambda: None,
        phase_delay_seconds: float = 0.0,
        on_progress: ProgressCallback | None = None,
        on_pressure: PressureCallback | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.plan = plan
        self._caches, self._memory, self._rule, self._clock = caches, memory, pressure_rule, clock
        self._on_progress, self._on_pressure, self._release_memory = on_progress, on_pressure, release_memory
        self._items = items = plan.candidates.take(plan.order)
        phase = np.repeat(np.arange(len(plan.chosen)), [len(rows) for rows in plan.chosen])
        self._execution = Execution(
            [items.caches[code] for code in items.cache.tolist()],
            items.size_bytes.tolist(),
            phase.tolist(),
            resolve_needs(items),
            budget_bytes=plan.budget.granted_bytes,
            concurrency_limit=concurrency_limit,
            batch_size=batch_size,
            phase_delay_seconds=phase_delay_seconds,
            seed=plan.seed,
            describe=lambda n: str(items.ref(n)),
        )
        self._threads = concurrency_limit
        self._level = MemoryPressureLevel.LOW
        self._broken: BaseException | None = None
        self._last: MemoryReading | None = None
        self._before: MemoryReading | None = None
        self._peak: MemoryReading | None = None
        self._begun = self._shown = 0.0
        self._wake_at: float | None = None
        self._running_on: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def progress(self) -> WarmupProgress:
        """The run as it stands."""
        state = self._execution
        return WarmupProgress(
            phase=PHASES[min(max(state.phase, 0), len(PHASES) - 1)],
            done=state.done,
            total=len(state.results),
            loaded_bytes=state.loaded_bytes,
            budget_bytes=self.plan.budget.granted_bytes,
            pressure=self._level,
            elapsed_seconds=self._clock() - self._begun if self._begun else 0.0,
        )

    def cancel(self) -> None:
        """Ask the run to end; what is in flight is awaited.  From any thread; outside of a run without effect."""
        loop = self._running_on
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._events.put_nowait, Cancel(self._clock()))

    async def perform(self) -> WarmupReport:
        """Run to the end and report.  Item failures are rows of the report; cancellation passes through."""
        self._running_on = asyncio.get_running_loop()
        self._begun = self._clock()
        self._before = self._read()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="preheat-load")
        try:
            stopped = await self._loop(pool)
            await asyncio.get_running_loop().run_in_executor(pool, self._release_memory)  # what loading left behind
        finally:
            for task in self._tasks:
                task.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
        self._show(force=True)
        return self._report(stopped)

    async def _loop(self, pool: ThreadPoolExecutor) -> str | None:
        event: Event = Start(self._clock())
        while True:
            for happened in (*self._pressure_event(), event):
                for instruction in self._execution.handle(happened):
                    if isinstance(instruction, Finish):
                        return instruction.stopped
                    self._obey(instruction, pool)
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
            case Load(positions):
                self._spawn(self._load(positions, pool))
            case RollBack(positions):
                self._spawn(self._roll_back(positions, pool))
            case WakeAt(at):
                self._wake_at = at

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finish_task)

    def _finish_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._broken = task.exception()
            self._events.put_nowait(Tick(self._clock()))

    async def _load(self, positions: tuple[int, ...], pool: ThreadPoolExecutor) -> None:
        items = [self._items[n] for n in positions]
        cache = self._caches[items[0].ref.cache]
        if inspect.iscoroutinefunction(cache.warmup_item):
            results = [await _load_async(cache, item) for item in items]
        else:
            begun = await asyncio.get_running_loop().run_in_executor(pool, _load_batch, cache, items)
            results = [await _end_load(item, result) for item, result in zip(items, begun, strict=True)]
        self._events.put_nowait(Ended(self._clock(), positions, results))

    async def _roll_back(self, positions: tuple[int, ...], pool: ThreadPoolExecutor) -> None:
        refs = [self._items.ref(n) for n in positions]
        pairs = [(self._caches[ref.cache], ref.key) for ref in refs]
        loop = asyncio.get_running_loop()
        released = await loop.run_in_executor(pool, _undo_batch, pairs)
        await loop.run_in_executor(pool, self._release_memory)
        self._events.put_nowait(RolledBack(self._clock(), positions, released))

    # -------------------------------------------------------------------------------------------- memory

    def _pressure_event(self) -> list[Event]:
        # the reading before the run counts too, or a run would begin under any pressure
        is_fresh = self._last is not None and self._clock() - self._read_at < READING_SECONDS
        reading = self._last if is_fresh else self._read()
        if reading is None:
            return []
        level = self._rule(reading, self._level)
        if level == self._level:
            return []
        self._level = level
        self._tell_pressure(level, reading)
        return [PressureChanged(self._clock(), level)]

    def _tell_pressure(self, level: MemoryPressureLevel, reading: MemoryReading) -> None:
        try:
            if self._on_pressure is not None:
                self._on_pressure(level, reading)
        except Exception:
            logger.exception("the pressure callback failed; the run goes on")

    def _read(self) -> MemoryReading | None:
        self._read_at = self._clock()
        try:
            self._last = self._memory()
        except Exception:
            logger.exception("memory could not be read; the run goes on with the level it had")
            return None
        if self._peak is None or self._last.process_bytes > self._peak.process_bytes:
            self._peak = self._last
        return self._last

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

    def _report(self, stopped: str | None) -> WarmupReport:
        state = self._execution
        results = [result or ItemResult(ItemStatus.SKIPPED) for result in state.results]
        return WarmupReport(
            plan=self.plan,
            status=np.array([STATUS_CODE[result.status] for result in results], np.int8),
            loaded_bytes=np.array([r.size_bytes if r.status is ItemStatus.LOADED else 0 for r in results], np.int64),
            reasons={n: result.reason for n, result in enumerate(results) if result.reason},
            stopped=stopped,
            before=self._before,
            peak=self._peak,
            after=self._read(),
            seconds=self._clock() - self._begun,
            phase_seconds={
                PHASES[p]: state.phase_ended[p] - begun
                for p, begun in state.phase_started.items()
                if p in state.phase_ended
            },
            attempts=state.attempts,
        )


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


def _load_batch(cache: WarmableCache, items: Sequence[WarmupItem]) -> list[Any]:
    if len(items) > 1 and isinstance(cache, LoadsInBulk):
        try:
            results = list(cache.warmup_items(items))
        except _ITEM_ERRORS as error:  # one bad item may have failed them all: find out which
            logger.debug("a batch of cache %r is loaded one by one", items[0].ref.cache, exc_info=error)
        else:
            if len(results) == len(items):
                return results
            wrong = f"warmup_items gave {len(results)} results for {len(items)} items"
            return [ItemResult(ItemStatus.FAILED, reason=wrong) for _ in items]
    return [_load_one(cache, item) for item in items]


# A loader that awaited something which others cancelled raises CancelledError too; nobody cancelled the run by that.
_ITEM_ERRORS = (Exception, asyncio.CancelledError)


def _load_one(cache: WarmableCache, item: WarmupItem) -> Any:
    try:
        return cache.warmup_item(item)
    except _ITEM_ERRORS as error:
        return _failure(item, error)


async def _load_async(cache: WarmableCache, item: WarmupItem) -> ItemResult:
    try:
        begun: Any = cache.warmup_item(item)
    except Exception as error:
        return _failure(item, error)
    return await _end_load(item, begun)


async def _end_load(item: WarmupItem, result: Any) -> ItemResult:
    """What `warmup_item` gave for `item`, awaited if need be; anything but a usable result is a failure."""
    try:
        if inspect.isawaitable(result):
            result = await result
    except _ITEM_ERRORS as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        return _failure(item, error)
    if not isinstance(result, ItemResult) or not isinstance(result.status, ItemStatus):
        return ItemResult(ItemStatus.FAILED, reason=f"warmup_item gave a {type(result).__name__}, not an ItemResult")
    if not isinstance(result.size_bytes, Integral) or result.size_bytes < 0:
        return ItemResult(ItemStatus.FAILED, reason=f"warmup_item gave {result.size_bytes!r} as its size in bytes")
    return result._replace(size_bytes=int(result.size_bytes), reason=_printable(result.reason))


def _failure(item: WarmupItem, error: BaseException) -> ItemResult:
    logger.debug("an item of cache %r could not be loaded", item.ref.cache, exc_info=error)
    return ItemResult(ItemStatus.FAILED, reason=_printable(f"{type(error).__name__}: {error}"))


def _printable(reason: object) -> str:
    """`reason` without lone surrogates, say of a file name, which no report could be written with."""
    return str(reason).encode("utf-8", "backslashreplace").decode()


def _undo_batch(pairs: Sequence[tuple[WarmableCache, str]]) -> list[int]:
    return [_undo_one(cache, key) for cache, key in pairs]


def _undo_one(cache: WarmableCache, key: str) -> int:
    try:
        return cache.undo_warmup(key) if isinstance(cache, UndoesWarmup) else 0
    except Exception:
        logger.exception("an item of cache %r could not be undone", cache.name)
        return 0
