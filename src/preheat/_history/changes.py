"""A history and what happened to it -> the history as it is now.

Changes may come from a file that somebody forged, so nothing in them is believed before it fits.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from preheat._history.demanding import demand
from preheat._history.growing import NewestAccesses
from preheat._history.rows import LOAD_TEXTS, NUMBERS, ItemRows

if TYPE_CHECKING:
    from preheat._model import History, HistoryChanges

TRAIL_LIMIT = 2**20  # newest accesses kept in their order


def with_changes(history: History, *changes: HistoryChanges, max_trail: int = TRAIL_LIMIT) -> History:
    """`history` after all of `changes`, in their order; one copy of its columns is made for all of them together.

    `max_trail` is the length of trail that the builder was given whose changes they are.

    Raises:
        ValueError: One of them doesn't fit what comes before it.
    """
    rows, last = ItemRows(history), history
    trail = NewestAccesses(max_trail, history.trail, history.trail_at)
    for each in changes:
        _demand_that_all_fits(each, last, rows, trail)
        rows.put(each.row, each.rows)
        trail.append(each.rows.trail.astype(np.int64), each.rows.trail_at)
        last = each.rows
    newest, newest_at = trail.newest()
    return replace(last, trail=newest, trail_at=newest_at, **rows.shown())


def _demand_that_all_fits(changes: HistoryChanges, last: History, rows: ItemRows, trail: NewestAccesses) -> None:
    try:
        _demand_that_it_follows(changes, last)
        _demand_that_rows_fit(changes, rows)
        _demand_that_trail_fits(changes, trail)
    except ValueError as misfit:
        raise ValueError(f"the changes don't fit the history: {misfit}") from None


def _demand_that_it_follows(changes: HistoryChanges, last: History) -> None:
    now = changes.rows
    known = len(last.caches)
    demand(now.half_lives == last.half_lives, "its half-lives are others")
    demand(now.caches[:known] == last.caches and len(set(now.caches)) == len(now.caches), "its caches are others")
    demand(math.isfinite(now.at) and now.at >= last.at, "it ends before the history that it changes")
    caches, hours = len(now.caches), len(now.hours)
    demand(now.hits.shape == now.misses.shape == (caches,), "hits and misses are not those of its caches")
    demand(now.hourly.shape == (hours, caches, 2), "its hours are not those of its caches")
    demand(bool((np.diff(now.hours) > 0).all()), "its hours don't rise")


def _demand_that_rows_fit(changes: HistoryChanges, rows: ItemRows) -> None:
    now, row, known = changes.rows, changes.row, len(rows)
    demand(row.ndim == 1 and bool((np.diff(row) > 0).all()), "its rows don't rise")
    old = row[: np.searchsorted(row, known)]
    demand(not len(old) or int(old[0]) >= 0, "it names a row below the first one")
    new = row[len(old) :]  # counted before as many are made as it says
    demand(changes.size - known == len(new), "its new rows are not the next ones")
    demand(np.array_equal(new, np.arange(known, changes.size)), "its new rows are not the next ones")
    demand(all(len(getattr(now, name)) == len(row) for name in ("cache", "keys", *NUMBERS, *LOAD_TEXTS)), _LENGTHS)
    widths = (now.counts.shape[1:], now.gaps.shape[1:])
    demand(widths == rows.widths, "its counts or gaps are of another width")
    demand(bool(((now.cache >= 0) & (now.cache < len(now.caches))).all()), "it names a cache that is not there")
    there = np.arange(len(old))
    same = (rows.cache.current[old] == now.cache[there]) & rows.keys.current.holds(old, now.keys.take(there))
    demand(bool(same.all()), "a row has another key")


_LENGTHS = "its columns are not as long as its rows"


def _demand_that_trail_fits(changes: HistoryChanges, trail: NewestAccesses) -> None:
    rows, at = changes.rows.trail, changes.rows.trail_at
    demand(len(rows) == len(at), "its trail has other instants than rows")
    demand(bool(((rows >= 0) & (rows < changes.size)).all()), "its trail names a row that is not there")
    before = trail.newest(1)[1]
    instants = np.concatenate([before, at])
    demand(bool(np.isfinite(at).all() and (np.diff(instants) >= 0).all()), "the instants of its trail fall")
    demand(not len(at) or float(at[-1]) <= changes.rows.at, "its trail goes on after its end")
