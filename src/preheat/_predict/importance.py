"""Which features matter to a model: how much worse it does when one of them is shuffled.

Permutation importance [1], in nats of log likelihood per item that was asked for.

[1] Breiman, "Random Forests", Machine Learning 45, 2001, section 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from preheat._predict.examples import NEVER, Examples
from preheat._predict.learned import SURE, Learned

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_ROWS = 2000


def feature_importance(
    learned: Learned, examples: Examples, names: Sequence[str], rng: np.random.Generator
) -> dict[str, float]:
    """By name, what shuffling the feature costs, dearest first; at least 0."""
    rows = rng.permutation(len(examples.outcome))[:MOST_ROWS]
    features, arrived, weight = examples.features[rows], examples.outcome[rows] < NEVER, examples.weight[rows]
    networks = Learned(learned.networks)
    whole = _loss(networks.chance_of(features), arrived, weight)
    lost = {}
    for n, name in enumerate(names):
        shuffled = features.copy()
        shuffled[:, n] = shuffled[rng.permutation(len(rows)), n]
        lost[name] = max(0.0, _loss(networks.chance_of(shuffled), arrived, weight) - whole)
    return dict(sorted(lost.items(), key=lambda pair: -pair[1]))


def _loss(chances: NDArray[np.float64], arrived: NDArray[np.bool_], weight: NDArray[np.float32]) -> float:
    likelihood = np.where(arrived, chances, 1.0 - chances)
    total = max(float((weight * arrived).sum()), 1.0)
    return float(-(weight * np.log(np.maximum(likelihood, SURE))).sum() / total)
