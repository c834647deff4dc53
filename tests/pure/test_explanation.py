"""Why an item is in a plan, and why another is not."""

import math

import pytest

from builders import item, plan_of
from preheat import explain_item
from preheat._plan.explanation import explain_plan
from preheat.errors import UnknownItem

ROWS = [
    item("a:pin", priority=9, size=100),
    item("b:hot", rate=5.0, size=200),
    item("a:warm", "b:hot", rate=0.2, size=300),
    item("b:cold", rate=0.001, size=400),
    item("b:dead", rate=0.0),
]


def plan():
    return plan_of(ROWS, granted_bytes=1000, profile="balanced")


def test_a_plan_explains_each_candidate_once():
    made = plan()
    choices = list(explain_plan(made))
    assert {ref.key for ref in made.candidates.refs()} == {choice.key for choice in choices}
    assert [choice.phase for choice in choices] == ["critical", "standard", "background", None, None]
    assert [choice.key for choice in choices[:3]] == ["pin", "hot", "warm"]


def test_an_explanation_gives_the_reason_and_the_value_per_mib():
    choices = {choice.key: choice for choice in explain_plan(plan())}
    assert choices["pin"].decision == "planned"
    assert choices["cold"].decision.startswith("left out: it is less likely to be asked for")
    expected = (1 - math.exp(-5.0)) / 200 * 2**20
    assert math.isclose(expected, choices["hot"].seconds_per_mib)


def test_an_explanation_tells_what_is_held_out():
    made = plan_of([item(str(n)) for n in range(10)], holdout_ratio=0.5, seed=1)
    held = [choice for choice in explain_plan(made) if choice.decision.startswith("held out at random")]
    assert len(made.held_out) == len(held) > 0


def test_a_chosen_item_tells_what_makes_its_value_its_rank_and_what_it_brings():
    warm = explain_item(plan(), "a", "warm")
    assert (warm.phase, warm.rank, warm.brings, warm.decision) == ("background", 3, ("b:hot",), "planned")
    assert math.isclose(warm.probability, 1 - math.exp(-0.2))
    assert math.isclose(warm.value_seconds, warm.probability * warm.cost_seconds)
    assert (warm.cutoff_seconds_per_mib, warm.short_bytes) == (None, None)


def test_an_item_whose_miss_costs_nothing_has_no_probability():
    made = plan_of([item("pin", priority=9, cost=0.0)])
    assert explain_item(made, "c", "pin").probability is None


def test_an_item_left_out_tells_by_how_much_it_missed():
    made = plan_of([item("good", cost=4.0), item("fair", cost=2.0), item("poor", cost=1.0)], 200)
    poor, fair = explain_item(made, "c", "poor"), explain_item(made, "c", "fair")
    assert poor.cutoff_seconds_per_mib == fair.seconds_per_mib == 2 * poor.seconds_per_mib
    assert poor.short_bytes == 100
    assert "fill the budget (it saves 6.63e+03 s/MiB, the last of the plan 1.33e+04)" in poor.decision


def test_an_item_worth_more_than_the_last_tells_the_bytes_it_lacked():
    made = plan_of([item("big", size=150, cost=9.0), item("small", size=60)], 100)
    assert explain_item(made, "c", "big").decision.endswith("fill the budget (110 bytes more than was left)")


def test_what_has_no_degree_has_no_margin():
    assert explain_item(plan(), "b", "cold").decision.endswith("than the strategy demands")
    made = plan_of([item("x:a", cost=3.0), item("x:b", cost=9.0, size=200), item("y:c")], free_bytes={"x": 150})
    assert explain_item(made, "x", "b").decision.endswith("fill its cache, or its quota")


def test_what_was_no_candidate_is_refused_by_name():
    with pytest.raises(UnknownItem, match="b:nothing was no candidate"):
        explain_item(plan(), "b", "nothing")


def test_what_is_resident_already_is_not_brought_along():
    assert explain_item(plan_of([item("a", "x:there", "b"), item("b")]), "c", "a").brings == ("c:b",)
