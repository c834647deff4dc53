"""What a warm-up inserted and nobody used yet, in the order of its worth.  Pure: no cache, no clock."""

from __future__ import annotations

import heapq
from typing import NamedTuple

LINGERING = 64  # entries of the heap, beyond twice what counts, before those that don't count are dropped


class _Entry(NamedTuple):
    is_critical: bool
    value_per_byte: float
    number: int  # of its insertion, negative: of equals the one that came last goes first
    slot: int


class Warmed:
    """Slots by worth: the least valuable first, and of equals the one that came last."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}  # of the slots that count
        self._heap: list[_Entry] = []  # those that were used or dropped linger in it
        self._insertions = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, slot: int, worth: tuple[bool, float]) -> None:
        """Take in `slot`: whether it is critical, and its value per byte."""
        if len(self._heap) > 2 * len(self._numbers) + LINGERING:
            self._heap = [entry for entry in self._heap if self._counts(entry)]
            heapq.heapify(self._heap)
        self._insertions += 1
        self._numbers[slot] = -self._insertions
        heapq.heappush(self._heap, _Entry(*worth, -self._insertions, slot))

    def discard(self, slot: int) -> None:
        """Forget `slot`, if it is here."""
        if self._numbers.pop(slot, None) is not None and not self._numbers:
            self._heap.clear()

    def pop_least(self) -> int:
        """Take out what is worth least; there has to be one."""
        while not self._counts(entry := heapq.heappop(self._heap)):
            pass
        self.discard(entry.slot)
        return entry.slot

    def least_first(self) -> list[int]:
        """All of them in their order."""
        return [entry.slot for entry in sorted(filter(self._counts, self._heap))]

    def _counts(self, entry: _Entry) -> bool:
        return self._numbers.get(entry.slot) == entry.number
