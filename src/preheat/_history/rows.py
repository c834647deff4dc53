"""The rows of a history while they grow and change: one column for each of its fields that speak of items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from preheat._columns import TextColumn
from preheat._history.growing import ChangingText, GrowingArray, GrowingText

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat._model import History

MOST_GAP_SECONDS = 1e12  # instants may come from a forged file
MOST_HALVINGS = 200.0  # of which nothing is left in 32 bits
LOAD_SMOOTHING = 0.3  # weight of the newest load; a cold disk or a busy model should not decide alone
NUMBERS = ("counts", "last_at", "gaps", "size_bytes", "load_seconds")
LOAD_TEXTS = ("versions", "recipes")
_BLANKS = {"counts": 0.0, "gaps": np.nan, "size_bytes": 0, "load_seconds": np.nan}


class ItemRows:
    """The items of `history` and those added to them.  What it has shown does not change."""

    def __init__(self, history: History) -> None:
        self._half_lives = np.array(history.half_lives)
        self.keys = GrowingText(history.keys)
        self.cache = GrowingArray(history.cache)
        self._numbers = {name: GrowingArray(getattr(history, name)) for name in NUMBERS}
        self._texts = {name: ChangingText(getattr(history, name)) for name in LOAD_TEXTS}

    def __len__(self) -> int:
        return len(self.cache)

    @property
    def widths(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of a row's counts and gaps."""
        return tuple(self._numbers[name].current.shape[1:] for name in ("counts", "gaps"))

    def shown(self) -> dict[str, Any]:
        """The columns by the names of `History`."""
        columns: dict[str, Any] = {"keys": self.keys.shown(), "cache": self.cache.shown()}
        for name, column in (self._numbers | self._texts).items():
            columns[name] = column.shown()
        return columns

    def take(self, rows: NDArray[np.int64]) -> dict[str, Any]:
        """The columns of `rows` only."""
        columns: dict[str, Any] = {"keys": self.keys.current.take(rows), "cache": self.cache.current[rows]}
        for name, numbers in self._numbers.items():
            columns[name] = numbers.current.take(rows, axis=0)
        for name, texts in self._texts.items():
            columns[name] = texts.take(rows)
        return columns

    def add(self, code: int, keys: TextColumn, at: float) -> None:
        """Add items of the cache `code`, about which nothing is known but that they were asked for `at`."""
        rows = len(keys)
        self.keys.add(keys)
        self.cache.add(rows, code)
        for name, numbers in self._numbers.items():
            numbers.add(rows, _BLANKS.get(name, at))
        for texts in self._texts.values():
            texts.add(rows)

    def put(self, row: NDArray[np.int64], changed: History) -> None:
        """Let `row`, ascending, be the rows of `changed`; those behind the last one are the next ones."""
        new = int(np.count_nonzero(row >= len(self)))
        self.keys.add(changed.keys.take(np.arange(len(row) - new, len(row))))
        self.cache.add(new, changed.cache[len(row) - new :])
        for name, numbers in self._numbers.items():
            numbers.add(new, 0)
            numbers.changeable()[row] = getattr(changed, name)
        for name, texts in self._texts.items():
            texts.add(new)
            texts.put(row, getattr(changed, name))

    def count(self, rows: NDArray[np.int64], times: NDArray[np.float32], at: float) -> None:
        """The distinct `rows` have been asked for `times` (len(rows),) each, `at` one instant."""
        last_at, counts = self._numbers["last_at"].changeable(), self._numbers["counts"].changeable()
        last = last_at.take(rows)
        gap = np.clip(at - last, 0.0, MOST_GAP_SECONDS)
        asked = counts.take(rows, axis=0)
        for n, half_life in enumerate(self._half_lives.tolist()):  # a column at a time: rows are too short to loop over
            decay = np.exp2(-np.minimum(gap / half_life, MOST_HALVINGS).astype(np.float32))
            asked[:, n] = asked[:, n] * decay + times
        put_rows(counts, rows, asked)
        last_at[rows] = np.maximum(last, at)
        again = np.flatnonzero(gap)
        if len(again):
            self._note_gaps(rows[again], gap[again])

    def _note_gaps(self, rows: NDArray[np.int64], newest: NDArray[np.float64]) -> None:
        gaps = self._numbers["gaps"].changeable()
        moved = gaps.take(rows, axis=0)
        flat = moved.ravel()
        flat[1:] = flat[:-1].copy()  # all rows by one place in one go
        moved[:, 0] = newest  # where the last of the row before has come to
        put_rows(gaps, rows, moved)

    def note_loads(
        self,
        rows: NDArray[np.int64],
        size_bytes: NDArray[np.int64],
        load_seconds: NDArray[np.float64],
        versions: TextColumn,
        recipes: TextColumn,
    ) -> None:
        """The distinct `rows` have been loaded; times are smoothed, all else is as of the newest load."""
        seconds = self._numbers["load_seconds"].changeable()
        known = seconds[rows]
        seconds[rows] = np.where(np.isnan(known), load_seconds, known + LOAD_SMOOTHING * (load_seconds - known))
        self._numbers["size_bytes"].changeable()[rows] = size_bytes
        self._texts["versions"].put(rows, versions)
        self._texts["recipes"].put(rows, recipes)

    def best(self, most: int, at: float) -> NDArray[np.bool_]:
        """(n,) whether the item is among the `most` with the highest counts by the longest half-life as of `at`.

        Among equals those asked for last, and then those that came first.
        """
        last_at = self._numbers["last_at"].current
        counts = self._numbers["counts"].current[:, -1] * np.exp2(-np.maximum(at - last_at, 0.0) / self._half_lives[-1])
        kept = np.zeros(len(self), np.bool_)
        kept[highest(most, np.nan_to_num(counts), last_at)] = True
        return kept

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Drop all rows but those `kept` (n,); nothing of the others is left."""
        self.keys = GrowingText(self.keys.current.where(kept))
        self.cache = GrowingArray(self.cache.current[kept])
        for name, numbers in self._numbers.items():
            self._numbers[name] = GrowingArray(numbers.current[kept])
        for name, texts in self._texts.items():
            self._texts[name] = ChangingText(texts.shown().where(kept))


def put_rows(column: NDArray[Any], rows: NDArray[np.int64], values: NDArray[Any]) -> None:
    """`column[rows] = values`, each row of several numbers being written as one."""
    whole = np.dtype((np.void, column.itemsize * column.shape[1]))
    column.view(whole)[rows] = values.view(whole)


def highest(most: int, first: NDArray[Any], *then: NDArray[Any]) -> NDArray[np.int64]:
    """The rows, at most `most`, with the highest `first`; among equals, with the highest of the next, and so on.

    Among equals in all, the first ones.  In no order; linear in the rows, unlike sorting.
    """
    if most >= len(first):
        return np.arange(len(first))
    if most <= 0:
        return np.empty(0, np.int64)
    least = np.partition(first, len(first) - most)[len(first) - most]
    above, level = np.flatnonzero(first > least), np.flatnonzero(first == least)
    room = most - len(above)
    chosen = highest(room, *(column[level] for column in then)) if then else np.arange(room)
    return np.concatenate([above, level[chosen]])
