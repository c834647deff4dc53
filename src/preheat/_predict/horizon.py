"""How far ahead a warm-up matters: until the cache would have refilled by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from preheat._model import History

MIN_SECONDS = 1.0


def refill_seconds(history: History, cache: str, capacity_bytes: int | None) -> float:
    """Seconds in which traffic touches `capacity_bytes` distinct bytes of `cache`, as it did last.

    After that an LRU cache holds nothing but what the new traffic brought, and the warm set can't matter any
    more.  Where history never touched that many (or the capacity is None), its whole span.
    """
    rows = history.rows_of(cache)
    span = max(MIN_SECONDS, history.at - history.since)
    if capacity_bytes is None or not len(rows):
        return span
    newest_first = rows[np.argsort(-history.last_at[rows], kind="stable")]
    touched = np.cumsum(history.size_bytes[newest_first])
    filled = int(np.searchsorted(touched, capacity_bytes))
    if filled >= len(rows):
        return span
    return max(MIN_SECONDS, history.at - float(history.last_at[newest_first[filled]]))
