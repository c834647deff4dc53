"""The replay after a restart, and the best that a warm set could do in it.

The replay ends when the requests have touched as many distinct bytes as the cache holds.  Until then an LRU cache
evicts nothing that the replay itself touched: whatever is more recent fits beside it.  So

- a request for what the replay touched before is a hit, with any warm set and without one;
- a warm item can save one miss, that of its first request, if it is still there by then;
- evictions take the least valuable warm item that was not asked for yet.

Replaying the *first* requests is therefore all that is needed, and exact, for unequal sizes too (where a large
item that goes leaves a hole).  An item larger than the cache passes it by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from preheat._replay.past import Trace, fill

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Window:
    """The requests from a restart until the cache has refilled.

    Attributes:
        requests: How many they are.
        items: (d,) the items that fit the cache, in the order of their first request.
        at: (d,) the number of that request, counted from the restart.
        sizes: (d,) bytes.
        passing: (p,) the numbers of the requests for items too large for the cache.
    """

    requests: int
    items: NDArray[np.int64]
    at: NDArray[np.int64]
    sizes: NDArray[np.int64]
    passing: NDArray[np.int64]

    def cold_hits(self, requests: int) -> int:
        """Hits among the first `requests` of a cache that started empty."""
        first, passing = (int(np.searchsorted(numbers, requests)) for numbers in (self.at, self.passing))
        return requests - first - passing


def fill_window(trace: Trace, restart: int, capacity_bytes: int) -> Window:
    """The window from request number `restart`, at most a fifth of the trace."""
    items = trace.items[restart : restart + trace.window_limit]
    at = _first_requests(items)
    at = at[trace.size_bytes[items[at]] <= capacity_bytes]
    sizes = trace.size_bytes[items[at]]
    full = int(np.searchsorted(np.cumsum(sizes), capacity_bytes))
    at, sizes = at[: full + 1], sizes[: full + 1]
    requests = int(at[-1]) + 1 if full < len(at) else len(items)
    passing = np.flatnonzero(trace.size_bytes[items[:requests]] > capacity_bytes)
    return Window(requests, items[at], at, sizes, passing)


def saved_misses(window: Window, plan: NDArray[np.int64], trace: Trace, capacity_bytes: int) -> NDArray[np.int64]:
    """Which of the window's first requests (as positions in `window.items`) hit, having loaded `plan`.

    `plan` has no item twice, the most valuable first, and its bytes fit the cache.
    """
    waiting = plan.tolist()  # loaded and not evicted, the next to go at the end, except for those no longer in `warm`
    warm = dict(zip(waiting, trace.size_bytes[plan].tolist(), strict=True))
    free = capacity_bytes - sum(warm.values())
    saved = []
    for position, (item, size) in enumerate(zip(window.items.tolist(), window.sizes.tolist(), strict=True)):
        if warm.pop(item, None) is not None:
            saved.append(position)
            continue
        free -= size
        while free < 0 and waiting:
            free += warm.pop(waiting.pop(), 0)
    return np.array(saved, np.int64)


def best_possible(window: Window, known: int, capacity_bytes: int, budget_bytes: int) -> NDArray[np.int64]:
    """The warm set, most valuable first, that saves most misses: items asked for first are used last.

    An item, loaded in this order, is still there iff what the window touches before it leaves room for it.  Of those
    that are and were `known` (have a lower number) before the restart, all fit the cache together; under a smaller
    budget, where each is worth one miss, the smallest are best.
    """
    before = np.cumsum(window.sizes) - window.sizes
    useful = np.flatnonzero((before + window.sizes <= capacity_bytes) & (window.items < known))
    if budget_bytes < capacity_bytes:
        smallest_first = useful[np.argsort(window.sizes[useful], kind="stable")]
        useful = np.sort(fill(smallest_first, window.sizes, budget_bytes))
    return window.items[useful]


def _first_requests(items: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions, rising, at which an item comes for the first time."""
    first = np.full(int(items.max(initial=-1)) + 1, -1, np.int64)
    first[items[::-1]] = np.arange(len(items))[::-1]
    at: NDArray[np.int64] = np.sort(first[first >= 0])
    return at
