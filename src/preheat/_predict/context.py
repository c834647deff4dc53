"""Context: what was asked for in moments like this one.

What has been asked for lately is a cue.  Each cue points at the earlier accesses to the same item; what followed
there is expected now, the more the more cues point at the same stretch of the past.  Cues fade with their age, and
count less the more common their item is.  So whatever comes in sessions, scans, loops or shifts is expected when its
beginning is seen again, without a word about which of these it is.  A nearest-neighbour method as recommenders use
it [1], with a stretch of the trail as the neighbour.

[1] Jannach and Ludewig, "When Recurrent Neural Networks meet the Neighborhood for Session-Based Recommendation",
    RecSys 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preheat._predict.moment import Moment

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_CUES = 2**16
LEAST_CUES = 2**12
HALF_LIFE = 0.25  # of a cue, in horizons
OCCURRENCES = 8
FADING = 0.9  # from one occurrence to the one before
COMMONNESS = 0.5  # a cue counts as much as its item's count to the minus this power
REACH = 2**18  # accesses back that are searched: what is older is no context of now


class Span(NamedTuple):
    """How far the light of a cue reaches.

    Attributes:
        accesses, horizons: One of them is the width over which light is spread.
        agreeing: Horizons within which cues have to agree: there the light is squared before it is spread, so that
            a stretch that many cues point at counts more than many that few do; 0 takes the light as it is.
    """

    accesses: int = 0
    horizons: float = 0.0
    agreeing: float = 0.0

    def __str__(self) -> str:
        width = f"{self.horizons:g} horizons" if self.horizons else f"{self.accesses} accesses"
        return f"{width}, cues agreeing within {self.agreeing:g}" if self.agreeing else width


SPANS = (
    Span(accesses=64),
    Span(accesses=256),
    Span(horizons=1 / 16),
    Span(horizons=1 / 4),
    Span(horizons=1.0),
    Span(horizons=1 / 4, agreeing=1 / 16),
    Span(horizons=1 / 4, agreeing=1 / 4),
    Span(horizons=1.0, agreeing=1 / 16),
)
LOOSE = Span(horizons=1 / 4)
STRICT = Span(horizons=1 / 4, agreeing=1 / 16)


def chance(moment: Moment) -> NDArray[np.float64]:
    """P(asked for within the horizon), every cue counting by itself: (known,)."""
    return _chance(moment, LOOSE)


def agreeing_chance(moment: Moment) -> NDArray[np.float64]:
    """P(asked for within the horizon), cues counting where they agree: (known,)."""
    return _chance(moment, STRICT)


def _chance(moment: Moment, span: Span) -> NDArray[np.float64]:
    probability: NDArray[np.float64] = -np.expm1(-next(expected(moment, (span,))))
    return probability


def expected(moment: Moment, spans: tuple[Span, ...] = SPANS) -> Iterator[NDArray[np.float64]]:
    """For each of `spans`, the accesses of each item within a horizon if it goes on as it did: (known,)."""
    start = max(0, moment.position - REACH)
    items = moment.trail.items[start : moment.position]
    light = _light(moment)[start:]
    agreed = {width: _spread(light, width * moment.horizon) ** 2 for width in {span.agreeing for span in spans} - {0.0}}
    for span in spans:
        width = span.accesses or span.horizons * moment.horizon
        shed = _spread(agreed.get(span.agreeing, light), width)
        points = np.bincount(items, shed, moment.known).astype(np.float64, copy=False)
        total = points.sum()
        yield points * (moment.horizon / total) if total > 0 else points


def _light(moment: Moment) -> NDArray[np.float64]:
    """How strongly the newest accesses point at each access before the moment: (position,)."""
    trail, stop = moment.trail, moment.position
    start = max(0, stop - int(min(max(LEAST_CUES, moment.horizon), MOST_CUES)))
    strength = np.exp2((np.arange(start, stop) - stop) / max(HALF_LIFE * moment.horizon, 1.0))
    strength /= moment.count[trail.items[start:stop]] ** COMMONNESS
    light = np.zeros(stop)
    at = np.arange(start, stop)
    for n in range(OCCURRENCES):
        at = trail.previous[at]
        there = at >= 0
        at, strength = at[there], strength[there]
        if len(at):
            light[: at.max() + 1] += np.bincount(at, strength * FADING**n)
    return light


def _spread(light: NDArray[np.float64], accesses: float) -> NDArray[np.float64]:
    """The mean of the light in the `accesses` before each one."""
    width = min(max(int(accesses), 1), max(len(light), 1))
    total = np.concatenate([np.zeros(1), np.cumsum(light)])
    spread = total[:-1].copy()
    spread[width:] -= total[: -width - 1]
    return spread / width
