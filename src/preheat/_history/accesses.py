"""Accesses with instants of their own -> history, as if each had been folded when it happened.

`_history` folds what a drain brings, all of it at one instant and in order; this counts what a log tells, whatever its
order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preheat._columns import TextColumn
from preheat._history.builder import GAPS, HALF_LIVES, MOST_LOAD_SECONDS
from preheat._history.changes import TRAIL_LIMIT
from preheat._model import History

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNKNOWN = -1
HOUR_SECONDS = 3600


class Accesses(NamedTuple):
    """Accesses of one cache, in any order, as columns.

    Attributes:
        cache: Its name.
        keys, versions, recipes: (n,) what is known of each distinct key.
        row: (m,) int64, which key was asked for.
        at: (m,) float64, Unix seconds.
        size_bytes: (m,) int64, of the value then; `UNKNOWN` where it was not told.
        load_seconds: (m,) float64, what loading it took; NaN where it was not told.
        hit: (m,) int8, 1 for a hit, 0 for a miss, `UNKNOWN` where it was not told.
    """

    cache: str
    keys: Sequence[str]
    versions: Sequence[str]
    recipes: Sequence[str]
    row: NDArray[np.int64]
    at: NDArray[np.float64]
    size_bytes: NDArray[np.int64]
    load_seconds: NDArray[np.float64]
    hit: NDArray[np.int8]


def history_of_accesses(accesses: Accesses, half_lives: tuple[float, ...] = HALF_LIVES) -> History:
    """The history of `accesses`, of which there is at least one for each key.

    Sizes are the last ones told, costs the mean.  An access that tells neither hit nor miss is counted as neither.

    Raises:
        UnicodeEncodeError: A key, version or recipe holds a lone surrogate.
    """
    order = np.argsort(accesses.at, kind="stable")
    row, at = accesses.row[order], accesses.at[order]
    n = len(accesses.keys)
    last_at = np.zeros(n)
    last_at[row] = at  # of several, the last one stays
    return History(
        at=float(at[-1]) if len(at) else 0.0,
        since=float(at[0]) if len(at) else 0.0,
        half_lives=half_lives,
        caches=(accesses.cache,),
        cache=np.zeros(n, np.int16),
        keys=TextColumn.of(accesses.keys),
        counts=_counts(row, at, last_at, half_lives),
        last_at=last_at,
        gaps=_gaps(row, at, n),
        size_bytes=_last_sizes(row, accesses.size_bytes[order], n),
        load_seconds=_mean_costs(row, accesses.load_seconds[order], n),
        versions=TextColumn.of(accesses.versions),
        recipes=TextColumn.of(accesses.recipes),
        trail=row[-TRAIL_LIMIT:].astype(np.int32),
        trail_at=at[-TRAIL_LIMIT:],
        **_traffic(at, accesses.hit[order]),
    )


def _counts(
    row: NDArray[np.int64], at: NDArray[np.float64], last_at: NDArray[np.float64], half_lives: tuple[float, ...]
) -> NDArray[np.float32]:
    age = last_at[row] - at
    columns = [np.bincount(row, np.exp2(-age / half_life), len(last_at)) for half_life in half_lives]
    return np.stack(columns, axis=1).astype(np.float32)


def _gaps(row: NDArray[np.int64], at: NDArray[np.float64], n: int) -> NDArray[np.float32]:
    """The newest gaps of each row, newest first; accesses at the same instant have none between them."""
    gaps = np.full((n, GAPS), np.nan, np.float32)
    order = np.argsort(row, kind="stable")
    gap = np.diff(at[order])
    rises = np.flatnonzero((np.diff(row[order]) == 0) & (gap > 0))
    owner = row[order][rises]
    behind = np.searchsorted(owner, owner, side="right") - 1 - np.arange(len(owner))  # newer gaps of the same row
    newest = behind < GAPS
    gaps[owner[newest], behind[newest]] = gap[rises[newest]]
    return gaps


def _last_sizes(row: NDArray[np.int64], size_bytes: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    last = np.zeros(n, np.int64)
    told = size_bytes != UNKNOWN
    last[row[told]] = size_bytes[told]
    return last


def _mean_costs(row: NDArray[np.int64], seconds: NDArray[np.float64], n: int) -> NDArray[np.float32]:
    told = (seconds >= 0) & (seconds < MOST_LOAD_SECONDS)
    times = np.bincount(row[told], minlength=n)
    total = np.bincount(row[told], seconds[told], n)
    return np.where(times > 0, total / np.maximum(times, 1), np.nan).astype(np.float32)


def _traffic(at: NDArray[np.float64], hit: NDArray[np.int8]) -> dict[str, NDArray[np.int64]]:
    """Hits and misses of the one cache, in all and by the hour."""
    told = hit != UNKNOWN
    hours, place = np.unique((at[told] // HOUR_SECONDS).astype(np.int64), return_inverse=True)
    cell = 2 * place + (hit[told] != 1)
    hourly = np.bincount(cell, minlength=2 * len(hours)).reshape(-1, 1, 2)
    hits, misses = hourly[:, 0, 0].sum(), hourly[:, 0, 1].sum()
    return {"hits": np.array([hits]), "misses": np.array([misses]), "hours": hours, "hourly": hourly}
