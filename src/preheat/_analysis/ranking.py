"""The items of a cache that matter most."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preheat._model import History
from preheat._predict.decayed_frequency import predict as decayed_frequency

if TYPE_CHECKING:
    from numpy.typing import NDArray

HORIZON_SECONDS = 1350.0  # of which sixteen are six hours, the middle half-life: "of late"


class TopItem(NamedTuple):
    """An item and why it stands where it does.

    Attributes:
        key, recipe: Which one; the recipe is empty where the key says it all.
        per_hour: Accesses an hour, of late.
        size_bytes: Of its last value; 0 if unknown.
        load_seconds: What a miss costs; None if unknown.
        saved_per_mib: Seconds of waiting an hour, at most, that holding it saves, per MiB; None if not known.
        last_at: Unix seconds of the last access.
    """

    key: str
    recipe: str
    per_hour: float
    size_bytes: int
    load_seconds: float | None
    saved_per_mib: float | None
    last_at: float


def top_by_rate(history: History, cache: str, n: int) -> list[TopItem]:
    """The `n` items of `cache` asked for most of late, in that order."""
    ranking = _Ranking(history, cache)
    return ranking.top(ranking.per_hour, n)


def top_by_value(history: History, cache: str, n: int) -> list[TopItem]:
    """The `n` items of `cache` whose misses would cost most per byte held, among those of known size and cost."""
    ranking = _Ranking(history, cache)
    return ranking.top(ranking.saved_per_mib, n)


class _Ranking:
    """The items of one cache, with what they can be ordered by: (rows,) each, NaN where unknown."""

    def __init__(self, history: History, cache: str) -> None:
        self._history, self._rows = history, history.rows_of(cache)
        rates = decayed_frequency(history, np.full(len(history), HORIZON_SECONDS))
        self.per_hour: NDArray[np.float64] = 3600.0 * rates[self._rows]
        size_bytes = history.size_bytes[self._rows]
        mib = np.where(size_bytes > 0, size_bytes / 2**20, np.nan)
        self.saved_per_mib: NDArray[np.float64] = self.per_hour * history.load_seconds[self._rows] / mib

    def top(self, by: NDArray[np.float64], n: int) -> list[TopItem]:
        known = np.flatnonzero(~np.isnan(by))
        best = known[np.argsort(-by[known], kind="stable")[:n]]
        return [self._item(place) for place in best.tolist()]

    def _item(self, place: int) -> TopItem:
        history, row = self._history, int(self._rows[place])
        return TopItem(
            history.keys[row],
            history.recipes[row],
            float(self.per_hour[place]),
            int(history.size_bytes[row]),
            _known(float(history.load_seconds[row])),
            _known(float(self.saved_per_mib[place])),
            float(history.last_at[row]),
        )


def _known(number: float) -> float | None:
    return None if np.isnan(number) else number
