"""A plan made earlier -> the same plan, as far as memory and caches allow it now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from preheat._model import MemoryBudget, WarmupPlan
from preheat._plan.bundles import OUT, Bundles
from preheat._plan.filling import Filling, Room
from preheat._plan.ordering import resolve_dependencies
from preheat._plan.selection import give_reasons
from preheat._plan.thresholds import CHOSEN


def fit_plan(plan: WarmupPlan, budget: MemoryBudget, free_bytes: Mapping[str, int | None]) -> WarmupPlan:
    """`plan` inside `budget` and what caches have free: what does not fit any more is left out, each with its reason.

    Its own order decides who comes first; nothing new is chosen, and what was held out stays so.
    """
    candidates, order = plan.candidates, plan.order
    keys = np.full(len(candidates), OUT, np.int64)
    keys[order] = np.arange(len(order))[::-1]
    bundles = Bundles.of(resolve_dependencies(candidates), candidates.size_bytes, keys >= 0)
    filling = Filling(keys, candidates, bundles, Room(candidates, budget.granted_bytes, free_bytes))
    filling.fill()
    left_out = plan.left_out.copy()
    give_reasons(left_out, filling, bundles)
    left_out[plan.held_out] = CHOSEN  # they were not asked for
    kept = filling.chosen
    return replace(
        plan,
        budget=budget,
        chosen=tuple(rows[kept[rows]] for rows in plan.chosen),
        comparable=plan.comparable[kept[plan.comparable]],
        left_out=left_out,
    )
