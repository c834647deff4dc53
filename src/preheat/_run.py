"""The performer: does what the state machine in `_execution` says, and tells it what happened.

Loads are done by the workers in `_loaders`, which ask for more by telling how the last ones ended.  Memory is read
before every decision, but not more often than each 10 ms, because a process that allocates dies faster than any
notification arrives; and by a watch beside the loop, where nothing has been decided for 20 ms.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from preheat._attempt import Way, way_of
from preheat._collector import calm_collector
from preheat._events import MemoryLog
from preheat._execution import (
    Abandon,
    Cancel,
    Ended,
    Event,
    Execution,
    Finish,
    Gate,
    Instruction,
    Load,
    Loaded,
    MemoryRead,
    Missed,
    Outcomes,
    Pause,
    Resume,
    RollBack,
    RolledBack,
    Start,
    Tick,
    WakeAt,
)
from preheat._exposure import ExposureClock
from preheat._footing import Footing
from preheat._growth import Growth
from preheat._journal import note_end, note_phase, note_start, note_stop, note_wait
from preheat._kinds import kinds_of
from preheat._loaders import Loaders
from preheat._log import log_failure
from preheat._memory_notes import MemoryNotes
from preheat._model import (
    PHASES,
    STATUS_CODE,
    ItemStatus,
    MemoryPressureLevel,
    MemoryReading,
    PhaseOutcome,
    PressureResponse,
    StrategySwitch,
    WarmupPlan,
    WarmupProgress,
    WarmupReport,
)
from preheat._pace import Pace
from preheat._plan.ordering import resolve_needs
from preheat._pressure import expected_level, outlook_level
from preheat._threads import LoaderThreads
from preheat._undo import undo_batch, undo_of
from preheat.abc import Clock, PressureCallback, ReportsMemory, SharesValues, WarmableCache

READING_SECONDS, QUIET_READING_SECONDS = 0.01, 0.02
STUCK_SECONDS = 0.25
"""How long memory may go unread, since the loop is stuck, before a thread reads it; signals it hears all the same."""

PROGRESS_SECONDS = 0.1

RUN_SECONDS = 0.02
"""How long a run of loads should last: as long as a reading of memory counts, at most."""

RUN_INTERVAL_SECONDS = 0.004
"""How often one should end, all workers together: each costs some 100 us, which others wait for."""

THREAD_FACTOR = 2
"""So many times as long where loads block: a thread waits for the loop, between two runs, behind all other threads."""

ProgressCallback = Callable[[WarmupProgress], None]
PhaseCallback = Callable[[PhaseOutcome], None]


class Watch(Protocol):
    """What a run needs of a memory watch."""

    def read(self) -> tuple[MemoryPressureLevel, MemoryReading | None]:
        """Read memory now, and what it means."""
        ...

    def subscribe(self, tell: PressureCallback, *, interval_seconds: float) -> Callable[[], None]:
        """Hear of every change of level from now on; returns what ends that."""
        ...


class Brake:
    """Whether no further load may begin, for those that are in the middle of a run of loads."""

    __slots__ = ("is_on",)

    def __init__(self) -> None:
        self.is_on = False


class Run:
    """One run of a plan.  Made, started once with `perform`, and readable from any thread meanwhile.

    Args:
        plan: What to load.
        caches: By name.
        watch: Reads memory.
        concurrency_limit: Loads at the same time.
        batch_size: Items handed to a loader at once.
        release_memory: Gives free memory back to the system.
        phase_delay_seconds: Pause between two phases.
        deadline_seconds: Time after which it stops, giving up what is in flight; None if never.
        item_timeout_seconds: What one call of a loader may take; None without a limit.
        before: A run of the same plan that was stopped: what it loaded is left alone.
        gates: By cache, what says when its origin lets loads start.
        on_progress: Called at most ten times a second, and once at the end.
        on_phase: Called when nothing is left of a phase.
        memory_log: Where loads, roll-backs and changes of pressure are noted.
        clock: Seconds, from any instant on.
    """

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
        deadline_seconds: float | None = None,
        item_timeout_seconds: float | None = None,
        before: WarmupReport | None = None,
        gates: Mapping[str, Gate] | None = None,
        on_progress: ProgressCallback | None = None,
        on_phase: PhaseCallback | None = None,
        memory_log: MemoryLog | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.plan = plan
        self._caches, self._watch, self._clock = caches, watch, clock
        self._on_progress, self._on_phase, self._release_memory = on_progress, on_phase, release_memory
        self._items = items = plan.candidates.take(plan.order)
        names = [items.caches[code] for code in items.cache.tolist()]
        phase = np.repeat(np.arange(len(plan.chosen), dtype=np.int8), [len(rows) for rows in plan.chosen])
        kind_of = kinds_of(caches)
        ways = {name: way_of(cache) for name, cache in caches.items()}
        reporting = {name for name, cache in caches.items() if isinstance(cache, ReportsMemory)}
        self._notes = MemoryNotes(memory_log or MemoryLog(), items, reporting)
        self._growth = Growth(lambda: self._read()[1])
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
            run_seconds={name: _run_seconds(way, concurrency_limit) for name, way in ways.items()},
            in_bulk={name for name, way in ways.items() if way.is_in_bulk},
            crewed={name for name, way in ways.items() if way.is_on_loop and not way.is_in_bulk},
            shared={name for name, cache in caches.items() if isinstance(cache, SharesValues)},
            phase_delay_seconds=phase_delay_seconds,
            deadline_seconds=deadline_seconds,
            footing=_footing_of(plan),
            takes=plan.fallback.takes[plan.order].tolist() if plan.fallback is not None else (),
            gates=gates,
            before=Outcomes.of(before.status, before.loaded_bytes) if before is not None else None,
            seed=plan.seed,
            describe=lambda n: str(items.ref(n)),
        )
        self._brake = Brake()
        self._loaders = Loaders(
            items,
            caches,
            tell=self._tell,
            measure=self._measure_growth,
            brake=self._brake,
            most=concurrency_limit,
            batch_size=batch_size,
            item_timeout_seconds=item_timeout_seconds,
            clock=clock,
        )
        self._undoing = LoaderThreads(1, "preheat-undo")  # always there, whatever the loads are waiting for
        self._pace, self._exposure = Pace(), ExposureClock()
        self._level = self._outlook = MemoryPressureLevel.LOW
        self._planned_bytes = plan.size_bytes
        self._was_held = self._is_short = self._is_cancelled = self._is_held = False
        self._broken: BaseException | None = None
        self._read_at = -math.inf
        self._before: MemoryReading | None = None
        self._peak: MemoryReading | None = None
        self._begun = self._shown = self._unix_offset = 0.0
        self._deadline_seconds = deadline_seconds
        self._waiting_since: float | None = None
        self._waits_for = ""
        self._wake_at = self._asleep_until = math.inf
        self._look_at = 0.0
        self._awake: asyncio.Event | None = None
        self._running_on: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._happened: deque[Event] = deque()
        self._is_telling = False
        self._end: Finish | None = None
        self._phases_told = 0
        self._told_stop = False
        self._rolled_back_bytes = 0
        self._before_undoing: MemoryReading | None = None

    # ------------------------------------------------------------------------------------------ from outside

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
            items_per_second=self._pace.items_per_second,
            bytes_per_second=self._pace.bytes_per_second,
            is_paused=state.is_held or state.is_paused,
            origins=state.origins,
            waits_for="" if self._begun else self._waits_for,
        )

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to end, or something has stopped it: nothing starts any more."""
        return self._is_cancelled or self._execution.stopped is not None or self._is_late

    @property
    def is_holding(self) -> bool:
        """Whether nothing may start just now: it is paused, memory is short, or it ends."""
        return self._brake.is_on

    def cancel(self, *, abandon: bool = False) -> None:
        """Ask the run to end.  From any thread, also before it has begun.

        What is in flight is awaited.  With `abandon` it is given up: loads on the loop are cancelled and have a
        second to clear up, those in threads are left to end, and undone if they loaded anything.
        """
        self._is_cancelled = True
        self._post(Cancel(self._clock(), abandon))

    def wait_for(self, what: str) -> None:
        """It can't begin before `what`, for people, has come.  From now on its deadline counts."""
        if self._waiting_since is None:
            self._waiting_since = self._clock()
            note_wait(what)
        self._waits_for = what
        self._show(self._clock())

    def pause(self) -> None:
        """Have nothing start until `resume`; what is being loaded is.  From any thread, also before it has begun."""
        self._is_held = True
        self._post(Pause(self._clock()))

    def resume(self) -> None:
        """Go on after `pause`."""
        self._is_held = False
        self._post(Resume(self._clock()))

    def note_misses(self, cache: str, misses: int, seconds: float) -> None:
        """Traffic had to load so many items of `cache`, which took `seconds` altogether.  From any thread."""
        self._post(Missed(self._clock(), cache, misses, seconds))

    # --------------------------------------------------------------------------------------------- the loop

    async def perform(self) -> WarmupReport:
        """Run to the end and report.  Item failures are rows of the report; cancellation passes through."""
        self._running_on, self._awake = asyncio.get_running_loop(), asyncio.Event()
        self._begun = self._clock()
        self._unix_offset = time.time() - self._begun
        self._before = self._read()[1]  # its pressure counts when the loop reads again, at once
        self._notes.begin()
        note_start(self.plan, self._execution.done)
        stop_watching = self._watch.subscribe(self._wake_up, interval_seconds=STUCK_SECONDS)
        try:
            with calm_collector():
                stopped = await self._go_on_to_the_end(self._awake)
            await self._undoing.run(self._clear_up)
        finally:
            self._brake.is_on = True
            try:
                await self._undoing.run(stop_watching)  # it waits for a thread, which the loop should not
            finally:  # a cancellation may fall here
                await self._close()
        self._show(self._clock(), force=True)
        report = self._report(stopped)
        note_end(report)
        return report

    async def _go_on_to_the_end(self, awake: asyncio.Event) -> str | None:
        if self._is_held:
            self._tell(Pause(self._clock()))
        self._tell(Cancel(self._clock()) if self._is_cancelled else Start(self._clock(), self._waiting_since))
        while self._end is None:
            await self._sleep(awake)
            if self._loaders.broken is not None or self._broken is not None:
                raise self._loaders.broken or self._broken  # type: ignore[misc]
            if self._end is None:
                now = self._clock()
                if now >= self._look_at:
                    self._loaders.look(now)
                    self._look_at = now + self._loaders.look_seconds
                self._tell(Tick(now))
        self._note_end(self._end.stopped)
        return self._end.stopped

    async def _sleep(self, awake: asyncio.Event) -> None:
        """Until somebody wakes it, or there is something to do by the clock."""
        now = self._clock()
        self._asleep_until = min(now + QUIET_READING_SECONDS, self._wake_at)
        try:
            # not `wait_for`, which before Python 3.12 loses a cancellation that an event comes with
            async with asyncio.timeout(max(0.0, self._asleep_until - now)):
                await awake.wait()
        except TimeoutError:
            pass
        awake.clear()

    def _tell(self, event: Event) -> None:
        """`event` has happened: have the machine decide, and do what it says."""
        self._happened.append(event)
        if self._is_telling:  # what is done about an event can be an event in itself
            return
        self._is_telling = True
        try:
            while self._happened and self._end is None:
                self._decide(self._happened.popleft())
        except Exception as error:
            self._broken = error
        finally:
            self._is_telling = False
        self._loaders.hand_out()
        if self._end is not None or self._broken is not None or self._wake_at < self._asleep_until:
            self._wake()

    def _decide(self, event: Event) -> None:
        now = self._clock()
        self._wake_at = math.inf
        for happened in (*self._memory_events(now), event):
            for instruction in self._execution.handle(happened):
                self._obey(instruction)
            if isinstance(happened, Loaded | Ended):
                self._notes.loads(happened)
        self._set_brake()
        self._note_hold()
        self._note_progress(now)
        self._show(now)

    def _obey(self, instruction: Instruction) -> None:
        match instruction:
            case Load():
                self._loaders.take(instruction)
            case WakeAt():
                self._wake_at = instruction.at
            case RollBack():
                self._spawn(instruction.positions)
            case Abandon():
                self._loaders.give_up(instruction.positions[0])
            case Finish():
                self._end = instruction

    def _spawn(self, positions: Sequence[int]) -> None:
        task = asyncio.ensure_future(self._roll_back(positions))
        self._tasks.add(task)
        task.add_done_callback(self._finish_task)

    def _finish_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._broken = task.exception()
            self._wake()

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._undoing.close()
        await self._loaders.close()

    def _measure_growth(self, load: Load) -> Callable[[], int]:
        return self._growth.begin(is_known=self._execution.guard.is_known(load.positions[0]))

    async def _roll_back(self, positions: Sequence[int]) -> None:
        if self._before_undoing is None:
            self._before_undoing = self._read()[1]
        keys, codes = self._items.keys, self._items.cache
        undo = [undo_of(self._caches[name]) for name in self._items.caches]
        loads = ((undo[codes[n]], keys[n]) for n in positions)
        work = partial(undo_batch, loads, self._release_memory, self._process_bytes)
        released = await self._undoing.run(work)
        self._rolled_back_bytes += sum(released)
        self._notes.undone(positions, released)
        self._tell(RolledBack(self._clock(), positions, released))

    def _clear_up(self) -> None:
        """Give back what loading left behind; after a roll-back also the memory that garbage pins."""
        if self._before_undoing is not None:
            gc.collect()
        self._release_memory()

    # -------------------------------------------------------------------------------------------- memory

    def _memory_events(self, now: float) -> Sequence[Event]:
        if now - self._read_at < READING_SECONDS:
            return ()
        self._read_at = now
        level, reading = self._read()
        response = self._execution.footing.response(level)
        self._is_short = response >= PressureResponse.PAUSE  # whoever tells of changes may be held up
        if level != self._level:
            self._notes.pressure(reading, f"{self._level.name} -> {level.name}: {_ANSWERS[response]}")
            self._level = level
        self._exposure.note(now, level, is_waiting=self._is_short or self._execution.is_paused)
        if reading is not None:
            left_bytes = self._planned_bytes - self._execution.guard.loaded_bytes
            self._outlook = outlook_level(reading, left_bytes, self._outlook)
        return (MemoryRead(now, level, reading, self._outlook),)

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
        self._read_at = -math.inf
        self._set_brake()
        self._post(Tick(self._clock()))

    def _set_brake(self) -> None:
        self._brake.is_on = self._is_short or not self._execution.starts_loads

    def _post(self, event: Event) -> None:
        """Tell `event` from any thread."""
        loop = self._running_on
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._tell, event)

    def _wake(self) -> None:
        if self._awake is not None:
            self._awake.set()

    # ------------------------------------------------------------------------------------ the memory log

    def _note_hold(self) -> None:
        pauses = self._execution.footing.response(self._level) >= PressureResponse.PAUSE
        held = self._execution.is_paused and not pauses
        if held != self._was_held:
            self._was_held = held
            self._notes.pressure(self._read()[1], "others take memory: waits" if held else "goes on")

    @property
    def _is_late(self) -> bool:
        """Whether its deadline has passed before it has begun."""
        since, seconds = self._waiting_since, self._deadline_seconds
        return not self._begun and since is not None and seconds is not None and self._clock() - since >= seconds

    def _note_end(self, stopped: str | None) -> None:
        if stopped is not None:
            self._notes.pressure(self._read()[1], f"the run was stopped: {stopped}")

    # ------------------------------------------------------------------------------------------ outcome

    def _note_progress(self, now: float) -> None:
        """Tell that it stops, and each phase of which nothing is left."""
        state = self._execution
        if state.stopped is not None and not self._told_stop:
            self._told_stop = True
            note_stop(state.stopped, state.done, len(state.results))
        if len(state.phase_ended) == self._phases_told:
            return
        for phase in [phase for phase in state.phase_ended if phase >= 0][self._phases_told :]:
            self._phases_told += 1
            members = state.phases.members[phase]
            counts = state.results.by_status(members)
            put_off = len(members) - sum(counts.values()) if state.stopped is None else 0
            outcome = PhaseOutcome(PHASES[phase], counts, state.stopped, put_off)
            note_phase(outcome, now - self._begun)
            if self._on_phase is not None:
                self._on_phase(outcome)

    def _show(self, now: float, *, force: bool = False) -> None:
        if now - self._shown < PROGRESS_SECONDS and not force:
            return
        self._shown = now
        self._pace.note(now, self._execution.done, self._execution.guard.loaded_bytes)
        if self._on_progress is None:
            return
        try:
            self._on_progress(self.progress())
        except Exception:
            log_failure("the progress callback failed and is not called again")
            self._on_progress = None

    def _report(self, stopped: str | None) -> WarmupReport:
        state, after = self._execution, self._read()[1]
        self._exposure.note(self._clock(), self._level, is_waiting=False)
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
            events=self._notes.events(),
            switches=self._switches(),
            origins=state.origins,
            exposure=self._exposure.exposure(),
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


def _run_seconds(way: Way, loaders: int) -> float:
    interval_seconds = RUN_INTERVAL_SECONDS * (1 if way.is_on_loop else THREAD_FACTOR)
    return max(RUN_SECONDS, interval_seconds * loaders)


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
