"""What caches outside this process count of themselves: their traffic, and what a warm-up put and nobody has read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from preheat._model import CacheStatistics, History, ItemRef, ItemResult, WarmupItem
from preheat._plan.candidates import candidates_from_history
from preheat.abc import AccessLog

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_UNUSED = 1_000_000  # keys that a warm-up put and nobody here has read, remembered to count them


class Counted:
    """Name, counters and candidates of a cache whose values are elsewhere; thread-safe."""

    def __init__(self, name: str, priority: int, needs: Callable[[str], Iterable[ItemRef]] | None) -> None:
        self.name, self.priority, self._needs = name, priority, needs
        self._log: AccessLog | None = None
        self._lock = threading.Lock()
        self._hits = self._misses = self._unused_bytes = 0
        self._unused: dict[str, int] = {}

    def ref(self, key: str) -> ItemRef:
        """The identity of `key`, as other items' dependencies name it."""
        return ItemRef(self.name, key)

    def record_to(self, log: AccessLog) -> None:
        """From now on report every access of this process to `log`."""
        self._log = log

    def estimate_item_size(self, item: WarmupItem) -> int:
        """The size that history saw; 0 if it never did."""
        return item.size_bytes

    def _candidates(
        self,
        history: History,
        rates: NDArray[np.float64],
        find: Callable[[Sequence[str]], Sequence[bool] | None],
    ) -> Sequence[WarmupItem]:
        """Keys that history knows and `find` does not; none where it can't tell."""
        rows = history.rows_of(self.name)
        taken = find(history.keys.take(rows))
        absent = np.zeros(len(rows), np.bool_) if taken is None else ~np.array(taken, np.bool_)
        needs = self._needs
        return candidates_from_history(
            history,
            rows[absent],
            rates,
            cache=self.name,
            priority=self.priority,
            needs=None if needs is None else lambda key, _: needs(key),
        )

    def _statistics(self, items: int, used_bytes: int, capacity_bytes: int | None) -> CacheStatistics:
        with self._lock:
            return CacheStatistics(
                items=items,
                used_bytes=used_bytes,
                capacity_bytes=capacity_bytes,
                hits=self._hits,
                misses=self._misses,
                evictions=0,
                warmed_items=len(self._unused),
                warmed_bytes=self._unused_bytes,
            )

    def _count(self, key: str, *, is_hit: bool) -> None:
        with self._lock:
            self._hits += is_hit
            self._misses += not is_hit
            self._unused_bytes -= self._unused.pop(key, 0)
        if is_hit and self._log is not None:
            self._log.hit(key)

    def _tell_miss(self, key: str, size_bytes: int, seconds: float) -> None:
        if self._log is not None:
            self._log.miss(key, size_bytes, seconds, "", "")

    def _count_warmed(self, items: Sequence[WarmupItem], results: Sequence[ItemResult]) -> None:
        with self._lock:
            for item, result in zip(items, results, strict=True):
                if result.size_bytes and len(self._unused) < MOST_UNUSED:
                    self._unused[item.ref.key] = result.size_bytes
                    self._unused_bytes += result.size_bytes
