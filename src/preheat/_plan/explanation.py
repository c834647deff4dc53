"""Why an item is in a plan, and why another is not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from preheat._model import MIB, PHASES, ItemRef, Reason, WarmupPlan, label_of
from preheat._plan.identity import NOWHERE, ItemIndex
from preheat.errors import UnknownItem

HELD_OUT = "held out at random, to measure what the warm-up wins"
MOST_NAMED = 20
"""Needs that an explanation names."""


class Choice(NamedTuple):
    """What a plan does with one candidate, and why.

    Attributes:
        cache, key, label: Which item; the label is its recipe, where it has one for people.
        phase: Its phase; None where it is not planned.
        rank: Its place in loading order, from 1; None where it is not planned.
        priority, size_bytes: As the plan had them.
        probability: P(asked for before it would have come in by itself); None where a miss costs nothing.
        cost_seconds: What that miss would cost.
        value_seconds: Their product: waiting that warming it saves.
        seconds_per_mib: The same per MiB that it fills.
        brings: What it needs and is planned with it, as `cache:key`, the first `MOST_NAMED`.
        decision: What becomes of it, in a sentence.
        cutoff_seconds_per_mib: What the last item of the plan saves per MiB; None where this one is planned.
        short_bytes: How many bytes more than was left in the budget it would take, 0 if it had fitted; None likewise.
    """

    cache: str
    key: str
    label: str
    phase: str | None
    rank: int | None
    priority: int
    size_bytes: int
    probability: float | None
    cost_seconds: float
    value_seconds: float
    seconds_per_mib: float
    brings: tuple[str, ...]
    decision: str
    cutoff_seconds_per_mib: float | None
    short_bytes: int | None


def explain_plan(plan: WarmupPlan) -> Iterator[Choice]:
    """Every candidate of `plan`: the chosen in loading order, the held out, then the rest by falling value."""
    explain = _Explanation(plan)
    for row in (*plan.order.tolist(), *plan.held_out.tolist()):
        yield explain(row)
    rest = np.flatnonzero(plan.left_out >= 0)
    for row in rest[np.argsort(-plan.value[rest], kind="stable")].tolist():
        yield explain(row)


def first_choices(plan: WarmupPlan, most: int, *, shows_keys: bool = False) -> list[dict[str, Any]]:
    """The first `most` of `explain_plan` as plain data; what names an item is null unless `shows_keys`."""
    hidden = {} if shows_keys else {"key": None, "label": None, "brings": None}
    return [choice._asdict() | hidden for choice in islice(explain_plan(plan), most)]


def explain_item(plan: WarmupPlan, cache: str, key: str) -> Choice:
    """What `plan` does with the item `key` of `cache`, and why.

    Raises:
        UnknownItem: It was no candidate: not recorded, or resident already when the plan was made.
    """
    row = int(ItemIndex(plan.candidates).find([ItemRef(cache, key)])[0])
    if row == NOWHERE:
        raise UnknownItem(
            f"{cache}:{key} was no candidate of this plan: nothing has recorded it, or it was resident already"
        )
    return _Explanation(plan)(row)


class _Explanation:
    def __init__(self, plan: WarmupPlan) -> None:
        self._plan = plan
        self._rank = np.zeros(len(plan.candidates), np.int64)
        self._rank[plan.order] = np.arange(1, len(plan) + 1)
        self._is_held_out = np.zeros(len(plan.candidates), np.bool_)
        self._is_held_out[plan.held_out] = True
        self._ends = np.cumsum([len(rows) for rows in plan.chosen])
        deserved = np.concatenate([plan.order, plan.held_out])
        self._left_bytes = plan.budget.granted_bytes - int(plan.candidates.size_bytes[deserved].sum())
        self._cutoff = self._per_mib(int(plan.order[-1])) if len(plan) else 0.0
        self._planned = {plan.candidates.ref(row) for row in plan.order.tolist()} if plan.candidates.needs else set()

    def _per_mib(self, row: int) -> float:
        return float(self._plan.value[row]) / max(int(self._plan.candidates.size_bytes[row]), 1) * MIB

    def __call__(self, row: int) -> Choice:
        plan, item, rank = self._plan, self._plan.candidates[row], int(self._rank[row])
        value = float(plan.value[row])
        return Choice(
            cache=item.ref.cache,
            key=item.ref.key,
            label=label_of(item.ref.key, item.recipe),
            phase=PHASES[int(np.searchsorted(self._ends, rank))] if rank else None,
            rank=rank or None,
            priority=item.priority,
            size_bytes=item.size_bytes,
            probability=min(1.0, value / item.warmup_cost) if item.warmup_cost else None,
            cost_seconds=item.warmup_cost,
            value_seconds=value,
            seconds_per_mib=self._per_mib(row),
            brings=tuple(str(ref) for ref in item.dependencies if rank and ref in self._planned)[:MOST_NAMED],
            decision=self._decision(row, rank),
            cutoff_seconds_per_mib=None if rank else self._cutoff,
            short_bytes=None if rank else max(0, item.size_bytes - self._left_bytes),
        )

    def _decision(self, row: int, rank: int) -> str:
        if rank:
            return "planned"
        if self._is_held_out[row]:
            return HELD_OUT
        reason = self._plan.reasons[self._plan.left_out[row]]
        return f"left out: {reason.value}{self._margin(row, reason)}"

    def _margin(self, row: int, reason: Reason) -> str:
        """By how much a row without a place missed it, where that is a matter of degree."""
        if reason not in (Reason.OVER_BUDGET, Reason.OVER_CAPACITY, Reason.BEYOND_KNEE):
            return ""
        own, cutoff = self._per_mib(row), self._cutoff
        if own < cutoff:
            return f" (it saves {own:.3g} s/MiB, the last of the plan {cutoff:.3g})"
        short = int(self._plan.candidates.size_bytes[row]) - self._left_bytes
        return f" ({short} bytes more than was left)" if reason is Reason.OVER_BUDGET and short > 0 else ""
