"""Five rows of one table, each of which plans differently from the same candidates, and says why."""

from itertools import combinations

import pytest

from builders import item, plan_of, planned, reasons
from preheat._model import MemoryPressureLevel, WarmupStrategy
from preheat._plan.strategy import STRATEGIES, StrategyProfile, find_strategy, recommend_strategy
from preheat.errors import InvalidSetting, UnknownStrategy

TABLE = [
    item("pinned", rate=0.0, cost=0.0, priority=9),  # the operator wants it; nobody asks for it
    item("ranked", rate=0.0, cost=0.0, priority=7),
    item("hot", rate=5.0, cost=1.0),  # almost certain to be asked for
    item("warm", rate=0.5, cost=0.2),
    item("tepid", rate=0.2, cost=0.05),
    item("cold", rate=0.01, cost=0.05),
    item("dead", rate=0.0, cost=1.0),
]
EXPECTED = {
    "aggressive": {"pinned", "hot", "warm", "tepid", "cold"},
    "balanced": {"pinned", "hot", "warm", "tepid"},
    "conservative": {"pinned", "hot"},
    "adaptive": {"pinned", "hot"},
    "priority_based": {"pinned", "ranked"},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_strategy_plans_what_its_row_says(name):
    assert EXPECTED[name] == set(planned(plan_of(TABLE, profile=name)))


def test_the_five_differ_by_share_or_by_choice():
    assert set(EXPECTED) == set(STRATEGIES) == {str(strategy) for strategy in WarmupStrategy}
    for one, other in combinations(STRATEGIES, 2):
        rows = STRATEGIES[one], STRATEGIES[other]
        assert EXPECTED[one] != EXPECTED[other] or rows[0].share != rows[1].share
        assert rows[0].why != rows[1].why


def test_adaptive_goes_on_where_the_curve_has_no_knee():
    straight = [item(str(n), rate=1.0, cost=1.0) for n in range(10)]
    assert len(plan_of(straight, profile="adaptive")) == 10
    bent = plan_of([*straight, item("tail", size=10**6, rate=0.01)], profile="adaptive")
    assert reasons(bent) == {"tail": "BEYOND_KNEE"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aggressive", {"ranked": "WORTHLESS", "dead": "WORTHLESS"}),
        (
            "conservative",
            dict.fromkeys(["ranked", "warm", "tepid", "cold", "dead"], "RARELY_USED"),
        ),
        ("priority_based", dict.fromkeys(["hot", "warm", "tepid", "cold", "dead"], "LOW_PRIORITY")),
    ],
)
def test_what_is_left_out_has_the_reason_of_the_row(name, expected):
    assert expected == reasons(plan_of(TABLE, profile=name))


def test_balanced_asks_for_some_regularity():
    assert reasons(plan_of(TABLE, profile="balanced")) == {
        "cold": "RARELY_USED",
        "dead": "RARELY_USED",
        "ranked": "RARELY_USED",
    }


def test_priority_based_follows_the_operator_and_value_decides_among_equals():
    rows = [
        item("seven", priority=7, rate=9.0),
        item("ten", priority=10, rate=0.0),
        item("better", priority=7, cost=9.0),
    ]
    plan = plan_of(rows, granted_bytes=200, profile="priority_based")
    assert {"ten", "better"} == set(planned(plan))
    assert reasons(plan) == {"seven": "OVER_BUDGET"}


def test_a_plan_tells_its_strategy_and_why():
    plan = plan_of(TABLE, profile="conservative")
    assert ("conservative", STRATEGIES["conservative"].why) == (plan.strategy, plan.why)


@pytest.mark.parametrize("written", ["BALANCED", " balanced ", WarmupStrategy.BALANCED])
def test_a_strategy_is_found_however_it_is_written(written):
    assert STRATEGIES["balanced"] is find_strategy(written)


def test_dashes_and_underscores_are_the_same():
    assert STRATEGIES["priority_based"] is find_strategy("priority-based")
    assert find_strategy("my_own", {"My-Own": StrategyProfile("My-Own", 0.1, "ours")}).name == "My-Own"


def test_an_unknown_strategy_names_the_nearest_and_all():
    with pytest.raises(UnknownStrategy) as refusal:
        find_strategy("conservativ")
    assert "there is no strategy 'conservativ'; did you mean 'conservative'? there are: " in str(refusal.value)
    assert all(name in str(refusal.value) for name in STRATEGIES)


@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        ({"share": 1.1}, "share is 1.1"),
        ({"share": -0.1}, "share is -0.1"),
        ({"share": float("nan")}, "share is nan"),
        ({"share": 0.5, "min_probability": 2.0}, "min_probability is 2.0"),
        ({"share": 0.5, "min_priority": 0}, "min_priority is 0"),
        ({"share": 0.5, "min_priority": 11}, "min_priority is 11"),
        ({"share": 0.5, "pressure_factors": (1.0, 0.6, 0.2, -1.0)}, r"pressure_factors\[3\] is -1.0"),
    ],
)
def test_a_row_that_cannot_be_is_refused(rules, fault):
    with pytest.raises(InvalidSetting, match=f"strategy 'mine': {fault}"):
        StrategyProfile(name="mine", why="ours", **rules)


LOW, MODERATE, HIGH, CRITICAL = MemoryPressureLevel


@pytest.mark.parametrize(
    ("pressure", "points", "expected"),
    [
        (CRITICAL, 9.0, WarmupStrategy.CONSERVATIVE),
        (HIGH, None, WarmupStrategy.CONSERVATIVE),
        (MODERATE, 9.0, WarmupStrategy.BALANCED),
        (LOW, None, WarmupStrategy.BALANCED),
        (LOW, 0.1, WarmupStrategy.AGGRESSIVE),
        (LOW, 0.0, WarmupStrategy.ADAPTIVE),
        (LOW, -3.0, WarmupStrategy.ADAPTIVE),
    ],
)
def test_the_recommended_strategy_follows_pressure_and_what_was_won(pressure, points, expected):
    assert expected is recommend_strategy(pressure, points)
