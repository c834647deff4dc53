"""Candidates and a budget -> a plan.

    value per item -> thresholds of the strategy -> greedy choice of bundles -> phases and waves -> hold-out

What an item is worth: warming saves its first miss; the misses after it are saved by the cache itself.  So value is
P(asked for at least once before it would have come in by itself) x the cost of that miss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from preheat._model import PHASES, CandidateTable, MemoryBudget, WarmupPlan
from preheat._plan.ordering import cache_ranks, needed_by_others
from preheat._plan.selection import Selection, select_items
from preheat._plan.strategy import CRITICAL_PRIORITY, StrategyProfile
from preheat._plan.thresholds import REASONS
from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIKELY = 0.5  # an item more likely than not to be asked for belongs to the standard phase


def create_plan(
    candidates: CandidateTable,
    budget: MemoryBudget,
    profile: StrategyProfile,
    *,
    horizon_seconds: Mapping[str, float],
    free_bytes: Mapping[str, int | None],
    holdout_ratio: float = 0.0,
    seed: int = 0,
) -> WarmupPlan:
    """The most valuable plan inside `budget` by the rules of `profile`.

    Deterministic: the same arguments give the same plan.

    Args:
        candidates: What could be warmed.  An item that comes twice counts once, as it came first.
        budget: What may be filled.
        profile: The strategy.
        horizon_seconds: By cache, the time in which it would refill by itself.
        free_bytes: By cache, the room it has; None where it has no limit.
        holdout_ratio: Share of the items that nothing else needs to keep back at random.
        seed: Seed of that draw.

    Raises:
        DependencyCycle: Candidates need each other.
        InvalidSetting: A candidate has a size, frequency, cost or priority that nothing can have.
    """
    candidates = drop_repeats(candidates)
    _demand_usable(candidates)
    probability = request_probability(candidates, horizon_seconds)
    value = probability * candidates.warmup_cost
    selection = select_items(candidates, value, probability, profile, budget.granted_bytes, free_bytes)
    phase = _assign_phases(selection, candidates, probability)
    held_out, comparable = _draw_holdout(selection, phase, holdout_ratio, seed)
    kept = np.setdiff1d(np.array(selection.rows, np.int64), held_out)
    rank = np.array(cache_ranks(candidates, selection.needs) or [0], np.int64)[candidates.cache]
    return WarmupPlan(
        strategy=profile.name,
        budget=budget,
        candidates=candidates,
        value=value,
        chosen=tuple(_in_loading_order(kept[phase[kept] == p], selection, rank) for p in range(len(PHASES))),
        held_out=held_out,
        comparable=comparable,
        left_out=selection.left_out,
        reasons=REASONS,
        seed=seed,
        why=profile.why,
        pressure_response=profile.pressure_response,
    )


def _demand_usable(candidates: CandidateTable) -> None:
    usable = (candidates.size_bytes >= 0) & (candidates.priority >= 1) & (candidates.priority <= 10)
    for column in (candidates.usage_frequency, candidates.warmup_cost):
        usable &= (column >= 0) & np.isfinite(column)
    if not usable.all():
        item = candidates[int(np.flatnonzero(~usable)[0])]
        raise InvalidSetting(
            f"item {item.ref}: priority {item.priority}, size_bytes {item.size_bytes}, usage_frequency "
            f"{item.usage_frequency}, warmup_cost {item.warmup_cost}; the priority has to be from 1 to 10 and the "
            "others finite numbers, 0 or more"
        )


def drop_repeats(candidates: CandidateTable) -> CandidateTable:
    """`candidates` without the rows whose item came before."""
    first: dict[object, int] = {}
    for row, ref in enumerate(candidates.refs()):
        first.setdefault(ref, row)
    return candidates if len(first) == len(candidates) else candidates.take(np.fromiter(first.values(), np.int64))


def request_probability(candidates: CandidateTable, horizon_seconds: Mapping[str, float]) -> NDArray[np.float64]:
    """P(asked for at least once within its cache's horizon), requests taken as a Poisson process: (n,)."""
    horizons = np.array([horizon_seconds.get(name, 0.0) for name in candidates.caches] or [0.0])
    expected = candidates.usage_frequency * horizons[candidates.cache]
    probability: NDArray[np.float64] = -np.expm1(-expected)
    return probability


def _assign_phases(
    selection: Selection, candidates: CandidateTable, probability: NDArray[np.float64]
) -> NDArray[np.int8]:
    """(n,) index into PHASES; what an item needs is never in a later phase than the item."""
    phase = np.where(candidates.priority >= CRITICAL_PRIORITY, 0, np.where(probability >= LIKELY, 1, 2)).astype(np.int8)
    dependants = [row for row in selection.rows if row in selection.needs]
    for row in sorted(dependants, key=lambda r: selection.levels[r], reverse=True):
        needed = list(selection.needs[row])
        phase[needed] = np.minimum(phase[needed], phase[row])
    return phase


def _draw_holdout(
    selection: Selection, phase: NDArray[np.int8], ratio: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows kept back, and the rows that might have been: the chosen that nothing chosen needs and that can wait."""
    needed = needed_by_others(selection.rows, selection.needs)
    eligible = np.array([r for r in sorted(selection.rows) if r not in needed and phase[r] > 0], np.int64)
    drawn = np.random.default_rng(seed).random(len(eligible)) < ratio
    return eligible[drawn], eligible[~drawn]


def _in_loading_order(
    rows: NDArray[np.int64], selection: Selection, cache_rank: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Caches after those that they need, dependency waves, and within a wave the most valuable per byte first."""
    levels = np.array([selection.levels.get(row, 0) for row in rows.tolist()], np.int64)
    return rows[np.lexsort((rows, -selection.density[rows], levels, cache_rank[rows]))]


__all__ = ["create_plan", "drop_repeats", "request_probability"]
