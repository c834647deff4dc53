"""Learned: what windows of the past taught about the next one.

Networks, and trees where the extra `ml` is installed, that say how soon an item will be asked for, from what is known
of it.  When exactly a warmed item would be evicted is not known beforehand (the less valuable, the sooner), so its
chance is the mean of those for all deadlines.  Unlike models are averaged as log odds, which keeps what is certain
certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from preheat._predict.boosted import arrival, train_trees
from preheat._predict.examples import NEVER, Breathe, Examples, join
from preheat._predict.features import features
from preheat._predict.moment import Moment
from preheat._predict.network import Network, train

if TYPE_CHECKING:
    from numpy.typing import NDArray

SURE = 1e-9
SHORTLIST = 50_000  # items likeliest by the networks that trees are asked about: they take ten times as long


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What was learned: networks, and ensembles of trees in LightGBM's own form."""

    networks: tuple[Network, ...]
    trees: tuple[str, ...] = ()

    def chance(self, moment: Moment) -> NDArray[np.float64]:
        """P(asked for before it would be evicted): (known,)."""
        return self.chance_of(features(moment, np.arange(moment.known)))

    def chance_of(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """The same for rows of features: (len(rows),)."""
        odds = _log_odds(np.mean([network.arrival(rows).mean(axis=1) for network in self.networks], axis=0))
        if self.trees:
            likely = np.sort(np.argpartition(-odds, SHORTLIST)[:SHORTLIST]) if len(odds) > SHORTLIST else slice(None)
            odds[likely] = (odds[likely] + _log_odds(arrival(self.trees, rows[likely]))) / 2
        chances: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-odds))
        return chances


def learn(parts: Sequence[Examples], networks: int, rng: np.random.Generator, breathe: Breathe) -> Learned | None:
    """What `parts` teach; None if they are too few to teach anything."""
    if not parts or not (rows := join(parts)).are_enough:
        return None
    trained = tuple(train(rows, NEVER, rng, breathe) for _ in range(networks))
    return Learned(trained, train_trees(rows, int(rng.integers(2**31)), breathe))


def _log_odds(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    chances = np.clip(chances, SURE, 1.0 - SURE)
    odds: NDArray[np.float64] = np.log(chances) - np.log1p(-chances)
    return odds
