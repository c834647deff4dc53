"""Laws of saved plans: what is written is what is read, and what is read fits or says why not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import budget
from preheat import plan_from_json, plan_to_json
from preheat._plan.fitting import fit_plan
from preheat.errors import InvalidPlan
from properties.test_plan_laws import CACHES, plans

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


def shown(plan):
    """What a saved plan has to keep."""
    rows = np.concatenate([plan.order, plan.held_out]).tolist()
    items = [plan.candidates[row] for row in rows]
    phases = [[plan.candidates.ref(row) for row in chosen.tolist()] for chosen in plan.chosen]
    return (
        plan.strategy,
        plan.why,
        plan.seed,
        plan.budget._replace(reading=None),
        phases,
        [plan.candidates.ref(row) for row in plan.held_out.tolist()],
        {plan.candidates.ref(row) for row in plan.comparable.tolist()},
        [(i.ref, i.priority, i.size_bytes, i.usage_frequency, i.warmup_cost, i.recipe) for i in items],
        plan.value[rows].tolist(),
        dict(plan.size_factors),
    )


@given(plans())
def test_a_saved_plan_is_read_as_it_was_written(drawn):
    plan, _, _ = drawn
    text = plan_to_json(plan)
    again = plan_from_json(text)
    assert shown(plan) == shown(again)
    assert text == plan_to_json(again)


@given(plans(), st.integers(0, 1500), st.fixed_dictionaries({n: st.none() | st.integers(0, 500) for n in CACHES}))
def test_a_plan_fitted_later_keeps_the_laws_and_its_order(drawn, granted, free):
    saved = plan_from_json(plan_to_json(drawn[0]))
    fitted = fit_plan(saved, budget(granted), free)
    kept = fitted.order.tolist()
    assert fitted.size_bytes <= granted
    for code, name in enumerate(fitted.candidates.caches):
        mine = fitted.order[fitted.candidates.cache[fitted.order] == code]
        assert free[name] is None or fitted.candidates.size_bytes[mine].sum() <= free[name]
    assert kept == [row for row in saved.order.tolist() if row in set(kept)]
    left_out = np.flatnonzero(fitted.left_out >= 0).tolist()
    assert sorted([*kept, *fitted.held_out.tolist(), *left_out]) == list(range(len(fitted.candidates)))
    seen = set()
    for row in kept:
        assert set(fitted.candidates[row].dependencies) <= seen
        seen.add(fitted.candidates.ref(row))
    assert set(fitted.comparable.tolist()) <= set(kept)


@given(plans(), st.data())
def test_a_plan_without_an_item_is_read_or_says_who_needs_it(drawn, data):
    tree = json.loads(plan_to_json(drawn[0]))
    phases = [items for items in tree["phases"].values() if items]
    if not phases:
        return
    items = data.draw(st.sampled_from(phases))
    taken = items.pop(data.draw(st.integers(0, len(items) - 1)))
    name = f"{taken['cache']}:{taken['key']}"
    needed = any([taken["cache"], taken["key"]] in item.get("needs", []) for items in phases for item in items)
    needed |= any([taken["cache"], taken["key"]] in item.get("needs", []) for item in tree["held_out"])
    if needed:
        with pytest.raises(InvalidPlan, match=r"^plan\.json: item ") as refusal:
            plan_from_json(json.dumps(tree), "plan.json")
        assert name in str(refusal.value)
    else:
        assert name not in map(str, plan_from_json(json.dumps(tree), "plan.json").candidates.refs())


@given(JSON)
def test_whatever_json_it_is_it_is_no_plan_and_says_so(tree):
    with pytest.raises(InvalidPlan, match=r"^junk\.json"):
        plan_from_json(json.dumps(tree), "junk.json")
