"""Any `MutableMapping` of text keys, with the function that loads a missing value: a dict, the cachetools family.

A mapping that limits itself (`maxsize`, `currsize` and `getsizeof`, as cachetools has them) is asked before a
warm-up inserts, so that warming never evicts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from preheat._model import (
    DEFAULT_PRIORITY,
    CacheStatistics,
    History,
    ItemRef,
    ItemResult,
    ItemStatus,
    WarmupItem,
)
from preheat._plan.candidates import candidates_from_history
from preheat._record import is_quiet, quietly
from preheat._size import estimate_item_memory_usage
from preheat.abc import AccessLog

if TYPE_CHECKING:
    from numpy.typing import NDArray

V = TypeVar("V")


class MappingCache(Generic[V]):
    """A mapping that loads what is missing, reports its traffic and can be warmed.

    Read through it: `cache.get(key)` returns the resident value or loads it.  The mapping stays the application's:
    what it deletes or replaces itself is respected.  Calls are serialised by a lock, loads are not.

    Args:
        mapping: Where the values are.
        load: Makes the value of a key; what it raises passes to the reader and is never stored.
        name: Name of the cache in history and reports.
        priority: The operator's word for its items, 1 to 10.
        needs: For a key, what has to be resident before its value is loaded.
    """

    def __init__(
        self,
        mapping: MutableMapping[str, V],
        load: Callable[[str], V],
        *,
        name: str,
        priority: int = DEFAULT_PRIORITY,
        needs: Callable[[str], Iterable[ItemRef]] | None = None,
    ) -> None:
        self.mapping, self.name, self.priority = mapping, name, priority
        self._load, self._needs = load, needs
        self._lock = threading.Lock()
        self._log: AccessLog | None = None
        self._warmed: dict[str, tuple[V, int]] = {}
        self._hits = self._misses = 0

    def get(self, key: str) -> V:
        """The value of `key`, loaded if it is missing."""
        with self._lock:
            resident = key in self.mapping
            if resident:
                value = self.mapping[key]
            if not is_quiet():
                self._hits += resident
                self._misses += not resident
                self._warmed.pop(key, None)
        if is_quiet():
            return value if resident else self._load(key)
        if not resident:
            return self._load_and_keep(key)
        if self._log is not None:
            self._log.hit(key)
        return value

    def ref(self, key: str) -> ItemRef:
        """The identity of `key`, as other items' dependencies name it."""
        return ItemRef(self.name, key)

    def record_to(self, log: AccessLog) -> None:
        """From now on report every access to `log`."""
        self._log = log

    def get_warmup_candidates(self, history: History, rates: NDArray[np.float64]) -> Sequence[WarmupItem]:
        """Keys that history knows and the mapping lacks."""
        rows = history.rows_of(self.name)
        keys = history.keys.take(rows)
        with self._lock:
            absent = np.array([key not in self.mapping for key in keys], np.bool_)
        needs = self._needs
        return candidates_from_history(
            history,
            rows[absent],
            rates,
            cache=self.name,
            priority=self.priority,
            needs=None if needs is None else lambda key, _: needs(key),
        )

    def warmup_item(self, item: WarmupItem) -> ItemResult:
        """Load `item` as a miss would; see `preheat.abc.WarmableCache`."""
        key = item.ref.key
        if key in self.mapping:
            return ItemResult(ItemStatus.RESIDENT)
        started = time.perf_counter()
        with quietly():
            value = self._load(key)
        seconds = time.perf_counter() - started
        size_bytes = estimate_item_memory_usage(value, key=key)
        with self._lock:
            if key in self.mapping:
                return ItemResult(ItemStatus.RESIDENT, 0, seconds)
            if not self._has_room(value):
                return ItemResult(ItemStatus.REJECTED, 0, seconds, "it does not fit its cache without evicting")
            self.mapping[key] = value
            self._warmed[key] = (value, size_bytes)
        return ItemResult(ItemStatus.LOADED, size_bytes, seconds)

    def estimate_item_size(self, item: WarmupItem) -> int:
        """The size that history saw; 0 if it never did."""
        return item.size_bytes

    def get_warmup_statistics(self) -> CacheStatistics:
        """What the mapping holds; bytes only of what a warm-up loaded, the rest is not weighed."""
        with self._lock:
            still = [size for key, (_, size) in self._warmed.items() if key in self.mapping]
            return CacheStatistics(
                items=len(self.mapping),
                used_bytes=sum(still),
                capacity_bytes=None,
                hits=self._hits,
                misses=self._misses,
                evictions=0,
                warmed_items=len(still),
                warmed_bytes=sum(still),
            )

    def undo_warmup(self, key: str) -> int:
        """Drop `key` if a warm-up loaded it and nobody read or replaced it since; the bytes released."""
        with self._lock:
            value, size_bytes = self._warmed.pop(key, (None, 0))
            if size_bytes and key in self.mapping and self.mapping[key] is value:
                del self.mapping[key]
                return size_bytes
        return 0

    def _load_and_keep(self, key: str) -> V:
        started = time.perf_counter()
        try:
            value = self._load(key)
        except BaseException:
            if self._log is not None:
                self._log.miss(key, -1, -1.0, "", "")
            raise
        seconds = time.perf_counter() - started
        with self._lock:
            self.mapping[key] = value
        if self._log is not None:  # weighing a value is work that only the record needs
            self._log.miss(key, estimate_item_memory_usage(value, key=key), seconds, "", "")
        return value

    def _has_room(self, value: V) -> bool:
        mapping: Any = self.mapping
        maxsize = getattr(mapping, "maxsize", None)
        if maxsize is None:
            return True
        weigh: Callable[[V], float] = getattr(mapping, "getsizeof", lambda _: 1)
        return bool(getattr(mapping, "currsize", len(mapping)) + weigh(value) <= maxsize)
