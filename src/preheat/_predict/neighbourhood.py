"""Neighbourhood: what is asked for together with what is being asked for now.

Items first asked for side by side belong together (the pages of a file, the parts of an answer): where the neighbours
of an item are in use, it will be too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from preheat._predict.moment import Moment

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPAN = 8


def chance(moment: Moment) -> NDArray[np.float64]:
    """P(asked for within the horizon), taken to be the mean heat of the neighbours and of the item: (known,)."""
    heat = np.concatenate([np.zeros(1), np.cumsum(np.exp2(-moment.age))])
    items = np.arange(moment.known)
    low, high = np.maximum(items - SPAN, 0), np.minimum(items + SPAN + 1, moment.known)
    around: NDArray[np.float64] = (heat[high] - heat[low]) / (high - low)
    return around
