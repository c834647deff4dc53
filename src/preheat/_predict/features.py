"""What is known of an item, as numbers that a model can learn from.

Times are logarithms (base 2) of horizons, so that a step means the same for a small cache and a large one.  `FEATURES`
names the columns for people.  The neighbours of an item are those first asked for just before and just after it:
what is asked for together, such as the pages of a file, tends to be first asked for together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from preheat._predict.context import SPANS, expected
from preheat._predict.moment import HALF_LIVES, LAST_GAPS, SLOW, Moment

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEAT_SPANS = ((1.0, (1, 4, 16, 64, 256)), (1 / 16, (1, 4, 16, 64)), (1 / 64, (4, 32)))
POPULARITY_SPANS = (2, 16, 128)
MOST_DUE = 8.0
LEAST_EXPECTED = 2.0**-10
_RECENCY = (
    "age",
    *(f"gap {n + 1}" for n in range(LAST_GAPS)),
    "age to last gap",
    "mean gap",
    "spread of gaps",
    "age to mean gap",
    "due by last gap",
    "due by mean gap",
    "age to longest gap",
    "age to shortest gap",
)
_FREQUENCY = ("count", "life", "rate", "mean interval", "size", *(f"decayed count, {h:g} horizons" for h in HALF_LIVES))
_NEIGHBOURS = (
    *(
        f"heat of {span} neighbours {side}, {half_life:g} horizons"
        for half_life, spans in HEAT_SPANS
        for span in spans
        for side in ("before", "after")
    ),
    *(f"popularity of {span} neighbours" for span in POPULARITY_SPANS),
)
_CONTEXT = tuple(f"context, {span}" for span in SPANS)
FEATURES = (*_RECENCY, *_FREQUENCY, *_NEIGHBOURS, *_CONTEXT)


def features(moment: Moment, items: NDArray[np.int64]) -> NDArray[np.float32]:
    """What `moment` knows of `items`: (len(items), len(FEATURES)), NaN where there is no such gap."""
    found = np.empty((len(FEATURES), len(items)), np.float32)
    for n, column in enumerate(_columns(moment, items)):
        found[n] = column
    return found.T


def _columns(moment: Moment, items: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
    yield from _recency(moment, items)
    yield from _frequency(moment, items)
    yield from _neighbours(moment, items)
    for accesses in expected(moment):
        yield np.log2(accesses[items] + LEAST_EXPECTED)


def _recency(moment: Moment, items: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    age = np.log2(moment.age[items])
    gaps = np.log2(moment.gaps(items))
    there = ~np.isnan(gaps)
    number = there.sum(axis=1)
    some = np.where(number > 0, number, np.nan)
    filled = np.where(there, gaps, 0.0)
    mean = filled.sum(axis=1) / some
    spread = np.sqrt(np.maximum((filled**2).sum(axis=1) / some - mean**2, 0.0))
    longest = np.where(number > 0, np.where(there, gaps, -np.inf).max(axis=1), np.nan)
    shortest = np.where(number > 0, np.where(there, gaps, np.inf).min(axis=1), np.nan)
    return [
        age,
        *gaps.T,
        age - gaps[:, 0],
        mean,
        spread,
        age - mean,
        _due(gaps[:, 0], age),
        _due(mean, age),
        age - longest,
        age - shortest,
    ]


def _due(gap: NDArray[np.float64], age: NDArray[np.float64]) -> NDArray[np.float64]:
    """In how many horizons an item is due that comes every `gap`."""
    due: NDArray[np.float64] = np.clip(np.exp2(gap) - np.exp2(age), -MOST_DUE, MOST_DUE)
    return due


def _frequency(moment: Moment, items: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    count, life = moment.count[items].astype(np.float64), moment.life[items]
    active = (moment.last - moment.trail.first[: moment.known])[items] / moment.horizon
    interval = np.where(count > 1, np.log2(np.maximum(active, 1e-9) / np.maximum(count - 1, 1)), np.nan)
    size = np.log2(moment.trail.size_bytes[items])
    decayed = np.log2(moment.decayed[items] + 2.0**-20)
    return [np.log2(count), np.log2(life), np.log2(count / life), interval, size, *decayed.T]


def _neighbours(moment: Moment, items: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
    age, known = moment.age, moment.known
    for half_life, spans in HEAT_SPANS:
        heat = np.concatenate([np.zeros(1), np.cumsum(np.exp2(-age / half_life))])
        for span in spans:
            low, high = np.maximum(items - span, 0), np.minimum(items + span + 1, known)
            yield np.log2((heat[items] - heat[low]) / span + 1e-6)
            yield np.log2((heat[high] - heat[items + 1]) / span + 1e-6)
    popularity = moment.decayed[:, SLOW]
    total = np.concatenate([np.zeros(1), np.cumsum(popularity)])
    for span in POPULARITY_SPANS:
        low, high = np.maximum(items - span, 0), np.minimum(items + span + 1, known)
        around = np.maximum(total[high] - total[low] - popularity[items], 0.0)
        yield np.log2(around / (2 * span) + 1e-4)
