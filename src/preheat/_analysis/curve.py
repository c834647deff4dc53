"""What the hit ratio of a cache would be at another size.

From the trail, as if it had met an empty LRU cache: the first access to an item is a miss at any size.  An access hits
from that capacity on that holds all distinct items asked for since the last access to its item, its own included; how
that is found for all accesses at once is told in `_replay.curve`.  It is what an LRU cache does, exactly, as long as no
item is larger than the cache; a smaller cache, which such items pass by, hits at least as often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from preheat._model import History
from preheat._replay.curve import NEVER, least_capacities

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class LruCurve:
    """The hits of an LRU cache by its capacity.

    Attributes:
        accesses: How many accesses it was computed from.
        needed: (h,) ascending, for each access that can hit at all, the least capacity with which it does.
        footprint: The capacity that holds everything.
    """

    accesses: int
    needed: NDArray[np.int64]
    footprint: int

    def hit_ratio(self, capacity: float) -> float:
        """The share of all accesses that hit with `capacity`."""
        return int(np.searchsorted(self.needed, capacity, side="right")) / max(1, self.accesses)

    @property
    def best(self) -> float:
        """The hit ratio of a cache that holds everything."""
        return len(self.needed) / max(1, self.accesses)

    def capacity_for(self, hit_ratio: float) -> int | None:
        """The least capacity with which at least `hit_ratio` of all accesses hit; None if none is large enough."""
        hits = int(np.ceil(hit_ratio * self.accesses - 1e-9))
        if hits > len(self.needed):
            return None
        return int(self.needed[hits - 1]) if hits > 0 else 0


def lru_curve(history: History, cache: str, *, in_items: bool = False) -> LruCurve:
    """The curve of `cache` over its accesses in the trail, by bytes or, with `in_items`, by items.

    An item of unknown size is taken for the mean of the known ones, 1 byte if none is.
    """
    rows = history.trail[np.isin(history.cache[history.trail], _codes(history, cache))]
    distinct, items = np.unique(rows, return_inverse=True)
    sizes = np.ones(len(distinct), np.int64) if in_items else _known_sizes(history.size_bytes[distinct])
    needed = least_capacities(items.astype(np.int64), sizes[items])
    return LruCurve(len(items), np.sort(needed[needed != NEVER]), int(sizes.sum()))


def _codes(history: History, cache: str) -> list[int]:
    return [history.caches.index(cache)] if cache in history.caches else []


def _known_sizes(size_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
    known = size_bytes[size_bytes > 0]
    return np.where(size_bytes > 0, size_bytes, round(known.mean()) if len(known) else 1).astype(np.int64)
