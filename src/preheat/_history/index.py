"""Where the row of a key is, among rows that only grow: without an object for each of them.

A dict over ten million keys takes twenty seconds to make.  Here a row is one 64-bit word, the upper bits those of its
key's hash and the lower ones its number, and the words are sorted: the hash of a key that is asked for leads to its
word, and the bytes of the two keys decide.  The words are made at the first question.  New rows wait in a dict until
they are worth sorting in.  Rows that share their hash bits are in another one, so nobody who makes keys of equal
hashes makes a search longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from preheat._columns import TextColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat._history.growing import GrowingArray, GrowingText

Hashes = Callable[[TextColumn, "NDArray[np.integer]"], "NDArray[np.uint64]"]

NOWHERE = -1
MOST_NEW = 2**16  # rows that wait to be sorted in; beside many sorted ones, a 64th of those
NEW_RATIO = 1 / 64
WORDS_PER_STEP = 2  # between two marks in the sorted words, on average
HASHED_AT_ONCE = 2**18


class RowIndex:
    """The rows of `keys` and `cache`, by the code of the cache and the key.

    Args:
        keys: The key of each row.
        cache: The code of each row's cache.
        hashes: 64 bits of each text of a column and its code, whose upper bits are the best mixed.
    """

    def __init__(self, keys: GrowingText, cache: GrowingArray, hashes: Hashes = TextColumn.hashes) -> None:
        self._keys, self._cache, self._hashes = keys, cache, hashes
        self._row_bits = 0  # of a word
        self._words: NDArray[np.uint64] | None = None
        self._sorted_rows = len(keys)  # rows from here on are `_new`
        self._new: dict[int, dict[str, int]] = {}
        self._twins: dict[tuple[int, str], int] = {}

    def find(self, code: int, keys: Sequence[str]) -> NDArray[np.int64]:
        """The row of each of `keys` of the cache `code`, `NOWHERE` for those that are new: (len(keys),).

        Raises:
            UnicodeEncodeError: One of them can't be stored.
        """
        if not self._sorted_rows:
            return self._find_new(code, keys)
        rows = self._find_sorted(code, keys)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            rows[missing] = self._find_new(code, [keys[n] for n in missing.tolist()])
        return rows

    def add(self, code: int, keys: Sequence[str], first: int) -> None:
        """`keys`, all new, are the rows from `first` on, the last ones there are."""
        self._new.setdefault(code, {}).update(zip(keys, range(first, first + len(keys)), strict=True))
        if len(self._keys) - self._sorted_rows > max(MOST_NEW, self._sorted_rows * NEW_RATIO):
            self._sort_in()

    def _find_new(self, code: int, keys: Sequence[str]) -> NDArray[np.int64]:
        return np.fromiter(map(self._new.get(code, {}).get, keys, repeat(NOWHERE)), np.int64, len(keys))

    def _find_sorted(self, code: int, keys: Sequence[str]) -> NDArray[np.int64]:
        texts, codes = TextColumn.of(keys), np.full(len(keys), code, np.int16)
        words = self._sorted_words()
        wanted = self._upper(self._hashes(texts, codes))
        word = words[self._first_at_least(wanted)]
        rows = (word & self._row_mask).view(np.int64)
        near = np.flatnonzero(self._upper(word) == wanted)
        there = rows[near]
        same = (self._cache.current[there] == code) & self._keys.current.holds(there, texts.take(near))
        found = np.full(len(keys), NOWHERE)
        found[near[same]] = there[same]
        if self._twins:
            for n in near[~same].tolist():
                found[n] = self._twins.get((code, keys[n]), NOWHERE)
        return found

    def _first_at_least(self, wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The place of the first word not below each of `wanted`; the last word's if there is none."""
        words = self._sorted_words()
        step = (wanted >> self._step_shift).view(np.int64)
        place = self._steps.take(step).astype(np.int64)
        most = int((self._steps.take(step + 1) - place).max(initial=0))
        for width in (1 << n for n in reversed(range(most.bit_length()))):  # words of later steps are never below
            place += (words.take(place + (width - 1), mode="clip") < wanted) * width
        return np.minimum(place, len(words) - 1)

    # ------------------------------------------------------------------------------------------- the sorted words

    @property
    def _row_mask(self) -> np.uint64:
        return np.uint64((1 << self._row_bits) - 1)

    def _upper(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        upper: NDArray[np.uint64] = words & ~self._row_mask
        return upper

    def _sorted_words(self) -> NDArray[np.uint64]:
        if self._words is None:
            self._row_bits = self._sorted_rows.bit_length() + 1
            words = self._words_of(0, self._sorted_rows)
            self._take_words(words)
            return words
        return self._words

    def _words_of(self, start: int, stop: int) -> NDArray[np.uint64]:
        words = np.empty(stop - start, np.uint64)
        keys, codes = self._keys.current, self._cache.current
        for first in range(start, stop, HASHED_AT_ONCE):
            rows = np.arange(first, min(first + HASHED_AT_ONCE, stop))
            hashes = self._hashes(keys.take(rows), codes[rows])
            words[rows - start] = self._upper(hashes) | rows.view(np.uint64)
        words.sort()
        return words

    def _take_words(self, words: NDArray[np.uint64]) -> None:
        """Let `words` be the sorted ones: mark every few of them, and note which are twins."""
        self._words = words
        bits = max(1, (len(words) // WORDS_PER_STEP).bit_length())
        self._step_shift = np.uint64(64 - bits)
        firsts = np.arange(1 << bits, dtype=np.uint64) << self._step_shift
        self._steps = np.append(np.searchsorted(words, firsts), len(words)).astype(np.int32)
        alike = np.flatnonzero((words[1:] ^ words[:-1]) <= self._row_mask)
        rows = (words[np.union1d(alike, alike + 1)] & self._row_mask).view(np.int64)
        names = zip(self._cache.current[rows].tolist(), self._keys.current.take(rows), strict=True)
        self._twins = dict(zip(names, rows.tolist(), strict=True))

    def _sort_in(self) -> None:
        words, before = self._words, self._sorted_rows
        self._sorted_rows, self._new = len(self._keys), {}
        if words is None or self._sorted_rows >> self._row_bits:
            self._words = None  # to be made anew, with wider numbers
        else:
            fresh = self._words_of(before, self._sorted_rows)
            self._take_words(np.insert(words, np.searchsorted(words, fresh), fresh))
