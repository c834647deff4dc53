"""Two histories -> one: what two processes saw apart, or what was recorded and what a log tells.

Nothing is replaced: traffic adds up, and what only one of the two knows stays known.  Rows are matched by 64 bits of
their items; whatever has equal bits is compared as text, so nothing is ever taken for something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash

from preheat._columns import TextColumn, spans
from preheat._history.builder import GROWTH
from preheat._history.changes import TRAIL_LIMIT
from preheat._history.rows import LOAD_TEXTS, NUMBERS, highest
from preheat._history.traffic import MOST_HOURS
from preheat._model import History

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ITEMS = 1_000_000
MOST_CACHES = 2**15  # that an int16 can tell apart


def merge_histories(older: History, newer: History, *, max_items: int = MAX_ITEMS) -> History:
    """One history of the traffic of both, which have no access in common.

    Of an item that both know, decayed counts are added and the last access is the later one; the gaps are those of the
    row seen last, going on with those of the other one if all of its accesses came before; size, version and recipe
    those of the row seen last among those that know a load, and the cost is the mean of what they know.  Hits, misses
    and hours are added, trails interleaved by time.

    Rows of `older` keep their order and, unless rows are dropped, their numbers; those only `newer` has come behind.
    Apart from the order of rows, and rounding of the counts, it makes no difference which history is given first.
    Dropped are rows beyond `max_items` and a quarter, by `HistoryBuilder`'s rule, and accesses beyond `TRAIL_LIMIT`.

    Raises:
        ValueError: The half-lives differ, or the two have more than 32,768 caches.
    """
    if older.half_lives != newer.half_lives:
        raise ValueError(f"histories of different half-lives can't be merged: {older.half_lives}, {newer.half_lives}")
    pair = _Pair.of(older, newer)
    merged = History(
        at=max(older.at, newer.at),
        since=min((part.since for part in (older, newer) if part.since), default=0.0),
        half_lives=older.half_lives,
        caches=pair.caches,
        **_rows(pair),
        **_traffic(pair),
        **_trail(pair),
    )
    return _bounded(merged, max_items)


class _Pair(NamedTuple):
    """Two histories and how their rows, standing one below the other, become those of one.

    Attributes:
        older, newer: The histories.
        caches: The names of both.
        codes: For each of the two, the new numbers of its caches.
        place: (n_older + n_newer,) where each row goes.
        first: (n,) for each row of the result, the row that put it there.
        second: (n,) the other row of the same item; that row itself where there is none.
        newer_wins: Whether, of two rows seen last at the same instant, that of `newer` counts as the later.
    """

    older: History
    newer: History
    caches: tuple[str, ...]
    codes: tuple[NDArray[np.int16], NDArray[np.int16]]
    place: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    newer_wins: bool

    @classmethod
    def of(cls, older: History, newer: History) -> _Pair:
        caches = tuple(dict.fromkeys(older.caches + newer.caches))
        if len(caches) > MOST_CACHES:
            raise ValueError(f"histories of {len(caches)} caches can't be merged; {MOST_CACHES} is the most")
        number = {name: code for code, name in enumerate(caches)}
        codes = (_numbers(older, number), _numbers(newer, number))
        known, twins = _same_items(older, codes[0], newer, codes[1])
        fresh = np.ones(len(newer), np.bool_)
        fresh[twins] = False
        place = np.arange(len(older) + len(newer))
        place[len(older) :] = len(older) - 1 + np.cumsum(fresh)
        place[len(older) + twins] = known
        first = np.concatenate([np.arange(len(older)), len(older) + np.flatnonzero(fresh)])
        second = first.copy()
        second[known] = len(older) + twins
        return cls(older, newer, caches, codes, place, first, second, _digest(older) < _digest(newer))

    def both(self, name: str) -> NDArray[Any]:
        """A column of the one below that of the other."""
        return np.concatenate([getattr(self.older, name), getattr(self.newer, name)])


def _numbers(history: History, number: dict[str, int]) -> NDArray[np.int16]:
    return np.array([number[name] for name in history.caches], np.int16)


def _digest(history: History) -> tuple[float, int]:
    """What tells two histories apart whichever comes first."""
    digest = xxhash.xxh3_64()
    texts = (history.keys.blob, history.versions.blob, history.recipes.blob)
    for column in (*texts, *(getattr(history, name) for name in COLUMNS), history.trail, history.trail_at):
        digest.update(np.ascontiguousarray(column).data)
    return history.at, digest.intdigest()


# ---------------------------------------------------------------------------------------------------------- matching


def _same_items(
    older: History, older_codes: NDArray[np.int16], newer: History, newer_codes: NDArray[np.int16]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of `older` and of `newer` that are the same items, in pairs."""
    if not len(older) or not len(newer):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    left, right = older_codes[older.cache], newer_codes[newer.cache]
    hashes = np.concatenate([older.keys.hashes(left), newer.keys.hashes(right)])
    order = np.argsort(hashes, kind="stable")  # of equal bits, rows of `older` come first
    ranked = hashes[order]
    alike = np.concatenate([[False], ranked[1:] == ranked[:-1], [False]])  # with the row before
    alone = alike[1:-1] & ~alike[:-2] & ~alike[2:]
    starts, crowd = np.flatnonzero(alone), np.flatnonzero(alike[1:-1] & ~alone)
    a, b = order[starts], order[starts + 1] - len(older)
    across = (a < len(older)) & (b >= 0)
    a, b = a[across], b[across]
    same = (left[a] == right[b]) & _same_texts(older.keys, a, newer.keys, b)
    more_a, more_b = _told_apart(older, left, newer, right, order[np.union1d(crowd, crowd + 1)])
    return np.concatenate([a[same], more_a]), np.concatenate([b[same], more_b])


def _told_apart(
    older: History, left: NDArray[np.int16], newer: History, right: NDArray[np.int16], suspects: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs among the rows that share their bits with more than one other: few, unless somebody wants it."""
    mine, theirs = suspects[suspects < len(older)], suspects[suspects >= len(older)] - len(older)
    known = {(int(left[row]), older.keys[row]): row for row in mine.tolist()}
    partner = np.array([known.get((int(right[row]), newer.keys[row]), -1) for row in theirs.tolist()], np.int64)
    return partner[partner >= 0], theirs[partner >= 0]


def _same_texts(
    a: TextColumn, rows_a: NDArray[np.int64], b: TextColumn, rows_b: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """For each pair of rows, whether they hold the same text."""
    offsets = np.concatenate([[0], np.cumsum(a.lengths()[rows_a])])
    parts = [_same_rows(a.take(rows_a[span]), b.take(rows_b[span])) for span in spans(offsets)]
    return np.concatenate([np.empty(0, np.bool_), *parts])


def _same_rows(a: TextColumn, b: TextColumn) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = a.lengths() == b.lengths()
    if not same.all():
        alike = np.flatnonzero(same)
        same[alike] = _same_rows(a.take(alike), b.take(alike))
        return same
    other = np.flatnonzero(a.blob != b.blob)
    same[np.searchsorted(a.offsets, other, side="right") - 1] = False
    return same


# ----------------------------------------------------------------------------------------------------------- adding


def _rows(pair: _Pair) -> dict[str, Any]:
    """The columns with a row per item."""
    first, second = pair.first, pair.second
    last_at = pair.both("last_at")
    second_is_later = last_at[second] >= last_at[first] if pair.newer_wins else last_at[second] > last_at[first]
    later, earlier = np.where(second_is_later, second, first), np.where(second_is_later, first, second)
    cost, size = pair.both("load_seconds"), pair.both("size_bytes")
    loaded = ~np.isnan(cost) | (size > 0)
    told = np.where(loaded[later] | ~loaded[earlier], later, earlier)
    return {
        "cache": np.concatenate([codes[part.cache] for codes, part in zip(pair.codes, pair[:2], strict=True)])[first],
        "keys": _texts(pair, "keys", first),
        "counts": _counts(pair, later, earlier),
        "last_at": last_at[later],
        "gaps": _gaps(pair, later, earlier),
        "size_bytes": size[told],
        "load_seconds": _mean_cost(cost[later], cost[earlier]),
        "versions": _texts(pair, "versions", told),
        "recipes": _texts(pair, "recipes", told),
    }


def _texts(pair: _Pair, name: str, rows: NDArray[np.int64]) -> TextColumn:
    return TextColumn.concatenate([getattr(part, name) for part in pair[:2]]).take(rows)


def _counts(pair: _Pair, later: NDArray[np.int64], earlier: NDArray[np.int64]) -> NDArray[np.float32]:
    counts, last_at = pair.both("counts"), pair.both("last_at")
    added = counts[later]
    two = np.flatnonzero(later != earlier)
    age = last_at[later[two]] - last_at[earlier[two]]
    added[two] += counts[earlier[two]] * np.exp2(-age[:, None] / np.array(pair.older.half_lives))
    return added


def _gaps(pair: _Pair, later: NDArray[np.int64], earlier: NDArray[np.int64]) -> NDArray[np.float32]:
    gaps, last_at = pair.both("gaps"), pair.both("last_at")
    joined = gaps[later]
    rows = np.flatnonzero((later != earlier) & np.isnan(joined[:, -1]))  # those that have room for more
    newest, older = joined[rows], gaps[earlier[rows]]
    between = last_at[later[rows]] - np.nansum(newest, axis=1, dtype=np.float64) - last_at[earlier[rows]]
    width, known = gaps.shape[1], np.count_nonzero(~np.isnan(newest), axis=1)
    chain = np.concatenate([newest, between[:, None], older], axis=1)
    place = np.arange(width) + np.where(np.arange(width) < known[:, None], 0, width - known[:, None])
    place += (between == 0)[:, None] & (place >= width)  # at the same instant: no gap
    apart = between >= 0
    joined[rows[apart]] = np.take_along_axis(chain, place, axis=1)[apart]
    return joined


def _mean_cost(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = np.where(np.isnan(a), b, np.where(np.isnan(b), a, a + (b - a) / 2))
    return mean


def _traffic(pair: _Pair) -> dict[str, Any]:
    """Hits and misses, in all and by the hour."""
    n, parts = len(pair.caches), list(zip(pair[:2], pair.codes, strict=True))
    hours = np.union1d(pair.older.hours, pair.newer.hours)
    hits, misses, hourly = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros((len(hours), n, 2), np.int64)
    for part, codes in parts:
        hits[codes] += part.hits
        misses[codes] += part.misses
        if len(part.hours):
            hourly[np.ix_(np.searchsorted(hours, part.hours), codes)] += part.hourly
    return {"hits": hits, "misses": misses, "hours": hours[-MOST_HOURS:], "hourly": hourly[-MOST_HOURS:]}


def _trail(pair: _Pair) -> dict[str, Any]:
    rows = [pair.place[pair.older.trail], pair.place[pair.newer.trail + len(pair.older)]]
    instants = [pair.older.trail_at, pair.newer.trail_at]
    turn = 1 if pair.newer_wins else -1  # of accesses at the same instant, those of the later history come later
    at = np.concatenate(instants[::turn])
    order = np.argsort(at, kind="stable")[-TRAIL_LIMIT:]
    return {"trail": np.concatenate(rows[::turn])[order].astype(np.int32), "trail_at": at[order]}


# --------------------------------------------------------------------------------------------------------- bounding


def _bounded(history: History, max_items: int) -> History:
    """`history` itself unless it has grown too far, else its best `max_items` items, in their order."""
    if len(history) <= max_items * GROWTH:
        return history
    return keep_rows(history, best_rows(history, max_items))


def best_rows(history: History, n: int) -> NDArray[np.int64]:
    """The `n` rows with the highest count by the longest half-life, ascending; among equals, those asked for last."""
    return np.sort(highest(n, history.decayed_counts(history.at)[:, -1], history.last_at))


def row_bytes(history: History) -> int:
    """What an item of `history` takes on average, at least 1."""
    size_bytes = sum(int(getattr(history, name).nbytes) for name in (*TEXTS, *COLUMNS))
    return max(1, size_bytes // max(1, len(history)))


def keep_rows(history: History, rows: NDArray[np.int64]) -> History:
    """`history` of the items at `rows` alone, in that order; the traffic of its caches stays as it was counted."""
    new_row = np.full(len(history), -1, np.int32)
    new_row[rows] = np.arange(len(rows))
    trail = new_row[history.trail]
    kept = trail >= 0
    columns: dict[str, Any] = {name: getattr(history, name)[rows] for name in COLUMNS}
    texts: dict[str, Any] = {name: getattr(history, name).take(rows) for name in TEXTS}
    whole = {name: getattr(history, name) for name in _WHOLE}
    return History(trail=trail[kept], trail_at=history.trail_at[kept], **columns, **texts, **whole)


COLUMNS = ("cache", *NUMBERS)
TEXTS = ("keys", *LOAD_TEXTS)
_WHOLE: Sequence[str] = ("at", "since", "half_lives", "caches", "hits", "misses", "hours", "hourly")
