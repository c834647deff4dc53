"""From what was written down to what is shown: the figures of `report.json` and the rows of the table.

Pure: requests, seconds and counters in, dictionaries out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codesearch.drive import Checkpoint, Drive

FIRST = 1_000  # requests after a start that count as its beginning
STEADY_SHARE = 0.25  # the last part of the cold run, taken as what traffic settles to
RECOVERED = 0.95  # of the steady hit rate
ROLLING = 100  # requests in a window of the hit rate over time
CACHES = ("search", "embedding", "file", "project")
MIB = 2**20
NOTHING = "\N{EN DASH}"

Figures = dict[str, Any]


def figures_of(drive: Drive, steady_hit_ratio: float, start_seconds: float) -> Figures:
    """Everything about one run that the report keeps."""
    first = min(FIRST, len(drive))
    return {
        "start_seconds": start_seconds,
        "requests": len(drive),
        "first": {"requests": first, **_part(drive, first)},
        "all": {"requests": len(drive), **_part(drive, len(drive))},
        "requests_until_steady": requests_until(drive, RECOVERED * steady_hit_ratio),
        "evictions": drive.checkpoints[-1].evictions,
        "series": {
            "hit_ratio": [[at, round(ratio, 4)] for at, ratio in hit_ratio_over_requests(drive)],
            "latency_ms": np.round(np.array(drive.seconds) * 1e3, 3).tolist(),
            "process_bytes": [[c.requests, c.process_bytes] for c in drive.checkpoints],
        },
    }


def _part(drive: Drive, requests: int) -> Figures:
    """Hit rates and latencies of the first `requests` requests."""
    checkpoint = next(c for c in drive.checkpoints if c.requests >= requests)
    return {
        "hit_ratio": hit_ratios(drive.checkpoints[0], checkpoint),
        "loads": loads_between(drive.checkpoints[0], checkpoint),
        "without_load_ratio": without_load_ratio(drive.loads[:requests]),
        "latency_ms": latencies(drive.seconds[:requests]),
    }


def hit_ratios(since: Checkpoint, until: Checkpoint) -> dict[str, float | None]:
    """Hits over accesses between two checkpoints, by cache and `overall`; None where nothing was asked for."""
    hits = {name: until.hits[name] - since.hits[name] for name in until.hits}
    asked = {name: hits[name] + until.misses[name] - since.misses[name] for name in hits}
    ratios = {name: hits[name] / asked[name] if asked[name] else None for name in hits}
    total = sum(asked.values())
    return ratios | {"overall": sum(hits.values()) / total if total else None}


def loads_between(since: Checkpoint, until: Checkpoint) -> dict[str, int]:
    """Misses between two checkpoints, by cache and `overall`."""
    loads = {name: until.misses[name] - since.misses[name] for name in until.misses}
    return loads | {"overall": sum(loads.values())}


def without_load_ratio(loads: Sequence[int]) -> float:
    """Share of the requests that were answered from the caches alone."""
    return sum(n == 0 for n in loads) / len(loads) if loads else 0.0


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """The mean and three percentiles, in milliseconds."""
    if not seconds:
        return dict.fromkeys(("mean", "p50", "p95", "p99"), 0.0)
    p50, p95, p99 = (np.percentile(seconds, [50, 95, 99]) * 1e3).tolist()
    return {"mean": float(np.mean(seconds) * 1e3), "p50": p50, "p95": p95, "p99": p99}


def hit_ratio_over_requests(drive: Drive) -> list[tuple[int, float]]:
    """(requests so far, share of the last 100 requests answered without a load), every 20 requests."""
    hit = np.array([n == 0 for n in drive.loads], float)
    total = np.concatenate([[0.0], np.cumsum(hit)])
    window = min(ROLLING, len(hit))
    return [(end, float(total[end] - total[end - window]) / window) for end in range(window, len(hit) + 1, 20)]


def steady_hit_ratio(cold: Drive) -> float:
    """What the hit rate settles to by traffic alone: its mean over the last quarter of the cold run."""
    return without_load_ratio(cold.loads[-max(1, int(len(cold) * STEADY_SHARE)) :])


def requests_until(drive: Drive, ratio: float) -> int | None:
    """Requests until the hit rate of a window of 100 reaches `ratio`, the window included; None if it never does."""
    return next((end for end, reached in hit_ratio_over_requests(drive) if reached >= ratio), None)


# ---------------------------------------------------------------------------------------------------------- the table


class Row(NamedTuple):
    """A line of the table; a group's title has neither `cold` nor `warm`."""

    label: str
    cold: str = ""
    warm: str = ""


def table_of(report: Mapping[str, Any]) -> list[Row]:
    """The rows that the terminal and the page show, cold beside warm, in order."""
    cold, warm = report["runs"]["cold"], report["runs"]["warm"]
    return [
        *_hit_rows("Hit rate, first {} requests", cold["first"], warm["first"]),
        *_hit_rows("Hit rate, all {} requests", cold["all"], warm["all"]),
        *_latency_rows(cold["first"], warm["first"]),
        *_recovery_rows(report, cold, warm),
        *_warmup_rows(report["warmup"]),
        *_uplift_rows(report),
    ]


def _hit_rows(title: str, cold: Figures, warm: Figures) -> list[Row]:
    rows = [Row(title.format(f"{cold['requests']:,}"))]
    rows.append(Row("requests answered without a load", *(percent(r["without_load_ratio"]) for r in (cold, warm))))
    for name in ("overall", *CACHES):
        label = "all caches" if name == "overall" else f"{name} cache"
        rows.append(Row(label, *(percent(r["hit_ratio"][name]) for r in (cold, warm))))
    return [*rows, Row("values loaded", *(f"{r['loads']['overall']:,}" for r in (cold, warm)))]


def _latency_rows(cold: Figures, warm: Figures) -> list[Row]:
    rows = [Row(f"Latency, first {cold['requests']:,} requests")]
    return rows + [
        Row(name, *(f"{r['latency_ms'][name]:.1f} ms" for r in (cold, warm))) for name in ("p50", "p95", "p99")
    ]


def _recovery_rows(report: Mapping[str, Any], cold: Figures, warm: Figures) -> list[Row]:
    steady = report["steady_hit_ratio"]
    return [
        Row("Recovery"),
        Row(
            f"requests until {100 * RECOVERED:.0f} % of steady ({percent(steady)})",
            *(count_or_never(r["requests_until_steady"]) for r in (cold, warm)),
        ),
        Row("start until ready", *(f"{r['start_seconds']:.1f} s" for r in (cold, warm))),
        Row("evictions", *(f"{sum(r['evictions'].values()):,}" for r in (cold, warm))),
    ]


def _warmup_rows(warmup: Figures) -> list[Row]:
    counts = warmup["counts"]
    rows = [
        Row("Warm-up"),
        Row("memory budget", "", megabytes(warmup["budget_bytes"])),
        Row("memory planned", "", megabytes(warmup["planned_bytes"])),
        Row("memory accounted by the caches", "", megabytes(warmup["accounted_bytes"])),
        Row("memory measured (growth of process)", "", megabytes(warmup["measured_bytes"])),
        Row("items planned", "", f"{warmup['planned_items']:,}"),
        Row("items loaded", "", f"{counts['loaded']:,}"),
        Row("items skipped", "", f"{counts['skipped']:,}"),
        Row("items failed", "", f"{counts['failed']:,}"),
    ]
    others = ("resident", "unavailable", "rejected", "rolled_back")
    rows += [Row(f"items {name.replace('_', ' ')}", "", f"{counts[name]:,}") for name in others if counts.get(name)]
    if warmup["stopped"]:
        rows.append(Row("stopped early by", "", str(warmup["stopped"])))
    return [*rows, Row("time", "", f"{warmup['seconds']:.1f} s")]


def _uplift_rows(report: Mapping[str, Any]) -> list[Row]:
    uplift = report["uplift"]
    rows = [Row("Gain in hit rate, all caches, in points")]
    if uplift is None:
        rows.append(Row("uplift by hold-out", "", "too few asked for"))
    else:
        rows.append(Row("uplift by hold-out (95 % interval)", "", interval(uplift)))
    return [
        *rows,
        Row("observed, warm minus cold", "", f"{report['observed_points']:+.1f}"),
        Row("Answers"),
        Row("that differ, warm from cold", "", f"{report['answers']['different']:,} of "
            f"{report['answers']['compared']:,}"),
    ]  # fmt: skip


def count_or_never(requests: int | None) -> str:
    """A number of requests that may never have been enough."""
    return "never" if requests is None else f"{requests:,}"


def percent(ratio: float | None) -> str:
    """A ratio for people."""
    return NOTHING if ratio is None else f"{100 * ratio:.1f} %"


def megabytes(size_bytes: float | None) -> str:
    """A size for people."""
    if size_bytes is None:
        return NOTHING
    return f"{size_bytes / MIB:.1f} MB" if abs(size_bytes) >= MIB / 10 else f"{size_bytes / 1024:.0f} KB"


def interval(uplift: Mapping[str, float]) -> str:
    """Percentage points with their interval."""
    return f"{uplift['points']:+.1f} ({uplift['low']:+.1f} to {uplift['high']:+.1f})"


def rolling_percentile(values: Sequence[float], share: float, *, window: int, step: int) -> list[tuple[int, float]]:
    """(end of the window, percentile of the values in it), every `step` values."""
    column: NDArray[np.float64] = np.asarray(values, float)
    window = min(window, len(column))
    if not window:
        return []
    return [
        (end, float(np.percentile(column[end - window : end], share))) for end in range(window, len(column) + 1, step)
    ]
