"""The cache that the four ready ones are made of: bounded in bytes, least recently used first out, single flight.

Quiet: while a warm-up loads an item in this thread, reads of any of these caches count as no traffic, change no
order and keep nothing that they had to load.  What a warm-up inserts is colder than anything that traffic used, so
traffic never loses to it what it loaded itself; of what was warmed the least valuable per byte is evicted first, in
whatever order it was loaded, and of equals the one that was loaded last.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from preheat._events import MemoryReporter
from preheat._model import (
    DEFAULT_PRIORITY,
    CacheStatistics,
    CandidateTable,
    HeldValue,
    History,
    ItemRef,
    ItemResult,
    ItemStatus,
    MemoryEventKind,
    WarmupItem,
)
from preheat._plan.candidates import candidates_from_history, find_absent
from preheat._predict.decayed_frequency import predict as decayed_frequency
from preheat._predict.horizon import refill_seconds
from preheat._record import is_quiet, quietly
from preheat._size import estimate_item_memory_usage
from preheat.abc import AccessLog, MemoryTracker, Snapshot, SnapshotCodec
from preheat.errors import InvalidSetting, ItemTooLarge

if TYPE_CHECKING:
    from numpy.typing import NDArray

V = TypeVar("V")

LINGERING = 64  # entries of the heap beyond twice what is warmed before those that don't count are dropped

_ABSENT: Any = object()
_thread = threading.local()


class Request(NamedTuple):
    """What a read asks for: `recipe` is what history keeps to make the value again."""

    key: str
    recipe: str
    version: str


class _Entry(Generic[V]):
    """A resident value; `warmed` is the number of its insertion if a warm-up made it and nobody used it, else 0."""

    __slots__ = ("made_at", "size_bytes", "value", "version", "warmed")

    def __init__(self, value: V, size_bytes: int, version: str, made_at: float, warmed: int = 0) -> None:
        self.value, self.size_bytes, self.version, self.warmed = value, size_bytes, version, warmed
        self.made_at = made_at


class _Warmed(NamedTuple):
    """What a warm-up inserted, by what it is worth: the least first, and of equals the one that came last."""

    is_critical: bool
    value_per_byte: float
    number: int  # of its insertion, negative
    key: str


class _Made(NamedTuple, Generic[V]):
    """What a warm-up has at hand for an item, and when it was made; `size_bytes` is -1 until it has been weighed."""

    value: V
    version: str
    made_at: float
    size_bytes: int = -1


class _Flight(Generic[V]):
    """One load under way: others that want the same key wait for it.

    `version` is what it loads; of a warm-up's it is known when it has landed.  `wanted` says that traffic waits
    for it, so that a warm-up's load counts as traffic's own.
    """

    __slots__ = ("done", "error", "invalidated", "value", "version", "wanted", "warming")

    def __init__(self, version: str = "", *, warming: bool = False) -> None:
        self.done = threading.Event()
        self.version, self.warming, self.wanted = version, warming, False
        self.value: V | None = None
        self.error: BaseException | None = None
        self.invalidated = False

    def wait(self) -> V:
        self.done.wait()
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # set before `done` where there was no error


class LoadingCache(Generic[V]):
    """The machinery; a ready cache adds what its keys, recipes and versions mean.  Thread-safe."""

    def __init__(
        self,
        name: str,
        *,
        capacity_bytes: int,
        priority: int = DEFAULT_PRIORITY,
        codec: SnapshotCodec | None = None,
    ) -> None:
        if not isinstance(capacity_bytes, int) or capacity_bytes <= 0:
            raise InvalidSetting(f"cache {name!r}: capacity_bytes is {capacity_bytes!r}; it has to be a positive int")
        if not 1 <= priority <= 10:
            raise InvalidSetting(f"cache {name!r}: priority is {priority!r}; it has to be from 1 to 10")
        self.name, self.capacity_bytes, self.priority = name, capacity_bytes, priority
        self._entries: OrderedDict[str, _Entry[V]] = OrderedDict()
        self._flights: dict[str, _Flight[V]] = {}
        self._lock = threading.Lock()
        self._log: AccessLog | None = None
        self._memory = MemoryReporter(name)
        self._kinds: dict[str, list[int]] = {}  # of what is resident: number and bytes by kind
        self._used_bytes = self._hits = self._misses = self._evictions = 0
        self._warmed_items = self._warmed_bytes = 0
        self._least_worth: list[_Warmed] = []  # a heap of what was warmed; used items linger in it
        self._insertions = 0
        self._codec = codec
        self._snapshot: Snapshot | None = None

    # -------------------------------------------------------------------------------- for the application

    def invalidate(self, key: str) -> None:
        """Forget `key`; a load of it under way will not be kept, and a snapshot of it not restored."""
        with self._lock:
            self._drop([key], MemoryEventKind.RELEASE, "invalidated")
            self._ground([key])
            if self._snapshot is not None:  # under the lock: what is being saved was taken before this or is without it
                self._snapshot.erase([key])
        self._memory.tell()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._drop(list(self._entries), MemoryEventKind.RELEASE, "cleared")
            self._ground(list(self._flights))
            if self._snapshot is not None:
                self._snapshot.erase_all()
        self._memory.tell()

    def _ground(self, keys: Iterable[str]) -> None:
        for key in keys:
            flight = self._flights.pop(key, None)  # whoever asks from now on must not ride along on it
            if flight is not None:
                flight.invalidated = True

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def record_to(self, log: AccessLog) -> None:
        """From now on report every access to `log`."""
        self._log = log

    def report_memory_to(self, track: MemoryTracker) -> None:
        """From now on report every byte allocated and dropped to `track`; see `preheat.abc.ReportsMemory`."""
        with self._lock:
            self._memory.follow(track, self._used_bytes, len(self._entries))
        self._memory.tell()

    # -------------------------------------------------------------------------------- for the snapshot

    def snapshot_codec(self) -> SnapshotCodec:
        """How its values become bytes; see `preheat.abc.SnapshotsValues`."""
        if self._codec is None:
            from preheat.codecs import DocumentCodec

            self._codec = DocumentCodec()
        return self._codec

    def held_values(self) -> Sequence[HeldValue]:
        """What is resident, what was used last first."""
        with self._lock:
            entries = list(self._entries.items())
        return [HeldValue(key, e.version, e.value, e.size_bytes, e.made_at) for key, e in reversed(entries)]

    def restore_from(self, snapshot: Snapshot | None) -> None:
        """From now on look in `snapshot` before loading; see `preheat.abc.SnapshotsValues`."""
        self._snapshot = snapshot

    # --------------------------------------------------------------------------------- for the warm-up

    def get_warmup_candidates(self, history: History, rates: NDArray[np.float64]) -> Sequence[WarmupItem]:
        """What history knows of this cache and is not resident; see `preheat.abc.WarmableCache`."""
        return warmup_candidates(self, history, rates)

    def warmup_item(self, item: WarmupItem) -> ItemResult:
        """Load `item` as a miss would; see `preheat.abc.WarmableCache`."""
        return self._warm_batch([item])[0]

    def estimate_item_size(self, item: WarmupItem) -> int:
        """The size that history saw; failing that, the mean of what is resident, of its kind if there is any."""
        if item.size_bytes > 0:
            return item.size_bytes
        kind = self.kind_of(item.ref.key)
        with self._lock:
            items, size_bytes = self._kinds.get(kind) or (len(self._entries), self._used_bytes)
            return size_bytes // items if items else 0

    def kind_of(self, key: str) -> str:
        """The kind of the item called `key`; see `preheat.abc.TellsKinds`."""
        return ""

    def get_warmup_statistics(self) -> CacheStatistics:
        """What the cache holds; `warmed_*` is what a warm-up loaded and traffic has not used yet."""
        with self._lock:
            return CacheStatistics(
                items=len(self._entries),
                used_bytes=self._used_bytes,
                capacity_bytes=self.capacity_bytes,
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                warmed_items=self._warmed_items,
                warmed_bytes=self._warmed_bytes,
            )

    def undo_warmup(self, key: str) -> int:
        """Drop `key` if a warm-up loaded it and nobody used it since; the bytes released."""
        with self._lock:
            entry = self._entries.get(key)
            unused = [key] if entry is not None and entry.warmed else []
            released_bytes = self._drop(unused, MemoryEventKind.ROLLBACK, "undone")
        self._memory.tell()
        return released_bytes

    # ------------------------------------------------------------------------------- for the ready caches

    def _make(self, items: Sequence[WarmupItem]) -> list[tuple[V, str] | None]:
        """Value and version of each item, made as a miss makes them; None where there is none any more."""
        return [self._make_one(item.ref.key) for item in items]

    def _make_one(self, key: str) -> tuple[V, str] | None:
        """The same for one item whose key says it all."""
        raise NotImplementedError

    def _find_needs(self) -> Callable[[str, str], Iterable[ItemRef]] | None:
        """What tells, for a key and its recipe, what has to be resident before; None if nothing ever has."""
        return None

    def _version_of(self, key: str) -> str | None:
        """The version that a read of `key` would ask for now; None if there is nothing to read."""
        raise NotImplementedError

    def _resident(self) -> list[str]:
        with self._lock:
            return list(self._entries)

    def _holds(self, key: str) -> bool:
        """Whether a read of `key` would be a hit."""
        entry = self._entries.get(key)
        return entry is not None and entry.version == self._version_of(key)

    def _size_of(self, key: str, value: V) -> int:
        return estimate_item_memory_usage(value, key=key)

    def _get(self, request: Request, make: Callable[[], V]) -> V:
        """The value of `request`, made by `make` if it is absent."""
        value = self._lookup(request)
        if value is _ABSENT:
            value = self._restore(request)
        if value is not _ABSENT:
            found: V = value
            return found
        return self._load_missing([request], lambda _: [make()])[0]

    def _lookup(self, request: Request) -> Any:
        """The resident value, counted as a hit; `_ABSENT` if there is none of this version."""
        key = request.key
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry.version != request.version:
                return _ABSENT
            if is_quiet():
                return entry.value
            self._entries.move_to_end(key)
            self._note_use(entry)
            self._hits += 1
        if self._log is not None:
            self._log.hit(key)
        return entry.value

    def _restore(self, request: Request) -> Any:
        """The value from the snapshot, kept and counted as a hit; `_ABSENT` if it has none."""
        snapshot = self._snapshot
        if snapshot is None:
            return _ABSENT
        erasures = snapshot.erasures
        held = snapshot.find(request.key, request.version)
        if held is None:
            return _ABSENT
        if is_quiet():
            return held.value
        with self._lock:
            entry = self._entries.get(request.key)
            if entry is None or entry.version != request.version:
                if snapshot.erasures != erasures:  # this value may be what was erased
                    return _ABSENT
                entry = _Entry(held.value, held.size_bytes, request.version, held.made_at)
                if entry.size_bytes <= self.capacity_bytes:
                    self._insert(request.key, entry, "snapshot")
            else:  # another thread was faster
                self._entries.move_to_end(request.key)
                self._note_use(entry)
            self._hits += 1
        self._memory.tell()
        if self._log is not None:
            self._log.hit(request.key)
        return entry.value

    def _load_missing(self, requests: Sequence[Request], make: Callable[[list[int]], Sequence[V]]) -> list[V]:
        """The values of `requests`, distinct and all absent; `make` gets the positions that are ours to load."""
        if is_quiet():
            return list(make(list(range(len(requests)))))
        flights, mine = self._board(requests)
        if mine:
            self._fly(requests, flights, mine, make)
        return [
            flights[n].wait() if n in mine else self._ride_along(request, flights[n], partial(make, [n]))
            for n, request in enumerate(requests)
        ]

    def _board(self, requests: Sequence[Request]) -> tuple[list[_Flight[V]], list[int]]:
        flights, mine = [], []
        with self._lock:
            self._misses += len(requests)
            for n, request in enumerate(requests):
                flight = self._flights.get(request.key)
                if flight is None:
                    flight = self._flights[request.key] = _Flight(request.version)
                    mine.append(n)
                else:
                    flight.wanted = True
                flights.append(flight)
        return flights, mine

    def _fly(
        self,
        requests: Sequence[Request],
        flights: Sequence[_Flight[V]],
        mine: list[int],
        make: Callable[[list[int]], Sequence[V]],
    ) -> None:
        try:
            values, own_seconds = _timed(lambda: make(mine))
            sizes = [self._size_of(requests[n].key, value) for n, value in zip(mine, values, strict=True)]
        except BaseException as error:
            for n in mine:
                self._end_flight(requests[n].key, flights[n], error=error)
                self._report_miss(requests[n], -1, -1.0)
            raise
        for n, value, size_bytes in zip(mine, values, sizes, strict=True):
            self._keep(requests[n], value, size_bytes, unless=flights[n])
            self._end_flight(requests[n].key, flights[n], value=value)
            self._report_miss(requests[n], size_bytes, own_seconds / len(mine))
        self._memory.tell()

    def _ride_along(self, request: Request, flight: _Flight[V], make: Callable[[], Sequence[V]]) -> V:
        """The value of somebody else's load; our own if that loaded another version or was a warm-up's that failed."""
        flight.done.wait()
        is_failed_warm_up = flight.warming and flight.error is not None
        # the limit was that of a warm-up whose loader read from another thread, as coroutines do
        is_limited = isinstance(flight.error, ItemTooLarge)
        if flight.version != request.version or is_failed_warm_up or is_limited:
            with self._lock:
                self._misses -= 1  # the load below counts it
            return self._load_missing([request], lambda _: make())[0]
        value = flight.wait()
        self._report_miss(request, -1, -1.0)
        with self._lock:
            entry = self._entries.get(request.key)
            if entry is not None:
                self._note_use(entry)
                self._entries.move_to_end(request.key)
        return value

    def _report_miss(self, request: Request, size_bytes: int, seconds: float) -> None:
        if self._log is not None:
            self._log.miss(request.key, size_bytes, seconds, request.version, request.recipe)

    def _end_flight(
        self, key: str, flight: _Flight[V], value: V | None = None, error: BaseException | None = None
    ) -> None:
        with self._lock:
            self._leave(key, flight)
            flight.value = value
            # for whom waits only: an error leads to the frames it passed, and those back to the flight
            flight.error = error if flight.wanted else None
        flight.done.set()

    def _leave(self, key: str, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:  # not if it was invalidated and another one has begun
            del self._flights[key]

    def _keep(self, request: Request, value: V, size_bytes: int, unless: _Flight[V]) -> None:
        """Insert what traffic loaded, evicting the least recently used."""
        if size_bytes > self.capacity_bytes:
            return
        with self._lock:
            if not unless.invalidated:
                self._insert(request.key, _Entry(value, size_bytes, request.version, time.time()), "traffic")

    def _insert(self, key: str, entry: _Entry[V], cause: str) -> None:
        if key in self._entries:
            self._drop([key], MemoryEventKind.RELEASE, "replaced")
        if self._used_bytes + entry.size_bytes > self.capacity_bytes:
            self._make_room(entry.size_bytes)
        self._entries[key] = entry
        self._used_bytes += entry.size_bytes
        self._count_kind(key, 1, entry.size_bytes)
        if entry.warmed:
            self._warmed_items += 1
            self._warmed_bytes += entry.size_bytes
        self._memory.note(MemoryEventKind.ALLOCATION, entry.size_bytes, cause)

    def _make_room(self, size_bytes: int) -> None:
        excess = self._used_bytes + size_bytes - self.capacity_bytes
        victims: dict[str, None] = {}
        coldest = self._coldest()
        while excess > 0:
            key, entry = next(coldest)
            if key not in victims:
                victims[key] = None
                excess -= entry.size_bytes
        self._evictions += len(victims)
        self._drop(list(victims), MemoryEventKind.EVICTION, "to make room")

    def _coldest(self) -> Iterator[tuple[str, _Entry[V]]]:
        """What is evicted next, and next: what was warmed, the least worth first, then what was used least recently."""
        while self._least_worth:
            warmed = heapq.heappop(self._least_worth)
            if self._is_unused(warmed):
                yield warmed.key, self._entries[warmed.key]
        yield from self._entries.items()

    def _note_worth(self, warmed: _Warmed) -> None:
        if len(self._least_worth) > 2 * self._warmed_items + LINGERING:
            self._least_worth = [each for each in self._least_worth if self._is_unused(each)]
            heapq.heapify(self._least_worth)
        heapq.heappush(self._least_worth, warmed)

    def _is_unused(self, warmed: _Warmed) -> bool:
        entry = self._entries.get(warmed.key)
        return entry is not None and entry.warmed == -warmed.number

    def _drop(self, keys: Sequence[str], kind: MemoryEventKind, cause: str) -> int:
        """Forget `keys`, as one event; the bytes of those that were there."""
        items = size_bytes = 0
        for key in keys:
            entry = self._entries.pop(key, None)
            if entry is not None:
                self._note_use(entry)
                self._count_kind(key, -1, -entry.size_bytes)
                items += 1
                size_bytes += entry.size_bytes
        self._used_bytes -= size_bytes
        if items:
            self._memory.note(kind, size_bytes, cause, items)
        return size_bytes

    def _count_kind(self, key: str, items: int, size_bytes: int) -> None:
        kind = self.kind_of(key)
        resident = self._kinds.get(kind)
        if resident is None:
            resident = self._kinds[kind] = [0, 0]
        resident[0] += items
        resident[1] += size_bytes
        if resident[0] == 0:
            del self._kinds[kind]

    def _note_use(self, entry: _Entry[V]) -> None:
        """From now on `entry` is not one that a warm-up loaded and nobody used."""
        if entry.warmed:
            entry.warmed = 0
            self._warmed_items -= 1
            self._warmed_bytes -= entry.size_bytes
            if not self._warmed_items:
                self._least_worth.clear()

    # ---------------------------------------------------------------------------------- warming a batch

    def _warm_batch(self, items: Sequence[WarmupItem]) -> list[ItemResult]:
        flights = self._board_quietly(items)
        mine = [n for n, flight in enumerate(flights) if flight is not None]
        if not mine:
            return [_RESIDENT for _ in items]
        started = time.perf_counter()
        try:
            with quietly():
                made = [self._weighed(items[n], new) for n, new in zip(mine, self._obtain(items, mine), strict=True)]
        except BaseException as error:
            for n in mine:
                self._end_flight(items[n].ref.key, _some(flights[n]), error=error)
            raise
        seconds = (time.perf_counter() - started) / len(mine)
        results = [_RESIDENT for _ in items]
        for n, new in zip(mine, made, strict=True):
            results[n] = self._settle(items[n], _some(flights[n]), new, seconds)
        self._memory.tell()
        return results

    def _obtain(self, items: Sequence[WarmupItem], mine: Sequence[int]) -> list[_Made[V] | None]:
        """Those of `items` that are `mine`: from the snapshot what it holds, made what it doesn't."""
        held = {n: self._held(items[n].ref.key) for n in mine}
        absent = [n for n in mine if held[n] is None]
        made = dict(zip(absent, self._make([items[n] for n in absent]), strict=True)) if absent else {}
        now = time.time()
        return [held[n] or (None if (new := made[n]) is None else _Made(*new, now)) for n in mine]

    def _held(self, key: str) -> _Made[V] | None:
        version = None if self._snapshot is None else self._version_of(key)
        held = None if self._snapshot is None or version is None else self._snapshot.find(key, version)
        return None if held is None else _Made(held.value, held.version, held.made_at, held.size_bytes)

    def _weighed(self, item: WarmupItem, made: _Made[V] | None) -> _Made[V] | None:
        if made is None or made.size_bytes >= 0:
            return made
        return made._replace(size_bytes=self._size_of(item.ref.key, made.value))

    def _board_quietly(self, items: Sequence[WarmupItem]) -> list[_Flight[V] | None]:
        """A flight for each item that is neither resident nor being loaded already."""
        flights: list[_Flight[V] | None] = []
        held = [self._holds(item.ref.key) for item in items]  # may look at files, so not under the lock
        with self._lock:
            for item, is_held in zip(items, held, strict=True):
                taken = is_held or item.ref.key in self._flights
                flights.append(None if taken else self._flights.setdefault(item.ref.key, _Flight(warming=True)))
        return flights

    def _settle(self, item: WarmupItem, flight: _Flight[V], made: _Made[V] | None, seconds: float) -> ItemResult:
        key = item.ref.key
        if made is None:
            self._end_flight(key, flight, error=LookupError(f"{self.name}: {key} is not there any more"))
            return ItemResult(ItemStatus.UNAVAILABLE, 0, seconds, "its source is not there any more")
        flight.value, flight.version = made.value, made.version
        with self._lock:
            result = self._admit(item, flight, made, seconds)
            self._leave(key, flight)
        flight.done.set()
        return result

    def _admit(self, item: WarmupItem, flight: _Flight[V], made: _Made[V], seconds: float) -> ItemResult:
        """Insert what a warm-up loaded: where nobody waits for it, at the cold end and evicting nothing."""
        key, size_bytes = item.ref.key, made.size_bytes
        known = self._entries.get(key)
        if flight.invalidated:
            return ItemResult(ItemStatus.REJECTED, 0, seconds, "it was invalidated while it was being loaded")
        if known is not None and known.version == flight.version:
            return _RESIDENT
        stale_bytes = known.size_bytes if known is not None else 0
        room = self.capacity_bytes - (0 if flight.wanted else self._used_bytes - stale_bytes)
        if size_bytes > room:
            return ItemResult(ItemStatus.REJECTED, 0, seconds, "it does not fit its cache without evicting")
        self._insertions += 1
        number = 0 if flight.wanted else self._insertions
        self._insert(key, _Entry(made.value, size_bytes, made.version, made.made_at, number), "warm-up")
        if number:
            self._entries.move_to_end(key, last=False)
            self._note_worth(_Warmed(*item.worth(size_bytes), -number, key))
        return ItemResult(ItemStatus.LOADED, size_bytes, seconds)


_RESIDENT = ItemResult(ItemStatus.RESIDENT)


def _some(flight: _Flight[V] | None) -> _Flight[V]:
    assert flight is not None  # noqa: S101 - only called for flights that this batch boarded
    return flight


def _timed(make: Callable[[], Sequence[V]]) -> tuple[Sequence[V], float]:
    """What `make` returns, and the seconds it took less those of the loads inside it.

    A search that had to parse a file waited for the file's sake: that miss is on the file's account.
    """
    outer, _thread.inner_seconds = getattr(_thread, "inner_seconds", 0.0), 0.0
    started = time.perf_counter()
    try:
        values = make()
        return values, max(0.0, time.perf_counter() - started - _thread.inner_seconds)
    finally:
        _thread.inner_seconds = outer + time.perf_counter() - started


def warmup_candidates(
    cache: LoadingCache[Any],
    history: History,
    rates: NDArray[np.float64] | None = None,
    where: Callable[[str, str], bool] | None = None,
) -> CandidateTable:
    """The items of `cache` that history knows and that are not resident, as a table.

    Args:
        cache: The cache.
        history: What was asked for so far.
        rates: (len(history),) accesses per second expected of each row; by default the decayed frequency's.
        where: Keeps an item by its key and recipe; all of them if not given.
    """
    rows = history.rows_of(cache.name)
    if rates is None:
        horizon = refill_seconds(history, cache.name, cache.capacity_bytes)
        rates = decayed_frequency(history, np.full(len(history), horizon))
    rows = rows[find_absent(history.keys.take(rows), cache._resident(), cache._holds)]
    if where is not None:
        pairs = zip(history.keys.take(rows), history.recipes.take(rows), strict=True)
        rows = rows[np.array([where(key, recipe) for key, recipe in pairs], np.bool_)]
    return candidates_from_history(
        history, rows, rates, cache=cache.name, priority=cache.priority, needs=cache._find_needs()
    )
