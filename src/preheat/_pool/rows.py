"""What is known of each item while histories are added up: one column for each field, rows as items are numbered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from preheat._columns import TextColumn
from preheat._history.growing import GrowingArray
from preheat._history.rows import LOAD_TEXTS, MOST_HALVINGS, put_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat._model import History

TOGETHER = 16
TOGETHER_BYTES = 32 * 2**20
"""Histories whose texts, or trails, wait to be brought together, which takes about as long for one as for all; and what
their texts may take meanwhile."""

_FOR_EVER = 2.0**40  # seconds: longer than any two instants are apart
_BLANKS = {
    "counts": 0.0,
    "last_at": -np.inf,
    "gaps": np.nan,
    "told_at": -np.inf,  # last access of the row that told of a load; long before that if it knew of none
    "size_bytes": 0,
    "cost": 0.0,  # of all rows that know one, added up
    "costs": 0,  # how many those are
}


class SummedRows:
    """The items' columns, added up; of the half-lives and with as many gaps as `like`."""

    def __init__(self, like: History) -> None:
        self._half_lives = like.half_lives
        counts, gaps = (np.empty((0, n), np.float32) for n in (len(like.half_lives), like.gaps.shape[1]))
        whole, real = np.empty(0, np.int64), np.empty(0)
        columns: dict[str, NDArray[Any]] = {"counts": counts, "gaps": gaps, "size_bytes": whole, "costs": whole}
        self._columns = {name: GrowingArray(columns.get(name, real)) for name in _BLANKS}
        self._texts = {name: _Texts() for name in LOAD_TEXTS}

    def grow(self, size: int) -> None:
        """Let there be `size` rows; nothing is known of the new ones."""
        for name, column in self._columns.items():
            column.add(size - len(column), _BLANKS[name])
        for texts in self._texts.values():
            texts.grow(size)

    def add(self, rows: NDArray[np.int64], history: History) -> None:
        """Add what `history` knows to the distinct `rows`, one for each of its own."""
        self._count(rows, history)
        self._note_loads(rows, history)

    def columns(self) -> dict[str, Any]:
        """The columns by the names of `History`."""
        columns: dict[str, Any] = {name: column.shown() for name, column in self._columns.items()}
        del columns["told_at"]
        with np.errstate(invalid="ignore"):  # none is known of 0
            columns["load_seconds"] = (columns.pop("cost") / columns.pop("costs")).astype(np.float32)
        return columns | {name: texts.current for name, texts in self._texts.items()}

    def _count(self, rows: NDArray[np.int64], history: History) -> None:
        """Add the counts; those of the row that was seen last before are decayed to when the other one was."""
        counts, last_at, gaps = (self._columns[name].changeable() for name in ("counts", "last_at", "gaps"))
        later_by = history.last_at - last_at.take(rows)
        is_later, apart = later_by >= 0, np.abs(later_by)
        added = counts.take(rows, axis=0)
        for n, half_life in enumerate(self._half_lives):  # a column at a time: rows are too short to loop over
            decay = np.exp2(-np.minimum(apart / half_life, MOST_HALVINGS).astype(np.float32))
            before, new = added[:, n], history.counts[:, n]
            added[:, n] = np.where(is_later, before, new) * decay + np.where(is_later, new, before)
        put_rows(counts, rows, added)
        there = np.flatnonzero(is_later)
        last_at[rows.take(there)] = history.last_at.take(there)
        put_rows(gaps, rows.take(there), history.gaps.take(there, axis=0))

    def _note_loads(self, rows: NDArray[np.int64], history: History) -> None:
        """Take over what the row seen last says of its load; one that knows a load comes before any that doesn't."""
        has_cost = ~np.isnan(history.load_seconds)
        told_at = history.last_at - np.where(has_cost | (history.size_bytes > 0), 0.0, _FOR_EVER)
        there = np.flatnonzero(told_at >= self._columns["told_at"].current.take(rows))
        row = rows.take(there)
        self._columns["told_at"].changeable()[row] = told_at.take(there)
        self._columns["size_bytes"].changeable()[row] = history.size_bytes.take(there)
        for name, texts in self._texts.items():
            texts.put(row, getattr(history, name), there)
        there = np.flatnonzero(has_cost)
        self._columns["cost"].changeable()[rows.take(there)] += history.load_seconds.take(there)
        self._columns["costs"].changeable()[rows.take(there)] += 1


class _Texts:
    """A text for each row: those put last wait in the columns that they came in."""

    def __init__(self) -> None:
        self._columns = [TextColumn.of([""])]
        self._place = GrowingArray(np.empty(0, np.int64))  # of each row, in the columns one below the other

    def grow(self, size: int) -> None:
        """Let there be `size` rows, the new ones empty."""
        self._place.add(size - len(self._place), 0)

    def put(self, rows: NDArray[np.int64], texts: TextColumn, there: NDArray[np.int64]) -> None:
        """Let the distinct `rows` be those of `texts` at the rows `there`."""
        if not len(texts.blob):
            self._place.changeable()[rows] = 0
            return
        self._place.changeable()[rows] = there + sum(map(len, self._columns))
        self._columns.append(texts)
        if len(self._columns) > TOGETHER or sum(column.nbytes for column in self._columns[1:]) > TOGETHER_BYTES:
            self._columns = [TextColumn.concatenate([TextColumn.of([""]), self.current])]
            self._place = GrowingArray(np.arange(1, len(self._place) + 1))

    @property
    def current(self) -> TextColumn:
        """All rows."""
        return TextColumn.concatenate(self._columns).take(self._place.current)
