"""Which runs of loads are in flight: handed out, and not told of again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from preheat._execution.events import Ended, Loaded


class Flight(NamedTuple):
    """A run of loads that was handed out: since when, and of which cache."""

    positions: tuple[int, ...]
    cache: str
    at: float

    def seconds(self, ended: Loaded | Ended) -> float:
        """How long it took."""
        return ended.at - self.at if ended.seconds is None else ended.seconds


class Flights:
    """All that are, known by their first items.

    Args:
        caches: The caches of which there may be some.
    """

    def __init__(self, caches: Iterable[str]) -> None:
        self._by_first: dict[int, Flight] = {}
        self._of_cache = dict.fromkeys(caches, 0)

    def __len__(self) -> int:
        return len(self._by_first)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._by_first.values())

    def __getitem__(self, first: int) -> Flight:
        return self._by_first[first]

    def has(self, cache: str) -> bool:
        """Whether any is of `cache`."""
        return self._of_cache[cache] > 0

    def begin(self, flight: Flight) -> None:
        """`flight` has been handed out."""
        self._by_first[flight.positions[0]] = flight
        self._of_cache[flight.cache] += 1

    def end(self, first: int) -> Flight:
        """The one that begins with the item `first`, which is in flight no longer."""
        flight = self._by_first.pop(first)
        self._of_cache[flight.cache] -= 1
        return flight

    def items(self) -> set[int]:
        """The items of all of them."""
        return {item for flight in self for item in flight.positions}
