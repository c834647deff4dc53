"""Any `MutableMapping` of text keys, with the function that loads a missing value: a dict, the cachetools family.

A mapping that limits itself (`maxsize`, `currsize` and `getsizeof`, as cachetools has them) is asked before a
warm-up inserts, so that warming never evicts.  Where the mapping keeps an order of use (an `OrderedDict`, cachetools'
`LRUCache`), what is warmed goes to its cold end, the least valuable per byte coldest; others insert as they do.

Bytes are those of the entries that the adapter weighed when it put them in: what a warm-up loads always is, what
traffic loads only while somebody listens, for weighing costs time.  Nobody tells it what the application or the mapping
itself drops; that is noticed, and reported as released, when the key is asked for again, when statistics are read and
the number of entries is another than expected, or when what the adapter remembers outgrows the mapping.  A value that
the application has put in place of another keeps the other's weight.

What is resident when a load ends stays: neither traffic nor a warm-up puts its value over one that came meanwhile.  Of
a key that the application deletes from the mapping itself, while a load of it is under way that began before the
change, the mapping can't tell: it was absent, and still is.  `invalidate` can.

With a codec, values are kept in snapshots, and looked for there before they are loaded.  What the application replaces
or deletes in the mapping itself would come back then, in this process or the next one: it has to `invalidate` it here.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from preheat._events import MemoryReporter
from preheat._model import (
    DEFAULT_PRIORITY,
    CacheStatistics,
    HeldValue,
    History,
    ItemRef,
    ItemResult,
    ItemStatus,
    MemoryEventKind,
    WarmupItem,
)
from preheat._plan.candidates import candidates_from_history, find_absent
from preheat._record import is_quiet, quietly
from preheat._size import estimate_item_memory_usage
from preheat.abc import AccessLog, MemoryTracker
from preheat.adapters.kept import KeptValues

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat._columns import TextColumn
    from preheat.abc import Snapshot, SnapshotCodec

V = TypeVar("V")

_ABSENT: Any = object()

MOST_PASSED = 256
"""Warmed entries that a new one is put behind at once; with more of them, the order is put right at the next read."""

SPARE_WEIGHTS = 64  # how many more entries are remembered than twice those of the mapping before that is put right


class _Warmed(NamedTuple, Generic[V]):
    value: V
    worth: tuple[bool, float]


class MappingCache(Generic[V]):
    """A mapping that loads what is missing, reports its traffic and can be warmed.

    Read through it: `cache.get(key)` returns the resident value or loads it.  The mapping stays the application's:
    what it deletes or replaces itself is respected; `invalidate` also stops loads that may be older than the change.
    Calls are serialised by a lock, loads are not.

    Args:
        mapping: Where the values are.
        load: Makes the value of a key; what it raises passes to the reader and is never stored.  Where a value may be
            large, it can ask `preheat.load_limit_bytes`.
        name: Name of the cache in history and reports.
        priority: The operator's word for its items, 1 to 10.
        needs: For a key, what has to be resident before its value is loaded.
        lock: What serialises access to the mapping, where the application has something that does.
        codec: How values are kept in snapshots, where the service keeps any; None to have none kept.
    """

    def __init__(
        self,
        mapping: MutableMapping[str, V],
        load: Callable[[str], V],
        *,
        name: str,
        priority: int = DEFAULT_PRIORITY,
        needs: Callable[[str], Iterable[ItemRef]] | None = None,
        lock: AbstractContextManager[Any] | None = None,
        codec: SnapshotCodec | None = None,
    ) -> None:
        self.mapping, self.name, self.priority = mapping, name, priority
        self._load, self._needs = load, needs
        self._lock = lock or threading.Lock()
        self._log: AccessLog | None = None
        self._memory = MemoryReporter(name)
        self._kept = KeptValues(codec)
        self._weights: dict[str, int] = {}
        self._weighed_bytes = 0
        self._expected_items = len(mapping)  # if nobody else adds or drops any
        self._loading: dict[str, list[object]] = {}  # what may still be kept when it is loaded
        self._warmed: dict[str, _Warmed[V]] = {}  # what a warm-up loaded and traffic has not asked for
        self._is_out_of_order = False
        self._hits = self._misses = 0

    def get(self, key: str) -> V:
        """The value of `key`, loaded if it is missing."""
        with self._lock:
            if self._is_out_of_order and not is_quiet():
                self._put_in_order()
            value: V = self.mapping.get(key, _ABSENT)  # one look: what has a life may end it between two
            resident = value is not _ABSENT
            if not is_quiet():
                self._hits += resident
                self._misses += not resident
                self._warmed.pop(key, None)
        if is_quiet():
            return value if resident else self._load(key)
        if not resident:
            held = self._restore(key)
            return self._load_and_keep(key) if held is None else held.value
        if self._log is not None:
            self._log.hit(key)
        return value

    def invalidate(self, key: str) -> None:
        """Delete `key`; a load of it under way, by traffic or by a warm-up, will not be kept."""
        with self._lock:
            self._loading.pop(key, None)
            self._delete([key] if key in self.mapping else [], "invalidated")
            self._kept.erase([key])
        self._memory.tell()

    def clear(self) -> None:
        """Delete everything; no load under way will be kept."""
        with self._lock:
            self._loading.clear()
            self._delete(list(self.mapping), "cleared")
            self._kept.erase_all()
        self._memory.tell()

    def ref(self, key: str) -> ItemRef:
        """The identity of `key`, as other items' dependencies name it."""
        return ItemRef(self.name, key)

    def record_to(self, log: AccessLog) -> None:
        """From now on report every access to `log`."""
        self._log = log

    def report_memory_to(self, track: MemoryTracker) -> None:
        """From now on report what is weighed, and its end, to `track`; see `preheat.abc.ReportsMemory` and above."""
        with self._lock:
            self._forget_dropped()
            self._memory.follow(track, self._weighed_bytes, len(self._weights))
        self._memory.tell()

    def snapshot_codec(self) -> SnapshotCodec | None:
        """How its values become bytes; see `preheat.abc.SnapshotsValues`."""
        return self._kept.codec

    def held_values(self) -> Sequence[HeldValue]:
        """What was put in through here since there is a snapshot; the hottest first where the mapping knows."""
        with self._lock:
            order = order_of_use(self.mapping)
            keys = self._resident() if order is None else [key for key in order if isinstance(key, str)]
        return self._kept.held(keys, _unmoved(self.mapping), self._lock, self._weights.get)

    def find_held(self, keys: Sequence[str]) -> Sequence[HeldValue | None]:
        """What a read of each of `keys` would be served now; see `preheat.abc.GivesValues`.

        Nothing of a mapping that lets its entries expire: when is not known.
        """
        if has_life_time(self.mapping):
            return [None] * len(keys)
        with self._lock:
            return self._kept.find_held(keys, _unmoved(self.mapping), self._weights.get)

    def restore_from(self, snapshot: Snapshot | None) -> None:
        """From now on look in `snapshot` before loading; see `preheat.abc.SnapshotsValues`."""
        self._kept.restore_from(snapshot)

    def get_warmup_candidates(self, history: History, rates: NDArray[np.float64]) -> Sequence[WarmupItem]:
        """Keys that history knows and the mapping lacks."""
        rows = history.rows_of(self.name)
        with self._lock:
            absent = self._find_absent(history.keys.take(rows))
        needs = self._needs
        return candidates_from_history(
            history,
            rows[absent],
            rates,
            cache=self.name,
            priority=self.priority,
            needs=None if needs is None else lambda key, _: needs(key),
        )

    def _resident(self) -> list[str]:
        return [key for key in list(self.mapping) if isinstance(key, str)]  # listed at once: others may change it

    def _find_absent(self, keys: TextColumn) -> NDArray[np.bool_]:
        return find_absent(keys, self._resident(), self.mapping.__contains__)

    def warmup_item(self, item: WarmupItem) -> ItemResult:
        """Load `item` as a miss would; see `preheat.abc.WarmableCache`."""
        key = item.ref.key
        if key in self.mapping:
            return ItemResult(ItemStatus.RESIDENT)
        started, load = time.perf_counter(), self._begin_load(key)
        try:
            held = self._kept.find(key)
            with quietly():
                value = self._load(key) if held is None else held.value
            return self._admit(item, value, time.perf_counter() - started, partial(self._may_keep, key, load), held)
        finally:
            self._end_load(key, load)

    def _admit(
        self,
        item: WarmupItem,
        value: V,
        seconds: float,
        may_keep: Callable[[], bool] = lambda: True,
        held: HeldValue | None = None,
    ) -> ItemResult:
        """Insert what a warm-up loaded, or was `held` in the snapshot, unless that would evict or replace anything."""
        key = item.ref.key
        size_bytes = estimate_item_memory_usage(value, key=key)
        with self._lock:
            if not may_keep():
                return ItemResult(ItemStatus.REJECTED, 0, seconds, "it was invalidated while it was being loaded")
            if key in self.mapping:
                return ItemResult(ItemStatus.RESIDENT, 0, seconds)
            if not self._has_room(value):
                return ItemResult(ItemStatus.REJECTED, 0, seconds, "it does not fit its cache without evicting")
            self._put(key, value, size_bytes, "warm-up", held)
            self._warmed[key] = _Warmed(value, item.worth(size_bytes))
            self._move_to_cold_end(key)
        self._memory.tell()
        return ItemResult(ItemStatus.LOADED, size_bytes, seconds)

    def estimate_item_size(self, item: WarmupItem) -> int:
        """The size that history saw; 0 if it never did."""
        return item.size_bytes

    def get_warmup_statistics(self) -> CacheStatistics:
        """What the mapping holds; bytes only of what was weighed, see above."""
        with self._lock:
            if len(self.mapping) != self._expected_items:  # looking at each of a million entries takes 0.2 s
                self._forget_dropped()
            statistics = CacheStatistics(
                items=len(self.mapping),
                used_bytes=self._weighed_bytes,
                capacity_bytes=None,
                hits=self._hits,
                misses=self._misses,
                evictions=0,
                warmed_items=len(self._warmed),
                warmed_bytes=sum(self._weights[key] for key in self._warmed),
            )
        self._memory.tell()
        return statistics

    def undo_warmup(self, key: str) -> int:
        """Drop `key` if a warm-up loaded it and nobody read or replaced it since; the bytes released."""
        released_bytes = 0
        with self._lock:
            if key in self._warmed and not self._is_used(key):
                value = self._warmed.pop(key).value
                if self.mapping.get(key, _ABSENT) is value:
                    del self.mapping[key]
                    self._expected_items -= 1
                    self._kept.drop([key])
                    released_bytes = self._forget([key], MemoryEventKind.ROLLBACK, "undone")
        self._memory.tell()
        return released_bytes

    def _move_to_cold_end(self, key: str) -> None:
        """Put `key`, just inserted, before all that was used, and behind what was warmed and is worth less."""
        order = order_of_use(self.mapping)
        if order is None:
            return
        colder: list[str] = []
        for other in order:
            warmed = self._warmed.get(other)
            if warmed is None or warmed.worth >= self._warmed[key].worth or len(colder) > MOST_PASSED:
                break
            colder.append(other)
        self._is_out_of_order |= len(colder) > MOST_PASSED
        for each in (key, *reversed(colder)):
            order.move_to_end(each, last=False)

    def _put_in_order(self) -> None:
        order = order_of_use(self.mapping)
        if order is not None:
            there = [key for key in self._warmed if key in order]
            for key in sorted(there, key=lambda key: self._warmed[key].worth, reverse=True):
                order.move_to_end(key, last=False)
        self._is_out_of_order = False

    def _is_used(self, key: str) -> bool:
        """Whether traffic has asked for `key`, which a warm-up loaded, without this having been noted so far."""
        return False

    def _restore(self, key: str) -> HeldValue | None:
        """What the snapshot holds of `key`, or has come meanwhile: kept, and counted as a hit instead of a miss."""
        if not self._kept.is_on:
            return None
        load = self._begin_load(key)
        held = self._kept.find(key)
        with self._lock:
            if not self._may_keep(key, load) or held is None:
                return None
            if key not in self.mapping:
                self._put(key, held.value, held.size_bytes, "snapshot", held)
            held = held._replace(value=self.mapping.get(key, held.value))
            self._hits, self._misses = self._hits + 1, self._misses - 1
        self._memory.tell()
        if self._log is not None:
            self._log.hit(key)
        return held

    def _load_and_keep(self, key: str) -> V:
        started, load = time.perf_counter(), self._begin_load(key)
        try:
            value = self._load(key)
        except BaseException:
            self._end_load(key, load)
            self._report_miss(key, -1, -1.0)
            raise
        return self._keep(key, value, time.perf_counter() - started, partial(self._may_keep, key, load))

    def _keep(self, key: str, value: V, seconds: float, may_keep: Callable[[], bool] = lambda: True) -> V:
        """Insert what traffic loaded, if `may_keep` says so once the lock is held, and report the miss.

        Returns what a reader is to have: the resident value if somebody was faster, for it may be newer.
        """
        is_heard = self._log is not None or self._memory.is_followed
        size_bytes = estimate_item_memory_usage(value, key=key) if is_heard else None
        with self._lock:
            if may_keep():
                if key not in self.mapping:
                    self._put(key, value, size_bytes, "traffic")
                value = self.mapping.get(key, value)
        self._memory.tell()
        if size_bytes is not None:
            self._report_miss(key, size_bytes, seconds)
        return value

    def _report_miss(self, key: str, size_bytes: int, seconds: float) -> None:
        if self._log is not None:
            self._log.miss(key, size_bytes, seconds, "", "")

    def _begin_load(self, key: str) -> object:
        load = object()
        with self._lock:
            self._loading.setdefault(key, []).append(load)
        return load

    def _end_load(self, key: str, load: object) -> None:
        with self._lock:
            self._may_keep(key, load)

    def _may_keep(self, key: str, load: object) -> bool:
        """Whether nobody has invalidated `key` since `load` began, which ends now."""
        loads = self._loading.get(key, [])
        if load not in loads:
            return False
        loads.remove(load)
        if not loads:
            self._loading.pop(key, None)
        return True

    def _delete(self, keys: Sequence[str], cause: str) -> None:
        for key in keys:
            del self.mapping[key]
            self._warmed.pop(key, None)
        self._expected_items -= len(keys)
        self._forget(keys, MemoryEventKind.RELEASE, cause)

    def _put(self, key: str, value: V, size_bytes: int | None, cause: str, held: HeldValue | None = None) -> None:
        """Insert `key`, which the mapping lacks: a value just made, or one that was `held` in the snapshot."""
        if max(len(self._weights), len(self._kept)) > 2 * len(self.mapping) + SPARE_WEIGHTS:
            self._forget_dropped()
        self.mapping[key] = value
        self._expected_items += 1
        self._warmed.pop(key, None)
        self._kept.note(key, held)
        self._forget([key], MemoryEventKind.RELEASE, _DROPPED)
        if size_bytes is not None:
            self._weights[key] = size_bytes
            self._weighed_bytes += size_bytes
            self._memory.note(MemoryEventKind.ALLOCATION, size_bytes, cause)

    def _forget_dropped(self) -> None:
        self._expected_items = len(self.mapping)
        dropped = [key for key in self._weights if key not in self.mapping]
        self._forget(dropped, MemoryEventKind.RELEASE, _DROPPED)
        self._kept.drop_others(self.mapping.__contains__)
        for key in dropped:
            self._warmed.pop(key, None)

    def _forget(self, keys: Sequence[str], kind: MemoryEventKind, cause: str) -> int:
        sizes = [self._weights.pop(key) for key in keys if key in self._weights]
        if sizes:
            self._weighed_bytes -= sum(sizes)
            self._memory.note(kind, sum(sizes), cause, len(sizes))
        return sum(sizes)

    def _has_room(self, value: V) -> bool:
        mapping: Any = self.mapping
        maxsize = getattr(mapping, "maxsize", None)
        if maxsize is None:
            return True
        weigh: Callable[[V], float] = getattr(mapping, "getsizeof", lambda _: 1)
        return bool(getattr(mapping, "currsize", len(mapping)) + weigh(value) <= maxsize)


def order_of_use(mapping: Any) -> OrderedDict[Any, Any] | None:
    """What `mapping` evicts from the front of; None where that can't be had.

    cachetools has no way to insert an entry as the one used least recently, so its own order is taken from it.  A
    version that keeps it elsewhere is served as any other mapping.
    """
    if isinstance(mapping, OrderedDict):
        return mapping
    order = getattr(mapping, "_LRUCache__order", getattr(mapping, "order", None))
    return order if isinstance(order, OrderedDict) else None


def has_life_time(mapping: Any) -> bool:
    """Whether `mapping` lets its entries expire, as cachetools' do."""
    return any(hasattr(mapping, name) for name in _LIFE_TIMES)


def _unmoved(mapping: Any) -> Any:
    """What `mapping` can be read from without a read counting as a use; itself where that can't be had."""
    data = getattr(mapping, "_Cache__data", None)
    return data if isinstance(data, dict) else mapping


_LIFE_TIMES = ("ttl", "ttu")
_DROPPED = "its mapping has dropped it"
