"""Examples whose rule is known: one feature decides when an item is asked for."""

import numpy as np

from preheat._predict.examples import DEADLINES, NEVER, Examples
from preheat._predict.features import FEATURES

PLANTED = "heat of 4 neighbours before, 1 horizons"


def planted_examples(rows: int = 4000, seed: int = 0, *, shuffled: bool = False) -> Examples:
    """The higher the planted feature, the sooner; above its mean items come, below they never do.

    `shuffled` deals the outcomes out at random: there is nothing to learn.
    """
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, len(FEATURES))).astype(np.float32) * 3 + 5
    rank = features[:, FEATURES.index(PLANTED)] - 5
    outcome = np.where(rank > 0, np.clip(len(DEADLINES) - 1 - rank.astype(np.int64), 0, NEVER - 1), NEVER)
    if shuffled:
        rng.shuffle(outcome)
    features[rng.random(features.shape) < 0.02] = np.nan
    return Examples(features, outcome, np.ones(rows, np.float32))


def log_likelihood(chances: np.ndarray, examples: Examples) -> float:
    """Of the outcomes that are known by the end of the horizon, per row."""
    arrived = examples.outcome < NEVER
    likelihood = np.where(arrived, chances, 1.0 - chances)
    return float(np.log(np.maximum(likelihood, 1e-9)).mean())


def base_rate(examples: Examples) -> float:
    """The log likelihood of knowing nothing but how many come."""
    share = (examples.outcome < NEVER).mean()
    return float(share * np.log(share) + (1 - share) * np.log(1 - share))
