"""Recency: what was used last is used next.

The longer an item has been left alone, the longer it will be: with gaps between accesses that fall as a power law, an
item that was quiet for `a` horizons comes back within the next one with a chance of 1 / (1 + a) [1].  Its order is that
of a dump of an LRU cache, most recently used first.

[1] Lomax, "Business failures: another example of the analysis of failure data", J. Am. Stat. Assoc. 49, 1954.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from preheat._predict.moment import Moment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def chance(moment: Moment) -> NDArray[np.float64]:
    """P(asked for within the horizon): (known,)."""
    probability: NDArray[np.float64] = 1.0 / (1.0 + moment.age)
    return probability
