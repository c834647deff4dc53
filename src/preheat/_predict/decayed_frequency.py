"""Decayed frequency: the past rate goes on.

The count with half-life h, divided by the time that it effectively covers, is the rate.  Slow decay predicts what is
asked for after a restart better than recency does: a half-life of sixteen horizons, or of what history keeps the one
nearest to that (Lee et al., "LRFU", IEEE Trans. Computers 50(12), 2001, describe the whole spectrum between the two).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from preheat._predict.moment import HALF_LIVES, SLOW, Moment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat._model import History

HORIZONS_PER_HALF_LIFE = HALF_LIVES[SLOW]


def predict(history: History, horizon_seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accesses per second expected of each row: (n,); see `preheat.abc.Predictor`."""
    half_lives = np.array(history.half_lives)
    wanted = np.log(np.maximum(horizon_seconds, 1e-9) * HORIZONS_PER_HALF_LIFE)
    nearest = np.searchsorted(np.log(half_lives[1:] * half_lives[:-1]) / 2, wanted)
    age = np.maximum(0.0, history.at - history.last_at)
    counts = history.counts[np.arange(len(history)), nearest] * np.exp2(-age / half_lives[nearest])
    covered = _covered(half_lives, max(history.at - history.since, 1.0))
    rates: NDArray[np.float64] = counts / covered[nearest]
    return rates


def chance(moment: Moment) -> NDArray[np.float64]:
    """P(asked for within the horizon): (known,)."""
    covered = _covered(np.array([HORIZONS_PER_HALF_LIFE]), moment.position / moment.horizon)
    probability: NDArray[np.float64] = -np.expm1(-moment.decayed[:, SLOW] / covered)
    return probability


def _covered(half_lives: NDArray[np.float64], span: float) -> NDArray[np.float64]:
    """The time that a steady access rate is multiplied by to give a decayed count, after `span` of it."""
    covered: NDArray[np.float64] = half_lives / np.log(2.0) * -np.expm1(-np.log(2.0) * span / half_lives)
    return covered
