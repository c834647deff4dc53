"""Which candidates fill the budget, and why the others don't.

Greedy by value per byte over bundles: an item and what it needs are priced together, and what is chosen already
costs nothing again.  For knapsacks with many small items the greedy choice is within one item of the optimum of
the fractional relaxation (Dantzig, "Discrete-Variable Extremum Problems", Operations Research 5(2), 1957).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from preheat._model import CandidateTable, Reason
from preheat._plan.ordering import (
    bundle,
    bundle_totals,
    least_bundle_bytes,
    resolve_dependencies,
    try_bundle,
)
from preheat._plan.strategy import CRITICAL_PRIORITY, StrategyProfile
from preheat._plan.thresholds import PASSES as CHOSEN
from preheat._plan.thresholds import REASONS, apply_thresholds

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_KNEE_BEND = 0.05  # a value curve that bends less than this from a straight line has no knee


class Selection:
    """The outcome of choosing.

    Attributes:
        rows: Chosen rows in the order of choice, every dependency before its dependants.
        left_out: (n,) int8, index into REASONS, or CHOSEN.
        needs: Dependencies among the candidates, by row.
        levels: Dependency level of each row that has one.
        density: (n,) seconds saved per byte.
    """

    __slots__ = ("density", "left_out", "levels", "needs", "rows")

    def __init__(
        self,
        rows: list[int],
        left_out: NDArray[np.int8],
        needs: Mapping[int, tuple[int, ...]],
        levels: Mapping[int, int],
        density: NDArray[np.float64],
    ) -> None:
        self.rows, self.left_out, self.needs, self.levels, self.density = rows, left_out, needs, levels, density


def select_items(
    candidates: CandidateTable,
    value: NDArray[np.float64],
    probability: NDArray[np.float64],
    profile: StrategyProfile,
    budget_bytes: int,
    free_bytes: Mapping[str, int | None],
) -> Selection:
    """Choose rows whose sizes sum to at most `budget_bytes`, and within each cache to at most its `free_bytes`.

    Raises:
        DependencyCycle: Candidates need each other.
    """
    needs, levels = resolve_dependencies(candidates)
    left_out = apply_thresholds(candidates, value, probability, profile)
    density = _bundle_density(value, candidates.size_bytes, needs, levels)
    tier = candidates.priority if profile.by_priority else (candidates.priority >= CRITICAL_PRIORITY)
    eligible = np.flatnonzero(left_out == CHOSEN)
    level = np.array([levels.get(row, 0) for row in eligible.tolist()], np.int64)
    rank = np.round(np.log2(np.maximum(density[eligible], 1e-300)), 9)  # sums differ in their last bits
    order = eligible[np.lexsort((eligible, level, -rank, -tier[eligible].astype(np.int8)))]
    too_big = {
        row
        for row, least in least_bundle_bytes(needs, levels, candidates.size_bytes.tolist()).items()
        if least > budget_bytes
    }
    rows = _fill(order.tolist(), candidates, needs, too_big, profile, budget_bytes, free_bytes, left_out)
    if profile.to_knee:
        rows = _cut_at_knee(rows, candidates, value, needs, left_out)
    return Selection(rows, left_out, needs, levels, value / np.maximum(candidates.size_bytes, 1))


def _bundle_density(
    value: NDArray[np.float64],
    size_bytes: NDArray[np.int64],
    needs: Mapping[int, tuple[int, ...]],
    levels: Mapping[int, int],
) -> NDArray[np.float64]:
    total_value, total_size = value.copy(), size_bytes.astype(np.float64)
    if needs:
        for row, totals in bundle_totals(needs, levels, value.tolist(), size_bytes.tolist()).items():
            total_value[row], total_size[row] = totals
    return total_value / np.maximum(total_size, 1.0)


def _fill(
    order: list[int],
    candidates: CandidateTable,
    needs: Mapping[int, tuple[int, ...]],
    hopeless: set[int],
    profile: StrategyProfile,
    budget_bytes: int,
    free_bytes: Mapping[str, int | None],
    left_out: NDArray[np.int8],
) -> list[int]:
    room = _Room(candidates, budget_bytes, free_bytes)
    refused = dict.fromkeys(hopeless, Reason.OVER_BUDGET)  # what left no room stays so: room only shrinks
    chosen: dict[int, None] = {}
    for row in order:
        if row in chosen:
            continue
        room.begin()
        if not profile.with_needs and any(n not in chosen for n in needs.get(row, ())):
            left_out[row] = REASONS.index(Reason.NEEDS_LEFT_OUT)
            continue
        together, way = try_bundle(row, needs, chosen, lambda n: n not in refused and room.admit(n))
        if together:
            room.commit()
            chosen.update(dict.fromkeys(together))
            continue
        why = refused.get(way[-1], room.why)
        stays_out = way if way[-1] in refused or not room.fits_alone(way[-1]) else [row]
        refused.update(dict.fromkeys(stays_out, why))
        left_out[row] = REASONS.index(why)
    left_out[list(chosen)] = CHOSEN
    return list(chosen)


class _Room:
    """What is left of the budget and of each cache while bundles are tried one after another."""

    def __init__(self, candidates: CandidateTable, budget_bytes: int, free_bytes: Mapping[str, int | None]) -> None:
        self._size, self._cache = candidates.size_bytes.tolist(), candidates.cache.tolist()
        self._budget_bytes = budget_bytes
        self._free = [free_bytes.get(name) for name in candidates.caches]
        self.begin()

    def begin(self) -> None:
        """Try another bundle."""
        self._wanted: dict[int, int] = {}
        self._wanted_bytes = 0
        self.why = Reason.OVER_BUDGET

    def admit(self, row: int) -> bool:
        """Whether `row` fits beside what this bundle has been given so far."""
        code, size = self._cache[row], self._size[row]
        self._wanted_bytes += size
        self._wanted[code] = self._wanted.get(code, 0) + size
        free = self._free[code]
        if self._wanted_bytes > self._budget_bytes:
            self.why = Reason.OVER_BUDGET
            return False
        if free is not None and self._wanted[code] > free:
            self.why = Reason.OVER_CAPACITY
            return False
        return True

    def fits_alone(self, row: int) -> bool:
        """Whether `row` by itself fits what is left."""
        size, free = self._size[row], self._free[self._cache[row]]
        return size <= self._budget_bytes and (free is None or size <= free)

    def commit(self) -> None:
        """Keep this bundle."""
        self._budget_bytes -= self._wanted_bytes
        for code, size in self._wanted.items():
            free = self._free[code]
            self._free[code] = None if free is None else free - size


def _cut_at_knee(
    rows: list[int],
    candidates: CandidateTable,
    value: NDArray[np.float64],
    needs: Mapping[int, tuple[int, ...]],
    left_out: NDArray[np.int8],
) -> list[int]:
    critical = [row for row in rows if candidates.priority[row] >= CRITICAL_PRIORITY]
    ordinary = [row for row in rows if candidates.priority[row] < CRITICAL_PRIORITY]
    kept: dict[int, None] = {}
    for row in (*critical, *ordinary[: knee(candidates.size_bytes[ordinary], value[ordinary])]):
        if row not in kept:
            kept.update(dict.fromkeys(bundle(row, needs, kept)))
    left_out[[row for row in rows if row not in kept]] = REASONS.index(Reason.BEYOND_KNEE)
    return [row for row in rows if row in kept]


def knee(size_bytes: NDArray[np.int64], value: NDArray[np.float64]) -> int:
    """How many of the items, in their order, lie before the knee of the curve of value over bytes.

    The knee is where the curve, scaled to a unit square, is farthest above its chord (Satopää et al., "Finding a
    'Kneedle' in a Haystack", ICDCS Workshops 2011).  All of them where the curve hardly bends.
    """
    if len(value) < 3 or not value.sum() > 0:
        return len(value)
    x = np.cumsum(np.maximum(size_bytes, 1)) / np.maximum(size_bytes, 1).sum()
    above = np.cumsum(value) / value.sum() - x
    at = int(above.argmax())
    return at + 1 if above[at] >= MIN_KNEE_BEND else len(value)
