"""Simulations as plain data, in the form of docs/reference/traces.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from preheat._replay import Shares
from preheat._simulate.experiment import Experiment
from preheat._simulate.results import NEVER_RESTARTED, Row, Simulation, budget_knee, contestants, mean_captured
from preheat._simulate.run import BUDGETS

SCHEMA = "preheat-simulation/1"


def simulation_summary(simulations: Sequence[Simulation], experiment: Experiment) -> dict[str, Any]:
    """Everything that was found."""
    return {
        "schema": SCHEMA,
        "seed": experiment.seed,
        "warmers": list(experiment.chosen()),
        "captured": _captured_summary([row for simulation in simulations for row in simulation.rows]),
        "traces": [_trace_summary(simulation) for simulation in simulations],
    }


def _captured_summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "budget_share": share,
            "cells": sum(row.cell.counts for row in rows if row.budget_share == share),
            "warmers": _as_dicts(mean_captured(row for row in rows if row.budget_share == share)),
        }
        for share in BUDGETS
    ]


def _as_dicts(shares: Mapping[str, Shares]) -> dict[str, dict[str, float | None]]:
    return {name: found._asdict() for name, found in shares.items()}


def _trace_summary(simulation: Simulation) -> dict[str, Any]:
    facts = ("name", "requests", "items", "footprint_bytes", "equal_sizes", "has_clock", "has_costs")
    reading = ("bad_lines", "bad_examples", "not_reads", "cut")
    return {
        **{name: getattr(simulation, name) for name in (*facts, *reading)},
        "captured": _captured_summary(simulation.rows),
        "capacities": [
            {
                "capacity_bytes": capacity,
                "captured": _captured_summary([r for r in simulation.rows if r.cell.capacity_bytes == capacity]),
                "knee": knee_at._asdict() if (knee_at := budget_knee(simulation.at(capacity))) else None,
            }
            for capacity in simulation.capacities()
        ],
        "cells": [_row_summary(row) for row in simulation.rows],
        "miss_ratio_curve": None
        if simulation.curve is None
        else {
            "capacity_bytes": simulation.curve.capacity_bytes.tolist(),
            "miss_ratio": simulation.curve.miss_ratio.tolist(),
            "sampled": simulation.curve.sampled,
        },
    }


def _row_summary(row: Row) -> dict[str, Any]:
    cell = row.cell
    hits = {"cold": cell.cold, NEVER_RESTARTED: cell.never_restarted, "oracle": cell.oracle, **cell.warmers}
    return {
        "restart_share": row.restart_share,
        "capacity_share": row.capacity_share,
        "budget_share": row.budget_share,
        "restart": cell.restart,
        "capacity_bytes": cell.capacity_bytes,
        "budget_bytes": cell.budget_bytes,
        "window_requests": cell.requests._asdict(),
        "counts": cell.counts,
        "hits": {name: found._asdict() for name, found in hits.items()},
        "captured": _as_dicts({name: cell.captured(found) for name, found in contestants(row).items()}),
        "saved_seconds": dict(cell.saved_seconds),
        "curve": [{"budget_bytes": budget, "hits": found} for budget, found in cell.curve],
    }
