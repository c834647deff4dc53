"""Accesses folded into history.

Counts decay: an access counts 1 when it happens and half as much after each half-life, for several half-lives at
once, so that both "asked for a lot lately" and "asked for steadily" can be read from the same row.  The newest
accesses are kept besides in their order, the trail.  Folding works on whole batches with array operations; its only
Python loop maps a batch's distinct keys to rows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from preheat._columns import TextColumn
from preheat._model import AccessBatch, History, HistoryChanges, ItemRef

if TYPE_CHECKING:
    from numpy.typing import NDArray

HALF_LIVES = (600.0, 6 * 3600.0, 7 * 86400.0)
GAPS = 4
LOAD_SMOOTHING = 0.3  # weight of the newest load; a cold disk or a busy model should not decide alone
MOST_LOAD_SECONDS = 1e9  # longer is no measurement
GROWTH = 1.25  # rows kept beyond the limit before the least valuable are dropped, so that dropping is rare
TRAIL_LIMIT = 2**20  # newest accesses kept in their order
LEAST_SPARE = 1024  # accesses


def empty_history(half_lives: tuple[float, ...] = HALF_LIVES) -> History:
    """A history of nothing."""
    none = TextColumn.of(())
    return History(
        at=0.0,
        since=0.0,
        half_lives=half_lives,
        caches=(),
        cache=np.empty(0, np.int16),
        keys=none,
        counts=np.empty((0, len(half_lives)), np.float32),
        last_at=np.empty(0),
        gaps=np.empty((0, GAPS), np.float32),
        size_bytes=np.empty(0, np.int64),
        load_seconds=np.empty(0, np.float32),
        versions=none,
        recipes=none,
        hits=np.empty(0, np.int64),
        misses=np.empty(0, np.int64),
    )


class HistoryBuilder:
    """A history that grows by folding.  Not thread-safe: one folder owns it.

    At most `max_items` items are remembered, and between two clearings up to a quarter more.  Which ones: those
    with the highest count by the longest half-life; among equals, the ones asked for last.  Keys that UTF-8 can't
    hold are counted as traffic and not remembered.  The trail is the newest `max_trail` accesses to remembered items;
    those of an item that is dropped leave it.
    """

    def __init__(
        self, history: History | None = None, *, max_items: int = 1_000_000, max_trail: int = TRAIL_LIMIT
    ) -> None:
        past = history or empty_history()
        self._max_items = max_items
        self._at, self._since, self._half_lives = past.at, past.since, past.half_lives
        self._caches = list(past.caches)
        self._hits, self._misses = past.hits.tolist(), past.misses.tolist()
        self._texts = {name: list(getattr(past, name)) for name in _TEXTS}
        self._columns = {name: np.array(getattr(past, name)) for name in _COLUMNS}
        self._trail = _Trail(max_trail, past.trail, past.trail_at)
        self._rows: dict[tuple[int, str], int] = {}
        self._touched: list[NDArray[np.int64]] = []
        self._followed, self._renumbered = 0, False
        self._index()

    def __len__(self) -> int:
        return len(self._texts["keys"])

    def fold(self, batch: AccessBatch) -> None:
        """Add the accesses of `batch`, which is not older than the one folded before."""
        if not len(batch.row):
            return
        code = self._code(batch.cache)
        self._since = self._since or batch.at
        self._at = max(self._at, batch.at)
        hits = int(batch.hit.sum())
        self._hits[code] += hits * batch.stride
        self._misses[code] += len(batch.hit) - hits
        batch = _storable(batch)
        rows = self._locate(code, batch)
        self._count(rows, np.bincount(batch.row, batch.times(), minlength=len(batch.keys)), batch.at)
        self._note_loads(rows, batch)
        self._trail.append(rows[batch.row], self._at)
        self._touched.append(rows)
        self._followed += len(batch.row)
        if len(self) > self._max_items * GROWTH:
            self._shrink()

    def accesses(self) -> dict[str, int]:
        """By cache, how often it has been asked for anything."""
        counts = zip(self._caches, self._hits, self._misses, strict=True)
        return {cache: hits + misses for cache, hits, misses in counts}

    def hit_ratios(self) -> dict[str, float]:
        """By cache that has been asked for anything, the share of accesses that found their item resident."""
        counts = zip(self._caches, self._hits, self._misses, strict=True)
        return {cache: hits / (hits + misses) for cache, hits, misses in counts if hits + misses}

    def forget(self, refs: Collection[ItemRef]) -> int:
        """Drop `refs`; returns how many were known."""
        codes = {name: code for code, name in enumerate(self._caches)}
        gone = {self._rows.get((codes.get(ref.cache, -1), ref.key), -1) for ref in refs} - {-1}
        if gone:
            self._keep(np.setdiff1d(np.arange(len(self)), np.fromiter(gone, np.int64)))
        return len(gone)

    def history(self) -> History:
        """The history as it stands; later folds don't change it."""
        n = len(self)
        texts: dict[str, Any] = {name: TextColumn.of(column) for name, column in self._texts.items()}
        columns: dict[str, Any] = {name: column[:n].copy() for name, column in self._columns.items()}
        trail, trail_at = self._trail.newest()
        return History(
            at=self._at,
            since=self._since,
            half_lives=self._half_lives,
            caches=tuple(self._caches),
            hits=np.array(self._hits, np.int64),
            misses=np.array(self._misses, np.int64),
            trail=trail,
            trail_at=trail_at,
            hourly=np.empty((0, len(self._caches), 2), np.int64),
            **texts,
            **columns,
        )

    def changes(self) -> HistoryChanges | None:
        """What happened since this was called last, or since the beginning; None where rows were renumbered."""
        touched, followed, renumbered = self._touched, self._followed, self._renumbered
        self._touched, self._followed, self._renumbered = [], 0, False
        if renumbered:
            return None
        now = self.history()
        row = np.unique(np.concatenate([np.empty(0, np.int64), *touched]))
        added = slice(max(0, len(now.trail) - followed), len(now.trail))
        columns: dict[str, Any] = {name: getattr(now, name)[row] for name in _COLUMNS}
        texts: dict[str, Any] = {name: getattr(now, name).take(row) for name in _TEXTS}
        trail: dict[str, Any] = {"trail": now.trail[added], "trail_at": now.trail_at[added]}
        return HistoryChanges(replace(now, **columns, **texts, **trail), row, len(self))

    def _code(self, cache: str) -> int:
        if cache not in self._caches:
            self._caches.append(cache)
            self._hits.append(0)
            self._misses.append(0)
        return self._caches.index(cache)

    def _locate(self, code: int, batch: AccessBatch) -> np.ndarray[Any, np.dtype[np.int64]]:
        known, found, new = self._rows, [], 0
        n = len(self)
        for key in batch.keys:
            row = known.setdefault((code, key), n + new)
            new += row == n + new
            found.append(row)
        rows = np.array(found, np.int64)
        if new:
            fresh = np.flatnonzero(rows >= n).tolist()
            self._texts["keys"].extend(batch.keys[i] for i in fresh)
            self._texts["versions"].extend("" for _ in fresh)
            self._texts["recipes"].extend("" for _ in fresh)
            self._reserve(n + new)
            span = slice(n, n + new)
            for name, blank in _BLANKS.items():
                self._columns[name][span] = blank
            self._columns["cache"][span] = code
            self._columns["last_at"][span] = batch.at
        return rows

    def _count(self, rows: Any, times: Any, at: float) -> None:
        columns = self._columns
        gap = at - columns["last_at"][rows]
        decay = np.exp2(-np.maximum(gap, 0.0)[:, None] / np.array(self._half_lives))
        columns["counts"][rows] = columns["counts"][rows] * decay + times[:, None]
        again = rows[gap > 0]
        columns["gaps"][again, 1:] = columns["gaps"][again, :-1]
        columns["gaps"][again, 0] = gap[gap > 0]
        columns["last_at"][rows] = np.maximum(columns["last_at"][rows], at)

    def _note_loads(self, rows: Any, batch: AccessBatch) -> None:
        loaded = np.flatnonzero((batch.load_seconds >= 0) & (batch.load_seconds < MOST_LOAD_SECONDS))
        at, seconds = rows[loaded], batch.load_seconds[loaded]
        known = self._columns["load_seconds"][at]
        smoothed = np.where(np.isnan(known), seconds, known + LOAD_SMOOTHING * (seconds - known))
        self._columns["load_seconds"][at] = smoothed
        self._columns["size_bytes"][at] = batch.size_bytes[loaded]
        for i, row in zip(loaded.tolist(), at.tolist(), strict=True):
            self._texts["versions"][row] = batch.versions[i] if _is_storable(batch.versions[i]) else ""
            self._texts["recipes"][row] = batch.recipes[i] if _is_storable(batch.recipes[i]) else ""

    def _reserve(self, rows: int) -> None:
        capacity = len(self._columns["cache"])
        if rows > capacity:
            for name, column in self._columns.items():
                grown = np.empty((max(rows, 2 * capacity, 1024), *column.shape[1:]), column.dtype)
                grown[: len(column)] = column
                self._columns[name] = grown

    def _shrink(self) -> None:
        history = self.history()
        kept_by = history.decayed_counts(self._at)[:, -1]
        best = np.lexsort((-history.last_at, -kept_by))[: self._max_items]
        self._keep(np.sort(best))

    def _keep(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        new_row = np.full(len(self), -1, np.int32)
        new_row[rows] = np.arange(len(rows))
        self._trail.renumber(new_row)
        self._renumbered = True
        self._texts = {name: [texts[r] for r in rows.tolist()] for name, texts in self._texts.items()}
        self._columns = {name: column[rows] for name, column in self._columns.items()}
        self._index()

    def _index(self) -> None:
        codes = self._columns["cache"].tolist()
        self._rows = {(c, key): row for row, (c, key) in enumerate(zip(codes, self._texts["keys"], strict=True))}


def with_changes(history: History, *changes: HistoryChanges) -> History:
    """`history` after all of `changes`, in their order.

    Raises:
        ValueError: One of them doesn't fit what comes before it.
    """
    for each in changes:
        history = _with_change(history, each)
    return history


def _with_change(history: History, changes: HistoryChanges) -> History:
    n, now, row = len(history), changes.rows, changes.row
    new = row[np.searchsorted(row, n) :]
    if changes.size < n or not np.array_equal(new, np.arange(n, changes.size)) or now.at < history.at:
        raise ValueError("the changes don't fit the history")
    if now.caches[: len(history.caches)] != history.caches or now.half_lives != history.half_lives:
        raise ValueError("the changes are of other caches or half-lives")
    source = np.arange(changes.size)  # where each row comes from, the changed ones standing behind the old ones
    source[row] = n + np.arange(len(row))
    both = {name: (getattr(history, name), getattr(now, name)) for name in (*_COLUMNS, *_TEXTS)}
    columns: dict[str, Any] = {name: np.concatenate(both[name])[source] for name in _COLUMNS}
    texts: dict[str, Any] = {name: TextColumn.concatenate(both[name]).take(source) for name in _TEXTS}
    trail = np.concatenate([history.trail, now.trail])[-TRAIL_LIMIT:]
    trail_at = np.concatenate([history.trail_at, now.trail_at])[-TRAIL_LIMIT:]
    return replace(now, **columns, **texts, trail=trail, trail_at=trail_at)


class _Trail:
    """The newest accesses, at most `limit`.

    What stands in its two arrays never changes: new accesses are written behind, and where there is no room the
    newest move to other arrays.  So views of them can be given out, and a move is as rare as it is long.
    """

    def __init__(self, limit: int, rows: NDArray[np.int32], at: NDArray[np.float64]) -> None:
        self._limit = limit
        self._rows, self._at = np.empty(0, np.int32), np.empty(0)
        self._stop = 0
        self._move(rows, at, room=0)

    def append(self, rows: NDArray[np.int64], at: float) -> None:
        """Add accesses to `rows`, all at the instant `at`."""
        rows = rows[max(0, len(rows) - self._limit) :]
        if self._stop + len(rows) > len(self._rows):
            self._move(*self.newest(), room=len(rows))
        span = slice(self._stop, self._stop + len(rows))
        self._rows[span], self._at[span] = rows, at
        self._stop = span.stop

    def newest(self) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The rows asked for and the instants; read-only, and left as they are by what is added later."""
        span = slice(max(0, self._stop - self._limit), self._stop)
        rows, at = self._rows[span], self._at[span]
        rows.flags.writeable = at.flags.writeable = False
        return rows, at

    def renumber(self, new_row: NDArray[np.int32]) -> None:
        """Row r is called `new_row[r]` from now on; -1 drops its accesses."""
        rows, at = self.newest()
        renamed = new_row[rows]
        kept = renamed >= 0
        self._move(renamed[kept], at[kept], room=0)

    def _move(self, rows: NDArray[np.int32], at: NDArray[np.float64], *, room: int) -> None:
        kept = slice(max(0, len(rows) - self._limit), len(rows))
        rows, at = rows[kept], at[kept]
        spare = max(room, min(len(rows), int(self._limit * (GROWTH - 1))), LEAST_SPARE)
        self._rows, self._at = np.empty(len(rows) + spare, np.int32), np.empty(len(rows) + spare)
        self._rows[: len(rows)], self._at[: len(rows)] = rows, at
        self._stop = len(rows)


def _storable(batch: AccessBatch) -> AccessBatch:
    """`batch` without the keys that can't be stored: a file name that is not UTF-8 must not cost the whole history."""
    kept = np.array([_is_storable(key) for key in batch.keys], np.bool_)
    if kept.all():
        return batch
    new_row = np.cumsum(kept) - 1
    rows = np.flatnonzero(kept)
    known = kept[batch.row]
    return batch._replace(
        keys=[batch.keys[i] for i in rows.tolist()],
        row=new_row[batch.row[known]],
        hit=batch.hit[known],
        size_bytes=batch.size_bytes[rows],
        load_seconds=batch.load_seconds[rows],
        versions=[batch.versions[i] for i in rows.tolist()],
        recipes=[batch.recipes[i] for i in rows.tolist()],
    )


def _is_storable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_TEXTS = ("keys", "versions", "recipes")
_COLUMNS = ("cache", "counts", "last_at", "gaps", "size_bytes", "load_seconds")
_BLANKS = {"counts": 0.0, "gaps": np.nan, "size_bytes": 0, "load_seconds": np.nan}
