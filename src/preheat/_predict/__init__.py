"""History -> accesses expected, item by item.

One file per predictor, each a function of the shape `preheat.abc.Predictor`; this registry is the one place that
lists them.  `horizon` says how far ahead it makes sense to look.
"""

from preheat._predict.decayed_frequency import predict as decayed_frequency
from preheat._predict.horizon import refill_seconds
from preheat.abc import Predictor

__all__ = ["PREDICTORS", "decayed_frequency", "refill_seconds"]

PREDICTORS: dict[str, Predictor] = {"decayed_frequency": decayed_frequency}
