"""Candidates and a budget -> a plan.

    value per item -> thresholds of the strategy -> greedy choice of bundles -> hold-out -> phases

What an item is worth: warming saves its first miss; the misses after it are saved by the cache itself.  So value is
P(asked for at least once before it would have come in by itself) x the cost of that miss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from preheat._model import CandidateTable, MemoryBudget, WarmupPlan
from preheat._plan.choice import Room, choose_items
from preheat._plan.identity import ItemIndex
from preheat._plan.ordering import Dependencies, resolve_dependencies
from preheat._plan.selection import Selection
from preheat._plan.strategy import StrategyProfile
from preheat._plan.thresholds import REASONS, apply_thresholds
from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIKELY = 0.5
"""Beyond the last item that is more likely than not to be asked for, all is background."""

BLOCK = 2**16


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
    candidates, graph = _distinct_items(candidates)
    _demand_usable(candidates)
    probability = request_probability(candidates, horizon_seconds)
    value = probability * candidates.warmup_cost
    left_out = apply_thresholds(candidates, value, probability, profile)
    del probability  # what is not needed any more makes room for what comes
    room = Room(profile, budget.granted_bytes, free_bytes)
    candidates, value, selection = choose_items(candidates, graph, value, left_out, room)
    held_out, comparable = _draw_holdout(selection, len(candidates), holdout_ratio, seed)
    return WarmupPlan(
        strategy=profile.name,
        budget=budget,
        candidates=candidates.with_value(value),
        value=value,
        chosen=_split_into_phases(selection, held_out, candidates, horizon_seconds),
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


def _distinct_items(candidates: CandidateTable) -> tuple[CandidateTable, Dependencies]:
    """`candidates` without the rows whose item came before, and which of them need which."""
    index = ItemIndex(candidates)
    first = index.first_rows()
    if first is not None:
        candidates = candidates.take(first)
        index = ItemIndex(candidates)
    return candidates, resolve_dependencies(candidates, index)


def request_probability(candidates: CandidateTable, horizon_seconds: Mapping[str, float]) -> NDArray[np.float64]:
    """P(asked for at least once within its cache's horizon), requests taken as a Poisson process: (n,)."""
    probability: NDArray[np.float64] = -_horizons(candidates, horizon_seconds)[candidates.cache]
    probability *= candidates.usage_frequency
    np.expm1(probability, out=probability)
    return np.negative(probability, out=probability)


def _horizons(candidates: CandidateTable, horizon_seconds: Mapping[str, float]) -> NDArray[np.float64]:
    return np.array([horizon_seconds.get(name, 0.0) for name in candidates.caches] or [0.0])


def _draw_holdout(selection: Selection, n: int, ratio: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows kept back, and the rows that might have been: the chosen that nothing chosen needs and that can wait."""
    can_wait = np.zeros(n, np.bool_)
    can_wait[selection.order[selection.critical :]] = True
    can_wait[selection.needed] = False
    eligible = np.flatnonzero(can_wait)
    drawn = np.random.default_rng(seed).random(len(eligible)) < ratio
    return eligible[drawn], eligible[~drawn]


def _split_into_phases(
    selection: Selection,
    held_out: NDArray[np.int64],
    candidates: CandidateTable,
    horizon_seconds: Mapping[str, float],
) -> tuple[NDArray[np.int64], ...]:
    """The rows that are not held out, by phase, in loading order."""
    critical, rest = np.split(selection.order, [selection.critical])
    if len(held_out):
        is_kept = np.ones(len(candidates), np.bool_)
        is_kept[held_out] = False
        rest = rest[is_kept[rest]]
    return (critical, *np.split(rest, [_standard_length(rest, candidates, horizon_seconds)]))


def _standard_length(rows: NDArray[np.int64], candidates: CandidateTable, horizon_seconds: Mapping[str, float]) -> int:
    """How many of `rows` are the standard phase: those up to the last one that is likely to be asked for."""
    horizons = _horizons(candidates, horizon_seconds)
    for stop in range(len(rows), 0, -BLOCK):
        start = max(0, stop - BLOCK)
        part = rows[start:stop]
        expected = candidates.usage_frequency[part] * horizons[candidates.cache[part]]
        likely = np.flatnonzero(-np.expm1(-expected) >= LIKELY)
        if len(likely):
            return start + int(likely[-1]) + 1
    return 0


__all__ = ["create_plan", "request_probability"]
