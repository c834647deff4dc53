"""Which items may start: a queue for each cache, in loading order.

A phase enters its queues as columns, so that a million items cost no more than the numbers of their positions; what
comes later, a retry or the dependant of what has just been loaded, is merged in.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Queue:
    """Positions of one cache, ascending."""

    __slots__ = ("_column", "_late", "_next")

    def __init__(self, column: Sequence[int] = ()) -> None:
        self._column, self._next = column, 0
        self._late: list[int] = []

    def __len__(self) -> int:
        return len(self._column) - self._next + len(self._late)

    def __iter__(self) -> Iterator[int]:
        yield from self._column[self._next :]
        yield from self._late

    @property
    def first(self) -> int:
        """The lowest position; there has to be one."""
        if self._next == len(self._column):
            return self._late[0]
        first = self._column[self._next]
        return min(first, self._late[0]) if self._late else first

    def add(self, item: int) -> None:
        """`item` may start too."""
        heapq.heappush(self._late, item)

    def peek(self, most: int) -> Sequence[int]:
        """The first positions, `most` of them at most; a range, where nothing lies between them."""
        column = self._column[self._next : self._next + most]
        if not self._late or (len(column) == most and column[-1] < self._late[0]):
            return column
        return tuple(sorted((*column, *heapq.nsmallest(most, self._late)))[:most])

    def drop(self, first: Sequence[int]) -> None:
        """Take out what `peek` gave, or the first part of it."""
        late = 0
        while self._late and self._late[0] <= first[-1]:
            heapq.heappop(self._late)
            late += 1
        self._next += len(first) - late


class Queues:
    """The queues of all caches."""

    def __init__(self) -> None:
        self._by_cache: dict[str, Queue] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_cache.values()))

    def __getitem__(self, cache: str) -> Queue:
        return self._by_cache[cache]

    def fill(self, cache: str, items: NDArray[np.int64]) -> None:
        """`items`, ascending, may start; the queue of `cache` has to be empty."""
        is_gapless = items[-1] - items[0] + 1 == len(items)
        self._by_cache[cache] = Queue(
            range(int(items[0]), int(items[-1]) + 1) if is_gapless else array("q", items.tobytes())
        )

    def add(self, cache: str, item: int) -> None:
        """`item` of `cache` may start too."""
        self._by_cache.setdefault(cache, Queue()).add(item)

    def waiting(self, cache: str) -> int:
        """How many items of `cache` may start."""
        queue = self._by_cache.get(cache)
        return len(queue) if queue is not None else 0

    def take(self, cache: str) -> list[int]:
        """Take out everything of `cache`."""
        return list(self._by_cache.pop(cache, ()))

    def next_cache(self, may_start: Callable[[str, int], bool]) -> str | None:
        """The cache with the lowest position, among those of which that `may_start`."""
        ready = (
            (queue.first, cache) for cache, queue in self._by_cache.items() if queue and may_start(cache, queue.first)
        )
        return min(ready, default=(0, None))[1]

    def clear(self) -> list[int]:
        """Take everything out."""
        waiting = [item for queue in self._by_cache.values() for item in queue]
        self._by_cache.clear()
        return waiting
