"""A whole history -> accesses expected of each row, by the model of each cache."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preheat._predict import decayed_frequency
from preheat._predict.blend import Model, pool_name, present, train_model
from preheat._predict.examples import Breathe
from preheat._predict.trail import Trail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat._model import History

SUREST = 1.0 - 1e-9
LEARNED_AT_ONCE = 20_000  # accesses of a trail that a plan waits for to be learned from: about a second


class Forecast(NamedTuple):
    """What is expected.

    Attributes:
        rates: (n,) accesses per second of each row of the history.
        predictors: By cache, the name of what expects it.
    """

    rates: NDArray[np.float64]
    predictors: dict[str, str]


def forecast(history: History, horizon_seconds: Mapping[str, float], models: Mapping[str, Model]) -> Forecast:
    """What `models`, by cache, expect; the decayed frequency where there is none, and of items beyond the trail.

    A chance p of being asked for within the horizon is given as the rate of a Poisson process that has that chance.
    """
    by_cache = np.array([horizon_seconds.get(name, 1.0) for name in history.caches] or [1.0])
    rates = decayed_frequency.predict(history, by_cache[history.cache])
    predictors = dict.fromkeys((*history.caches, *horizon_seconds), "decayed_frequency")
    for cache, model in models.items():
        if model.learned is None or cache not in horizon_seconds:
            continue
        trail, rows = trail_of(history, cache)
        if len(trail):
            chance = model.chance(present(trail, model.capacity_bytes))
            rates[rows] = -np.log1p(-np.minimum(chance, SUREST)) / horizon_seconds[cache]
            predictors[cache] = pool_name(model.pool)
    return Forecast(rates, predictors)


def train_cache(history: History, cache: str, capacity_bytes: int, seed: int, breathe: Breathe) -> Model:
    """What the trail of `cache` in `history` teaches; see `train_model`."""
    return train_model(trail_of(history, cache)[0], capacity_bytes, seed=seed, breathe=breathe)


def current_models(
    history: History,
    capacities: Mapping[str, int],
    kept: Mapping[str, Model],
    *,
    outdone: Mapping[str, Collection[str]],
    seed: int,
) -> dict[str, Model]:
    """A model for each cache in `capacities`: the one in `kept` if it still fits, else one learned now.

    None for a cache whose trail is too long to be learned from while a plan waits: that is left to the background.  A
    kept model fits while the cache has not been made a quarter larger or smaller, and at least half of what is known
    now was known when it was learned.  Of its pools none serves that is called by `outdone`, by cache: those
    with which measured runs have won clearly less than with another.
    """
    found = {}
    for cache, capacity_bytes in capacities.items():
        model = kept.get(cache)
        accesses = trail_length(history, cache)
        if model is None or not _fits(model, capacity_bytes, accesses):
            if accesses > LEARNED_AT_ONCE:
                continue
            model = train_model(trail_of(history, cache)[0], capacity_bytes, seed=seed)
        found[cache] = model.without(outdone.get(cache, ()))
    return found


def _fits(model: Model, capacity_bytes: int, accesses: int) -> bool:
    return 0.75 <= capacity_bytes / model.capacity_bytes <= 1.25 and 2 * model.accesses >= accesses


def trail_length(history: History, cache: str) -> int:
    """How many accesses of the trail are those of `cache`."""
    if cache not in history.caches:
        return 0
    return int(np.count_nonzero(history.cache[history.trail] == history.caches.index(cache)))


def trail_of(history: History, cache: str) -> tuple[Trail, NDArray[np.int64]]:
    """The trail of `cache`, and the row of the history that each of its items is.

    An item whose size was never seen is taken to be as large as the mean of the others.
    """
    code = history.caches.index(cache) if cache in history.caches else -1
    of_cache = history.cache[history.trail] == code
    accessed = history.trail[of_cache]
    items, rows = number_by_appearance(accessed.astype(np.int64), len(history))
    sizes = history.size_bytes[rows]
    known = sizes > 0
    mean = int(sizes[known].mean()) if known.any() else 1
    return Trail(items, history.trail_at[of_cache], np.where(known, sizes, max(mean, 1))), rows


def number_by_appearance(codes: NDArray[np.int64], most: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """`codes`, all below `most`, numbered in the order of first appearance: (m,), and the code of each number."""
    first = np.full(most, len(codes))
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    seen = np.flatnonzero(first < len(codes))
    order = seen[np.argsort(first[seen])]
    number = np.zeros(most, np.int32)
    number[order] = np.arange(len(order))
    return number[codes], order
