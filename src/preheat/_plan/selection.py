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
from preheat._plan.ordering import closures, dependency_levels, name_cycle, resolve_needs
from preheat._plan.strategy import CRITICAL_PRIORITY, StrategyProfile
from preheat.errors import DependencyCycle

if TYPE_CHECKING:
    from numpy.typing import NDArray

REASONS = tuple(Reason)
CHOSEN = -1
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
    needs = resolve_needs(candidates)
    try:
        levels = dependency_levels(needs)
    except DependencyCycle as cycle:
        raise name_cycle(cycle, candidates) from None
    closure = closures(needs, levels)
    left_out = _threshold(candidates, value, probability, profile)
    density = _bundle_density(value, candidates.size_bytes, closure)
    tier = candidates.priority if profile.by_priority else (candidates.priority >= CRITICAL_PRIORITY)
    eligible = np.flatnonzero(left_out == CHOSEN)
    order = eligible[np.lexsort((eligible, -density[eligible], -tier[eligible].astype(np.int8)))]
    rows = _fill(order.tolist(), candidates, closure, profile, budget_bytes, free_bytes, left_out)
    if profile.to_knee:
        rows = _cut_at_knee(rows, candidates, value, closure, left_out)
    return Selection(rows, left_out, needs, levels, value / np.maximum(candidates.size_bytes, 1))


def _threshold(
    candidates: CandidateTable, value: NDArray[np.float64], probability: NDArray[np.float64], profile: StrategyProfile
) -> NDArray[np.int8]:
    left_out = np.full(len(candidates), CHOSEN, np.int8)
    ordinary = candidates.priority < CRITICAL_PRIORITY
    left_out[ordinary & (value <= 0)] = REASONS.index(Reason.WORTHLESS)
    left_out[ordinary & (probability < profile.min_probability)] = REASONS.index(Reason.RARELY_USED)
    left_out[candidates.priority < profile.min_priority] = REASONS.index(Reason.LOW_PRIORITY)
    return left_out


def _bundle_density(
    value: NDArray[np.float64], size_bytes: NDArray[np.int64], closure: Mapping[int, tuple[int, ...]]
) -> NDArray[np.float64]:
    total_value, total_size = value.copy(), np.maximum(size_bytes, 1).astype(np.float64)
    for row, needed in closure.items():
        total_value[row] += value[list(needed)].sum()
        total_size[row] += size_bytes[list(needed)].sum()
    return total_value / total_size


def _fill(
    order: list[int],
    candidates: CandidateTable,
    closure: Mapping[int, tuple[int, ...]],
    profile: StrategyProfile,
    budget_bytes: int,
    free_bytes: Mapping[str, int | None],
    left_out: NDArray[np.int8],
) -> list[int]:
    size, cache = candidates.size_bytes.tolist(), candidates.cache.tolist()
    room = [free_bytes.get(name) for name in candidates.caches]
    chosen: dict[int, None] = {}
    for row in order:
        if row in chosen:
            continue
        bundle = [n for n in (*closure.get(row, ()), row) if n not in chosen]
        if len(bundle) > 1 and not profile.with_needs:
            left_out[row] = REASONS.index(Reason.NEEDS_LEFT_OUT)
        elif sum(size[n] for n in bundle) > budget_bytes:
            left_out[row] = REASONS.index(Reason.OVER_BUDGET)
        elif not _fits(bundle, size, cache, room):
            left_out[row] = REASONS.index(Reason.OVER_CAPACITY)
        else:
            for n in bundle:
                chosen[n] = None
                budget_bytes -= size[n]
                free = room[cache[n]]
                room[cache[n]] = None if free is None else free - size[n]
    left_out[list(chosen)] = CHOSEN
    return list(chosen)


def _fits(bundle: list[int], size: list[int], cache: list[int], room: list[int | None]) -> bool:
    wanted: dict[int, int] = {}
    for n in bundle:
        wanted[cache[n]] = wanted.get(cache[n], 0) + size[n]
    free = {code: room[code] for code in wanted}
    return all(left is None or wanted[code] <= left for code, left in free.items())


def _cut_at_knee(
    rows: list[int],
    candidates: CandidateTable,
    value: NDArray[np.float64],
    closure: Mapping[int, tuple[int, ...]],
    left_out: NDArray[np.int8],
) -> list[int]:
    critical = [row for row in rows if candidates.priority[row] >= CRITICAL_PRIORITY]
    ordinary = [row for row in rows if candidates.priority[row] < CRITICAL_PRIORITY]
    kept = {*critical, *ordinary[: knee(candidates.size_bytes[ordinary], value[ordinary])]}
    kept |= {needed for row in kept for needed in closure.get(row, ())}
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
