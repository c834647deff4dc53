"""The run: what follows from an event.

Rules: a phase starts when the one before has ended; within a phase an item starts once everything that it needs is
resident; never more loads at a time than the limit; nothing starts that the guard does not admit, so bytes
loaded and reserved never exceed the budget; each item ends in exactly one status.  What pressure does is the
strategy's word, by default: half as many loads at a time at MODERATE, none from HIGH on, and at CRITICAL what was
loaded is undone, newest first.  While memory is short a run may go on under a milder strategy; what that would not
take waits.  What an origin does not bear is put off until after everything else.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from preheat._execution.events import (
    Abandon,
    Cancel,
    Drawn,
    Ended,
    Event,
    Finish,
    Instruction,
    Load,
    Loaded,
    MemoryRead,
    Missed,
    Pause,
    Resume,
    RollBack,
    RolledBack,
    Start,
    WakeAt,
)
from preheat._execution.flights import Flight, Flights
from preheat._execution.gates import Gate, Gates
from preheat._execution.groups import Groups
from preheat._execution.later import NOT_LET_START, Later
from preheat._execution.lengths import RunLengths
from preheat._execution.needs import Needs
from preheat._execution.outcomes import Outcomes
from preheat._execution.phases import Phases
from preheat._execution.queues import Queues
from preheat._execution.retries import Retries
from preheat._footing import Footing
from preheat._guard import KNOWN_AFTER, Guard
from preheat._model import (
    ItemResult,
    ItemStatus,
    MemoryPressureLevel,
    OriginRecord,
    PressureResponse,
    StrategySwitch,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PAUSE_SECONDS = 30.0
"""How long a run is paused before it stops, and how long it waits for calm once only what needs calm is left."""

MAX_BLOCKED_SECONDS = 5.0
"""How long the next item waits for memory that it needs before it is rejected."""

BLOCKED_READING_SECONDS = 0.05

SHARED_RUNS = 2
"""Of how many shared runs of a cache loads may be left to begin: of one, and of the next, so that nobody waits."""

PATIENCE_SECONDS = 30.0
"""How long the later pass waits for an origin that is not well."""

LEAST_PATIENCE_SECONDS = 2.0
"""A run does not wait much longer than it has taken so far; but so long."""

# as names of the module: found in their class, they would take a tenth of the time that a run spends here on an item
_LOADED, _FAILED, _TOO_LARGE = ItemStatus.LOADED, ItemStatus.FAILED, ItemStatus.TOO_LARGE
_RESIDENT_NOW = frozenset({ItemStatus.LOADED, ItemStatus.RESIDENT})


class Execution:
    """The state of one run over the items 0 .. n-1 of a plan, in loading order.

    Args:
        caches: (n,) the cache of each item; a run of loads never mixes two.
        size_bytes: (n,) expected sizes.
        phase: (n,) phase of each item, not decreasing.
        needs: For items with dependencies in the plan, their positions.
        budget_bytes: What loaded and reserved bytes may add up to.
        reserve_bytes: Memory that no load may touch.
        kinds: (n,) kind of each item within its cache; by default all are alike.
        concurrency_limit: Loads in flight at the same time; a run that is not shared counts as one.
        batch_size: Items that a loader is handed at once, at most.
        run_seconds: By cache, how long a run of loads should last; those of others are one batch each.
        in_bulk: Caches that load a batch at once.
        crewed: Caches of which several workers may load one run.
        shared: Caches whose values several processes share.
        phase_delay_seconds: Pause between two phases.
        deadline_seconds: Time after which it stops; None if never.
        known_after: Real sizes of a cache that are asked for before its loads run side by side.
        footing: The strategy, and what it falls back to.
        takes: (n,) whether the strategy that it falls back to would take the item, and so all that this needs.
        gates: By cache, what says when its origin lets loads start.
        before: (n,) how items ended in a run that this one goes on with; those that are resident are left alone.
        seed: Seed of the back-off's jitter.
        describe: Names an item, for reasons that speak of another one.
    """

    def __init__(
        self,
        caches: Sequence[str],
        size_bytes: Sequence[int],
        phase: Sequence[int],
        needs: Mapping[int, Sequence[int]],
        *,
        budget_bytes: int,
        concurrency_limit: int,
        batch_size: int,
        run_seconds: Mapping[str, float] | None = None,
        in_bulk: Container[str] = (),
        crewed: Container[str] = (),
        shared: Container[str] = (),
        reserve_bytes: int = 0,
        kinds: Sequence[str] = (),
        phase_delay_seconds: float = 0.0,
        deadline_seconds: float | None = None,
        known_after: int = KNOWN_AFTER,
        footing: Footing | None = None,
        takes: Sequence[bool] = (),
        gates: Mapping[str, Gate] | None = None,
        before: Outcomes | None = None,
        seed: int = 0,
        describe: Callable[[int], str] = str,
    ) -> None:
        self.results = Outcomes(len(caches))
        self.attempts = self.done = 0
        self.pressure = MemoryPressureLevel.LOW
        self.stopped: str | None = None
        self.switches: tuple[StrategySwitch, ...] = ()
        self.footing = footing or Footing()
        self.phases = Phases(phase, phase_delay_seconds)
        self._groups, self._sizes = Groups(caches, kinds), size_bytes
        self.guard = Guard(
            size_bytes,
            self._groups.code,
            self._groups.all,
            budget_bytes=budget_bytes,
            reserve_bytes=reserve_bytes,
            known_after=known_after,
        )
        self._limit = concurrency_limit
        self._lengths = RunLengths(batch_size, run_seconds or {}, in_bulk, crewed=crewed, shared=shared)
        self._needs, self._queues, self._retries = Needs(needs), Queues(), Retries(len(caches), seed)
        self._gates, self._later = Gates(gates or {}), Later()
        self._begun_at = 0.0
        self._describe = describe
        self._takes, self._parked = takes, array("q")
        self._parked_since: float | None = None
        self._is_slow = self._parks = self._is_held = False
        self._flights = Flights(self._groups.caches)
        self._loaded_order = array("q")
        self._paused_since: float | None = None
        self._blocked_since: float | None = None
        self._deadline_seconds, self._deadline_at = deadline_seconds, math.inf
        self._oversized: dict[int, ItemResult] = {}
        self._undoing = 0
        self._must_undo = self._gives_up = self._has_begun = self._finished = False
        if before is not None:
            self._keep_resident(before)

    @property
    def phase(self) -> int:
        """The phase that it is in; -1 before the first."""
        return self.phases.now

    @property
    def phase_started(self) -> Mapping[int, float]:
        """When each phase was entered."""
        return self.phases.started

    @property
    def phase_ended(self) -> Mapping[int, float]:
        """When nothing was left of each phase."""
        return self.phases.ended

    @property
    def is_paused(self) -> bool:
        """Whether nothing starts: the strategy pauses, or pressure is MODERATE with headroom still falling."""
        return self._paused_since is not None

    @property
    def is_held(self) -> bool:
        """Whether nothing starts because somebody wants it so."""
        return self._is_held

    @property
    def starts_loads(self) -> bool:
        """Whether what is in flight may go on to its next load."""
        return not (self._is_held or self.stopped is not None)

    def handle(self, event: Event) -> list[Instruction]:
        """Take `event` into account and return what is to be done now.  After `Finish` nothing ever is."""
        if self._finished:
            return []
        undo: list[Instruction] = []
        match event:
            case Loaded():
                undo = self._end_smoothly(event)
            case Ended():
                undo = self._end_run(event)
            case Drawn():
                self._flights.draw(event.first)
            case MemoryRead():
                self._note_memory(event)
            case RolledBack():
                self._end_rollback(event)
            case Missed():
                self._note_missed(event)
            case Start() | Pause() | Resume() | Cancel():
                undo = self._take_order(event)
        return [*undo, *self._advance(event.at)] if self._has_begun or self.stopped is not None else []

    @property
    def origins(self) -> tuple[OriginRecord, ...]:
        """What was asked of each origin so far."""
        return tuple(gate.record() for gate, _ in self._gates.all())

    # -------------------------------------------------------------------------------------------- events

    def _take_order(self, order: Start | Pause | Resume | Cancel) -> list[Instruction]:
        match order:
            case Start():
                self._begin(order)
            case Pause() | Resume():
                self._is_held = isinstance(order, Pause)
            case Cancel():
                self._stop("cancelled")
                return self._give_up() if order.abandon else []
        return []

    def _begin(self, start: Start) -> None:
        self._has_begun, self._begun_at = True, start.at
        if self._deadline_seconds is not None:
            self._deadline_at = (start.at if start.since is None else start.since) + self._deadline_seconds

    def _keep_resident(self, before: Outcomes) -> None:
        resident = before.resident_items()
        self.results.copy(before, resident)
        self.done = len(resident)
        for members in self.phases.members:
            inside = np.count_nonzero((resident >= members.start) & (resident < members.stop))
            if inside:
                self.phases.count_ended(members.start, int(inside))
        self._needs.satisfy_all(resident.tolist())
        self.guard.keep(sum(self.results.sizes))
        self._loaded_order.extend(item for item in resident.tolist() if self.results.sizes[item])

    def _land(self, flight: Flight) -> int:
        """What was in flight is no longer: how many loads fewer are under way."""
        self.guard.release(flight.positions)
        return -self._flights.end(flight)

    def _end_smoothly(self, event: Loaded) -> list[Instruction]:
        """As `_end_run` would, all items at once; unless others wait for one of them, or they are too large."""
        positions, size_bytes = event.positions, event.size_bytes
        flight = self._flights[positions[0]]
        left_bytes = self.guard.reserved_for(flight.positions)
        if self._needs.concern(positions) or not self.guard.fits(size_bytes - left_bytes):
            results = [ItemResult(_LOADED, each) for each in event.sizes]
            return self._end_run(Ended(event.at, positions, results, event.peak_bytes))
        fewer, seconds = self._land(flight), flight.seconds(event)
        self._lengths.learn(flight.cache, len(positions), seconds, width=flight.width or 1)
        if (gate := self._gates[flight.cache]) is not None:
            items = len(positions)
            gate.loaded(event.at, self._load_seconds(flight.cache, items, items, seconds), items, fewer)
        self.guard.learn(positions, event.sizes, event.peak_bytes)
        self.guard.keep(size_bytes)
        self._loaded_order.frombytes(_numbers(positions))
        self.results.load(positions, event.sizes)
        self.done += len(positions)
        self.phases.count_ended(positions[0], len(positions))
        return []

    def _end_run(self, event: Ended) -> list[Instruction]:
        flight = self._flights[event.positions[0]]
        self._learn(flight, event, self._land(flight))
        oversized: list[int] = []
        for item, result in zip(event.positions, event.results, strict=True):
            if result is None:
                self._put_back(item)
                continue
            if result.status is _TOO_LARGE:
                self.guard.refused(item)
            if result.status is _FAILED and self._try_again(item, result, event.at):
                continue
            if result.status is _LOADED and not self.guard.fits(result.size_bytes):
                self._oversized[item] = result
                oversized.append(item)
            else:
                if result.status is _LOADED:
                    self._count_loaded(item, result)
                self._end(item, result)
        return self._undo(oversized)

    def _learn(self, flight: Flight, event: Ended, fewer: int) -> None:
        tried = [(item, result) for item, result in zip(event.positions, event.results, strict=True) if result]
        loaded = [(item, result.size_bytes) for item, result in tried if result.status is _LOADED]
        seconds = flight.seconds(event)
        if tried:
            were_there = all(result.status is ItemStatus.RESIDENT for _, result in tried)
            self._lengths.learn(flight.cache, len(tried), seconds, width=flight.width or 1, were_there=were_there)
        if loaded:
            self.guard.learn([item for item, _ in loaded], [size for _, size in loaded], event.peak_bytes)
        if (gate := self._gates[flight.cache]) is not None:
            loads = sum(result.status is not ItemStatus.RESIDENT and not result.from_peer for _, result in tried)
            gate.ended(event.at, self._load_seconds(flight.cache, loads, len(tried), seconds), event.results, fewer)

    def _load_seconds(self, cache: str, loads: int, tried: int, seconds: float) -> float:
        """What each of `loads`, of so many items, took: where a call loads a batch, as long as that."""
        at_once = self._lengths.at_once(cache)
        return seconds / max(1, -(-tried // at_once) if at_once > 1 else loads)

    def _put_back(self, item: int) -> None:
        self.attempts -= 1
        if self.stopped is not None:
            self._end(item, ItemResult(ItemStatus.SKIPPED, reason=_NOT_STARTED.format(self.stopped)))
        else:
            self._make_ready(item)

    def _count_loaded(self, item: int, result: ItemResult) -> None:
        self._loaded_order.append(item)
        self.guard.keep(result.size_bytes)

    def _undo(self, items: Sequence[int]) -> list[Instruction]:
        if not items:
            return []
        self._undoing += 1
        return [RollBack(tuple(reversed(items)))]

    def _end_rollback(self, event: RolledBack) -> None:
        self._undoing -= 1
        for item, released in zip(event.positions, event.released_bytes, strict=True):
            if item in self._oversized:
                self._settle_oversized(item, self._oversized.pop(item), released)
            elif released:
                result = self.results[item] or _NO_ROOM
                self.guard.drop(result.size_bytes)
                reason = "memory pressure became critical"
                self.results[item] = ItemResult(ItemStatus.ROLLED_BACK, reason=reason)

    def _settle_oversized(self, item: int, result: ItemResult, released: int) -> None:
        if released:
            self._end(item, _NO_ROOM)
        else:  # traffic has used it meanwhile, so it stays
            self._count_loaded(item, result)
            self._end(item, result)

    def _note_memory(self, event: MemoryRead) -> None:
        if event.reading is not None:
            self.guard.note(event.at, event.reading)
        self.pressure = event.level
        if self.stopped is None:
            switch = self.footing.note(event.at, event.level, event.outlook, is_falling=self.guard.is_falling)
            if switch is not None:
                self._go_on_as(switch)
        response = self.footing.response(event.level)
        self._is_slow = response >= PressureResponse.SLOW
        falling = self.pressure == MemoryPressureLevel.MODERATE and self.guard.is_falling
        if response < PressureResponse.PAUSE and not falling:
            self._paused_since = None
        elif self._paused_since is None:
            self._paused_since = event.at
        if response >= PressureResponse.STOP:
            self._must_undo = self._must_undo or response == PressureResponse.ROLL_BACK
            self._stop("pressure")

    def _note_missed(self, event: Missed) -> None:
        gate = self._gates[event.cache]
        if gate is not None:
            gate.note_live(event.at, event.seconds, event.misses)

    def _go_on_as(self, switch: StrategySwitch) -> None:
        self.switches = (*self.switches, switch)
        self._parks = self.footing.has_fallen_back
        self._parked_since = self._blocked_since = None
        waiting = sorted([*self._parked, *self._queues.clear()])
        self._parked = array("q")
        self._line_up(np.array(waiting, np.int64))

    def _stop(self, why: str) -> None:
        if self.stopped is not None:
            return
        self.stopped = why
        in_flight = self._flights.items()
        for item, failure in self._later.failures().items():
            if self.results.is_open(item) and item not in in_flight:
                self.results[item] = failure
                self.done += 1
        not_started = np.setdiff1d(self.results.open_items(), [*in_flight, *self._oversized], assume_unique=True)
        self.results.end(not_started, ItemResult(ItemStatus.SKIPPED, reason=_NOT_STARTED.format(why)))
        self.done += len(not_started)
        self._queues.clear()
        self._retries.clear()
        self._parked = array("q")

    def _give_up(self) -> list[Instruction]:
        """What is in flight is not awaited any more."""
        if self._gives_up:
            return []
        self._gives_up = True
        return [Abandon(flight.positions) for flight in self._flights]

    # --------------------------------------------------------------------------------------------- items

    def _try_again(self, item: int, result: ItemResult, at: float) -> bool:
        """Whether `item`, which failed, is tried again, be it in the later pass."""
        if self.stopped is not None:
            return False
        tries, gate = self._retries.count_failure(item), self._gates[self._groups.cache_of(item)]
        again_at = self._retries.retry_at(at, tries) if gate is None else gate.retry_at(at, tries)
        if again_at is None:
            return False
        if again_at < math.inf:
            self._retries.add(item, again_at)
        elif gate is not None:
            self._later.note_failure(item, result)
            self._put_off(np.array([item]), gate)
        return True

    def _put_off(self, items: NDArray[np.int64], gate: Gate, *, were_refused: bool = False) -> None:
        gate.put_off(len(items), were_refused=were_refused)
        self.phases.put_off(self._needs.with_dependants(items))
        self._later.add(items)

    def _end(self, item: int, result: ItemResult) -> None:
        ending = [(item, result)]
        while ending:
            ended, outcome = ending.pop()
            if not self.results.is_open(ended):
                continue
            self.results[ended] = outcome
            self.done += 1
            self.phases.count_ended(ended)
            for dependant in self._needs.dependants(ended):
                if outcome.status in _RESIDENT_NOW:
                    self._satisfy(dependant, ended)
                else:
                    reason = f"it needs {self._describe(ended)}, which ended as {outcome.status}"
                    ending.append((dependant, ItemResult(ItemStatus.SKIPPED, reason=reason)))

    def _satisfy(self, item: int, needed: int) -> None:
        is_complete = self._needs.satisfy(item, needed)
        if is_complete and self.phases.of(item) == self.phases.now and self.results.is_open(item):
            self._make_ready(item)

    def _make_ready(self, item: int) -> None:
        if self._parks and not self._takes[item]:
            self._parked.append(item)
        else:
            self._queues.add(self._groups.cache_of(item), item)

    def _line_up(self, items: NDArray[np.int64]) -> None:
        """As `_make_ready` for all of `items`, ascending, while all queues are empty."""
        if self._parks and len(items):
            taken = np.array(self._takes, np.bool_)[items]
            self._parked.extend(items[~taken].tolist())
            items = items[taken]
        for cache, mine in self._groups.by_cache(items):
            self._queues.fill(cache, mine)

    # ------------------------------------------------------------------------------------------- advance

    def _advance(self, at: float) -> list[Instruction]:
        if self.stopped is not None:
            return self._wind_up(at)
        if at >= self._deadline_at and self.done < len(self.results):
            self._stop("deadline")
            return [*self._give_up(), *self._wind_up(at)]
        if self.done < len(self.results):
            if self._paused_since is not None:
                return self._wait_for_relief(at, self._paused_since)
            if self._is_held:
                return self._wake_at(self._deadline_at)
        for item in self._retries.take_due(at):
            self._make_ready(item)
        loads: list[Instruction] = []
        entered = None
        while entered != (
            self.phases.now,
            self.done,
            self._later.puts,
        ):  # an item rejected at its start can be the last of its phase
            entered = (self.phases.now, self.done, self._later.puts)
            for members in self.phases.enter(at):
                self._enter(members)
            self._give_up_on_origins(at)
            self._go_on_with_later(at)
            loads += self._start_runs(at)
            if self._parked:
                self._give_up_parked(at)
        return [*loads, *self._wait_or_finish(at)]

    def _wait_for_relief(self, at: float, paused_since: float) -> list[Instruction]:
        give_up_at = paused_since + MAX_PAUSE_SECONDS
        if at >= give_up_at:
            self._stop("pressure")
            return self._wind_up(at)
        return self._wake_at(min(give_up_at, self._deadline_at))

    def _give_up_parked(self, at: float) -> None:
        """Nothing is left of this phase but what waits for calm: it has so much time, and then is not loaded."""
        if not self._is_waiting_for_calm():
            return
        if self._parked_since is None:
            self._parked_since = at
        if at >= self._parked_since + MAX_PAUSE_SECONDS:
            reason = _NOT_TAKEN.format(self.footing.strategy, self.switches[-1].reason)
            parked, self._parked = self._parked, array("q")
            for item in parked:
                self._end(item, ItemResult(ItemStatus.SKIPPED, reason=reason))

    def _is_waiting_for_calm(self) -> bool:
        busy = self._flights or self._undoing or self._retries or self._queues
        return bool(self._parked) and not busy

    def _enter(self, members: range) -> None:
        """All items of a phase may start, but for those that have ended and those that wait for others."""
        items = self.results.open_items(members.start, members.stop)
        unmet = self._needs.unmet()
        self._line_up(np.setdiff1d(items, unmet, assume_unique=True) if unmet else items)

    def _give_up_on_origins(self, at: float) -> None:
        """What an origin has not let start for too long holds nothing up any longer."""
        for gate, caches in self._gates.all():
            if not any(map(self._queues.waiting, caches)) or gate.gives_up_at(at) > at:
                continue
            refused = sorted(item for cache in caches for item in self._queues.take(cache))
            if self.phases.is_later_pass:
                for item in refused:
                    self._end(item, self._later.failures().get(item, NOT_LET_START))
            else:
                self._put_off(np.array(refused, np.int64), gate, were_refused=True)

    def _go_on_with_later(self, at: float) -> None:
        """When nothing else is left, line up what was put off."""
        is_busy = self._flights or self._undoing or self._retries or self._queues
        if not self._later or is_busy or not self.phases.are_over:
            return
        if not self.phases.is_later_pass:
            self.phases.begin_later_pass()
            patience_seconds = min(max(at - self._begun_at, LEAST_PATIENCE_SECONDS), PATIENCE_SECONDS)
            for gate, _ in self._gates.all():
                gate.begin_later_pass(at, patience_seconds)
        self._line_up(self._later.take())

    def _start_runs(self, at: float) -> list[Instruction]:
        limit = max(1, self._limit // 2) if self._is_slow else self._limit
        loads: list[Instruction] = []
        if self._oversized:  # their bytes are still there, beyond the budget
            return loads
        while (cache := self._next_cache(at, limit)) is not None:
            done, width = self.done, self._width(cache, at, limit)
            run = self._take_run(cache, width, limit, at)
            if run:
                loads.append(self._send(run, cache, width, at))
            elif self._flights or done == self.done:  # it waits; had it been rejected, the next one would be looked at
                break
        return loads

    def _next_cache(self, at: float, limit: int) -> str | None:
        """The cache whose turn it is; one of which too little is known waits for what it has in flight."""
        return self._queues.next_cache(
            lambda cache, first: (
                (not self._flights.has(cache) or self.guard.is_known(first)) and self._may_start(cache, at, limit)
            )
        )

    def _may_start(self, cache: str, at: float, limit: int) -> bool:
        if self._width(cache, at, limit):
            return self._flights.undrawn(cache) < SHARED_RUNS
        return self._flights.loads < limit and self._gates.is_open(cache, at)

    def _width(self, cache: str, at: float, limit: int) -> int:
        """How many workers share the next run of `cache`; 0 if it goes one load after another."""
        if not self._lengths.most_shared(cache, limit) or not self.guard.is_known(self._queues[cache].first):
            return 0
        held, caches = self._flights.width(cache), self._flights.caches + (not self._flights.has(cache))
        width = min(limit - (self._flights.loads - held), max(1, limit // caches))
        if (gate := self._gates[cache]) is not None:
            width = min(width, gate.room(at, held))
        return width if width > 1 else 0

    def _take_run(self, cache: str, width: int, limit: int, at: float) -> Sequence[int]:
        """The next items of `cache`; none if the first must wait for room or was rejected."""
        queue = self._queues[cache]
        first = queue.first
        run = queue.peek(self._most(cache, width, limit, is_known=self.guard.is_known(first)))
        if self._needs.concern(run):
            run = run[: self._lengths.most_awaited(cache, len(run))]
        fitting = self.guard.admits(run)
        if not fitting:
            if self._flights or not self._admits_alone(cache, first, at):
                return ()
            fitting = 1
        gate = self._gates[cache]
        if gate is not None and not width:
            sizes = [self._sizes[item] for item in run[:fitting]]
            fitting = gate.admit(at, sizes, self._lengths.at_once(cache))
        if fitting < len(run):  # else the very one that was admitted, whose claim the guard need not work out again
            run = run[:fitting]
        queue.drop(run)
        return run

    def _most(self, cache: str, width: int, limit: int, *, is_known: bool) -> int:
        share = -(-len(self._queues) // limit)
        if not is_known:
            return self._lengths.most_unknown(cache, share)
        return self._lengths.most_shared(cache, width) if width else self._lengths.most(cache, share)

    def _send(self, run: Sequence[int], cache: str, width: int, at: float) -> Load:
        more = self._flights.begin(Flight(run, cache, at, width or None))
        if width and (gate := self._gates[cache]) is not None:
            gate.share(len(run), more)
        self.attempts += len(run)
        self._blocked_since = None
        reserved = self.guard.reserve(run)
        spare_bytes = self.guard.spare_bytes(self.guard.sharers(run[0], self._limit))
        return Load(run, () if spare_bytes is None else reserved, spare_bytes, width or None)

    def _admits_alone(self, cache: str, item: int, at: float) -> bool:
        """Whether the next item may start while nothing else is in flight; if it never will, it is rejected."""
        if not self.guard.fits_budget(item):
            self._reject(cache, item, _NO_ROOM)
            return False
        if self.guard.fits_memory(item):
            return True
        if self._blocked_since is None:
            self._blocked_since = at
        if at - self._blocked_since >= MAX_BLOCKED_SECONDS:
            self._reject(cache, item, _NO_MEMORY)
            self._blocked_since = at - MAX_BLOCKED_SECONDS  # the next one has waited with it
        return False

    def _reject(self, cache: str, item: int, result: ItemResult) -> None:
        self._queues[cache].drop((item,))
        self._end(item, result)

    def _wait_or_finish(self, at: float) -> list[Instruction]:
        if self.done == len(self.results) and not self._flights and not self._undoing:
            return self._finish()
        if self._parked_since is not None and self._is_waiting_for_calm():
            return self._wake_at(min(self._parked_since + MAX_PAUSE_SECONDS, self._deadline_at))
        if self._blocked_since is not None:
            return self._wake_at(min(at + BLOCKED_READING_SECONDS, self._deadline_at))
        waits = [self._deadline_at]
        for gate, caches in self._gates.all():
            if any(map(self._queues.waiting, caches)):
                waits += [gate.opens_at(at), gate.gives_up_at(at)]
        if self._retries:
            waits.append(self._retries.next_at)
        if not self._flights and at < self.phases.next_at:
            waits.append(self.phases.next_at)
        return self._wake_at(min((wait for wait in waits if wait > at), default=math.inf))

    @staticmethod
    def _wake_at(at: float) -> list[Instruction]:
        return [WakeAt(at)] if at < math.inf else []

    def _wind_up(self, at: float) -> list[Instruction]:
        if self._must_undo and self._loaded_order:  # at once: a slow load in flight must not delay the release
            loaded, self._loaded_order = self._loaded_order, array("q")
            return self._undo(loaded)
        if self._flights or self._undoing:
            return []
        self.phases.break_off(at)
        return self._finish()

    def _finish(self) -> list[Instruction]:
        self._finished = True
        return [Finish(self.stopped)]


_NOT_STARTED = "not started: the run was stopped ({})"
_NOT_TAKEN = "not started: the run went on as {} ({}), which does not take it"
_NO_ROOM = ItemResult(ItemStatus.REJECTED, reason="larger than what is left of the budget")
_NO_MEMORY = ItemResult(ItemStatus.REJECTED, reason="larger than the memory that was left for it")


def _numbers(positions: Sequence[int]) -> bytes:
    """`positions`, ascending, as 64-bit numbers."""
    first, stop = positions[0], positions[-1] + 1
    is_gapless = stop - first == len(positions)
    return (np.arange(first, stop, dtype=np.int64) if is_gapless else np.array(positions, np.int64)).tobytes()
