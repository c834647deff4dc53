"""What is known of each cache, as plain data: the one form that JSON, command line and pages show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from preheat._analysis.curve import LruCurve, lru_curve
from preheat._analysis.ranking import top_by_rate, top_by_value
from preheat._analysis.traffic import hit_rate_by_hour
from preheat._analysis.turnover import churn, working_set
from preheat._model import History
from preheat._summary import history_summary

HISTORY_SCHEMA = "preheat-history-summary/1"
CURVE_SCHEMA = "preheat-curve/1"
TOP_SCHEMA = "preheat-top/1"
OBSERVED_SCHEMA = "preheat-observed-history/1"
HOUR, DAY = 3600.0, 86_400.0
SHOWN_HOURS = 24
POINTS = 40
HIT_RATIOS = (0.5, 0.8, 0.9, 0.95, 0.99)


def history_analysis(history: History, top: int) -> dict[str, Any]:
    """All that is known of all caches: totals and top items, traffic by the hour, working sets, churn."""
    summary = history_summary(history, top)
    for cache in summary["caches"]:
        name = cache["name"]
        cache["hours"] = [
            {"at": hour.at, "hits": hour.hits, "misses": hour.misses, "hit_ratio": hour.hit_ratio}
            for hour in hit_rate_by_hour(history, name, SHOWN_HOURS)
        ]
        cache["working_sets"] = [working_set(history, name, seconds)._asdict() for seconds in (HOUR, DAY)]
        cache["churn"] = [{"seconds": seconds, "ratio": churn(history, name, seconds)} for seconds in (HOUR, DAY)]
    return {"schema": HISTORY_SCHEMA} | summary


def top_summary(history: History, caches: Sequence[str], n: int, *, by_value: bool) -> dict[str, Any]:
    """The `n` items of each of `caches` that matter most."""
    rank = top_by_value if by_value else top_by_rate
    return {
        "schema": TOP_SCHEMA,
        "by": "value" if by_value else "rate",
        "caches": [{"name": name, "items": [item._asdict() for item in rank(history, name, n)]} for name in caches],
    }


def observed_history(history: History, top: int, *, shows_keys: bool = False) -> dict[str, Any]:
    """What is known of each cache for those who watch: as `history_analysis`, with the curve of each cache.

    Its `top` items are those that save most per byte; keys and recipes are null unless `shows_keys`.
    """
    summary = history_analysis(history, 0)
    best = top_summary(history, history.caches, top, by_value=True)["caches"]
    curves = curve_summary(history, history.caches)["caches"]
    for cache, ranked, curve in zip(summary["caches"], best, curves, strict=True):
        hidden = {} if shows_keys else {"key": None, "recipe": None}
        cache["top"] = [item | hidden for item in ranked["items"]]
        cache["curve"] = curve
    return summary | {"schema": OBSERVED_SCHEMA}


def curve_summary(history: History, caches: Sequence[str], wished: Sequence[float] = HIT_RATIOS) -> dict[str, Any]:
    """For each of `caches`, the hit ratio of an LRU cache by its capacity, and what `wished` hit ratios take."""
    return {"schema": CURVE_SCHEMA, "caches": [_curves(history, name, wished) for name in caches]}


def _curves(history: History, name: str, wished: Sequence[float]) -> dict[str, Any]:
    by_bytes, by_items = lru_curve(history, name), lru_curve(history, name, in_items=True)
    return {
        "name": name,
        "accesses": by_bytes.accesses,
        "items": by_items.footprint,
        "footprint_bytes": by_bytes.footprint,
        "best_hit_ratio": by_bytes.best,
        "bytes": _points(by_bytes),
        "by_items": _points(by_items),
        "wished": [
            {"hit_ratio": ratio, "bytes": by_bytes.capacity_for(ratio), "items": by_items.capacity_for(ratio)}
            for ratio in wished
        ],
    }


def _points(curve: LruCurve) -> list[dict[str, float]]:
    """Up to `POINTS` points of the curve, evenly apart, up to where it stops to rise."""
    top = int(curve.needed[-1]) if len(curve.needed) else 0
    capacities = sorted({round(top * n / POINTS) for n in range(1, POINTS + 1)} - {0})
    return [{"capacity": capacity, "hit_ratio": curve.hit_ratio(capacity)} for capacity in capacities]
