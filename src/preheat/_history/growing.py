"""Columns that rows are added to and changed in, while what was shown of them stays as it was.

A history of ten million rows is shown for each plan and each training.  Nothing is copied for that: a view is given
out, and only when a row that somebody may be looking at is to change does its column move to another place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from preheat._columns import TextColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 2**16  # accesses of a trail that are held together
SPARE = 1 / 4  # of a column's length, kept free behind it, so that moves are as rare as they are long
LEAST_SPARE = 1024
MOST_WAITING = 2**16  # changed texts that lie over their column; of a long one, a quarter of its rows
OVERLAY_RATIO = 1 / 4


class GrowingArray:
    """An array of rows; never changes an array that it was made of or has shown."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._array, self._stop = values, len(values)
        self._is_shown = True

    def __len__(self) -> int:
        return self._stop

    @property
    def current(self) -> NDArray[Any]:
        """The rows, to be read before the next change and not kept."""
        return self._array[: self._stop]

    def shown(self) -> NDArray[Any]:
        """The rows as they stand: read-only, and left as they are by what comes later."""
        self._is_shown = True
        view = self._array[: self._stop]
        view.flags.writeable = False
        return view

    def changeable(self) -> NDArray[Any]:
        """The rows, to be changed in place before the next call."""
        if self._is_shown:
            self._move(self._stop)
        return self._array[: self._stop]

    def add(self, rows: int, values: NDArray[Any] | float) -> None:
        """Add `rows` rows: `values`, or as many of one value."""
        start, self._stop = self._stop, self._stop + rows
        if self._stop > len(self._array):
            self._move(start)
        if rows:
            self._array[start : self._stop] = values

    def _move(self, rows: int) -> None:
        spare = max(LEAST_SPARE, int(self._stop * SPARE))
        place = np.empty((self._stop + spare, *self._array.shape[1:]), self._array.dtype)
        place[:rows] = self._array[:rows]
        self._array, self._is_shown = place, False


class GrowingText:
    """A text column that rows are added to and that no row changes in."""

    def __init__(self, column: TextColumn) -> None:
        self._blob, self._offsets = GrowingArray(column.blob), GrowingArray(column.offsets)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def current(self) -> TextColumn:
        """The rows, to be read before the next change and not kept."""
        return TextColumn(self._blob.current, self._offsets.current)

    def shown(self) -> TextColumn:
        """The rows as they stand, left as they are by what comes later."""
        return TextColumn(self._blob.shown(), self._offsets.shown())

    def add(self, texts: TextColumn) -> None:
        """Put `texts` behind the others."""
        end = self._offsets.current[-1]
        self._blob.add(len(texts.blob), texts.blob)
        self._offsets.add(len(texts), texts.offsets[1:] + end)


class ChangingText:
    """A text column in which rows change: their new texts lie over it until they are many, then it is written anew.

    New rows are empty.
    """

    def __init__(self, column: TextColumn) -> None:
        self._base, self._rows = column, len(column)
        self._over: list[tuple[NDArray[np.int64], TextColumn]] = []
        self._waiting = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, rows: int) -> None:
        """Add `rows` empty rows."""
        self._rows += rows

    def put(self, rows: NDArray[np.int64], texts: TextColumn) -> None:
        """Let the distinct `rows` be `texts`."""
        if len(rows):
            self._over.append((rows, texts))
        self._waiting += len(rows)
        if self._waiting > max(MOST_WAITING, self._rows * OVERLAY_RATIO):
            self.shown()

    def take(self, rows: NDArray[np.int64]) -> TextColumn:
        """The texts of `rows`."""
        changed, texts = self._overlay()
        place = np.searchsorted(changed, rows)
        place[place == len(changed)] = 0
        is_changed = changed[place] == rows if len(changed) else np.zeros(len(rows), np.bool_)
        old = ~is_changed & (rows < len(self._base))
        parts = TextColumn.concatenate([TextColumn.of([""]), self._base.take(rows[old]), texts])
        source = np.zeros(len(rows), np.int64)
        source[old] = 1 + np.arange(np.count_nonzero(old))
        source[is_changed] = 1 + np.count_nonzero(old) + place[is_changed]
        return parts.take(source)

    def shown(self) -> TextColumn:
        """All rows as they stand, left as they are by what comes later."""
        if self._over or self._rows > len(self._base):
            self._base = self._base.replaced(*self._overlay(), self._rows)
            self._over, self._waiting = [], 0
        return self._base

    def _overlay(self) -> tuple[NDArray[np.int64], TextColumn]:
        """The rows that have changed, ascending, and their newest texts."""
        if not self._over:
            return np.empty(0, np.int64), TextColumn.of(())
        self._over = [_newest(self._over)]
        return self._over[0]


def _newest(parts: Sequence[tuple[NDArray[np.int64], TextColumn]]) -> tuple[NDArray[np.int64], TextColumn]:
    rows = np.concatenate([rows for rows, _ in parts])
    order = np.argsort(rows, kind="stable")
    last = np.append(np.diff(rows[order]) > 0, True)
    return rows[order][last], TextColumn.concatenate([texts for _, texts in parts]).take(order[last])


class NewestAccesses:
    """The newest accesses in their order, at most `limit`: the trail.

    They stand in chunks: new accesses are written behind the others in the last one, and the first one is let go once
    it is too old as a whole.  What has been written never changes, so views of it can be given out.
    """

    def __init__(self, limit: int, rows: NDArray[np.int32], at: NDArray[np.float64]) -> None:
        self._limit = limit
        self._start_with(rows, at)

    def append(self, rows: NDArray[np.int64], at: NDArray[np.float64] | float) -> None:
        """Add accesses to `rows` at the instants `at`, or all at one."""
        done = max(0, len(rows) - self._limit)
        while done < len(rows):
            if not self._room:
                self._begin_chunk()
            part = slice(done, min(len(rows), done + self._room))
            of_rows, of_at = (chunk[len(chunk) - self._room :][: part.stop - part.start] for chunk in self._chunks[-1])
            of_rows[:], of_at[:] = rows[part], at if isinstance(at, float) else at[part]
            self._room -= part.stop - part.start
            done = part.stop

    def newest(self, most: int | None = None) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The rows asked for and the instants; read-only, and left as they are by what is added later."""
        most = self._limit if most is None else min(most, self._limit)
        rows, at = (_newest_of(chunks, self._room, most) for chunks in zip(*self._chunks, strict=True))
        return rows, at

    def renumber(self, new_row: NDArray[np.int32]) -> None:
        """Row r is called `new_row[r]` from now on; -1 drops its accesses."""
        rows, at = self.newest()
        renamed = new_row[rows]
        kept = renamed >= 0
        self._start_with(renamed[kept], at[kept])

    def _start_with(self, rows: NDArray[np.int32], at: NDArray[np.float64]) -> None:
        self._chunks = [(rows, at)]
        self._room = 0  # behind what has been written, in the last chunk

    def _begin_chunk(self) -> None:
        self._chunks.append((np.empty(CHUNK, np.int32), np.empty(CHUNK)))
        self._room = CHUNK
        behind = sum(len(rows) for rows, _ in self._chunks[1:-1])
        if behind >= self._limit:
            del self._chunks[0]


def _newest_of(chunks: Sequence[NDArray[Any]], room: int, most: int) -> NDArray[Any]:
    """The last `most` of what stands in `chunks` before the last `room` places, or all: read-only."""
    parts: list[NDArray[Any]] = []
    for chunk in reversed((*chunks[:-1], chunks[-1][: len(chunks[-1]) - room])):
        parts.append(chunk[max(0, len(chunk) - most) :])
        most -= len(parts[-1])
        if not most:
            break
    newest = np.concatenate(parts[::-1]) if len(parts) > 1 else parts[0]
    newest.flags.writeable = False
    return newest
