"""What is known of a cache's items at one moment of its trail: the columns that predictors read.

Ages and gaps are counted in accesses, and in units of the horizon: the accesses in which the cache refills.  So a
model that was trained on one window understands the next one, and a small cache is like a large one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from preheat._predict.trail import Trail

if TYPE_CHECKING:
    from numpy.typing import NDArray

HALF_LIVES = (1 / 16, 1 / 4, 1.0, 4.0, 16.0, 64.0)
SLOW = HALF_LIVES.index(16.0)
LAST_GAPS = 4


@dataclass(frozen=True, eq=False, slots=True)
class Moment:
    """The items known before a position of a trail; they are those numbered below `known`.

    Attributes:
        trail: The accesses; a predictor looks at those before `position` only.
        position: Where in it the moment is.
        horizon: Accesses in which the cache refills.
        capacity_bytes: What it holds.
        last: (known,) position of the last access.
        count: (known,) accesses.
        decayed: (known, half-lives) accesses, each halved for every half-life (in horizons) since.
    """

    trail: Trail
    position: int
    horizon: float
    capacity_bytes: int
    last: NDArray[np.int64]
    count: NDArray[np.int64]
    decayed: NDArray[np.float64]

    @property
    def known(self) -> int:
        """Number of items known."""
        return len(self.last)

    @property
    def age(self) -> NDArray[np.float64]:
        """(known,) horizons since the last access, above 0."""
        return (self.position - self.last) / self.horizon

    def gaps(self, items: NDArray[np.int64]) -> NDArray[np.float64]:
        """(len(items), 4) horizons between the newest accesses, newest first; NaN where there were none."""
        later = self.last[items]
        gaps = np.full((LAST_GAPS, len(items)), np.nan)
        for gap in gaps:
            earlier = np.where(later >= 0, self.trail.previous[np.maximum(later, 0)], -1)
            gap[:] = np.where(earlier >= 0, (later - earlier) / self.horizon, np.nan)
            later = earlier
        return gaps.T

    @property
    def life(self) -> NDArray[np.float64]:
        """(known,) horizons since the first access."""
        return (self.position - self.trail.first[: self.known]) / self.horizon


def moments(trail: Trail, positions: Sequence[int], horizon: float, capacity_bytes: int) -> Iterator[Moment]:
    """The moments at `positions`, which rise; one pass over the trail serves all."""
    half_lives = np.array(HALF_LIVES) * horizon
    last = np.full(len(trail.size_bytes), -1, np.int64)
    count = np.zeros(len(last), np.int64)
    decayed = np.zeros((len(HALF_LIVES), len(last)))
    before = 0
    for position in positions:
        items = trail.items[before:position].astype(np.int64)
        last[items] = np.arange(before, position)
        count += np.bincount(items, minlength=len(count))
        ages = position - np.arange(before, position)
        decayed *= np.exp2(-(position - before) / half_lives)[:, None]
        for n, half_life in enumerate(half_lives):
            near = slice(max(0, len(ages) - math.ceil(64 * half_life)), None)  # older ones count less than a last bit
            weights = np.exp2(-ages[near] / half_life)
            decayed[n] += np.bincount(items[near], weights, len(count))
        known = trail.known(position)
        yield Moment(
            trail,
            position,
            horizon,
            capacity_bytes,
            last[:known].copy(),
            count[:known].copy(),
            decayed[:, :known].T.copy(),
        )
        before = position
