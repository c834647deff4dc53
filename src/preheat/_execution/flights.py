"""Which runs of loads are in flight: handed out, and not told of again.

A run goes one load after another and takes one of the loads that there may be at a time.  Those of a cache that are
*shared* take as many together as the cache has workers: a run's loads are drawn by all of them, and then those of the
next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from preheat._execution.events import Ended, Loaded


class Flight(NamedTuple):
    """A run of loads that was handed out: since when, of which cache, and to how many workers if it is shared."""

    positions: Sequence[int]
    cache: str
    at: float
    width: int | None = None

    def seconds(self, ended: Loaded | Ended) -> float:
        """How long its loads took, one after another."""
        return ended.at - self.at if ended.seconds is None else ended.seconds


class Flights:
    """All that are, known by their first items.

    Args:
        caches: The caches of which there may be some.

    Attributes:
        loads: How many loads there may be at a time in all of them.
    """

    def __init__(self, caches: Iterable[str]) -> None:
        self.loads = 0
        self._by_first: dict[int, Flight] = {}
        self._of_cache = dict.fromkeys(caches, 0)
        self._shared: dict[str, int] = {}  # how many of the runs of a cache are
        self._widths: dict[str, int] = {}
        self._undrawn: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._by_first)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._by_first.values())

    def __getitem__(self, first: int) -> Flight:
        return self._by_first[first]

    def has(self, cache: str) -> bool:
        """Whether any is of `cache`."""
        return self._of_cache[cache] > 0

    @property
    def caches(self) -> int:
        """How many caches have any."""
        return sum(map(bool, self._of_cache.values()))

    def width(self, cache: str) -> int:
        """How many workers share the runs of `cache`; 0 if there is none that is shared."""
        return self._widths.get(cache, 0)

    def undrawn(self, cache: str) -> int:
        """Of how many shared runs of `cache` not all loads have begun."""
        return list(self._undrawn.values()).count(cache)

    def begin(self, flight: Flight) -> int:
        """`flight` has been handed out: how many more loads, or fewer, there may be of its cache at a time."""
        self._by_first[flight.positions[0]] = flight
        self._of_cache[flight.cache] += 1
        if flight.width is None:
            return self._count(1)
        self._shared[flight.cache] = self._shared.get(flight.cache, 0) + 1
        self._undrawn[flight.positions[0]] = flight.cache
        more = flight.width - self.width(flight.cache)
        self._widths[flight.cache] = flight.width
        return self._count(more)

    def draw(self, first: int) -> None:
        """All loads of the shared run that begins with the item `first` have begun."""
        self._undrawn.pop(first, None)

    def end(self, flight: Flight) -> int:
        """`flight` is no longer: how many more loads there may be of its cache at a time; negative if fewer."""
        del self._by_first[flight.positions[0]]
        self._of_cache[flight.cache] -= 1
        if flight.width is None:
            return self._count(-1)
        self.draw(flight.positions[0])
        self._shared[flight.cache] -= 1
        return 0 if self._shared[flight.cache] else self._count(-self._widths.pop(flight.cache))

    def items(self) -> set[int]:
        """The items of all of them."""
        return {item for flight in self for item in flight.positions}

    def _count(self, more: int) -> int:
        self.loads += more
        return more
