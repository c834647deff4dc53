"""Which rows are the same item, and where an item is.

A million references as Python objects in a dict take seconds and hundreds of megabytes.  Here each item is 64 bits,
and a table of slots says which row has them; where two rows want the same slot, they are sorted.  Whatever has equal
bits is compared as text, so nothing is ever taken for something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from preheat._columns import TextColumn
from preheat._model import CandidateTable, ItemRef

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLOTS_PER_ROW = 2
NOWHERE = -1
BLOCK = 2**18


class ItemIndex:
    """Where each item of `candidates` is."""

    def __init__(self, candidates: CandidateTable) -> None:
        self._candidates = candidates
        self._hashes = candidates.keys.hashes(candidates.cache)
        slots = 1 << max(4, (SLOTS_PER_ROW * len(candidates) - 1).bit_length())
        self._mask = np.uint64(slots - 1)
        self._slots = np.full(slots, NOWHERE, np.int32)
        self._fill_slots()
        crowded = self._find_slotless()
        self._crowded = crowded[np.argsort(self._hashes[crowded])]
        self._crowded_hashes = self._hashes[self._crowded]

    def _fill_slots(self) -> None:
        """Give each row its slot; of several rows the first keeps it."""
        for start in reversed(range(0, len(self._hashes), BLOCK)):
            slot = self._slot_of(self._hashes[start : start + BLOCK])
            rows = np.arange(start, start + len(slot), dtype=np.int32)
            self._slots[slot[::-1]] = rows[::-1]

    def _find_slotless(self) -> NDArray[np.int64]:
        found = [np.empty(0, np.int64)]
        for start in range(0, len(self._hashes), BLOCK):
            slot = self._slot_of(self._hashes[start : start + BLOCK])
            rows = np.arange(start, start + len(slot), dtype=np.int32)
            found.append(np.flatnonzero(self._slots[slot] != rows) + start)
        return np.concatenate(found)

    def _slot_of(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        return ((hashes >> _UPPER) & self._mask).view(np.int64)

    def first_rows(self) -> NDArray[np.int64] | None:
        """The rows whose item has not come before, ascending; None if that is all of them."""
        suspects = self._suspects()
        if not len(suspects):
            return None
        first: dict[ItemRef, int] = {}
        for row in suspects.tolist():
            first.setdefault(self._candidates.ref(row), row)
        repeated = np.setdiff1d(suspects, np.fromiter(first.values(), np.int64, len(first)))
        return np.delete(np.arange(len(self._hashes)), repeated) if len(repeated) else None

    def _suspects(self) -> NDArray[np.int64]:
        """Rows that share their bits with another one, ascending."""
        hashes, rows = self._crowded_hashes, self._crowded
        owners = self._slots[self._slot_of(hashes)]
        like_owner = self._hashes[owners] == hashes
        like_next = np.zeros(len(rows), np.bool_)
        like_next[1:] = hashes[1:] == hashes[:-1]
        like_next[:-1] |= like_next[1:]
        return np.unique(np.concatenate([rows[like_owner | like_next], owners[like_owner]]))

    def find(self, refs: Sequence[ItemRef]) -> NDArray[np.int64]:
        """The row of each of `refs`, `NOWHERE` for those that are not there: (len(refs),)."""
        code_of = {name: code for code, name in enumerate(self._candidates.caches)}
        codes = np.fromiter(map(code_of.get, map(_CACHE, refs), repeat(NOWHERE)), np.int16, len(refs))
        keys = TextColumn.of(map(_KEY, refs))
        hashes = keys.hashes(codes)
        rows = self._slots[self._slot_of(hashes)].astype(np.int64)
        unlike = np.flatnonzero((rows >= 0) & (self._hashes[rows] != hashes)) if len(self._hashes) else rows[:0]
        rows[unlike] = self._find_crowded(hashes[unlike])
        rows[codes == NOWHERE] = NOWHERE
        there = np.flatnonzero(rows >= 0)
        for n in there[~_same(self._candidates, rows[there], codes[there], keys.take(there))].tolist():
            rows[n] = self._search(refs[n], hashes[n])
        return rows

    def _find_crowded(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        if not len(self._crowded):
            return np.full(len(hashes), NOWHERE)
        place = np.minimum(np.searchsorted(self._crowded_hashes, hashes), len(self._crowded) - 1)
        return np.where(self._crowded_hashes[place] == hashes, self._crowded[place], NOWHERE)

    def _search(self, ref: ItemRef, bits: np.uint64) -> int:
        """The row of `ref` among those that have the same bits."""
        alike = np.flatnonzero(self._hashes == bits).tolist()
        return next((row for row in alike if self._candidates.ref(row) == ref), NOWHERE)


_CACHE, _KEY = itemgetter(0), itemgetter(1)
_UPPER = np.uint64(20)  # the lowest bits of a product are mixed least


def _same(
    candidates: CandidateTable, rows: NDArray[np.int64], codes: NDArray[np.int16], keys: TextColumn
) -> NDArray[np.bool_]:
    """For each row of `candidates`, whether it is of that cache and has that key: (len(rows),)."""
    known = candidates.keys.take(rows)
    lengths = known.lengths()
    same: NDArray[np.bool_] = (candidates.cache[rows] == codes) & (lengths == keys.lengths())
    if same.all() and np.array_equal(known.blob, keys.blob):
        return same
    return np.array([s and a == b for s, a, b in zip(same.tolist(), known, keys, strict=True)], np.bool_)
