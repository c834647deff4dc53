"""What happened to memory, so that a person can see why a run slowed or stopped.

The log keeps the newest events and, per cache, totals over all of them.  `MemoryReporter` is the other end: what a
cache of ours notes under its lock and tells outside of it.
"""

from __future__ import annotations

import math
import operator
import threading
import time
from array import array
from collections import deque
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from preheat._log import log_failure
from preheat._model import CacheMemory, MemoryEvent, MemoryEventKind
from preheat.abc import Clock, MemoryTracker
from preheat.errors import InvalidSetting, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 2**63  # a size or a number of items has to be less
CAUSE_LIMIT = 200  # characters of a cause that are kept: others write them, and the log is bounded


class MemoryLog:
    """What happened to memory: the newest events, and totals per cache that never forget.  Thread-safe.

    The totals are exact sums, so they show who reports wrongly: a cache that drops more than it ever reported has a
    negative `current_bytes`.  Changes of pressure are kept apart, or the loads of a long run would push them out.

    Args:
        limit: How many events are kept: so many of values, and so many of pressure.
        clock: Time of the events.

    Raises:
        InvalidSetting: `limit` is no positive int.
    """

    def __init__(self, limit: int = 10_000, clock: Clock = time.time) -> None:
        if not isinstance(limit, int) or limit < 1:
            raise InvalidSetting(f"the limit of the memory log is {limit!r}; it has to be a positive int")
        self._values, self._pressure = _Ring(limit), _Ring(limit)
        self._totals: dict[str, _Totals] = {}
        self._clock = clock
        self._tracked = 0
        # reentrant, because a finaliser that runs in here may drop entries of a cache, which reports them
        self._lock = threading.RLock()

    def track(self, cache: str, kind: MemoryEventKind | str, size_bytes: int, cause: str = "", items: int = 1) -> None:
        """Log one event, now.  An event of kind PRESSURE is in no cache's totals.

        Raises:
            InvalidSetting: The kind is none, the size no int from 0, `items` no int from 1, or a text is no text.
        """
        if type(kind) is not MemoryEventKind:
            kind = _kind(kind)
        if type(size_bytes) is not int or type(items) is not int or not (0 <= size_bytes < MOST > items > 0):
            size_bytes, items = _count("size_bytes", size_bytes, 0), _count("items", items, 1)
        if not isinstance(cause, str) or not isinstance(cache, str):
            raise InvalidSetting(f"a memory event of cache {cache!r} with cause {cause!r}: both have to be text")
        is_pressure = kind is MemoryEventKind.PRESSURE
        with self._lock:
            self._tracked += 1
            ring = self._pressure if is_pressure else self._values
            ring.append(self._tracked, self._clock(), kind, cache, size_bytes, cause[:CAUSE_LIMIT], items)
            if not is_pressure:
                totals = self._totals.get(cache)
                if totals is None:
                    totals = self._totals[cache] = _Totals()
                totals.add(kind, size_bytes, items)

    def events(self, since: float = -math.inf, newest: int | None = None) -> Sequence[MemoryEvent]:
        """The events still in the log, oldest first: those from the instant `since` on, the `newest` of them.

        Raises:
            InvalidSetting: `newest` is negative.
        """
        if newest is not None:
            _count("newest", newest, 0)
        kept = self.events_after(0)
        if since != -math.inf:
            kept = tuple(event for event in kept if event.at >= since)
        return kept if newest is None else kept[max(0, len(kept) - newest) :]

    def mark(self) -> int:
        """The place of the log's end now, for `events_after`."""
        with self._lock:
            return self._tracked

    def events_after(self, mark: int) -> Sequence[MemoryEvent]:
        """The events logged since `mark` was taken, oldest first; the oldest may have been dropped."""
        with self._lock:
            return Events.merge(self._values.after(mark), self._pressure.after(mark))

    def statistics(self) -> dict[str, CacheMemory]:
        """The totals of each cache, over all events that were ever logged."""
        with self._lock:
            return {cache: totals.view() for cache, totals in self._totals.items()}

    @property
    def dropped(self) -> int:
        """How many events are in the log no longer."""
        with self._lock:
            return self._tracked - len(self._values) - len(self._pressure)


_NUMBERS, _TEXTS = ("_numbers", "_sizes", "_items", "_at"), ("_kinds", "_caches", "_causes")


class Events(Sequence[MemoryEvent]):
    """Memory events as columns; as a sequence, rows.

    An object per event, made between the values that it speaks of or just after they were dropped, would pin the
    memory around it: that is the very memory that a roll-back is there to release.
    """

    __slots__ = ("_at", "_caches", "_causes", "_items", "_kinds", "_numbers", "_sizes")

    def __init__(self, length: int) -> None:
        self._numbers, self._sizes, self._items = (array("q", bytes(8 * length)) for _ in range(3))
        self._at = array("d", bytes(8 * length))
        self._kinds: list[MemoryEventKind] = [MemoryEventKind.PRESSURE] * length
        self._caches, self._causes = [""] * length, [""] * length

    def write(
        self, n: int, number: int, at: float, kind: MemoryEventKind, cache: str, size_bytes: int, cause: str, items: int
    ) -> None:
        """Put an event at `n`."""
        self._numbers[n], self._at[n], self._sizes[n], self._items[n] = number, at, size_bytes, items
        self._kinds[n], self._caches[n], self._causes[n] = kind, cache, cause

    def take(self, rows: NDArray[np.int64]) -> Events:
        """Those at `rows`, in that order."""
        taken = Events(0)
        for name in _NUMBERS:
            column = getattr(self, name)
            setattr(taken, name, array(column.typecode, np.asarray(column)[rows].tobytes()))
        for name in _TEXTS:
            column = getattr(self, name)
            setattr(taken, name, [column[n] for n in rows])
        return taken

    def after(self, number: int) -> Events:
        """Those with a higher number."""
        return self.take(np.flatnonzero(np.asarray(self._numbers) > number))

    @classmethod
    def merge(cls, some: Events, others: Events) -> Events:
        """All of both, by their numbers."""
        both = cls(0)
        for name in _NUMBERS + _TEXTS:
            setattr(both, name, getattr(some, name) + getattr(others, name))
        return both.take(np.argsort(np.asarray(both._numbers)))

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, n: int) -> MemoryEvent: ...
    @overload
    def __getitem__(self, n: slice) -> Events: ...
    def __getitem__(self, n: int | slice) -> MemoryEvent | Events:
        if isinstance(n, slice):
            return self.take(np.arange(len(self))[n])
        return MemoryEvent(
            self._at[n], self._kinds[n], self._caches[n], self._sizes[n], self._causes[n], self._items[n]
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Events({len(self)})"


class _Ring:
    """The newest events, in a place that is there from the start."""

    __slots__ = ("_events", "_written")

    def __init__(self, limit: int) -> None:
        self._events, self._written = Events(limit), 0

    def append(self, number: int, *event: Any) -> None:
        self._events.write(self._written % len(self._events), number, *event)
        self._written += 1

    def after(self, number: int) -> Events:
        """Those with a higher number than that; numbers begin at 1."""
        return self._events.after(max(0, number))

    def __len__(self) -> int:
        return min(self._written, len(self._events))


class _Totals:
    __slots__ = ("allocated", "evictions", "peak", "released")

    def __init__(self) -> None:
        self.allocated = self.released = self.peak = self.evictions = 0

    def add(self, kind: MemoryEventKind, size_bytes: int, items: int) -> None:
        if kind is MemoryEventKind.ALLOCATION:
            self.allocated += size_bytes
            if self.allocated - self.released > self.peak:
                self.peak = self.allocated - self.released
        else:
            self.released += size_bytes
            if kind is MemoryEventKind.EVICTION:
                self.evictions += items

    def view(self) -> CacheMemory:
        return CacheMemory(
            current_bytes=self.allocated - self.released,
            peak_bytes=self.peak,
            allocated_bytes=self.allocated,
            released_bytes=self.released,
            evictions=self.evictions,
        )


def _kind(name: str) -> MemoryEventKind:
    try:
        return MemoryEventKind(name)
    except ValueError:
        raise InvalidSetting(
            f"kind of memory event is {name!r}; {nearest(str(name), MemoryEventKind)}"
            f"it has to be one of {', '.join(MemoryEventKind)}"
        ) from None


def _count(name: str, value: object, least: int) -> int:
    if not isinstance(value, Integral) or not least <= (number := int(value)) < MOST:
        raise InvalidSetting(f"{name} of a memory event is {value!r}; it has to be an int from {least}")
    return number


_Note = tuple[MemoryTracker, MemoryEventKind, int, str, int]


class MemoryReporter:
    """What a cache has to tell its tracker: noted under the cache's lock, told outside of it, in the same order.

    So a slow tracker holds up no hit, the peak is exact, and when no call of the cache is under way all is told.
    A tracker that raises is logged once; the cache goes on.
    """

    __slots__ = ("_cache", "_failed", "_telling", "_track", "_waiting")

    def __init__(self, cache: str) -> None:
        self._cache = cache
        self._track: MemoryTracker | None = None
        self._waiting: deque[_Note] = deque()
        self._telling = threading.RLock()  # reentrant: what tells may log, and a log handler may read the cache
        self._failed = False

    @property
    def is_followed(self) -> bool:
        """Whether there is a tracker."""
        return self._track is not None

    def follow(self, track: MemoryTracker, size_bytes: int, items: int) -> None:
        """From now on tell `track`, beginning with what is resident; a tracker before it is told of its release."""
        if items:
            self.note(MemoryEventKind.RELEASE, size_bytes, "reported elsewhere", items)
        self._track, self._failed = track, False
        if items:
            self.note(MemoryEventKind.ALLOCATION, size_bytes, "resident before", items)

    def note(self, kind: MemoryEventKind, size_bytes: int, cause: str, items: int = 1) -> None:
        """Remember to tell this.  Only under the cache's lock."""
        if self._track is not None:
            self._waiting.append((self._track, kind, size_bytes, cause, items))

    def tell(self) -> None:
        """Tell what was noted so far, or leave it to the thread that is just at it.  Never under the cache's lock.

        Waiting for that thread would have all loaders queue for one lock, once per item.
        """
        while self._waiting and self._telling.acquire(blocking=False):
            try:
                while self._waiting:
                    self._tell_one(*self._waiting.popleft())
            finally:
                self._telling.release()

    def _tell_one(self, track: MemoryTracker, *note: Any) -> None:
        try:
            track(*note)
        except Exception:
            self._complain()

    def _complain(self) -> None:
        if not self._failed:
            self._failed = True
            log_failure("memory events of cache %r could not be tracked", self._cache)
