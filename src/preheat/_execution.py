"""A run as a state machine: events in, instructions out.

It knows no clock, thread or cache: every event carries its time, and what it decides is returned for a performer to
do.  Rules: a phase starts when the one before has ended; within a phase an item starts once everything that it
needs is resident; never more batches in flight than the limit; nothing starts that the guard does not admit, so
bytes loaded and reserved never exceed the budget; each item ends in exactly one status.  What pressure does is the
strategy's word, by default: half as many batches at MODERATE, none from HIGH on, and at CRITICAL what was loaded is
undone, newest first.  While memory is short a run may go on under a milder strategy; what that would not take waits.

    Start, Ended, MemoryRead, Cancel, Tick  ->  Load, RollBack, WakeAt, Finish

Failed items are tried again after a random wait that is capped and doubles with each attempt (Brooker, "Exponential
Backoff And Jitter", AWS Architecture Blog, 2015: "full jitter").
"""

from __future__ import annotations

import heapq
import random
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, overload

from preheat._footing import Footing
from preheat._guard import KNOWN_AFTER, Group, Guard
from preheat._model import (
    STATUS_CODE,
    ItemResult,
    ItemStatus,
    MemoryPressureLevel,
    MemoryReading,
    PressureResponse,
    StrategySwitch,
)

MAX_ATTEMPTS = 3
BACKOFF_BASE_SECONDS = 0.1
BACKOFF_CAP_SECONDS = 5.0
MAX_PAUSE_SECONDS = 30.0
"""How long a run is paused before it stops, and how long it waits for calm once only what needs calm is left."""

MAX_BLOCKED_SECONDS = 5.0
"""How long the next item waits for memory that it needs before it is rejected."""

BLOCKED_READING_SECONDS = 0.05

# as names of the module: found in their class, they would take a tenth of the time that a run spends here on an item
_LOADED, _FAILED, _TOO_LARGE = ItemStatus.LOADED, ItemStatus.FAILED, ItemStatus.TOO_LARGE
_RESIDENT_NOW = frozenset({ItemStatus.LOADED, ItemStatus.RESIDENT})


class Start(NamedTuple):
    """The run begins."""

    at: float


class Ended(NamedTuple):
    """A batch has been tried: the results of `positions`, in their order; None where a load was not begun.

    `peak_bytes` is what the process grew by at the most while nothing else was loaded; 0 if that is not known.
    """

    at: float
    positions: Sequence[int]
    results: Sequence[ItemResult | None]
    peak_bytes: int = 0


class RolledBack(NamedTuple):
    """A roll-back has been done: the bytes released for each of `positions`, 0 where the item was kept."""

    at: float
    positions: Sequence[int]
    released_bytes: Sequence[int]


class MemoryRead(NamedTuple):
    """Memory has been read, and means this level of pressure; no reading where only the level is known.

    `outlook` is what it would mean had the rest of the plan been loaded too.
    """

    at: float
    level: MemoryPressureLevel
    reading: MemoryReading | None = None
    outlook: MemoryPressureLevel = MemoryPressureLevel.LOW


class Cancel(NamedTuple):
    """Somebody wants the run to end; what is in flight is awaited."""

    at: float


class Tick(NamedTuple):
    """Time has passed."""

    at: float


class Load(NamedTuple):
    """Load these items of one cache, as one batch.

    Each may become as large as was reserved for it, and together they may take `spare_bytes` more; None while
    nothing is known of memory.
    """

    positions: tuple[int, ...]
    reserved_bytes: tuple[int, ...] = ()
    spare_bytes: int | None = None


class RollBack(NamedTuple):
    """Undo these loads, in this order, and answer with `RolledBack`."""

    positions: tuple[int, ...]


class WakeAt(NamedTuple):
    """Send a `Tick` at this time, if nothing else has happened before."""

    at: float


class Finish(NamedTuple):
    """The run has ended; `stopped` says why if it ended early."""

    stopped: str | None


Event = Start | Ended | RolledBack | MemoryRead | Cancel | Tick
Instruction = Load | RollBack | WakeAt | Finish


class Execution:
    """The state of one run over the items 0 .. n-1 of a plan, in loading order.

    Args:
        caches: (n,) the cache of each item; a batch never mixes two.
        size_bytes: (n,) expected sizes.
        phase: (n,) phase of each item, not decreasing.
        needs: For items with dependencies in the plan, their positions.
        budget_bytes: What loaded and reserved bytes may add up to.
        reserve_bytes: Memory that no load may touch.
        kinds: (n,) kind of each item within its cache; by default all are alike.
        concurrency_limit: Batches in flight at the same time.
        batch_size: Items in a batch at most.
        phase_delay_seconds: Pause between two phases.
        known_after: Real sizes of a cache that are asked for before its loads run side by side.
        footing: The strategy, and what it falls back to.
        takes: (n,) whether the strategy that it falls back to would take the item, and so all that this needs.
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
        reserve_bytes: int = 0,
        kinds: Sequence[str] = (),
        phase_delay_seconds: float = 0.0,
        known_after: int = KNOWN_AFTER,
        footing: Footing | None = None,
        takes: Sequence[bool] = (),
        seed: int = 0,
        describe: Callable[[int], str] = str,
    ) -> None:
        self.results = Outcomes(len(caches))
        self.attempts = 0
        self.done = 0
        self.phase = -1
        self.pressure = MemoryPressureLevel.LOW
        self.stopped: str | None = None
        self.phase_started: dict[int, float] = {}
        self.phase_ended: dict[int, float] = {}
        self.switches: tuple[StrategySwitch, ...] = ()
        self.footing = footing or Footing()
        self._takes, self._parked = takes, array("q")
        self._parked_since: float | None = None
        self._is_slow = self._parks = False
        self._caches, self._phases = caches, phase
        self._limit, self._batch_size = concurrency_limit, batch_size
        groups, group = _group(caches, kinds or [""] * len(caches))
        self.guard = Guard(
            size_bytes, group, groups, budget_bytes=budget_bytes, reserve_bytes=reserve_bytes, known_after=known_after
        )
        self._phase_delay_seconds = phase_delay_seconds
        self._jitter = random.Random(seed)
        self._missing = {item: set(needed) for item, needed in needs.items() if needed}
        self._dependants = _reverse(needs)
        self._ready: dict[str, list[int]] = {}
        self._retries: list[tuple[float, int]] = []
        self._tries = bytearray(len(caches))
        self._describe = describe
        self._in_flight: dict[str, int] = dict.fromkeys(caches, 0)
        self._flying: set[int] = set()
        self._batches = 0
        self._members = _by_phase(phase)
        self._left = [len(members) for members in self._members]
        self._loaded_order = array("q")
        self._next_phase_at = 0.0
        self._paused_since: float | None = None
        self._blocked_since: float | None = None
        self._oversized: dict[int, ItemResult] = {}
        self._undoing = 0
        self._must_undo = False
        self._has_begun = self._finished = False

    def handle(self, event: Event) -> list[Instruction]:
        """Take `event` into account and return what is to be done now.  After `Finish` nothing ever is."""
        if self._finished:
            return []
        undo: list[Instruction] = []
        match event:
            case Ended():
                undo = self._end_batch(event)
            case RolledBack():
                self._end_rollback(event)
            case MemoryRead():
                self._note_memory(event)
            case Cancel():
                self._stop("cancelled")
            case Start():
                self._has_begun = True
        return [*undo, *self._advance(event.at)] if self._has_begun or self.stopped is not None else []

    # -------------------------------------------------------------------------------------------- events

    def _end_batch(self, event: Ended) -> list[Instruction]:
        self._batches -= 1
        self._in_flight[self._caches[event.positions[0]]] -= 1
        self._learn(event)
        oversized: list[int] = []
        for item, result in zip(event.positions, event.results, strict=True):
            self.guard.release(item)
            self._flying.discard(item)
            if result is None:
                self._put_back(item)
                continue
            if result.status is _TOO_LARGE:
                self.guard.refused(item)
            if result.status is _FAILED and self._try_again(item, event.at):
                continue
            if result.status is _LOADED and not self.guard.fits(result.size_bytes):
                self._oversized[item] = result
                oversized.append(item)
            else:
                if result.status is _LOADED:
                    self._count_loaded(item, result)
                self._end(item, result)
        return self._undo(oversized)

    def _learn(self, event: Ended) -> None:
        loaded = [
            (item, result.size_bytes)
            for item, result in zip(event.positions, event.results, strict=True)
            if result is not None and result.status is _LOADED
        ]
        if loaded:
            self.guard.learn([item for item, _ in loaded], [size for _, size in loaded], event.peak_bytes)

    def _put_back(self, item: int) -> None:
        self._tries[item] -= 1
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

    @property
    def is_paused(self) -> bool:
        """Whether nothing starts: the strategy pauses, or pressure is MODERATE with headroom still falling."""
        return self._paused_since is not None

    def _go_on_as(self, switch: StrategySwitch) -> None:
        self.switches = (*self.switches, switch)
        self._parks = self.footing.has_fallen_back
        self._parked_since = self._blocked_since = None
        waiting = [*self._parked, *(item for heap in self._ready.values() for item in heap)]
        self._parked, self._ready = array("q"), {}
        for item in waiting:
            self._make_ready(item)

    def _stop(self, why: str) -> None:
        if self.stopped is None:
            self.stopped = why
            not_started = ItemResult(ItemStatus.SKIPPED, reason=_NOT_STARTED.format(why))
            for item in range(len(self.results)):
                if self.results.is_open(item) and item not in self._flying and item not in self._oversized:
                    self._end(item, not_started)
            self._ready.clear()
            self._retries.clear()
            self._parked = array("q")

    # --------------------------------------------------------------------------------------------- items

    def _try_again(self, item: int, at: float) -> bool:
        tries = self._tries[item]
        if tries >= MAX_ATTEMPTS or self.stopped is not None:
            return False
        wait = self._jitter.uniform(0.0, min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0**tries))
        heapq.heappush(self._retries, (at + wait, item))
        return True

    def _end(self, item: int, result: ItemResult) -> None:
        ending = [(item, result)]
        while ending:
            ended, outcome = ending.pop()
            if not self.results.is_open(ended):
                continue
            self.results[ended] = outcome
            self.done += 1
            self._left[self._phases[ended]] -= 1
            for dependant in self._dependants.get(ended, ()):
                if outcome.status in _RESIDENT_NOW:
                    self._satisfy(dependant, ended)
                else:
                    reason = f"it needs {self._describe(ended)}, which ended as {outcome.status}"
                    ending.append((dependant, ItemResult(ItemStatus.SKIPPED, reason=reason)))

    def _satisfy(self, item: int, needed: int) -> None:
        missing = self._missing[item]
        missing.discard(needed)
        if not missing and self._phases[item] == self.phase and self.results.is_open(item):
            self._make_ready(item)

    def _make_ready(self, item: int) -> None:
        if self._parks and not self._takes[item]:
            self._parked.append(item)
            return
        heapq.heappush(self._ready.setdefault(self._caches[item], []), item)

    # ------------------------------------------------------------------------------------------- advance

    def _advance(self, at: float) -> list[Instruction]:
        if self.stopped is not None:
            return self._wind_up(at)
        if self._paused_since is not None and self.done < len(self.results):
            give_up_at = self._paused_since + MAX_PAUSE_SECONDS
            if at >= give_up_at:
                self._stop("pressure")
                return self._wind_up(at)
            return [WakeAt(give_up_at)]
        while self._retries and self._retries[0][0] <= at:
            self._make_ready(heapq.heappop(self._retries)[1])
        loads: list[Instruction] = []
        entered = None
        while entered != (self.phase, self.done):  # an item rejected at its start can be the last of its phase
            entered = (self.phase, self.done)
            self._enter_phases(at)
            loads += self._start_batches(at)
            if self._parked:
                self._give_up_parked(at)
        return [*loads, *self._wait_or_finish(at)]

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
        busy = self._batches or self._undoing or self._retries or any(self._ready.values())
        return bool(self._parked) and not busy

    def _enter_phases(self, at: float) -> None:
        while self.phase < 0 or not self._left[self.phase]:
            if self.phase >= 0 and self.phase not in self.phase_ended:
                self.phase_ended[self.phase] = at
                worked, more = bool(self._members[self.phase]), any(self._left[self.phase + 1 :])
                self._next_phase_at = at + (self._phase_delay_seconds if worked and more else 0.0)
            if at < self._next_phase_at or self.phase + 1 >= len(self._left):
                return
            self.phase += 1
            self.phase_started[self.phase] = at
            for item in self._members[self.phase]:
                if self.results.is_open(item) and not self._missing.get(item):
                    self._make_ready(item)

    def _start_batches(self, at: float) -> list[Instruction]:
        limit = max(1, self._limit // 2) if self._is_slow else self._limit
        loads: list[Instruction] = []
        if self._oversized:  # their bytes are still there, beyond the budget
            return loads
        while self._batches < limit and (cache := self._next_cache()) is not None:
            done = self.done
            batch = self._take_batch(cache, limit, at)
            if batch:
                self._batches += 1
                self._in_flight[cache] += 1
                self.attempts += len(batch)
                self._blocked_since = None
                spare_bytes = self.guard.spare_bytes(self.guard.sharers(batch[0], self._limit))
                reserved = () if spare_bytes is None else self.guard.reserved_for(batch)
                loads.append(Load(tuple(batch), reserved, spare_bytes))
            elif self._batches or done == self.done:  # it waits; had it been rejected, the next one would be looked at
                break
        return loads

    def _next_cache(self) -> str | None:
        """The cache whose turn it is; one of which too little is known waits for what it has in flight."""
        ready = (
            (heap[0], cache)
            for cache, heap in self._ready.items()
            if heap and (not self._in_flight[cache] or self.guard.is_known(heap[0]))
        )
        return min(ready, default=(0, None))[1]

    def _take_batch(self, cache: str, limit: int, at: float) -> list[int]:
        """The next items of `cache`; none if the first must wait for room or was rejected."""
        heap = self._ready[cache]
        fair = -(-sum(map(len, self._ready.values())) // limit)
        most = min(self._batch_size, fair) if self.guard.is_known(heap[0]) else 1
        batch: list[int] = []
        while heap and len(batch) < most:
            if not self.guard.admits(heap[0]):
                if batch or self._flying or not self._admits_alone(heap, at):
                    break
                most = 1
            item = heapq.heappop(heap)
            self.guard.reserve(item)
            self._flying.add(item)
            self._tries[item] += 1
            batch.append(item)
        return batch

    def _admits_alone(self, heap: list[int], at: float) -> bool:
        """Whether the next item may start while nothing else is in flight; if it never will, it is rejected."""
        item = heap[0]
        if not self.guard.fits_budget(item):
            self._end(heapq.heappop(heap), _NO_ROOM)
            return False
        if self.guard.fits_memory(item):
            return True
        if self._blocked_since is None:
            self._blocked_since = at
        if at - self._blocked_since >= MAX_BLOCKED_SECONDS:
            self._end(heapq.heappop(heap), _NO_MEMORY)
            self._blocked_since = at - MAX_BLOCKED_SECONDS  # the next one has waited with it
        return False

    def _wait_or_finish(self, at: float) -> list[Instruction]:
        if self.done == len(self.results) and not self._batches and not self._undoing:
            return self._finish()
        if self._parked_since is not None and self._is_waiting_for_calm():
            return [WakeAt(self._parked_since + MAX_PAUSE_SECONDS)]
        if self._blocked_since is not None:
            return [WakeAt(at + BLOCKED_READING_SECONDS)]
        if self._retries:
            return [WakeAt(self._retries[0][0])]
        if not self._batches and at < self._next_phase_at:
            return [WakeAt(self._next_phase_at)]
        return []

    def _wind_up(self, at: float) -> list[Instruction]:
        if self._must_undo and self._loaded_order:  # at once: a slow load in flight must not delay the release
            loaded, self._loaded_order = self._loaded_order, array("q")
            return self._undo(loaded)
        if self._batches or self._undoing:
            return []
        self.phase_ended.setdefault(self.phase, at)
        return self._finish()

    def _finish(self) -> list[Instruction]:
        self._finished = True
        return [Finish(self.stopped)]


class Outcomes(Sequence[ItemResult | None]):
    """How each item ended so far; None where it has not.  The seconds are not kept.

    Columns, made before the run: an object per item, made between the values that are loaded, would pin the memory
    around it when they are dropped.
    """

    __slots__ = ("_codes", "_numbers", "_reasons", "_sizes", "_texts")

    def __init__(self, length: int) -> None:
        self._codes = array("b", [-1]) * length
        self._sizes = array("q", [0]) * length
        self._reasons = array("l", [0]) * length
        self._texts = [""]
        self._numbers = {"": 0}

    @property
    def reasons(self) -> Reasons:
        """The reasons of those that have one."""
        return Reasons(self._reasons, self._texts)

    @property
    def codes(self) -> memoryview:
        """Indices into `ItemStatus` by definition order, -1 where an item has not ended."""
        return memoryview(self._codes)

    @property
    def sizes(self) -> memoryview:
        """What the caches account for each item, in bytes; 0 unless it is LOADED."""
        return memoryview(self._sizes)

    def __len__(self) -> int:
        return len(self._codes)

    @overload
    def __getitem__(self, item: int) -> ItemResult | None: ...
    @overload
    def __getitem__(self, item: slice) -> list[ItemResult | None]: ...
    def __getitem__(self, item: int | slice) -> ItemResult | list[ItemResult | None] | None:
        if isinstance(item, slice):
            return [self[n] for n in range(len(self))[item]]
        code = self._codes[item]
        return (
            None if code < 0 else ItemResult(_STATUSES[code], self._sizes[item], 0.0, self._texts[self._reasons[item]])
        )

    def __setitem__(self, item: int, result: ItemResult) -> None:
        self._codes[item] = STATUS_CODE[result.status]
        self._sizes[item] = result.size_bytes if result.status is _LOADED else 0
        number = self._numbers.get(result.reason)
        if number is None:
            number = self._numbers[result.reason] = len(self._texts)
            self._texts.append(result.reason)
        self._reasons[item] = number

    def is_open(self, item: int) -> bool:
        """Whether `item` has not ended."""
        return self._codes[item] < 0


class Reasons(Mapping[int, str]):
    """Why items ended as they did, by item; those without a reason are absent.  Each text is there once."""

    __slots__ = ("_numbers", "_texts")

    def __init__(self, numbers: Sequence[int], texts: Sequence[str]) -> None:
        self._numbers, self._texts = numbers, texts

    def __getitem__(self, item: int) -> str:
        if not 0 <= item < len(self._numbers) or not self._numbers[item]:
            raise KeyError(item)
        return self._texts[self._numbers[item]]

    def __iter__(self) -> Iterator[int]:
        return (item for item, number in enumerate(self._numbers) if number)

    def __len__(self) -> int:
        return sum(map(bool, self._numbers))

    def __repr__(self) -> str:
        return f"Reasons({dict(self)})"


_STATUSES = tuple(ItemStatus)


_NOT_STARTED = "not started: the run was stopped ({})"
_NOT_TAKEN = "not started: the run went on as {} ({}), which does not take it"
_NO_ROOM = ItemResult(ItemStatus.REJECTED, reason="larger than what is left of the budget")
_NO_MEMORY = ItemResult(ItemStatus.REJECTED, reason="larger than the memory that was left for it")


def _group(caches: Sequence[str], kinds: Sequence[str]) -> tuple[list[Group], list[int]]:
    """The distinct pairs of cache and kind, and which of them each item is of."""
    codes: dict[tuple[str, str], int] = {}
    group = [codes.setdefault(pair, len(codes)) for pair in zip(caches, kinds, strict=True)]
    return [Group(*pair) for pair in codes], group


def _reverse(needs: Mapping[int, Sequence[int]]) -> dict[int, list[int]]:
    dependants: dict[int, list[int]] = {}
    for item, needed in needs.items():
        for n in dict.fromkeys(needed):
            dependants.setdefault(n, []).append(item)
    return dependants


def _by_phase(phase: Sequence[int]) -> list[range]:
    """The items of each phase; phases are not decreasing."""
    starts = [bisect_left(phase, p) for p in range(phase[-1] + 2)] if len(phase) else []
    return [range(start, stop) for start, stop in pairwise(starts)]
