"""What a milder strategy would take of a plan."""

import numpy as np

from builders import EVERYTHING, item, plan_of, planned
from preheat._plan.fallback import request_likelihood, with_fallback
from preheat._plan.strategy import STRATEGIES, StrategyProfile

CONSERVATIVE = STRATEGIES["conservative"]
TABLE = [
    item("pinned", rate=0.0, cost=0.0, priority=9),
    item("hot", rate=5.0),
    item("warm", "base", rate=0.5),
    item("base", rate=0.3),
    item("bulk", "root", rate=5.0),
    item("root", rate=0.01),
    item("free", rate=5.0, cost=0.0, priority=5),
]


def taken(plan):
    return {plan.candidates.keys[row] for row in np.flatnonzero(plan.fallback.takes)}


def test_it_takes_what_passes_its_thresholds_and_what_that_needs():
    plan = with_fallback(plan_of(TABLE), EVERYTHING, CONSERVATIVE)
    assert taken(plan) == {"pinned", "hot", "bulk", "root"}
    assert (plan.fallback.strategy, plan.fallback.pressure_response) == ("conservative", CONSERVATIVE.pressure_response)


def test_it_takes_no_more_than_its_share_of_the_same_memory():
    many = [item(str(n), rate=5.0, size=100) for n in range(20)]
    plan = with_fallback(plan_of(many, 2000), StrategyProfile("all", 0.8, "ours"), CONSERVATIVE)
    assert len(plan) == 20
    assert len(taken(plan)) == 5
    assert taken(plan) == set(planned(plan)[:5])


def test_a_fallback_with_more_to_spend_takes_no_more_than_the_plan_was_granted():
    plan = plan_of([item(str(n), rate=5.0) for n in range(20)], 2000)
    greedy = StrategyProfile("greedy", 1.0, "ours")
    assert with_fallback(plan, StrategyProfile("small", 0.1, "ours"), greedy).fallback.takes.all()
    assert not with_fallback(plan, StrategyProfile("none", 0.0, "ours"), greedy).fallback.takes.any()


def test_the_plan_itself_stays_as_it_is():
    plan = plan_of(TABLE)
    assert plan.order.tolist() == with_fallback(plan, EVERYTHING, CONSERVATIVE).order.tolist()
    assert plan.fallback is None


def test_how_likely_an_item_is_follows_from_its_value_and_cost():
    plan = plan_of([item("a", rate=2.0, cost=4.0), item("b", rate=2.0, cost=0.0)])
    assert np.allclose([1 - np.exp(-2.0), 0.0], request_likelihood(plan))


def test_an_empty_plan_has_nothing_to_take():
    assert with_fallback(plan_of([]), EVERYTHING, CONSERVATIVE).fallback.takes.tolist() == []
