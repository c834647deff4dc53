"""How far ahead a warm-up matters: until the cache would have refilled by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat._model import History

MIN_SECONDS = 1.0
FIRST_LOOK = 2**14  # rows


def refill_seconds(history: History, cache: str, capacity_bytes: int | None) -> float:
    """Seconds in which traffic touches `capacity_bytes` distinct bytes of `cache`, as it did last.

    After that an LRU cache holds nothing but what the new traffic brought, and the warm set can't matter any
    more.  Where history never touched that many (or the capacity is None), its whole span.
    """
    rows = history.rows_of(cache)
    span = max(MIN_SECONDS, history.at - history.since)
    if capacity_bytes is None or not len(rows):
        return span
    sizes, last_at = history.size_bytes[rows], history.last_at[rows]
    if sizes.sum() < capacity_bytes:
        return span
    newest = _newest(last_at, sizes, capacity_bytes)
    newest = newest[np.argsort(-last_at[newest])]
    filled = int(np.searchsorted(np.cumsum(sizes[newest]), capacity_bytes))
    return max(MIN_SECONDS, history.at - float(last_at[newest[filled]]))


def _newest(last_at: NDArray[np.float64], sizes: NDArray[np.int64], least_bytes: int) -> NDArray[np.int64]:
    """So many of those asked for last, in no order, that they have `least_bytes` together."""
    reach = FIRST_LOOK
    while reach < len(last_at):
        newest = np.argpartition(last_at, -reach)[-reach:]
        if sizes[newest].sum() >= least_bytes:
            return newest
        reach *= 8
    return np.arange(len(last_at))
