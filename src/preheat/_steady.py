"""When the hit rate of traffic is steady again: requests in, the moment out, a hundred outcomes remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from preheat._model import TimeToSteady

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW = 100
"""Requests whose hit rate is looked at; the first moment that can be seen is the hundredth request."""

NEAR = 0.95
"""Traffic is steady once it hits this share of what it hit before."""


class SteadyWatch:
    """Sees the first moment at which the newest `WINDOW` requests of a cache hit at `NEAR` of the known rate.

    Args:
        steady_ratio: The hit rate known; 0 or less if none is, then no moment is ever seen.
        began_at: The instant from which seconds are counted.
    """

    def __init__(self, steady_ratio: float, began_at: float) -> None:
        self.steady_ratio = steady_ratio
        self.requests = 0
        self.reached: TimeToSteady | None = None
        self._began_at = began_at
        self._newest = np.empty(0, np.bool_)

    @property
    def hit_ratio(self) -> float:
        """The hit rate of the newest requests; 0 before the first."""
        return float(self._newest.mean()) if len(self._newest) else 0.0

    def observe(self, at: float, hit: NDArray[np.bool_]) -> None:
        """Requests at the instant `at`, in order."""
        outcomes = np.concatenate([self._newest, hit])
        if self.reached is None and self.steady_ratio > 0.0:
            self._look(at, outcomes)
        self.requests += len(hit)
        self._newest = outcomes[-WINDOW:]

    def _look(self, at: float, outcomes: NDArray[np.bool_]) -> None:
        hits = np.concatenate([[0], np.cumsum(outcomes)])
        ratio = (hits[WINDOW:] - hits[:-WINDOW]) / WINDOW
        ratio = ratio[len(self._newest) == WINDOW :]  # the window before the first new request has been looked at
        found = np.flatnonzero(ratio >= NEAR * self.steady_ratio)
        if len(found):
            first = len(outcomes) - len(ratio) + 1 + int(found[0])  # outcomes up to the end of that window
            requests = self.requests + first - len(self._newest)
            self.reached = TimeToSteady(
                max(0.0, at - self._began_at), requests, float(ratio[found[0]]), self.steady_ratio
            )
