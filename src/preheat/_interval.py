"""Intervals: of a share, of the difference of two shares, and of a weighted sum of estimates.

A share is Wilson's score interval; a difference Newcombe's hybrid of two of them, which keeps its coverage in small
samples and at shares of 0 and 1 [1].  A weighted sum takes from each estimate the distance to its own bounds, as if
that were its standard error in that direction, and adds these in quadrature [2]; Newcombe's hybrid is the case of two
shares with the weights 1 and -1.  A share in which trials have weights counts as one of so many equal trials as
would vary as much, but never of more than Kish's effective number, by the weights of the trials themselves and by
those of all that they were drawn from [3].

[1] Newcombe, "Interval estimation for the difference between independent proportions: comparison of eleven
    methods", Statistics in Medicine 17 (1998), method 10.
[2] Zou, Donner, "Construction of confidence limits about effect measures: a general approach", Statistics in
    Medicine 27 (2008).
[3] Korn, Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated
    from survey data", Survey Methodology 24 (1998); we take the smallest of their number and Kish's two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Z95 = 1.959963984540054


class Estimate(NamedTuple):
    """A number with the bounds of its interval."""

    middle: float
    low: float
    high: float


def sum_estimates(parts: Iterable[tuple[float, Estimate]]) -> Estimate:
    """The interval of the sum of weight x estimate over independent `parts`; zero with no width if there are none.

    Weights are not negative.
    """
    middle = below = above = 0.0
    for weight, part in parts:
        middle += weight * part.middle
        below += (weight * (part.middle - part.low)) ** 2
        above += (weight * (part.high - part.middle)) ** 2
    return Estimate(middle, middle - math.sqrt(below), middle + math.sqrt(above))


def share_difference(a: tuple[float, float], b: tuple[float, float], z: float = Z95) -> Estimate:
    """The difference of two shares, each a pair of successes and trials; trials are positive, neither need be whole."""
    low, high = difference_interval(*a, *b, z=z)
    return Estimate(a[0] / a[1] - b[0] / b[1], low, high)


def difference_interval(hits_a: float, n_a: float, hits_b: float, n_b: float, z: float = Z95) -> tuple[float, float]:
    """Bounds of the interval of `hits_a / n_a - hits_b / n_b`; both numbers of trials are positive."""
    a, (low_a, high_a) = hits_a / n_a, wilson_interval(hits_a, n_a, z)
    b, (low_b, high_b) = hits_b / n_b, wilson_interval(hits_b, n_b, z)
    difference = a - b
    return difference - math.hypot(a - low_a, high_b - b), difference + math.hypot(high_a - a, b - low_b)


def wilson_interval(hits: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share."""
    centre = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(max(0.0, hits * (n - hits) / n) + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def weighted_share(
    hit: NDArray[np.bool_], weight: NDArray[np.float64], drawn_from: NDArray[np.float64]
) -> tuple[float, float]:
    """Successes and trials that stand for the share of the weight that was hit.

    Args:
        hit: (n,) outcomes, n positive.
        weight: (n,) their weights, 0 or more; all alike if they sum to 0.
        drawn_from: (m,) the weights of all trials that these were drawn from at random, these included: a small draw
            may lack the few heavy ones that make it vary.
    """
    weight = weight / weight.sum() if weight.sum() > 0 else np.full(len(hit), 1.0 / len(hit))
    share = min(1.0, float(weight[hit].sum()))
    trials = min(1.0 / float(weight @ weight), len(hit) * _evenness(drawn_from))
    spread = float((weight**2) @ (hit - share) ** 2)
    if spread > 0.0:
        trials = min(trials, share * (1.0 - share) / spread)
    trials = max(trials, 1.0)
    return share * trials, trials


def _evenness(weight: NDArray[np.float64]) -> float:
    """Kish's effective number over the number: 1 where all weights are alike."""
    squares = float(weight @ weight)
    return float(weight.sum()) ** 2 / (len(weight) * squares) if squares > 0.0 else 1.0
