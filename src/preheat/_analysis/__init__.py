"""A history -> what people want to know of it, cache by cache.

`traffic` is the hit rate over time, `ranking` the items that matter most, `turnover` how much changes and how much is
in use, `curve` what a larger or smaller cache would do; `summary` turns them into plain data.
"""

from preheat._analysis.curve import LruCurve, lru_curve
from preheat._analysis.ranking import TopItem, top_by_rate, top_by_value
from preheat._analysis.summary import curve_summary, history_analysis, observed_history, top_summary
from preheat._analysis.traffic import HourOfTraffic, hit_rate_by_hour
from preheat._analysis.turnover import WorkingSet, churn, working_set

__all__ = [
    "HourOfTraffic",
    "LruCurve",
    "TopItem",
    "WorkingSet",
    "churn",
    "curve_summary",
    "history_analysis",
    "hit_rate_by_hour",
    "lru_curve",
    "observed_history",
    "top_by_rate",
    "top_by_value",
    "top_summary",
    "working_set",
]
