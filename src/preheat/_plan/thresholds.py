"""Which candidates a strategy would not take, whatever room there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from preheat._model import CRITICAL_PRIORITY, CandidateTable, Reason
from preheat._plan.strategy import StrategyProfile

if TYPE_CHECKING:
    from numpy.typing import NDArray

REASONS = tuple(Reason)
CHOSEN = -1


def apply_thresholds(
    candidates: CandidateTable, value: NDArray[np.float64], probability: NDArray[np.float64], profile: StrategyProfile
) -> NDArray[np.int8]:
    """(n,) why `profile` leaves a row out, as an index into REASONS; CHOSEN where it does not.

    Items of critical priority pass the thresholds of use: where the operator's word decides, it needs no history to
    back it.
    """
    left_out = np.full(len(candidates), CHOSEN, np.int8)
    ordinary = candidates.priority < (profile.min_priority if profile.by_priority else CRITICAL_PRIORITY)
    rare = (probability < profile.min_probability) | (candidates.usage_frequency < profile.min_usage_frequency)
    left_out[ordinary & (value <= 0)] = REASONS.index(Reason.WORTHLESS)
    left_out[ordinary & rare] = REASONS.index(Reason.RARELY_USED)
    left_out[candidates.priority < profile.min_priority] = REASONS.index(Reason.LOW_PRIORITY)
    return left_out
