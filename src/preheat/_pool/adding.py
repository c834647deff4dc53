"""Histories added to a sum, one after another: what each item has so far is looked up, and what it becomes is put back.

A row that is added costs the same however many histories there are, and in memory stand the sum and one history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preheat._history.changes import TRAIL_LIMIT
from preheat._history.merging import MOST_CACHES
from preheat._history.traffic import MOST_HOURS
from preheat._model import History
from preheat._pool.items import Items
from preheat._pool.rows import TOGETHER, SummedRows

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Sum:
    """The traffic of `first` and of the histories that are added to it."""

    def __init__(self, first: History) -> None:
        self._at, self._since, self._half_lives = first.at, 0.0, first.half_lives
        self._codes: dict[str, int] = {}
        self._items, self._rows = Items(), SummedRows(first)
        self._traffic, self._trail = _Traffic.none(), _Trail()
        self.add(first)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, history: History) -> None:
        """Add `history`, which has no access in common with those before.

        Raises:
            ValueError: Its half-lives are others, or there would be more than 32,768 caches.
        """
        if history.half_lives != self._half_lives:
            both = f"{self._half_lives}, {history.half_lives}"
            raise ValueError(f"histories of different half-lives can't be added: {both}")
        codes = self._numbered(history.caches)
        rows = self._items.numbers(codes[history.cache], history.keys)
        self._rows.grow(len(self._items))
        self._rows.add(rows, history)
        self._at = max(self._at, history.at)
        self._since = min(self._since or history.since, history.since or self._since)
        self._traffic = self._traffic.plus(_Traffic.of(history), codes, len(self._codes))
        self._trail.add(rows[history.trail], history.trail_at)

    def history(self) -> History:
        """The sum as it stands; what is added later doesn't change it."""
        trail, trail_at = self._trail.newest()
        return History(
            at=self._at,
            since=self._since,
            half_lives=self._half_lives,
            caches=tuple(self._codes),
            cache=self._items.cache.shown(),
            keys=self._items.keys.shown(),
            trail=trail,
            trail_at=trail_at,
            hits=self._traffic.hits,
            misses=self._traffic.misses,
            hours=self._traffic.hours,
            hourly=self._traffic.hourly,
            **self._rows.columns(),
        )

    def _numbered(self, caches: tuple[str, ...]) -> NDArray[np.int16]:
        for name in caches:
            self._codes.setdefault(name, len(self._codes))
        if len(self._codes) > MOST_CACHES:
            raise ValueError(f"histories of {len(self._codes)} caches can't be added; {MOST_CACHES} is the most")
        return np.array([self._codes[name] for name in caches], np.int16)


class _Traffic(NamedTuple):
    """Hits and misses of numbered caches, in all and by the hour, as a `History` has them."""

    hits: NDArray[np.int64]
    misses: NDArray[np.int64]
    hours: NDArray[np.int64]
    hourly: NDArray[np.int64]

    @classmethod
    def none(cls) -> _Traffic:
        """That of no cache."""
        none = np.empty(0, np.int64)
        return cls(none, none, none, none.reshape(0, 0, 2))

    @classmethod
    def of(cls, history: History) -> _Traffic:
        """That of `history`."""
        return cls(history.hits, history.misses, history.hours, history.hourly)

    def plus(self, other: _Traffic, codes: NDArray[np.int16], caches: int) -> _Traffic:
        """Both together: of `caches` caches, those of `other` having the numbers `codes`."""
        hours = np.union1d(self.hours, other.hours)[-MOST_HOURS:]
        hits, misses = np.zeros((2, caches), np.int64)
        hourly = np.zeros((len(hours), caches, 2), np.int64)
        for part, own in ((self, np.arange(len(self.hits))), (other, codes)):
            hits[own] += part.hits
            misses[own] += part.misses
            kept = np.isin(part.hours, hours)
            hourly[np.ix_(np.searchsorted(hours, part.hours[kept]), own)] += part.hourly[kept]
        return _Traffic(hits, misses, hours, hourly)


class _Trail:
    """The newest accesses of all histories by time, those of one instant as they came."""

    def __init__(self) -> None:
        self._parts = [(np.empty(0, np.int32), np.empty(0))]

    def add(self, rows: NDArray[np.int64], at: NDArray[np.float64]) -> None:
        """Add accesses to `rows` at the instants `at`, which never fall."""
        self._parts.append((rows.astype(np.int32), at))
        if len(self._parts) > TOGETHER:
            self._parts = [self.newest()]

    def newest(self) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Their rows, and their instants."""
        rows, at = (np.concatenate(columns) for columns in zip(*self._parts, strict=True))
        order = np.argsort(at, kind="stable")[-TRAIL_LIMIT:]
        return rows[order], at[order]
