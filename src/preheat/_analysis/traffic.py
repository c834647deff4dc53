"""The hit rate over time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from preheat._model import History


class HourOfTraffic(NamedTuple):
    """One hour of a cache.

    Attributes:
        at: Unix seconds of its beginning.
        hits, misses: What was counted in it.
    """

    at: int
    hits: int
    misses: int

    @property
    def hit_ratio(self) -> float:
        """The share of hits; 0 without traffic."""
        return self.hits / max(1, self.hits + self.misses)


def hit_rate_by_hour(history: History, cache: str, newest: int) -> list[HourOfTraffic]:
    """The `newest` hours in which `cache` had traffic, oldest first."""
    if cache not in history.caches or not len(history.hours):
        return []
    counted = history.hourly[:, history.caches.index(cache)]
    busy = np.flatnonzero(counted.sum(axis=1))[-newest:]
    rows = zip(history.hours[busy].tolist(), counted[busy].tolist(), strict=True)
    return [HourOfTraffic(3600 * hour, hits, misses) for hour, (hits, misses) in rows]
