"""The newest accesses of one cache, in order: what predictors learn from, and what windows of it held."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_PAST = 500
LEAST_PAST_RATIO = 0.03
MOST_WINDOW_RATIO = 0.25
FIRST_LOOK = 1024


class Window(NamedTuple):
    """The accesses from position `start` up to but without `stop`."""

    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Trail:
    """Accesses in their order.

    Attributes:
        items: (m,) int32, the item asked for; items are numbered in the order of their first access here.
        times: (m,) float64, the instants, in seconds.
        size_bytes: (n,) int64, at least 1, by item.
    """

    items: NDArray[np.int32]
    times: NDArray[np.float64]
    size_bytes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def previous(self) -> NDArray[np.int64]:
        """(m,) the position of the access to the same item before, -1 for the first one."""
        return self._neighbours[0]

    @cached_property
    def following(self) -> NDArray[np.int64]:
        """(m,) the position of the access to the same item after, m for the last one."""
        return self._neighbours[1]

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """(n,) the position of each item's first access."""
        return np.flatnonzero(self.previous < 0)

    @property
    def longest_window(self) -> int:
        """No window has more accesses."""
        return max(1, int(MOST_WINDOW_RATIO * len(self)))

    def known(self, position: int) -> int:
        """How many items were asked for before `position`."""
        return int(np.searchsorted(self.first, position))

    def refill(self, stop: int, capacity_bytes: int) -> int:
        """How many accesses before `stop` touched `capacity_bytes` distinct bytes; all of them if none did."""
        reach = FIRST_LOOK
        while True:
            start = max(0, stop - reach)
            newest = start + np.flatnonzero(self.following[start:stop] >= stop)[::-1]
            touched = np.cumsum(_fitting(self.size_bytes[self.items[newest]], capacity_bytes))
            full = int(np.searchsorted(touched, capacity_bytes))
            if full < len(newest):
                return stop - int(newest[full])
            if start == 0:
                return max(1, stop)
            reach *= 4

    def windows(self, capacity_bytes: int, most: int) -> list[Window]:
        """Windows side by side, newest first, each as long as a cache of `capacity_bytes` takes to refill.

        At most `most`; enough of the trail comes before the oldest for features to mean something.
        """
        least_past = max(LEAST_PAST, int(LEAST_PAST_RATIO * len(self)))
        found: list[Window] = []
        stop = len(self)
        while len(found) < most:
            start = stop - min(self.refill(stop, capacity_bytes), self.longest_window)
            if start < least_past:
                break
            found.append(Window(start, stop))
            stop = start
        return found

    def arrivals(self, window: Window, capacity_bytes: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The items that `window` asks for, in order of their first access in it, and how full the cache was by then.

        Fullness is the distinct bytes touched up to and with that access over the capacity.  Items that are larger
        than the cache pass it by.
        """
        new = self.previous[window.start : window.stop] < window.start
        items = self.items[window.start : window.stop][new]
        items = items[self.size_bytes[items] <= capacity_bytes]
        return items, np.cumsum(self.size_bytes[items]) / capacity_bytes

    @cached_property
    def _neighbours(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = np.sort(self.items.astype(np.int64) << 32 | np.arange(len(self)))  # faster than a stable argsort
        same = np.flatnonzero(order[1:] >> 32 == order[:-1] >> 32)
        order &= 2**32 - 1
        previous = np.full(len(self), -1, np.int64)
        following = np.full(len(self), len(self), np.int64)
        previous[order[same + 1]] = order[same]
        following[order[same]] = order[same + 1]
        return previous, following


def _fitting(sizes: NDArray[np.int64], capacity_bytes: int) -> NDArray[np.int64]:
    return np.where(sizes <= capacity_bytes, sizes, 0)
