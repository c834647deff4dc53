"""What history knows of a cache and the cache lacks, as a table of candidates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from preheat._model import CandidateTable, History
from preheat._plan.candidates import candidates_from_history, find_absent
from preheat._predict.decayed_frequency import predict as decayed_frequency
from preheat._predict.horizon import refill_seconds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat.caches._warming import Warming


def warmup_candidates(
    cache: Warming[Any],
    history: History,
    rates: NDArray[np.float64] | None = None,
    where: Callable[[str, str], bool] | None = None,
) -> CandidateTable:
    """The items of `cache` that history knows and that are not resident, as a table.

    Args:
        cache: The cache.
        history: What was asked for so far.
        rates: (len(history),) accesses per second expected of each row; by default the decayed frequency's.
        where: Keeps an item by its key and recipe; all of them if not given.
    """
    rows = history.rows_of(cache.name)
    if rates is None:
        horizon = refill_seconds(history, cache.name, cache.capacity_bytes)
        rates = decayed_frequency(history, np.full(len(history), horizon))
    rows = rows[find_absent(history.keys.take(rows), cache._resident(), cache._holds)]
    if where is not None:
        pairs = zip(history.keys.take(rows), history.recipes.take(rows), strict=True)
        rows = rows[np.array([where(key, recipe) for key, recipe in pairs], np.bool_)]
    return candidates_from_history(
        history, rows, rates, cache=cache.name, priority=cache.priority, needs=cache._find_needs()
    )
