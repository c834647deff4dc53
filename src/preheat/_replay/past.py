"""What was asked for before the restart: all that a warmer may look at."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW_LIMIT = 0.20  # of the trace: a fill window is no longer than that
HOURS_PER_DAY = 24.0


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests in their order.

    Attributes:
        name: What tables call it.
        times: (n,) seconds, or the number of the request where the source has no clock.
        items: (n,) item numbers, given in the order of first appearance.
        size_bytes: (n_items,) at least 1.
        cost_seconds: (n_items,) seconds that a miss costs, or None where nothing is known of it.
    """

    name: str
    times: NDArray[np.float64]
    items: NDArray[np.int64]
    size_bytes: NDArray[np.int64]
    cost_seconds: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def footprint_bytes(self) -> int:
        """Bytes of all items together."""
        return int(self.size_bytes.sum())

    @property
    def window_limit(self) -> int:
        """No fill window has more requests."""
        return max(1, int(len(self) * WINDOW_LIMIT))

    @property
    def equal_sizes(self) -> bool:
        """Whether every item is as large as every other."""
        return bool(self.size_bytes.min() == self.size_bytes.max())

    @cached_property
    def has_clock(self) -> bool:
        """Whether the times are more than the numbers of the requests."""
        return not np.array_equal(self.times, np.arange(len(self)))

    def past(self, restart: int, capacity_bytes: int) -> Past:
        """What a cache of `capacity_bytes` may know when it restarts before request number `restart`."""
        items = self.items[:restart]
        known = int(items.max(initial=-1)) + 1
        sizes = self.size_bytes[:known]
        costs = None if self.cost_seconds is None else self.cost_seconds[:known]
        hours = 1 / 3600 if self.has_clock else HOURS_PER_DAY / len(self)
        at = float(self.times[restart])
        return Past(self.times[:restart], items, sizes, costs, capacity_bytes, at, hours, self.window_limit)


@dataclass(frozen=True, eq=False)
class Past:
    """The requests before a restart.

    Attributes:
        times, items: (n,) as in `Trace`, before the restart.
        size_bytes, cost_seconds: (n_known,) as in `Trace`, of the items asked for before the restart.
        capacity_bytes: What the restarted cache holds.
        at: The time of the restart.
        hours_per_time: What a difference of `times` is multiplied by to give hours; a trace without a clock is taken
            to span a day.
        window_limit: No fill window has more requests.
    """

    times: NDArray[np.float64]
    items: NDArray[np.int64]
    size_bytes: NDArray[np.int64]
    cost_seconds: NDArray[np.float64] | None
    capacity_bytes: int
    at: float
    hours_per_time: float
    window_limit: int

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Requests for each known item: (n_known,)."""
        return np.bincount(self.items, minlength=len(self.size_bytes))

    @cached_property
    def last(self) -> NDArray[np.int64]:
        """Number of the last request for each known item: (n_known,)."""
        last = np.zeros(len(self.size_bytes), np.int64)
        last[self.items] = np.arange(len(self.items))
        return last

    @cached_property
    def newest_first(self) -> NDArray[np.int64]:
        """The known items, the one asked for last in front: (n_known,)."""
        return np.argsort(-self.last)

    @cached_property
    def refill_requests(self) -> int:
        """How many of the last requests touched as many bytes as the cache holds, each item once; at least 1."""
        order = self.newest_first
        sizes = self.size_bytes[order]
        touched = np.cumsum(np.where(sizes <= self.capacity_bytes, sizes, 0))
        full = int(np.searchsorted(touched, self.capacity_bytes))
        requests = len(self.items) - int(self.last[order[full]]) if full < len(order) else len(self.items)
        return max(1, min(requests, self.window_limit))

    @cached_property
    def resident(self) -> NDArray[np.int64]:
        """What an LRU cache holds at the restart, most recently used first."""
        if len(self.size_bytes) and self.size_bytes.min() == self.size_bytes.max():
            return self.newest_first[: self.capacity_bytes // int(self.size_bytes[0])]
        return _lru_content(self.items, self.size_bytes, self.capacity_bytes)


Warmer = Callable[[Past, Sequence[int]], "list[NDArray[np.int64]]"]
"""What to load: for each of the budgets, in bytes, known items without repetition, most valuable first."""


def fill(order: NDArray[np.int64], size_bytes: NDArray[np.int64], budget_bytes: int) -> NDArray[np.int64]:
    """Those of `order` that fit `budget_bytes` one after another; what no longer fits is passed over."""
    taken = [order[:0]]
    while len(order):
        ends = np.cumsum(size_bytes[order])
        fitting = int(np.searchsorted(ends, budget_bytes, side="right"))
        taken.append(order[:fitting])
        budget_bytes -= int(ends[fitting - 1]) if fitting else 0
        rest = order[fitting:]
        order = rest[size_bytes[rest] <= budget_bytes]
    return np.concatenate(taken)


def _lru_content(items: NDArray[np.int64], size_bytes: NDArray[np.int64], capacity_bytes: int) -> NDArray[np.int64]:
    sizes = size_bytes.tolist()
    held: OrderedDict[int, None] = OrderedDict()
    free = capacity_bytes
    for item in items.tolist():
        if item in held:
            held.move_to_end(item)
        elif sizes[item] <= capacity_bytes:
            free -= sizes[item]
            while free < 0:
                free += sizes[held.popitem(last=False)[0]]
            held[item] = None
    return np.fromiter(reversed(held), np.int64, len(held))
