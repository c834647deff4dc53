"""Slots by 128-bit digests, in a table of four bytes per cell: one look-up at a time, or a thousand at once.

Open addressing with linear probing, filled to a half at most.  An entry that is removed leaves no mark: those behind it
move up (Knuth, *The Art of Computer Programming*, vol. 3, section 6.4, algorithm R).
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST_CELLS = 16
_EMPTY = -1


class Digests:
    """Each slot has at most one digest, given as two words of 64 bits; a digest is in one slot at most."""

    def __init__(self) -> None:
        self._firsts, self._seconds = array("Q"), array("Q")  # by slot
        self._length = 0
        self._make_cells(FEWEST_CELLS)

    def __len__(self) -> int:
        return self._length

    def find(self, first: int, second: int) -> int:
        """The slot of a digest; -1 if it is in none."""
        cells, mask, firsts = self._cells, self._mask, self._firsts
        at = first & mask
        while (slot := cells[at]) >= 0:
            if firsts[slot] == first and self._seconds[slot] == second:
                return slot
            at = at + 1 & mask
        return _EMPTY

    def find_many(self, digests: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) the slot of each of `digests`, (n, 2); -1 where it is in none."""
        cells, firsts = np.frombuffer(self._cells, np.int32), _words(self._firsts)
        wanted = digests[:, 0]
        at = (wanted & np.uint64(self._mask)).astype(np.int64)
        slots = cells[at].astype(np.int64)
        left = np.flatnonzero((firsts[slots] != wanted) & (slots >= 0)) if len(firsts) else at[:0]
        while len(left):  # those in a row of others
            at[left] = at[left] + 1 & self._mask
            slots[left] = cells[at[left]]
            left = left[(firsts[slots[left]] != wanted[left]) & (slots[left] >= 0)]
        found = np.flatnonzero(slots >= 0)
        for n in found[_words(self._seconds)[slots[found]] != digests[found, 1]].tolist():
            slots[n] = self.find(int(digests[n, 0]), int(digests[n, 1]))
        return slots

    def add(self, slot: int, first: int, second: int) -> None:
        """Put a digest that is in no slot into an empty one."""
        while slot >= len(self._firsts):
            self._firsts.append(0)
            self._seconds.append(0)
        self._firsts[slot], self._seconds[slot] = first, second
        self._length += 1
        if 2 * self._length > len(self._cells):
            self._grow()
        at = first & self._mask
        while self._cells[at] >= 0:
            at = at + 1 & self._mask
        self._cells[at] = slot

    def remove(self, slot: int) -> None:
        """Take the digest out of `slot`."""
        cells, mask = self._cells, self._mask
        gap = self._firsts[slot] & mask
        while cells[gap] != slot:
            gap = gap + 1 & mask
        at = gap
        while (other := cells[at := at + 1 & mask]) >= 0:
            home = self._firsts[other] & mask
            if (at - home & mask) >= (at - gap & mask):  # it does not begin behind the gap, so it may fill it
                cells[gap], gap = other, at
        cells[gap] = _EMPTY
        self._length -= 1

    def digest_of(self, slot: int) -> tuple[int, int]:
        """The digest in `slot`."""
        return self._firsts[slot], self._seconds[slot]

    def _make_cells(self, length: int) -> None:
        self._cells, self._mask = array("i", [_EMPTY]) * length, length - 1

    def _grow(self) -> None:
        """Double the table: each round, those that found a cell empty take it, and of several one does."""
        before = np.frombuffer(self._cells, np.int32)
        slots = before[before >= 0]
        self._make_cells(2 * len(before))
        cells = np.frombuffer(self._cells, np.int32)
        at = (_words(self._firsts)[slots] & np.uint64(self._mask)).astype(np.int64)
        while len(slots):
            is_empty = cells[at] < 0
            cells[at[is_empty]] = slots[is_empty]
            is_left = cells[at] != slots
            slots, at = slots[is_left], at[is_left] + 1 & self._mask


def _words(column: array[int]) -> NDArray[np.uint64]:
    return np.frombuffer(column, np.uint64) if column else np.empty(0, np.uint64)
