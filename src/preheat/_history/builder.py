"""Accesses folded into history.

Counts decay: an access counts 1 when it happens and half as much after each half-life, for several half-lives at
once, so that both "asked for a lot lately" and "asked for steadily" can be read from the same row.  The newest
accesses are kept besides in their order, the trail.  Folding works on whole batches with array operations; its only
Python loops are over the distinct keys of a batch.  Nothing is made for each item known, neither at the start nor
when the history is shown: columns are shared with it until a fold changes them, and only the trail is put together.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from preheat._columns import TextColumn, is_storable
from preheat._history.changes import TRAIL_LIMIT
from preheat._history.growing import NewestAccesses
from preheat._history.index import Hashes, RowIndex
from preheat._history.rows import ItemRows
from preheat._history.traffic import Traffic
from preheat._model import AccessBatch, History, HistoryChanges, ItemRef

if TYPE_CHECKING:
    from numpy.typing import NDArray

HALF_LIVES = (600.0, 6 * 3600.0, 7 * 86400.0)
GAPS = 4
MOST_LOAD_SECONDS = 1e9  # longer is no measurement
GROWTH = 1.25  # rows kept beyond the limit before the least valuable are dropped, so that dropping is rare


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
    those of an item that is dropped leave it.  `hashes` gives rows their places in the index that finds them.
    """

    def __init__(
        self,
        history: History | None = None,
        *,
        max_items: int = 1_000_000,
        max_trail: int = TRAIL_LIMIT,
        hashes: Hashes = TextColumn.hashes,
    ) -> None:
        past = history or empty_history()
        self._max_items, self._hashes = max_items, hashes
        self._at, self._since, self._half_lives = past.at, past.since, past.half_lives
        self._traffic = Traffic(past.caches, past.hits, past.misses, past.hours, past.hourly)
        self._trail = NewestAccesses(max_trail, past.trail, past.trail_at)
        self._rows = ItemRows(past)
        self._index = self._new_index()
        self._news = _News(len(past))

    def __len__(self) -> int:
        return len(self._rows)

    def fold(self, batch: AccessBatch) -> None:
        """Add the accesses of `batch`, which is not older than the one folded before."""
        if not len(batch.row):
            return
        code = self._traffic.code(batch.cache)
        hits = int(np.count_nonzero(batch.hit))
        self._traffic.count(code, hits * batch.stride, len(batch.hit) - hits, batch.at)
        self._since = self._since or batch.at
        self._at = max(self._at, batch.at)
        try:
            rows = self._locate(code, batch)
        except UnicodeEncodeError:
            batch = _storable(batch)
            rows = self._locate(code, batch)
        weights = batch.times() if batch.stride > 1 else None
        times = np.bincount(batch.row, weights, len(batch.keys)).astype(np.float32)
        self._rows.count(rows, times, batch.at)
        self._note_loads(rows, batch)
        self._trail.append(rows[batch.row], self._at)
        self._news.note(rows, len(batch.row))
        if len(self) > self._max_items * GROWTH:
            self._keep(self._rows.best(self._max_items, self._at))

    def accesses(self) -> dict[str, int]:
        """By cache, how often it has been asked for anything."""
        return {cache: hits + misses for cache, (hits, misses) in self._traffic.totals().items()}

    def traffic(self) -> dict[str, tuple[int, int]]:
        """By cache, how often it has been asked for anything: hits and misses."""
        return self._traffic.totals()

    def hit_ratios(self) -> dict[str, float]:
        """By cache that has been asked for anything, the share of accesses that found their item resident."""
        totals = self._traffic.totals().items()
        return {cache: hits / (hits + misses) for cache, (hits, misses) in totals if hits + misses}

    def forget(self, refs: Collection[ItemRef]) -> int:
        """Drop `refs`, of which nothing is left in any column; returns how many were known."""
        kept = np.ones(len(self), np.bool_)
        for cache in {ref.cache for ref in refs}:
            keys = {ref.key for ref in refs if ref.cache == cache}
            rows = self._index.find(self._traffic.code(cache, new=False), list(filter(is_storable, keys)))
            kept[rows[rows >= 0]] = False
        gone = len(kept) - int(np.count_nonzero(kept))
        if gone:
            self._keep(kept)
        return gone

    def history(self) -> History:
        """The history as it stands; later folds don't change it.

        Its columns are read-only.  Those that the next fold changes are copied then, once; the trail is a copy.
        """
        trail, trail_at = self._trail.newest()
        return self._with_totals(trail=trail, trail_at=trail_at, **self._rows.shown())

    def changes(self) -> HistoryChanges | None:
        """What happened since this was called last, or since the beginning: `with_changes` of the history then and
        these is the history now.

        None if rows have been renumbered since, because some were dropped: then the whole history is due.
        """
        news, self._news = self._news, _News(len(self))
        if news.is_renumbered:
            return None
        row = news.rows(len(self))
        trail, trail_at = self._trail.newest(news.accesses)
        changed = self._with_totals(trail=trail, trail_at=trail_at, **self._rows.take(row))
        return HistoryChanges(changed, row, len(self))

    def _with_totals(self, **columns: Any) -> History:
        traffic: dict[str, Any] = self._traffic.shown()
        return History(
            at=self._at,
            since=self._since,
            half_lives=self._half_lives,
            caches=self._traffic.caches,
            **traffic,
            **columns,
        )

    def _locate(self, code: int, batch: AccessBatch) -> NDArray[np.int64]:
        rows = self._index.find(code, batch.keys)
        new = np.flatnonzero(rows < 0)
        if len(new):
            keys = [batch.keys[n] for n in new.tolist()]
            rows[new] = np.arange(len(self), len(self) + len(new))
            first = len(self)
            self._rows.add(code, TextColumn.of(keys), batch.at)
            self._index.add(code, keys, first)
        return rows

    def _note_loads(self, rows: NDArray[np.int64], batch: AccessBatch) -> None:
        loaded = np.flatnonzero((batch.load_seconds >= 0) & (batch.load_seconds < MOST_LOAD_SECONDS))
        if len(loaded):
            some = loaded.tolist()
            versions, recipes = (list(map(texts.__getitem__, some)) for texts in (batch.versions, batch.recipes))
            self._rows.note_loads(
                rows[loaded],
                batch.size_bytes[loaded],
                batch.load_seconds[loaded],
                _storable_texts(versions),
                _storable_texts(recipes),
            )

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        new_row = np.where(kept, np.cumsum(kept, dtype=np.int32) - 1, -1).astype(np.int32)
        self._trail.renumber(new_row)
        self._rows.keep(kept)
        self._index = self._new_index()
        self._news.is_renumbered = True

    def _new_index(self) -> RowIndex:
        return RowIndex(self._rows.keys, self._rows.cache, self._hashes)


class _News:
    """What has changed since a history had `rows` rows."""

    def __init__(self, rows: int) -> None:
        self.accesses = 0
        self.is_renumbered = False
        self._is_changed = np.zeros(rows, np.bool_)

    def note(self, rows: NDArray[np.int64], accesses: int) -> None:
        """The `rows` have changed, or are new, by `accesses` accesses."""
        if not self.is_renumbered:
            self.accesses += accesses
            self._is_changed[rows[rows < len(self._is_changed)]] = True

    def rows(self, size: int) -> NDArray[np.int64]:
        """The rows that have changed or are new, of `size`, ascending."""
        return np.concatenate([np.flatnonzero(self._is_changed), np.arange(len(self._is_changed), size)])


def _storable(batch: AccessBatch) -> AccessBatch:
    """`batch` without the keys that can't be stored: a file name that is not UTF-8 must not cost the whole history."""
    kept = np.array([is_storable(key) for key in batch.keys], np.bool_)
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


def _storable_texts(texts: list[str]) -> TextColumn:
    try:
        return TextColumn.of(texts)
    except UnicodeEncodeError:
        return TextColumn.of(text if is_storable(text) else "" for text in texts)
