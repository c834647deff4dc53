"""Kept reports -> what is remembered of past runs, for the strategy that adapts and for the blend of predictors.

Reports are read as they were kept: as plain data, perhaps by an older version, perhaps damaged.  What can't be read
is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from preheat._interval import Estimate, sum_estimates
from preheat._model import PastRun

LEAST_RUNS = 3
RUNS_SCHEMA = "preheat-runs/1"


class PredictorGain(NamedTuple):
    """What plans priced by one predictor won in one cache.

    Attributes:
        runs: How many runs have been measured.
        accesses: Requests of the cache in them.
        points, low, high: Percentage points of the cache's hit rate, over those requests, with their 95 % interval.
    """

    runs: int
    accesses: int
    points: float
    low: float
    high: float


def past_runs(reports: Iterable[Mapping[str, Any]]) -> tuple[PastRun, ...]:
    """The measured runs among kept `reports`, in their order."""
    return tuple(run for report in reports if (run := _run(report)) is not None)


def gains_by_predictor(reports: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], PredictorGain]:
    """For each cache and predictor, what the runs among kept `reports` have won with it.

    Runs are weighed by their requests; their intervals add up in quadrature.
    """
    found: dict[tuple[str, str], list[tuple[int, Estimate]]] = {}
    for report in reports:
        for effect in _rows(report, "caches"):
            points, accesses = _points(effect.get("uplift")), _number(effect.get("accesses"))
            if points is not None and accesses:
                key = str(effect.get("cache", "")), str(effect.get("predictor", ""))
                found.setdefault(key, []).append((int(accesses), points))
    return {key: _gain(parts) for key, parts in found.items()}


def runs_summary(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Kept `reports`, and what those runs won together, by cache and predictor: plain data."""
    gains = gains_by_predictor(reports).items()
    return {
        "schema": RUNS_SCHEMA,
        "runs": list(reports),
        "gains": [{"cache": cache, "predictor": predictor} | gain._asdict() for (cache, predictor), gain in gains],
    }


def outdone_predictors(reports: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """By cache, the predictors with which runs have won clearly less than with another.

    Clearly: the intervals don't touch, and both have been measured in at least `LEAST_RUNS` runs.
    """
    measured: dict[str, dict[str, PredictorGain]] = {}
    for (cache, predictor), gain in gains_by_predictor(reports).items():
        if gain.runs >= LEAST_RUNS:
            measured.setdefault(cache, {})[predictor] = gain
    return {cache: _below_the_best(gains) for cache, gains in measured.items()}


def _below_the_best(gains: Mapping[str, PredictorGain]) -> frozenset[str]:
    best = max(gain.low for gain in gains.values())
    return frozenset(name for name, gain in gains.items() if gain.high < best)


def _gain(parts: list[tuple[int, Estimate]]) -> PredictorGain:
    accesses = sum(n for n, _ in parts)
    return PredictorGain(len(parts), accesses, *sum_estimates((n / accesses, points) for n, points in parts))


def _run(report: Mapping[str, Any]) -> PastRun | None:
    uplift = report.get("uplift")
    points = _points(uplift)
    if points is None or not isinstance(uplift, Mapping):
        return None
    loaded = sum(_number(effect.get("loaded_bytes")) or 0.0 for effect in _rows(report, "caches"))
    unused = _number(uplift.get("unused_bytes"))
    is_known = report.get("steady") is not None and loaded > 0 and unused is not None
    return PastRun(
        started=_number(report.get("started")) or 0.0,
        strategy=str(report.get("strategy", "")),
        points=points.middle,
        low=points.low,
        high=points.high,
        unused_ratio=min(1.0, (unused or 0.0) / loaded) if is_known else None,
    )


def _rows(report: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    rows = report.get(name)
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _points(uplift: Any) -> Estimate | None:
    if not isinstance(uplift, Mapping):
        return None
    numbers = [_number(uplift.get(name), least=-100.0) for name in ("points", "low", "high")]
    known = [number for number in numbers if number is not None]
    return Estimate(*known) if len(known) == len(numbers) and known[1] <= known[0] <= known[2] else None


def _number(raw: Any, least: float = 0.0) -> float | None:
    is_number = isinstance(raw, int | float) and not isinstance(raw, bool)
    return float(raw) if is_number and math.isfinite(raw) and raw >= least else None
