"""What a milder strategy would take of a plan: what its run goes on with while memory is short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from preheat._model import Fallback, WarmupPlan
from preheat._plan.ordering import resolve_needs
from preheat._plan.strategy import StrategyProfile
from preheat._plan.thresholds import CHOSEN, apply_thresholds

if TYPE_CHECKING:
    from numpy.typing import NDArray


def with_fallback(plan: WarmupPlan, profile: StrategyProfile, fallback: StrategyProfile) -> WarmupPlan:
    """`plan`, made by `profile`, with what its run goes on with as `fallback` while memory is short.

    That is what passes the thresholds of `fallback`, with all that it needs, in loading order until it fills the
    share of `fallback` in the same memory; never more than the plan's own budget.
    """
    order, candidates = plan.order, plan.candidates
    passes = apply_thresholds(candidates, plan.value, request_likelihood(plan), fallback) == CHOSEN
    needs = resolve_needs(candidates.take(order)) if candidates.needs else {}
    wanted = _with_needs(passes[order], needs)
    share = min(1.0, fallback.share / profile.share) if profile.share else 0.0
    taken_bytes = np.cumsum(np.where(wanted, candidates.size_bytes[order], 0))
    takes = np.zeros(len(candidates), np.bool_)
    takes[order] = wanted & (taken_bytes <= int(plan.budget.granted_bytes * share))
    return replace(plan, fallback=Fallback(fallback.name, takes, fallback.pressure_response))


def request_likelihood(plan: WarmupPlan) -> NDArray[np.float64]:
    """(n,) how likely each candidate is to be asked for: its value over the cost of a miss; 0 where a miss is free."""
    cost = plan.candidates.warmup_cost
    return np.divide(plan.value, cost, out=np.zeros(len(cost)), where=cost > 0)


def _with_needs(wanted: NDArray[np.bool_], needs: Mapping[int, tuple[int, ...]]) -> NDArray[np.bool_]:
    """What is wanted and what that needs, in loading order: there a dependency comes before its dependants."""
    for item in sorted(needs, reverse=True):
        if wanted[item]:
            wanted[list(needs[item])] = True
    return wanted
