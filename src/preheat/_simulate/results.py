"""What the restarts of one trace came to, and what that means on average."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preheat._plan.selection import knee
from preheat._replay import Cell, Hits, MissRatioCurve, Shares

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEVER_RESTARTED = "never-restarted"


class Row(NamedTuple):
    """A cell, and which one of the experiment it is; `capacity_share` is None where it was given in bytes."""

    restart_share: float
    capacity_share: float | None
    budget_share: float
    cell: Cell


@dataclass(frozen=True, eq=False, slots=True)
class Simulation:
    """What became of one trace.  `curve` is its miss ratio by capacity, where asked for."""

    name: str
    requests: int
    items: int
    footprint_bytes: int
    equal_sizes: bool
    has_clock: bool
    has_costs: bool
    bad_lines: int
    bad_examples: tuple[str, ...]
    not_reads: int
    cut: bool
    rows: tuple[Row, ...] = field(repr=False)
    curve: MissRatioCurve | None = field(default=None, repr=False)

    @property
    def counts_items(self) -> bool:
        """Whether every item is of size 1, so that sizes are numbers of items."""
        return self.equal_sizes and self.footprint_bytes == self.items

    def capacities(self) -> list[int]:
        """The capacities, in bytes, rising."""
        return sorted({row.cell.capacity_bytes for row in self.rows})

    def at(self, capacity_bytes: int, budget_share: float = 1.0) -> list[Row]:
        """The restarts of this capacity under that budget."""
        return [r for r in self.rows if (r.cell.capacity_bytes, r.budget_share) == (capacity_bytes, budget_share)]


def mean_captured(rows: Iterable[Row]) -> dict[str, Shares]:
    """The mean shares by warmer, over the rows that count; empty if none does."""
    shares: dict[str, list[Shares]] = {}
    for row in rows:
        if row.cell.counts:
            for name, hits in contestants(row).items():
                shares.setdefault(name, []).append(row.cell.captured(hits))
    return {name: Shares(*map(_mean, zip(*found, strict=True))) for name, found in shares.items()}


def contestants(row: Row) -> dict[str, Hits]:
    """Whose shares are compared: the warmers, and under the whole budget the cache that went on."""
    kept = {NEVER_RESTARTED: row.cell.never_restarted} if row.budget_share == 1.0 else {}
    return {**row.cell.warmers, **kept}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


class Knee(NamedTuple):
    """Where the curve of hits over budget bends: bytes, and the share of the gain that they bring."""

    budget_bytes: int
    gain: float


def budget_curve(rows: Sequence[Row]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Budgets in bytes, and the mean hit ratio of the window with the first warmer's plan cut there: (k,), (k,)."""
    curves = np.array([row.cell.curve for row in rows])
    requests = np.array([row.cell.requests.whole for row in rows])
    return curves[0, :, 0], (curves[:, :, 1] / requests[:, None]).mean(axis=0)


def budget_knee(rows: Sequence[Row]) -> Knee | None:
    """The knee of `budget_curve`; None where nothing counts or is won."""
    counting = [row for row in rows if row.cell.counts and row.cell.curve]
    if not counting:
        return None
    budgets, ratios = budget_curve(counting)
    gained = ratios - ratios[0]
    if gained[-1] <= 0:
        return None
    steps = knee(np.diff(budgets), np.diff(ratios))
    return Knee(int(budgets[steps]), float(gained[steps] / gained[-1]))
