"""The items of a file, gathered into columns while it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from preheat._bad_lines import BadLines
from preheat._columns import TextColumn
from preheat._history import GAPS
from preheat._history.builder import GROWTH
from preheat._history.demanding import demand
from preheat._history.merging import COLUMNS, TEXTS, best_rows, keep_rows, row_bytes
from preheat._model import History
from preheat._portable.lines import Header, Item

if TYPE_CHECKING:
    from numpy.typing import NDArray

AT_ONCE = 2**13  # items that stand in memory as objects
TEXT_AT_ONCE = 2**22  # and characters of their texts
LEAST_FRESH = 2**16  # rows that wait to be looked at together


class ItemRows:
    """Distinct items: the best `max_items`, or as many as `most_bytes` hold, once there are a quarter more."""

    def __init__(self, header: Header, bad: BadLines, max_items: int, most_bytes: int) -> None:
        self._header, self._bad, self._max_items, self._most_bytes = header, bad, max_items, most_bytes
        self._code = {cache.name: code for code, cache in enumerate(header.caches)}
        self._known, self._numbers = self._history([]), np.empty(0, np.int64)
        self._fresh: list[tuple[History, NDArray[np.int64], NDArray[np.int64]]] = []  # rows, numbers, lines
        self._objects: list[tuple[int, Item]] = []
        self._characters = 0

    def add(self, line: int, item: Item) -> None:
        """Add `item`, which stands in line number `line`.

        Raises:
            ValueError: It does not fit the header.
        """
        demand(item.cache in self._code, "its cache is not in the header")
        demand(len(item.counts) == len(self._header.half_lives), "it has another number of counts than of half-lives")
        demand(len(item.gaps) <= GAPS, f"it has more than {GAPS} gaps")
        self._objects.append((line, item))
        self._characters += len(item.key) + len(item.version) + len(item.recipe)
        if len(self._objects) >= AT_ONCE or self._characters >= TEXT_AT_ONCE:
            self._turn_into_columns()
            if self._is_much_fresh():
                self._settle()

    def gathered(self) -> tuple[History, NDArray[np.int64]]:
        """All rows, as a history without hours and trail, and the number of each in the file."""
        self._turn_into_columns()
        self._settle()
        return self._known, self._numbers

    def _turn_into_columns(self) -> None:
        items = [item for _, item in self._objects]
        numbers = np.array([item.number for item in items], np.int64)
        lines = np.array([line for line, _ in self._objects], np.int64)
        self._fresh.append((self._history(items), numbers, lines))
        self._objects, self._characters = [], 0

    def _is_much_fresh(self) -> bool:
        rows = sum(len(rows) for rows, _, _ in self._fresh)
        size_bytes = sum(len(rows) * row_bytes(rows) for rows, _, _ in self._fresh)
        return rows >= max(LEAST_FRESH, len(self._known) // 2) or size_bytes > self._most_bytes // 4

    def _settle(self) -> None:
        fresh, self._fresh = self._fresh, []
        rows = _below([self._known, *(rows for rows, _, _ in fresh)])
        numbers = np.concatenate([self._numbers, *(numbers for _, numbers, _ in fresh)])
        lines = np.concatenate([np.zeros(len(self._known), np.int64), *(lines for _, _, lines in fresh)])
        repeated = _repeated(rows)
        for line in lines[repeated].tolist():
            self._bad.note(line, "its item came before")
        if len(repeated):
            rows, numbers = _keep(rows, numbers, np.delete(np.arange(len(rows)), repeated))
        fitting = max(1, min(self._max_items, self._most_bytes // row_bytes(rows)))
        if len(rows) > fitting * GROWTH:
            rows, numbers = _keep(rows, numbers, best_rows(rows, fitting))
        self._known, self._numbers = rows, numbers

    def _history(self, items: list[Item]) -> History:
        header, n = self._header, len(items)
        gaps = np.full((n, GAPS), np.nan, np.float32)
        for row, item in enumerate(items):
            gaps[row, : len(item.gaps)] = item.gaps
        return History(
            at=header.at,
            since=header.since,
            half_lives=tuple(header.half_lives),
            caches=tuple(cache.name for cache in header.caches),
            cache=np.array([self._code[item.cache] for item in items], np.int16),
            keys=TextColumn.of(item.key for item in items),
            counts=np.array([item.counts for item in items], np.float32).reshape(n, len(header.half_lives)),
            last_at=np.array([item.last_at for item in items], np.float64),
            gaps=gaps,
            size_bytes=np.array([item.size_bytes for item in items], np.int64),
            load_seconds=np.array([item.load_seconds for item in items], np.float32),  # NaN where it is None
            versions=TextColumn.of(item.version for item in items),
            recipes=TextColumn.of(item.recipe for item in items),
            hits=np.array([cache.hits for cache in header.caches], np.int64),
            misses=np.array([cache.misses for cache in header.caches], np.int64),
        )


def _keep(history: History, numbers: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[History, NDArray[np.int64]]:
    return keep_rows(history, rows), numbers[rows]


def _below(parts: list[History]) -> History:
    """The rows of `parts`, one part after another, with the rest of the first."""
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    texts: dict[str, Any] = {name: TextColumn.concatenate([getattr(part, name) for part in parts]) for name in TEXTS}
    first = parts[0]
    return History(
        first.at, first.since, first.half_lives, first.caches, hits=first.hits, misses=first.misses, **columns, **texts
    )


def _repeated(history: History) -> NDArray[np.int64]:
    """The rows whose item stands in a row before, ascending."""
    hashes = history.keys.hashes(history.cache)
    order = np.argsort(hashes, kind="stable")
    alike = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    seen: set[tuple[int, str]] = set()
    found = []
    for row in np.union1d(order[alike], order[alike + 1]).tolist():
        item = int(history.cache[row]), history.keys[row]
        if item in seen:
            found.append(row)
        seen.add(item)
    return np.array(found, np.int64)
