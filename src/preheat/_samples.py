"""The newest samples of a number, in arrays made before the first of them.

An object for each, made between the values that a run loads, would pin the memory around it when they are dropped.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

LARGEST = 2**62
"""A larger number counts as this."""


class Samples:
    """The newest numbers, each with the instant at which it was seen.

    Args:
        most: So many are kept.
    """

    __slots__ = ("_at", "_first", "_next", "_numbers")

    def __init__(self, most: int) -> None:
        self._at, self._numbers = array("d", bytes(8 * most)), array("q", bytes(8 * most))
        self._first = self._next = 0  # of those that are kept; places are these modulo how many may be

    def __len__(self) -> int:
        return self._next - self._first

    @property
    def _oldest(self) -> int:
        return self._numbers[self._first % len(self._numbers)]

    @property
    def last_at(self) -> float:
        """When the newest was seen; there has to be one."""
        return self._at[(self._next - 1) % len(self._at)]

    def add(self, at: float, number: int) -> None:
        """`number` was seen at the instant `at`; if there is no more room, the oldest is forgotten."""
        place = self._next % len(self._at)
        self._at[place], self._numbers[place] = at, min(number, LARGEST)
        self._next += 1
        self._first = max(self._first, self._next - len(self._at))

    def clear(self) -> None:
        """Forget all of them."""
        self._first = self._next

    def as_of(self, at: float) -> int:
        """The newest number seen at the instant `at` or before, or else the oldest; there has to be one."""
        return next((number for seen_at, number in self.newest_first() if seen_at <= at), self._oldest)

    def newest_first(self) -> Iterator[tuple[float, int]]:
        """Instants and numbers."""
        for sample in range(self._next - 1, self._first - 1, -1):
            place = sample % len(self._at)
            yield self._at[place], self._numbers[place]
