"""What became of items in windows of the past: what a model is trained with.

The outcome of an item is how full the cache was when the item was asked for: in one of the `DEADLINES`' intervals, or
not before the cache had refilled.  All items that a window asked for are rare among those it did not; both are drawn
up to a limit, and each drawn row stands for `weight` of its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preheat._predict.features import features
from preheat._predict.moment import Moment
from preheat._predict.trail import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEADLINES = (0.03, 0.1, 0.25, 0.5, 0.75, 1.0)
NEVER = len(DEADLINES)
MOST_EXAMPLES = 120_000
LEAST_ARRIVALS = 50

Breathe = Callable[[], None]
"""Called between the small steps of a training: it may sleep, and raise to end it."""


class Examples(NamedTuple):
    """Rows to train with.

    Attributes:
        features: (k, f) float32.
        outcome: (k,) index of the interval of `DEADLINES` in which the item was asked for, or NEVER.
        weight: (k,) how many items of the window the row stands for.
    """

    features: NDArray[np.float32]
    outcome: NDArray[np.int64]
    weight: NDArray[np.float32]

    @property
    def are_enough(self) -> bool:
        """Whether enough items were asked for, and enough were not, to learn from."""
        arrived = int((self.outcome < NEVER).sum())
        return LEAST_ARRIVALS <= arrived <= len(self.outcome) - LEAST_ARRIVALS


def draw_examples(
    starts: Iterable[Moment], windows: Sequence[Window], rng: np.random.Generator, breathe: Breathe
) -> list[Examples]:
    """For each of `windows`, items as they were known at its start, and what became of them in it.

    Args:
        starts: The moment at which each window starts.
        windows: Windows of the past.
        rng: Draws the items where there are many.
        breathe: Called between windows.
    """
    share = MOST_EXAMPLES // max(1, len(windows))
    drawn = []
    for moment, window in zip(starts, windows, strict=True):
        drawn.append(_examples(moment, window, share, rng))
        breathe()
    return drawn


def join(parts: Sequence[Examples]) -> Examples:
    """All rows of `parts`, of which there is at least one."""
    return Examples(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _examples(moment: Moment, window: Window, most: int, rng: np.random.Generator) -> Examples:
    outcome = outcomes(moment, window)
    arrived, absent = np.flatnonzero(outcome < NEVER), np.flatnonzero(outcome == NEVER)
    drawn = [_draw(arrived, most // 2, rng), _draw(absent, most - min(len(arrived), most // 2), rng)]
    items = np.concatenate([rows for rows, _ in drawn])
    weight = np.concatenate([np.full(len(rows), each, np.float32) for rows, each in drawn])
    return Examples(features(moment, items), outcome[items], weight)


def outcomes(moment: Moment, window: Window) -> NDArray[np.int64]:
    """(known,) for each item known at the start of `window`, the interval of `DEADLINES`, or NEVER."""
    items, fullness = moment.trail.arrivals(window, moment.capacity_bytes)
    outcome = np.full(moment.known, NEVER, np.int64)
    known = items < moment.known
    outcome[items[known]] = np.searchsorted(DEADLINES, fullness[known])
    return outcome


def _draw(rows: NDArray[np.int64], most: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], float]:
    if len(rows) <= most:
        return rows, 1.0
    return np.sort(rng.choice(rows, most, replace=False)), len(rows) / most
