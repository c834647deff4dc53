"""Gradient boosting for the time until an item is asked for, beside the network: the extra `ml`.

Two ensembles of trees [1], one for "before the cache has refilled" and one for "soon": together they stand for the
network's intervals.  One thread, since OpenMP's waiting threads would take the application's cores.

[1] Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from preheat._predict.examples import NEVER, Breathe, Examples

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOON = 3  # the first three intervals, up to a quarter of the horizon
TREES = 150
CHUNK = 65536
_PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "num_leaves": 15,
    "learning_rate": 0.06,
    "min_data_in_leaf": 60,
    "lambda_l2": 5.0,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


@cache
def is_available() -> bool:
    """Whether the extra `ml` is installed."""
    return find_spec("lightgbm") is not None


def train_trees(examples: Examples, seed: int, breathe: Breathe) -> tuple[str, ...]:
    """The ensembles, as LightGBM writes them; none if the extra is not installed."""
    if not is_available():
        return ()
    import lightgbm

    weight = examples.weight / examples.weight.mean()
    written = []
    for before in (SOON, NEVER):
        label = (examples.outcome < before).astype(np.float32)
        data = lightgbm.Dataset(np.ascontiguousarray(examples.features), label, weight=weight, free_raw_data=True)
        booster = lightgbm.train(_PARAMETERS | {"seed": seed % 2**31}, data, TREES, callbacks=[lambda _: breathe()])
        written.append(booster.model_to_string())
    return tuple(written)


def arrival(trees: Sequence[str], features: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean of the ensembles' chances: (rows,)."""
    import lightgbm

    chances = np.zeros(len(features))
    for text in trees:
        booster = lightgbm.Booster(model_str=text)
        for n in range(0, len(features), CHUNK):
            rows = np.ascontiguousarray(features[n : n + CHUNK])
            chances[n : n + CHUNK] += booster.predict(rows, num_threads=1) / len(trees)
    return chances
