"""Five rows of one table, each of which plans differently from the same candidates, and says why."""

from itertools import combinations

import pytest

from builders import item, plan_of, planned, reasons
from preheat._model import MemoryPressureLevel, PressureResponse, PressureResponses, WarmupStrategy
from preheat._plan.strategy import (
    STRATEGIES,
    StrategyProfile,
    configure_strategies,
    find_fallback,
    find_strategy,
    strategy_row,
)
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
        ({"share": 0.5, "min_usage_frequency": -1.0}, "min_usage_frequency is -1.0"),
        ({"share": 0.5, "min_usage_frequency": float("nan")}, "min_usage_frequency is nan"),
        ({"share": 0.5, "min_usage_frequency": float("inf")}, "min_usage_frequency is inf"),
        ({"share": 0.5, "pressure_factors": (1.0, 0.6, 0.2, -1.0)}, r"pressure_factors\[3\] is -1.0"),
    ],
)
def test_a_row_that_cannot_be_is_refused(rules, fault):
    with pytest.raises(InvalidSetting, match=f"strategy 'mine': {fault}"):
        StrategyProfile(name="mine", why="ours", **rules)


# ---------------------------------------------------------------------------------------------- rows of the application


def test_a_threshold_of_frequency_leaves_out_what_is_asked_for_more_rarely():
    often = StrategyProfile("often", 1.0, "ours", min_usage_frequency=0.2)
    plan = plan_of(TABLE, profile=often)
    assert {"pinned", "hot", "warm", "tepid"} == set(planned(plan))
    assert reasons(plan)["cold"] == "RARELY_USED"


def test_a_row_is_made_from_plain_rules():
    row = strategy_row(
        "night",
        {"share": 1, "pressure_factors": [1, 1, 0.5, 0], "pressure_response": ["continue", "Slow", "roll-back"]},
    )
    assert (row.share, row.pressure_factors) == (1.0, (1.0, 1.0, 0.5, 0.0))
    assert row.pressure_response == PressureResponses(
        PressureResponse.CONTINUE, PressureResponse.SLOW, PressureResponse.ROLL_BACK
    )
    assert row.why == "added by the application"
    again = strategy_row("again", {"share": 1, "pressure_response": row.pressure_response})
    assert again.pressure_response == row.pressure_response


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ({}, "its share of the free memory is missing"),
        (
            {"share": 0.5, "min_priorty": 3},
            "min_priorty is not a rule; did you mean 'min_priority'? there are: share, ",
        ),
        ({"share": "much"}, "share is 'much'; it has to be a number from 0 to 1"),
        ({"share": True}, "share is True"),
        ({"share": 0.5, "min_priority": 2.5}, "min_priority is 2.5; it has to be a whole number from 1 to 10"),
        ({"share": 0.5, "to_knee": 1}, "to_knee is 1; it has to be true or false"),
        ({"share": 0.5, "why": 3}, "why is 3; it has to be text"),
        ({"share": 0.5, "pressure_factors": [1, 1, 1]}, "it has to be four numbers from 0 to 1"),
        ({"share": 0.5, "pressure_factors": [1, 1, 1, "x"]}, "it has to be four numbers from 0 to 1"),
        ({"share": 0.5, "pressure_response": "stop"}, "it has to be three of continue, slow, pause, stop, roll_back"),
        ({"share": 0.5, "pressure_response": ["slow", "flee", "stop"]}, "it has to be three of continue, slow"),
        ({"share": 0.5, "pressure_response": ["pause", "slow", "stop"]}, "must not become milder"),
        ({"share": 0.5, "pressure_response": ["slow", "slow", "pause"]}, "at CRITICAL it has to be stop or roll_back"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_in_one_sentence(rules, sentence):
    with pytest.raises(InvalidSetting) as refusal:
        strategy_row("mine", rules)
    assert str(refusal.value).startswith("strategy 'mine': ")
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_tables_change_rows_and_add_some():
    rows = configure_strategies(
        {"Balanced": {"share": 0.5}, "priority-based": {"min_priority": 9}, "night": {"share": 1}}
    )
    assert [*STRATEGIES, "night"] == list(rows)
    assert (rows["balanced"].share, rows["balanced"].min_probability) == (0.5, 0.05)
    assert rows["priority_based"].min_priority == 9
    assert rows["adaptive"] is STRATEGIES["adaptive"]
    assert STRATEGIES["balanced"].share == 0.6, "the table that ships stays as it is"


def test_a_row_may_fall_back_to_one_that_is_added_with_it():
    tables = {"day": {"share": 0.5, "falls_back_to": "calm"}, "calm": {"share": 0.1}}
    rows = configure_strategies(tables)
    assert find_fallback(rows["day"], rows) is rows["calm"]
    assert find_fallback(rows["calm"], rows) is None


def test_a_fallback_that_does_not_exist_names_the_nearest():
    with pytest.raises(UnknownStrategy, match=r"strategy 'day': falls_back_to .* did you mean 'conservative'\?"):
        configure_strategies({"day": {"share": 0.5, "falls_back_to": "conservativ"}})


def test_the_rows_that_ship_answer_pressure_alike_and_only_adaptive_changes():
    levels = list(MemoryPressureLevel)
    for row in STRATEGIES.values():
        assert [row.pressure_response.at(level).name for level in levels] == ["CONTINUE", "SLOW", "PAUSE", "ROLL_BACK"]
    assert [name for name, row in STRATEGIES.items() if row.adapts or row.falls_back_to] == ["adaptive"]
    assert find_fallback(STRATEGIES["adaptive"], STRATEGIES) is STRATEGIES["conservative"]
