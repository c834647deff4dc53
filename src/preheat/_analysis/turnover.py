"""How much of a cache's traffic is new, and how much is in use."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from preheat._model import History


class WorkingSet(NamedTuple):
    """What was asked for in the last `seconds`.

    Attributes:
        seconds: How far back from the newest access.
        items: Distinct items.
        size_bytes: What they weigh, as far as their sizes are known.
    """

    seconds: float
    items: int
    size_bytes: int


def working_set(history: History, cache: str, seconds: float) -> WorkingSet:
    """The items of `cache` asked for in the last `seconds` of the history, its newest access included.

    Items that have been forgotten in favour of others are not among them.
    """
    rows = history.rows_of(cache)
    touched = rows[history.last_at[rows] > history.at - seconds]
    return WorkingSet(seconds, len(touched), int(history.size_bytes[touched].sum()))


def churn(history: History, cache: str, seconds: float) -> float | None:
    """The share of the items asked for in the last `seconds` that were not asked for in as many before.

    None where the trail does not reach back to the beginning of the window before, or the last one is empty.
    """
    trail, at = history.trail, history.trail_at
    begin, middle = history.at - 2 * seconds, history.at - seconds
    if not len(at) or at[0] > begin:
        return None
    mine = history.cache[trail] == history.caches.index(cache) if cache in history.caches else np.zeros(len(at), bool)
    now = np.unique(trail[mine & (at > middle)])
    before = np.unique(trail[mine & (at > begin) & (at <= middle)])
    if not len(now):
        return None
    return float(1.0 - np.isin(now, before, assume_unique=True).mean())
