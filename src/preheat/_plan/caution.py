"""After warm-ups that never ended: how much of a plan is tried again.

A process that is killed whenever it warms up starts again and again, and each start would ask the origin for
everything.  So each run that is cut off halves the next one, and from the third in a row on only a hundredth is
tried: however often it is killed, all runs together ask for less than two whole ones would (0015).  A run that ends,
however small, ends that.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from preheat._model import Reason, WarmupPlan

SHARES = (1.0, 0.5, 0.25, 0.01)
"""Of the items of a plan, after no, one, two, and more runs that never ended."""


def share_after(interrupted: int) -> float:
    """The share of a plan's items that is loaded after so many interrupted runs in a row."""
    return SHARES[min(interrupted, len(SHARES) - 1)]


def caution_after(interrupted: int) -> str | None:
    """What is done about so many interrupted runs in a row, in a sentence; None if nothing."""
    if interrupted <= 0:
        return None
    runs = "the last warm-up" if interrupted == 1 else f"the last {interrupted} warm-ups"
    return f"{runs} never ended, so {share_after(interrupted):.0%} of the items are loaded until one ends"


def cut_plan(plan: WarmupPlan, interrupted: int) -> WarmupPlan:
    """`plan` itself, or the first of its items after `interrupted` runs that never ended, and why.

    Of a plan that is cut nothing is held out: what is left is not like what was drawn.
    """
    caution = caution_after(interrupted)
    if caution is None:
        return plan
    kept = np.zeros(len(plan.candidates), np.bool_)
    kept[plan.order[: int(share_after(interrupted) * len(plan))]] = True
    reasons = plan.reasons if Reason.INTERRUPTED in plan.reasons else (*plan.reasons, Reason.INTERRUPTED)
    left_out = plan.left_out.copy()
    left_out[(left_out < 0) & ~kept] = reasons.index(Reason.INTERRUPTED)
    none = np.empty(0, np.int64)
    return replace(
        plan,
        chosen=tuple(rows[kept[rows]] for rows in plan.chosen),
        held_out=none,
        comparable=none,
        left_out=left_out,
        reasons=reasons,
        adapted=(*plan.adapted, caution),
    )
