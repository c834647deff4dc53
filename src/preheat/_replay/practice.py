"""How caches are warmed today, each rule as a function of the shape `Warmer`.

- `mru`: a dump of what was used last, as PostgreSQL's autoprewarm and others make it.
- `mru-25`: the most recent quarter of what the cache holds, InnoDB's default.
- `frequency`, `frequency-per-byte`: counts of the whole past.
- `decayed-per-byte`: counts that halve every sixteen fill windows, per byte [1].
- `naive`: priority times frequency times recency by cost, as warmers that are written in an afternoon have it.

[1] Lee et al., "LRFU: A Spectrum of Policies", IEEE Trans. Computers 50(12), 2001.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from preheat._replay.past import Past, Warmer, fill

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOWS_PER_HALF_LIFE = 16.0
DUMPED_SHARE = 0.25
LEVELS = 10  # of the naive score's priority
MIB = 2**20


def by(score: Callable[[Past], NDArray[np.float64]]) -> Warmer:
    """The warmer that takes what has the highest score; of equals, what was used last."""

    def plan(past: Past, budgets: Sequence[int]) -> list[NDArray[np.int64]]:
        order = np.lexsort((-past.last, -score(past)))
        return [fill(order, past.size_bytes, budget) for budget in budgets]

    return plan


def recency(past: Past) -> NDArray[np.float64]:
    """The number of the last request."""
    return past.last.astype(np.float64)


def frequency(past: Past) -> NDArray[np.float64]:
    """Requests so far."""
    return past.counts.astype(np.float64)


def frequency_per_byte(past: Past) -> NDArray[np.float64]:
    """Requests so far per byte."""
    return past.counts / past.size_bytes


def decayed_per_byte(past: Past) -> NDArray[np.float64]:
    """Requests per byte, each halved for every sixteen fill windows that have passed since."""
    age = np.arange(len(past.items) - 1, -1, -1)
    weight = np.exp(age * (-np.log(2.0) / (WINDOWS_PER_HALF_LIFE * past.refill_requests)))
    decayed: NDArray[np.float64] = np.bincount(past.items, weight, len(past.size_bytes)) / past.size_bytes
    return decayed


def dump_newest_quarter(past: Past, budgets: Sequence[int]) -> list[NDArray[np.int64]]:
    """The newest of what the cache holds, up to a quarter of its capacity, and no further than the first misfit."""
    ends = np.cumsum(past.size_bytes[past.resident])
    quarter = int(past.capacity_bytes * DUMPED_SHARE)
    return [past.resident[: np.searchsorted(ends, min(budget, quarter), side="right")] for budget in budgets]


def naive(past: Past, budgets: Sequence[int]) -> list[NDArray[np.int64]]:
    """By score, up to the first misfit; of equals, what was seen first.  The cost is that of a megabyte per second."""
    usage = past.counts / past.counts.max(initial=1)
    priority = np.minimum((usage * LEVELS).astype(np.int64), LEVELS) / LEVELS
    cost = 0.0 if _equal(past.size_bytes) else past.size_bytes / MIB
    age_hours = (past.at - past.times[past.last]) * past.hours_per_time
    order = np.argsort(-(priority * usage / (1 + cost) / (1 + age_hours)), kind="stable")
    ends = np.cumsum(past.size_bytes[order])
    return [order[: np.searchsorted(ends, budget, side="right")] for budget in budgets]


def _equal(values: NDArray[np.int64]) -> bool:
    return len(values) == 0 or bool(values.min() == values.max())


PRACTICE: dict[str, Warmer] = {
    "mru": by(recency),
    "mru-25": dump_newest_quarter,
    "frequency": by(frequency),
    "frequency-per-byte": by(frequency_per_byte),
    "decayed-per-byte": by(decayed_per_byte),
    "naive": naive,
}
