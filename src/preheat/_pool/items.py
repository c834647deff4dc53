"""Many items, each with a number that is found for whole columns of them at once, and without an object for any.

An item stands in a table, in the first slot that was free of those from the one that the upper bits of its hash name
(open addressing with linear probing: Knuth, "The Art of Computer Programming", volume 3, section 6.4).  A slot is one
64-bit word: the upper half is the lower one of the hash, the lower one the number, from 1 on.  Rows go from slot to
slot together, and where those halves agree the bytes of the two keys decide.  Items that find no slot within
`MOST_STEPS` are in a dict, so nobody who makes keys of equal hashes makes a search longer.

Rows that stand in the order of their hashes go through the table, and mostly through the columns that it leads to, in
one direction: so they are found fastest.

Items only become more here; `preheat._history.index` finds rows of a history that lives on, few keys at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from preheat._columns import TextColumn
from preheat._history.growing import GrowingArray, GrowingText

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOWHERE = -1
MOST_STEPS = 32
LEAST_SLOTS = 2**10
SLOTS_PER_ITEM = 2  # at least: a search takes one and a half steps on average when they are so many

_LOWER, _HALF = np.uint64(2**32 - 1), np.uint64(32)


class Items:
    """Items by the code of their cache and their key, numbered as they come.

    Attributes:
        cache: The code of each.
        keys: The key of each.
    """

    def __init__(self) -> None:
        self.cache = GrowingArray(np.empty(0, np.int16))
        self.keys = GrowingText(TextColumn.of(()))
        self._slots = np.zeros(LEAST_SLOTS, np.uint64)
        self._crowd: dict[tuple[int, str], int] = {}  # those that found no slot

    def __len__(self) -> int:
        return len(self.cache)

    def numbers(self, cache: NDArray[np.int16], keys: TextColumn) -> NDArray[np.int64]:
        """The numbers of the items of `cache` and `keys`, no two of which are the same; new ones get the next numbers.

        Of an item that is given twice all the same, each may get a number if it is new.
        """
        hashes = keys.hashes(cache)
        found = self._find(hashes, cache, keys)
        new = np.flatnonzero(found == NOWHERE)
        if len(new):
            found[new] = np.arange(len(self), len(self) + len(new))
            self.cache.add(len(new), cache[new])
            self.keys.add(keys.take(new))
            self._take_in(found[new], hashes[new])
        return found

    def _find(self, hashes: NDArray[np.uint64], cache: NDArray[np.int16], keys: TextColumn) -> NDArray[np.int64]:
        found = np.full(len(hashes), NOWHERE)
        rows, places, marks = np.arange(len(hashes)), self._first_places(hashes), hashes << _HALF
        for _ in range(MOST_STEPS):
            words = self._slots.take(places)
            near = np.flatnonzero((words ^ marks.take(rows) <= _LOWER) & (words > 0))
            numbers, there = (words.take(near) & _LOWER).view(np.int64) - 1, rows.take(near)
            same = self._are(numbers, cache, keys, there)
            found[there[same]] = numbers[same]
            words[near[same]] = 0
            going_on = np.flatnonzero(words)
            if not len(going_on):
                return found
            rows, places = rows.take(going_on), self._next(places.take(going_on))
        for row in rows.tolist():  # few, unless somebody wants it
            found[row] = self._crowd.get((int(cache[row]), keys[row]), NOWHERE)
        return found

    def _are(
        self, numbers: NDArray[np.int64], cache: NDArray[np.int16], keys: TextColumn, rows: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """For each of `numbers`, whether it is the number of the item in the same one of `rows`."""
        same = self.keys.current.same(numbers, keys, rows)
        same &= self.cache.current.take(numbers) == cache.take(rows)
        return same

    def _take_in(self, numbers: NDArray[np.int64], hashes: NDArray[np.uint64]) -> None:
        if len(self) * SLOTS_PER_ITEM > len(self._slots):
            self._make_slots()
        else:
            self._place(numbers, hashes)

    def _make_slots(self) -> None:
        self._slots = np.zeros(1 << (max(LEAST_SLOTS, 2 * SLOTS_PER_ITEM * len(self)) - 1).bit_length(), np.uint64)
        self._crowd = {}
        self._place(np.arange(len(self)), self.keys.current.hashes(self.cache.current))

    def _place(self, numbers: NDArray[np.int64], hashes: NDArray[np.uint64]) -> None:
        words, places = (hashes << _HALF) | (numbers + 1).view(np.uint64), self._first_places(hashes)
        for _ in range(MOST_STEPS):
            free = self._slots[places] == 0
            self._slots[places[free]] = words[free]  # of several for one slot the last one has it
            left = self._slots[places] != words
            if not left.any():
                return
            words, places = words[left], self._next(places[left])
        for number in ((words & _LOWER).view(np.int64) - 1).tolist():
            self._crowd[int(self.cache.current[number]), self.keys.current[number]] = number

    def _first_places(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (hashes >> np.uint64(65 - len(self._slots).bit_length())).view(np.int64)

    def _next(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return (places + 1) & (len(self._slots) - 1)
