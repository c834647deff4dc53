"""Plans, runs and reports as trees of plain data: the one form that JSON, status, command line and pages show."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from preheat._model import (
    PHASES,
    CacheEffect,
    History,
    MemoryEvent,
    MemoryEventKind,
    MemoryPressureLevel,
    MemoryReading,
    PeerRecord,
    PressureExposure,
    TimeToSteady,
    Uplift,
    WarmupPlan,
    WarmupProgress,
    WarmupReport,
    label_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAN_SCHEMA = "preheat-plan/1"
REPORT_SCHEMA = "preheat-report/1"
LIVE_SCHEMA = "preheat-live/1"
STRATEGIES_SCHEMA = "preheat-strategies/1"
READINESS_SCHEMA = "preheat-readiness/1"
RUN_SCHEMA = "preheat-run/1"
ACTION_SCHEMA = "preheat-action/1"
EVENTS_SHOWN = 200
UNTOLD = "told on the command line: preheat status"

_KIND_OF_FAULT = r"([A-Z][A-Za-z0-9_]{0,60}(?:Error|Exception|Timeout))(?::|$)"  # compiled when it is needed
_ADDRESS = r"(://)[^/\s]*@"


def left_out_counts(plan: WarmupPlan) -> dict[str, int]:
    """How many candidates were left out, by reason."""
    counts = np.bincount(plan.left_out[plan.left_out >= 0], minlength=len(plan.reasons))
    return {reason.value: int(n) for reason, n in zip(plan.reasons, counts, strict=True) if n}


def plan_summary(plan: WarmupPlan) -> dict[str, Any]:
    """`plan` without its single items."""
    return {
        "schema": PLAN_SCHEMA,
        "strategy": str(plan.strategy),
        "why": plan.why,
        "adapted": list(plan.adapted),
        "falls_back_to": plan.fallback.strategy if plan.fallback else None,
        "pressure_response": [response.name.lower() for response in plan.pressure_response],
        "predictors": dict(plan.predictors),
        "budget_bytes": plan.budget.granted_bytes,
        "budget_reason": plan.budget.reason,
        "reserve_bytes": plan.budget.reserve_bytes,
        "in_flight_bytes": plan.budget.in_flight_bytes,
        "pressure": plan.budget.pressure.name,
        "candidates": len(plan.candidates),
        "planned_items": len(plan),
        "planned_bytes": plan.size_bytes,
        "held_out_items": len(plan.held_out),
        "left_out_items": int((plan.left_out >= 0).sum()),
        "left_out": left_out_counts(plan),
        "value_seconds": float(plan.value[plan.order].sum()),
        "seed": plan.seed,
        "phases": [_phase(plan, n) for n in range(len(PHASES))],
    }


def _phase(plan: WarmupPlan, n: int) -> dict[str, Any]:
    rows, table = plan.chosen[n], plan.candidates
    by_cache = {
        name: {"items": int(mine.sum()), "bytes": int(table.size_bytes[rows][mine].sum())}
        for code, name in enumerate(table.caches)
        if (mine := table.cache[rows] == code).any()
    }
    return {
        "name": PHASES[n],
        "items": len(rows),
        "bytes": int(table.size_bytes[rows].sum()),
        "caches": by_cache,
    }


def progress_summary(progress: WarmupProgress) -> dict[str, Any]:
    """A run as it stands."""
    return {
        "progress_percent": progress.progress_percent,
        "phase": progress.phase,
        "done": progress.done,
        "total": progress.total,
        "loaded_bytes": progress.loaded_bytes,
        "budget_bytes": progress.budget_bytes,
        "pressure": progress.pressure.name,
        "elapsed_seconds": progress.elapsed_seconds,
        "remaining_seconds": progress.remaining_seconds,
        "items_per_second": progress.items_per_second,
        "bytes_per_second": progress.bytes_per_second,
        "paused": progress.is_paused,
        "waits_for": progress.waits_for or None,
        "strategy": str(progress.strategy),
        "switches": [switch._asdict() for switch in progress.switches],
        "origins": [origin._asdict() for origin in progress.origins],
    }


def live_summary(
    at: float,
    active: bool,
    progress: WarmupProgress | None,
    pressure: MemoryPressureLevel,
    reading: MemoryReading | None,
) -> dict[str, Any]:
    """What goes on at the instant `at`: the run, if one is active, memory, and its pressure."""
    return {
        "schema": LIVE_SCHEMA,
        "at": at,
        "active": active,
        "progress": progress_summary(progress) if progress is not None else None,
        "pressure": pressure.name,
        "memory": _reading(reading),
    }


def strategies_summary(plans: Sequence[WarmupPlan]) -> dict[str, Any]:
    """What each strategy would buy now, side by side: `plans` is one of each."""
    return {"schema": STRATEGIES_SCHEMA, "strategies": [plan_summary(plan) for plan in plans]}


def without_keys(report: Mapping[str, Any], *, shows_items: bool = False) -> dict[str, Any]:
    """`report`, kept by any version, as others than its operator may read it.

    What applications have written themselves may hold anybody's secret: of a failure the kind of the error is left,
    of a memory event of a cache no cause, of an address no user and password.  Items are named if `shows_items`,
    else counted by cache and kind of error.
    """
    events = [event | {"cause": _own_cause(event)} for event in _records(report, "memory_events")]
    origins = [
        origin | {"origin": without_user(str(origin.get("origin", "")))} for origin in _records(report, "origins")
    ]
    failures = [
        (str(row.get("item", "")), kind_of_fault(str(row.get("reason", "")))) for row in _records(report, "failures")
    ]
    if not shows_items:
        failures = [(item.partition(":")[0], kind) for item, kind in failures]
    counted = Counter(failures).items()
    return dict(report) | {
        "memory_events": events,
        "origins": origins,
        "failures": [{"item": item, "reason": kind, "count": n} for (item, kind), n in counted],
    }


def kind_of_fault(reason: str) -> str:
    """The kind of the error that `reason` begins with, or else a sentence that says nothing of it."""
    found = re.match(_KIND_OF_FAULT, reason)
    return found[1] if found else UNTOLD


def without_user(address: str) -> str:
    """`address` without the user and the password in it."""
    return re.sub(_ADDRESS, r"\1", address)


def _own_cause(event: Mapping[str, Any]) -> str:
    is_ours = event.get("kind") == MemoryEventKind.PRESSURE and not event.get("cache")
    return str(event.get("cause", "")) if is_ours else ""


def _records(report: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    rows = report.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def report_summary(report: WarmupReport) -> dict[str, Any]:
    """`report` without its single items, but with the failed ones by name."""
    plan = plan_summary(report.plan)
    for phase in plan["phases"]:
        phase["seconds"] = report.phase_seconds.get(phase["name"], 0.0)
    measured = report.after.process_bytes - report.before.process_bytes if report.after and report.before else None
    return plan | {
        "schema": REPORT_SCHEMA,
        "stopped": report.stopped,
        "seconds": report.seconds,
        "attempts": report.attempts,
        "counts": {str(status): n for status, n in report.counts.items()},
        "estimated_bytes": int(sum(size.estimated_bytes for size in report.sizes)),
        "accounted_bytes": report.accounted_bytes,
        "measured_bytes": measured,
        "sizes": [size._asdict() for size in report.sizes],
        "rolled_back_bytes": report.rolled_back_bytes,
        "released_bytes": report.released_bytes,
        "memory": {name: _reading(getattr(report, name)) for name in ("before", "peak", "after")},
        "memory_events": pressure_events(report.events),
        "switches": [switch._asdict() for switch in report.switches],
        "origins": [origin._asdict() for origin in report.origins],
        "peers": _peers(report.peers),
        "exposure": exposure_summary(report.exposure),
        "failures": [{"item": str(ref), "reason": reason} for ref, reason in report.failures.items()],
        "uplift": _fields(report.uplift),
        "steady": _fields(report.steady),
        "caches": [_effect(effect) for effect in report.effects],
    }


def exposure_summary(exposure: PressureExposure) -> dict[str, Any]:
    """How long a run was under which pressure, and stood still for it."""
    seconds = {level.name: seconds for level, seconds in zip(MemoryPressureLevel, exposure.seconds, strict=True)}
    return {"seconds": seconds, "pauses": exposure.pauses, "paused_seconds": exposure.paused_seconds}


def _peers(record: PeerRecord | None) -> dict[str, Any] | None:
    return record._asdict() | {"faults": dict(record.faults)} if record is not None else None


def _effect(effect: CacheEffect) -> dict[str, Any]:
    return effect._asdict() | {"uplift": _fields(effect.uplift), "steady": _fields(effect.steady)}


def _fields(row: Uplift | TimeToSteady | None) -> dict[str, Any] | None:
    return row._asdict() if row is not None else None


def pressure_events(events: Sequence[MemoryEvent]) -> list[dict[str, Any]]:
    """Why a run slowed or stopped: the newest changes of pressure and the newest drops of values, oldest first.

    Each has a share of its own, since a roll-back drops thousands.  Allocations are left out: their sums are in
    `sizes`.
    """
    changes, drops = deque[int](maxlen=EVENTS_SHOWN // 2), deque[int](maxlen=EVENTS_SHOWN // 2)
    for n, event in enumerate(events):
        if event.kind is MemoryEventKind.PRESSURE:
            changes.append(n)
        elif event.kind is not MemoryEventKind.ALLOCATION:
            drops.append(n)
    shown = [events[n] for n in sorted((*changes, *drops))]
    return [event._asdict() | {"kind": str(event.kind)} for event in shown]


def history_summary(history: History, top: int) -> dict[str, Any]:
    """`history` by cache: items, bytes, hits and misses, and the `top` items asked for most of late."""
    counts = history.decayed_counts(history.at)[:, -1]
    return {
        "at": history.at,
        "since": history.since,
        "caches": [_cache_history(history, code, counts, top) for code in range(len(history.caches))],
    }


def _cache_history(history: History, code: int, counts: NDArray[np.float64], top: int) -> dict[str, Any]:
    rows = np.flatnonzero(history.cache == code)
    hits, misses = int(history.hits[code]), int(history.misses[code])
    best = rows[np.argsort(-counts[rows], kind="stable")[:top]]
    return {
        "name": history.caches[code],
        "items": len(rows),
        "bytes": int(history.size_bytes[rows].sum()),
        "hits": hits,
        "misses": misses,
        "hit_ratio": hits / (hits + misses) if hits + misses else 0.0,
        "top": [
            {"key": key, "label": label_of(key, recipe), "count": float(counts[row])}
            for row, key, recipe in zip(best.tolist(), history.keys.take(best), history.recipes.take(best), strict=True)
        ],
    }


def _reading(reading: MemoryReading | None) -> dict[str, Any] | None:
    return reading._asdict() | {"available_bytes": reading.available_bytes} if reading else None


__all__ = [
    "exposure_summary",
    "history_summary",
    "kind_of_fault",
    "left_out_counts",
    "live_summary",
    "plan_summary",
    "pressure_events",
    "progress_summary",
    "report_summary",
    "strategies_summary",
    "without_keys",
    "without_user",
]
