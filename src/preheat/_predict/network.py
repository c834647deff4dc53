"""A small neural network for the time until an item is asked for: hazards of discrete intervals [1].

One hidden layer beside a linear way, so that it starts as logistic regression and bends from there; one output per
interval: the chance that the item is asked for in it, if it was not before.  Trained by Adam [2] with a falling step.
Only numpy; a few seconds for a hundred thousand rows on one core, and the same weights for the same seed.

[1] Gensheimer and Narasimhan, "A scalable discrete-time survival model for neural networks", PeerJ 7:e6257, 2019.
[2] Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from preheat._predict.examples import Breathe, Examples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

HIDDEN = 32
EPOCHS = 6
BATCH = 512
LEAST_STEPS = 300  # few rows are gone through more often
STEP = 3e-3
DECAY = 1e-4
MOMENTUM, SCALE_MEMORY = 0.9, 0.999
FARTHEST = 4.0  # standard deviations; what lies beyond says no more
CHUNK = 8192  # rows at a time, so that memory stays small and matrices in the processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A trained network.

    Attributes:
        centre, spread: (f,) of the features, to standardise them.
        inner, inner_bias: (f, hidden), (hidden,).
        outer, direct, bias: (hidden, k), (f, k), (k,) for the k intervals.
    """

    centre: Array
    spread: Array
    inner: Array
    inner_bias: Array
    outer: Array
    direct: Array
    bias: Array

    def arrival(self, features: Array) -> NDArray[np.float64]:
        """P(asked for by the end of each interval): (rows, k), rising along each row."""
        arrived = np.empty((len(features), len(self.bias)))
        for n in range(0, len(features), CHUNK):
            arrived[n : n + CHUNK] = self._arrival(features[n : n + CHUNK])
        return arrived

    def _arrival(self, features: Array) -> NDArray[Any]:
        rows = _standardised(features, self.centre, self.spread)
        hidden = np.maximum(rows @ self.inner + self.inner_bias, 0)
        scores = (hidden @ self.outer + rows @ self.direct + self.bias).astype(np.float64)
        arrived: NDArray[Any] = 1.0 - np.cumprod(1.0 - _logistic(scores), axis=1)
        return arrived


def train(examples: Examples, intervals: int, rng: np.random.Generator, breathe: Breathe) -> Network:
    """The network that makes what became of `examples` likely; `breathe` is called after each step."""
    weight = examples.weight / examples.weight.mean()
    centre, spread = _moments(examples.features, weight)
    rows = _standardised(examples.features, centre, spread)
    happened = (examples.outcome[:, None] == np.arange(intervals)).astype(np.float32)
    at_risk = (examples.outcome[:, None] >= np.arange(intervals)) * weight[:, None]
    weights = _beginning(rows.shape[1], happened, at_risk, rng)
    _descend(weights, rows, happened, at_risk, rng, breathe)
    return Network(centre, spread, *weights)


def _beginning(width: int, happened: Array, at_risk: Array, rng: np.random.Generator) -> list[Array]:
    hazard = ((happened * at_risk).sum(axis=0) + 1e-3) / (at_risk.sum(axis=0) + 1.0)
    intervals = happened.shape[1]
    return [
        (rng.standard_normal((width, HIDDEN)) / np.sqrt(width)).astype(np.float32),
        np.zeros(HIDDEN, np.float32),
        (rng.standard_normal((HIDDEN, intervals)) * 0.3 / np.sqrt(HIDDEN)).astype(np.float32),
        np.zeros((width, intervals), np.float32),
        np.log(hazard / (1.0 - hazard)).astype(np.float32),
    ]


def _descend(
    weights: list[Array],
    rows: Array,
    happened: Array,
    at_risk: Array,
    rng: np.random.Generator,
    breathe: Breathe,
) -> None:
    means, squares = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    batches = [
        order[n : n + BATCH]
        for order in (rng.permutation(len(rows)) for _ in range(max(EPOCHS, LEAST_STEPS * BATCH // len(rows))))
        for n in range(0, len(rows), BATCH)
    ]
    for done, batch in enumerate(batches):
        step = STEP * (1.0 - done / len(batches)) * np.sqrt(1.0 - SCALE_MEMORY ** (done + 1))
        step = np.float32(step / (1.0 - MOMENTUM ** (done + 1)))
        slopes = _slopes(weights, rows[batch], happened[batch], at_risk[batch] / np.float32(len(batch)))
        for weight, slope, mean, square in zip(weights, slopes, means, squares, strict=True):
            mean += np.float32(1.0 - MOMENTUM) * (slope - mean)
            square += np.float32(1.0 - SCALE_MEMORY) * (slope * slope - square)
            weight -= step * mean / (np.sqrt(square) + np.float32(1e-8))
        breathe()


def _slopes(weights: list[Array], rows: Array, happened: Array, at_risk: Array) -> list[Array]:
    inner, inner_bias, outer, direct, bias = weights
    before = rows @ inner + inner_bias
    hidden = np.maximum(before, 0)
    error = (_logistic(hidden @ outer + rows @ direct + bias) - happened) * at_risk
    back = (error @ outer.T) * (before > 0)
    decay = np.float32(DECAY)
    return [
        rows.T @ back + decay * inner,
        back.sum(axis=0),
        hidden.T @ error + decay * outer,
        rows.T @ error + decay * direct,
        error.sum(axis=0),
    ]


def _moments(features: Array, weight: Array) -> tuple[Array, Array]:
    there = ~np.isnan(features) * weight[:, None]
    filled = np.nan_to_num(features)
    total = np.maximum(there.sum(axis=0), 1e-9)
    centre = (filled * there).sum(axis=0) / total
    spread = np.sqrt(((filled - centre) ** 2 * there).sum(axis=0) / total)
    return centre.astype(np.float32), (spread + 1e-3).astype(np.float32)


def _standardised(features: Array, centre: Array, spread: Array) -> Array:
    """A feature that is absent counts as an ordinary one."""
    rows: Array = features - centre
    rows /= spread
    np.copyto(rows, 0, where=np.isnan(rows))
    return np.clip(rows, -FARTHEST, FARTHEST, out=rows)


def _logistic(scores: NDArray[Any]) -> NDArray[Any]:
    share: NDArray[Any] = 1.0 / (1.0 + np.exp(-np.clip(scores, -30, 30)))
    return share
