"""Laws of plans whose items cover others, on random candidates."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from builders import plan_of
from preheat._model import CandidateTable, ItemRef, WarmupItem, WarmupPlan
from preheat._plan import request_probability
from preheat._plan.covering import Coverage
from preheat._plan.strategy import STRATEGIES

CACHES = ("a", "b")


@st.composite
def covering(draw: st.DrawFn) -> list[WarmupItem]:
    """Parts, and results that need some of them and cover some of them, in any order."""
    numbers = st.sampled_from([0.0, 0.01, 0.3, 1.0, 7.0])

    def item(key: str, **more) -> WarmupItem:
        ref, size = ItemRef(draw(st.sampled_from(CACHES)), key), draw(st.integers(0, 60))
        return WarmupItem(ref, draw(st.integers(1, 10)), size, draw(numbers), draw(numbers), **more)

    parts = [item(f"part {n}") for n in range(draw(st.integers(1, 6)))]
    some = st.lists(st.sampled_from([part.ref for part in parts]), max_size=3).map(tuple)
    results = [item(f"result {n}", dependencies=draw(some), covers=draw(some)) for n in range(draw(st.integers(1, 8)))]
    return draw(st.permutations(parts + results))


ARGUMENTS = st.fixed_dictionaries({
    "granted_bytes": st.integers(0, 300),
    "profile": st.sampled_from(list(STRATEGIES.values())),
    "free_bytes": st.fixed_dictionaries({name: st.one_of(st.none(), st.integers(0, 200)) for name in CACHES}),
})  # fmt: skip


def saved_seconds(items: list[WarmupItem], plan: WarmupPlan) -> float:
    """What a choice saves: V over the items as they are."""
    table = CandidateTable.of(items)
    value = request_probability(table, dict.fromkeys(table.caches, 1.0)) * table.warmup_cost
    chosen = {plan.candidates.ref(row) for row in plan.order.tolist()}
    return Coverage.of(table).total(value, np.array([ref in chosen for ref in table.refs()], np.bool_))


@given(covering(), ARGUMENTS)
def test_knowing_what_is_covered_never_saves_less_and_keeps_the_limits(items, arguments):
    plan = plan_of(items, **arguments)
    without = plan_of([item._replace(covers=()) for item in items], **arguments)
    before = saved_seconds(items, without)
    assert saved_seconds(items, plan) >= before * (1 - 1e-8)
    assert plan.size_bytes <= arguments["granted_bytes"]
    for code, name in enumerate(plan.candidates.caches):
        free = arguments["free_bytes"][name]
        rows = plan.order[plan.candidates.cache[plan.order] == code]
        assert free is None or plan.candidates.size_bytes[rows].sum() <= free


@given(covering(), ARGUMENTS)
def test_a_plan_with_covers_keeps_the_laws_of_plans(items, arguments):
    plan = plan_of(items, **arguments)
    rows = [*plan.order.tolist(), *np.flatnonzero(plan.left_out >= 0).tolist()]
    assert sorted(rows) == list(range(len(items)))
    known, seen = {item.ref for item in items}, set()
    for row in plan.order.tolist():
        item = plan.candidates[row]
        assert {need for need in item.dependencies if need in known} <= seen
        seen.add(item.ref)
    again = plan_of(items, **arguments)
    assert plan.order.tolist() == again.order.tolist()


@given(covering(), ARGUMENTS)
def test_only_what_a_row_covers_may_be_missing_of_what_it_needs(items, arguments):
    plan, by_ref = plan_of(items, **arguments), {item.ref: item for item in items}
    for row in range(len(plan.candidates)):
        planned = plan.candidates[row]
        given_item = by_ref[planned.ref]
        assert set(given_item.dependencies) - set(planned.dependencies) <= set(given_item.covers)


@given(covering(), ARGUMENTS)
def test_what_is_critical_is_left_out_for_no_cover(items, arguments):
    plan = plan_of(items, **arguments)
    without = plan_of([item._replace(covers=()) for item in items], **arguments)
    critical = {without.candidates.ref(row) for row in without.chosen[0].tolist()}
    assert critical <= {plan.candidates.ref(row) for row in plan.order.tolist()}


@given(covering())
def test_v_is_monotone_and_has_diminishing_returns(items):
    table = CandidateTable.of(items)
    value = request_probability(table, dict.fromkeys(table.caches, 1.0)) * table.warmup_cost
    coverage = Coverage.of(table)
    small, large = np.zeros(len(items), np.bool_), np.zeros(len(items), np.bool_)
    large[: len(items) // 2] = True
    small[: len(items) // 4] = True
    for row in range(len(items)):
        gains = []
        for chosen in (small, large):
            more = chosen.copy()
            more[row] = True
            gains.append(coverage.total(value, more) - coverage.total(value, chosen))
        assert gains[0] >= gains[1] - 1e-9
        assert gains[1] >= -1e-9
