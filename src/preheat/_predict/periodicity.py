"""Periodicity: what is asked for at this time of the day, and of the week.

Accesses in the hours around the same time on earlier days say what comes next, the same weekday counting double and
each week that passed halving.  Says nothing while the trail spans less than two days, or where its times are no clock
but the numbers of the accesses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from preheat._predict.moment import Moment

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAY = 86400.0
LEAST_DAYS = 2
MOST_DAYS = 28
LEAST_SECONDS = 1800.0
SAME_WEEKDAY = 2.0


def chance(moment: Moment) -> NDArray[np.float64]:
    """P(asked for within the horizon): (known,); all 0 where there is no period to speak of."""
    expected = np.zeros(moment.known)
    times = moment.trail.times[: moment.position]
    if not is_clock(times):
        return expected
    now = float(times[-1])
    horizon_seconds = max(now - float(times[max(0, len(times) - 1 - int(moment.horizon))]), 1e-3)
    ahead = max(horizon_seconds, LEAST_SECONDS)
    total = 0.0
    for days in range(1, min(int((now - float(times[0])) / DAY), MOST_DAYS) + 1):
        low, high = np.searchsorted(times, [now - days * DAY, now - days * DAY + ahead])
        weight = 0.5 ** (days / 7.0) * (SAME_WEEKDAY if days % 7 == 0 else 1.0)
        expected += weight * np.bincount(moment.trail.items[low:high], minlength=moment.known)
        total += weight
    probability: NDArray[np.float64] = -np.expm1(-expected / total * horizon_seconds / ahead)
    return probability


def is_clock(times: NDArray[np.float64]) -> bool:
    """Whether `times`, rising, are instants over at least two days rather than numbers of accesses."""
    if len(times) < 2 or times[-1] - times[0] < LEAST_DAYS * DAY:
        return False
    return bool(np.ptp(np.diff(times[:10_000])) > 0)
