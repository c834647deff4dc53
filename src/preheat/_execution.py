"""A run as a state machine: events in, instructions out.

It knows no clock, thread or cache: every event carries its time, and what it decides is returned for a performer to
do.  Rules: a phase starts when the one before has ended; within a phase an item starts once everything that it
needs is resident; never more batches in flight than the limit; bytes loaded and reserved never exceed the budget;
each item ends in exactly one status.

    Start, Ended, PressureChanged, Cancel, Tick  ->  Load, RollBack, WakeAt, Finish

Failed items are tried again after a random wait that is capped and doubles with each attempt (Brooker, "Exponential
Backoff And Jitter", AWS Architecture Blog, 2015: "full jitter").
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from preheat._model import ItemResult, ItemStatus, MemoryPressureLevel

MAX_ATTEMPTS = 3
BACKOFF_BASE_SECONDS = 0.1
BACKOFF_CAP_SECONDS = 5.0
MAX_PAUSE_SECONDS = 30.0

_RESIDENT_NOW = frozenset({ItemStatus.LOADED, ItemStatus.RESIDENT})


class Start(NamedTuple):
    """The run begins."""

    at: float


class Ended(NamedTuple):
    """A batch has been tried: the results of `positions`, in their order."""

    at: float
    positions: Sequence[int]
    results: Sequence[ItemResult]


class RolledBack(NamedTuple):
    """A roll-back has been done: the bytes released for each of `positions`, 0 where the item was kept."""

    at: float
    positions: Sequence[int]
    released_bytes: Sequence[int]


class PressureChanged(NamedTuple):
    """Memory pressure has a new level."""

    at: float
    level: MemoryPressureLevel


class Cancel(NamedTuple):
    """Somebody wants the run to end; what is in flight is awaited."""

    at: float


class Tick(NamedTuple):
    """Time has passed."""

    at: float


class Load(NamedTuple):
    """Load these items of one cache, as one batch."""

    positions: tuple[int, ...]


class RollBack(NamedTuple):
    """Undo these loads, in this order, and answer with `RolledBack`."""

    positions: tuple[int, ...]


class WakeAt(NamedTuple):
    """Send a `Tick` at this time, if nothing else has happened before."""

    at: float


class Finish(NamedTuple):
    """The run has ended; `stopped` says why if it ended early."""

    stopped: str | None


Event = Start | Ended | RolledBack | PressureChanged | Cancel | Tick
Instruction = Load | RollBack | WakeAt | Finish


class Execution:
    """The state of one run over the items 0 .. n-1 of a plan, in loading order.

    Args:
        caches: (n,) the cache of each item; a batch never mixes two.
        size_bytes: (n,) expected sizes.
        phase: (n,) phase of each item, not decreasing.
        needs: For items with dependencies in the plan, their positions.
        budget_bytes: What loaded and reserved bytes may add up to.
        concurrency_limit: Batches in flight at the same time.
        batch_size: Items in a batch at most.
        phase_delay_seconds: Pause between two phases.
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
        phase_delay_seconds: float = 0.0,
        seed: int = 0,
        describe: Callable[[int], str] = str,
    ) -> None:
        self.results: list[ItemResult | None] = [None] * len(caches)
        self.loaded_bytes = 0
        self.attempts = 0
        self.done = 0
        self.phase = -1
        self.pressure = MemoryPressureLevel.LOW
        self.stopped: str | None = None
        self.phase_started: dict[int, float] = {}
        self.phase_ended: dict[int, float] = {}
        self._caches, self._sizes, self._phases = caches, size_bytes, phase
        self._budget_bytes, self._limit, self._batch_size = budget_bytes, concurrency_limit, batch_size
        self._phase_delay_seconds = phase_delay_seconds
        self._jitter = random.Random(seed)
        self._missing = {item: set(needed) for item, needed in needs.items() if needed}
        self._dependants = _reverse(needs)
        self._ready: dict[str, list[int]] = {}
        self._retries: list[tuple[float, int]] = []
        self._tries: dict[int, int] = {}
        self._describe = describe
        self._in_flight: dict[int, int] = {}
        self.reserved_bytes = 0
        self._batches = 0
        self._members: list[list[int]] = _by_phase(phase)
        self._left = [len(members) for members in self._members]
        self._loaded_order: list[int] = []
        self._next_phase_at = 0.0
        self._paused_since: float | None = None
        self._oversized: dict[int, ItemResult] = {}
        self._undoing = 0
        self._must_undo = False
        self._finished = False

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
            case PressureChanged():
                self._change_pressure(event)
            case Cancel():
                self._stop("cancelled")
        return [*undo, *self._advance(event.at)]

    # -------------------------------------------------------------------------------------------- events

    def _end_batch(self, event: Ended) -> list[Instruction]:
        self._batches -= 1
        oversized: list[int] = []
        for item, result in zip(event.positions, event.results, strict=True):
            self.reserved_bytes -= self._in_flight.pop(item)
            if result.status is ItemStatus.FAILED and self._try_again(item, event.at):
                continue
            if result.status is ItemStatus.LOADED:
                if self.loaded_bytes + self.reserved_bytes + result.size_bytes > self._budget_bytes:
                    self._oversized[item] = result
                    oversized.append(item)
                    continue
                self._count_loaded(item, result)
            self._end(item, result)
        return self._undo(oversized)

    def _count_loaded(self, item: int, result: ItemResult) -> None:
        self._loaded_order.append(item)
        self.loaded_bytes += result.size_bytes

    def _undo(self, items: list[int]) -> list[Instruction]:
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
                self.loaded_bytes -= result.size_bytes
                reason = "memory pressure became critical"
                self.results[item] = ItemResult(ItemStatus.ROLLED_BACK, 0, result.seconds, reason)

    def _settle_oversized(self, item: int, result: ItemResult, released: int) -> None:
        if released:
            self._end(item, _NO_ROOM)
        else:  # traffic has used it meanwhile, so it stays
            self._count_loaded(item, result)
            self._end(item, result)

    def _change_pressure(self, event: PressureChanged) -> None:
        self.pressure = event.level
        paused = event.level >= MemoryPressureLevel.HIGH
        if not paused:
            self._paused_since = None
        elif self._paused_since is None:
            self._paused_since = event.at
        if event.level >= MemoryPressureLevel.CRITICAL:
            self._must_undo = True
            self._stop("pressure")

    def _stop(self, why: str) -> None:
        if self.stopped is None:
            self.stopped = why
            for item, result in enumerate(self.results):
                if result is None and item not in self._in_flight and item not in self._oversized:
                    self._end(item, ItemResult(ItemStatus.SKIPPED, reason=f"not started: the run was stopped ({why})"))
            self._ready.clear()
            self._retries.clear()

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
            if self.results[ended] is not None:
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
        if not missing and self._phases[item] == self.phase and self.results[item] is None:
            self._make_ready(item)

    def _make_ready(self, item: int) -> None:
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
            loads += self._start_batches()
        return [*loads, *self._wait_or_finish(at)]

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
                if self.results[item] is None and not self._missing.get(item):
                    self._make_ready(item)

    def _start_batches(self) -> list[Instruction]:
        limit = self._limit if self.pressure < MemoryPressureLevel.MODERATE else max(1, self._limit // 2)
        loads: list[Instruction] = []
        if self._oversized:  # their bytes are still there, beyond the budget
            return loads
        while self._batches < limit and any(self._ready.values()):
            batch = self._take_batch(limit)
            if batch:
                self._batches += 1
                self.attempts += len(batch)
                loads.append(Load(tuple(batch)))
            elif self._batches:
                break
        return loads

    def _take_batch(self, limit: int) -> list[int]:
        """The next items of the cache whose turn it is; none if the first must wait for room or was rejected."""
        heap = min((heap for heap in self._ready.values() if heap), key=lambda heap: heap[0])
        fair = -(-sum(map(len, self._ready.values())) // limit)
        batch: list[int] = []
        while heap and len(batch) < min(self._batch_size, fair):
            size = self._sizes[heap[0]]
            if self.loaded_bytes + self.reserved_bytes + size > self._budget_bytes:
                if not batch and not self._in_flight:
                    self._end(heapq.heappop(heap), _NO_ROOM)
                break
            item = heapq.heappop(heap)
            self._in_flight[item] = size
            self.reserved_bytes += size
            self._tries[item] = self._tries.get(item, 0) + 1
            batch.append(item)
        return batch

    def _wait_or_finish(self, at: float) -> list[Instruction]:
        if self.done == len(self.results) and not self._batches and not self._undoing:
            return self._finish()
        if self._retries:
            return [WakeAt(self._retries[0][0])]
        if not self._batches and at < self._next_phase_at:
            return [WakeAt(self._next_phase_at)]
        return []

    def _wind_up(self, at: float) -> list[Instruction]:
        if self._must_undo and self._loaded_order:  # at once: a slow load in flight must not delay the release
            loaded, self._loaded_order = self._loaded_order, []
            return self._undo(loaded)
        if self._batches or self._undoing:
            return []
        self.phase_ended.setdefault(self.phase, at)
        return self._finish()

    def _finish(self) -> list[Instruction]:
        self._finished = True
        return [Finish(self.stopped)]


_NO_ROOM = ItemResult(ItemStatus.REJECTED, reason="larger than what is left of the budget")


def _reverse(needs: Mapping[int, Sequence[int]]) -> dict[int, list[int]]:
    dependants: dict[int, list[int]] = {}
    for item, needed in needs.items():
        for n in dict.fromkeys(needed):
            dependants.setdefault(n, []).append(item)
    return dependants


def _by_phase(phase: Iterable[int]) -> list[list[int]]:
    members: list[list[int]] = []
    for item, p in enumerate(phase):
        members.extend([] for _ in range(p + 1 - len(members)))
        members[p].append(item)
    return members
