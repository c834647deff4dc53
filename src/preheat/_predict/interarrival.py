"""Inter-arrival: an item comes back when its own rhythm says so.

The gaps between an item's accesses are taken to be log-logistic around the mean of its newest ones; the chance is that
of the next access within a horizon, given that it has not come yet [1].  An item without two accesses has no rhythm
and the chance of one that comes back seldom.

[1] Cox, "Renewal Theory", Methuen 1962.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from preheat._predict.moment import Moment

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_SPREAD = 0.5  # of the gaps' binary logarithm: no rhythm is exact
SINGLE_GAP = 16.0  # horizons


def chance(moment: Moment) -> NDArray[np.float64]:
    """P(asked for within the horizon): (known,)."""
    gaps = np.log2(moment.gaps(np.arange(moment.known)))
    there = ~np.isnan(gaps)
    number, filled = np.maximum(there.sum(axis=1), 1), np.where(there, gaps, 0.0)
    mean = np.where(there[:, 0], filled.sum(axis=1) / number, np.log2(SINGLE_GAP))
    variance = np.where(there, (gaps - mean[:, None]) ** 2, 0.0).sum(axis=1) / number
    spread = np.sqrt(variance + LEAST_SPREAD**2)
    age = moment.age
    quiet, quiet_on = (_survival((np.log2(age + more) - mean) / spread) for more in (0.0, 1.0))
    probability: NDArray[np.float64] = 1.0 - quiet_on / quiet
    return probability


def _survival(score: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(np.clip(score, -60, 60)))
