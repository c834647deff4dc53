"""What a cache knows of its own items, added to what history expects of them.

Items come in groups: files by language, searches by project, vectors by model.  Where nothing has learned from the
order of the accesses, the traffic of its group says more of an item that was asked for once than that one access does:
the rate that is expected of it moves as the share of its group has moved.  And whoever runs the service knows things
that no history tells: the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from preheat._predict.decayed_frequency import predict as decayed_frequency
from preheat._predict.horizon import refill_seconds
from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat._model import CandidateTable, History

__all__ = ["expected_rates", "traffic_shares", "weigh_candidates"]

EVIDENCE = 20.0
"""Accesses of the long run that the newest ones are mixed with: so many newest ones move a share half of the way."""

MOST_MOVED = 4.0  # times more or less than the item's own rate


def traffic_shares(history: History, cache: str, group_of: Callable[[str], str]) -> dict[str, float]:
    """The share of each group in the traffic of `cache`, the newest accesses weighing most.

    Args:
        history: What was asked for so far.
        cache: Name of the cache.
        group_of: Tells the group of a key.

    Returns:
        By group, largest share first; they add up to 1.  Empty if nothing was asked for.
    """
    names, _, newest, _ = _shares(history, history.rows_of(cache), group_of)
    ranked = sorted(zip(names, newest.tolist(), strict=True), key=lambda each: (-each[1], each[0]))
    return dict(ranked)


def expected_rates(
    history: History, cache: str, capacity_bytes: int | None, group_of: Callable[[str], str] | None = None
) -> NDArray[np.float64]:
    """Accesses per second expected of each row of `history`, without a model: (n,).

    Those of the decayed frequency; the rows of `cache` moved by up to `MOST_MOVED` times, as the share of their group
    in its traffic has: newest over long-run.
    """
    rates = decayed_frequency(history, np.full(len(history), refill_seconds(history, cache, capacity_bytes)))
    rows = history.rows_of(cache)
    if group_of is not None and len(rows):
        _, group, newest, usual = _shares(history, rows, group_of)
        moved = np.divide(newest, usual, out=np.ones(len(usual)), where=usual > 0.0)
        rates[rows] *= np.clip(moved, 1.0 / MOST_MOVED, MOST_MOVED)[group]
    return rates


def _shares(
    history: History, rows: NDArray[np.int64], group_of: Callable[[str], str]
) -> tuple[list[str], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The g groups of `rows`; each row's group, (n,); the newest and the usual share of each group, (g,)."""
    numbers: dict[str, int] = {}
    group = np.array([numbers.setdefault(group_of(key), len(numbers)) for key in history.keys.take(rows)], np.int64)
    age = np.maximum(0.0, history.at - history.last_at[rows])[:, None]
    counts = history.counts[rows] * np.exp2(-age / np.array(history.half_lives))
    recent, long_run = (np.bincount(group, counts[:, n], len(numbers)).astype(np.float64) for n in (0, -1))
    usual: NDArray[np.float64] = long_run / max(float(long_run.sum()), np.finfo(np.float64).tiny)
    newest: NDArray[np.float64] = (recent + EVIDENCE * usual) / (float(recent.sum()) + EVIDENCE)
    return list(numbers), group, newest, usual


def weigh_candidates(table: CandidateTable, weight: Callable[[str, str], float] | None) -> CandidateTable:
    """`table` with what is expected of each row multiplied by `weight(key, recipe)`; 0 is never worth loading.

    Raises:
        InvalidSetting: A weight is no finite number that is 0 or more.
    """
    if weight is None or not len(table):
        return table
    weights = [weight(key, recipe) for key, recipe in zip(table.keys, table.recipes, strict=True)]
    for n, given in enumerate(weights):
        if not isinstance(given, int | float) or not math.isfinite(given) or given < 0:
            raise InvalidSetting(f"the weight of {table.ref(n)} is {given!r}; it has to be a finite number, 0 or more")
    return replace(table, usage_frequency=table.usage_frequency * np.array(weights, np.float64))
