"""Laws of choosing: within the budget, each item once, by its last access, whatever the columns are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preheat._choose import choose, choose_within
from preheat.errors import InvalidSetting
from trails import popular

SIZES = st.integers(0, 60) | st.sampled_from([0.0, 0.5, 1e6])
GAPS = st.sampled_from([0.0, 1.0, 30.0, 90_000.0])
COSTS = st.sampled_from([0.0, 1e-9, 1.0, 1e9])
Columns = tuple[list[int], list[float], list[float]]


@st.composite
def columns(draw: st.DrawFn) -> Columns:
    """A few accesses; or some hundreds, enough to train a model on, of which the last are drawn."""
    drawn = draw(st.lists(st.tuples(st.integers(-3, 12), GAPS, SIZES), min_size=1, max_size=40))
    keys, gaps, sizes = (list(column) for column in zip(*drawn, strict=True))
    if draw(st.booleans()):
        before = popular(draw(st.sampled_from([900, 1500])), 120, draw(st.integers(0, 3)))
        keys = [*before.tolist(), *keys]
        gaps = [*(before % 3).tolist(), *gaps]
        sizes = [*(before % 40 + 1).tolist(), *sizes]
    return keys, np.cumsum(gaps).tolist(), sizes


def check(chosen: np.ndarray, given_columns: Columns, budget_bytes: int) -> None:
    keys, _, sizes = given_columns
    last = {key: n for n, key in enumerate(keys)}
    assert [last[keys[n]] for n in chosen.tolist()] == chosen.tolist()
    assert len({keys[n] for n in chosen.tolist()}) == len(chosen)
    assert sum(max(1, int(sizes[n])) for n in chosen.tolist()) <= budget_bytes


@settings(max_examples=40)
@given(columns(), st.integers(0, 2000), st.none() | st.integers(0, 3000), st.none() | st.floats(1e-3, 1e6))
def test_a_choice_is_of_last_accesses_each_item_once_within_the_budget(given_columns, budget, capacity, horizon):
    chosen = choose(*given_columns, budget_bytes=budget, capacity_bytes=capacity, horizon=horizon)
    assert chosen.dtype == np.int64
    check(chosen, given_columns, budget)


@settings(max_examples=25)
@given(columns(), st.integers(1, 1000), st.integers(0, 2**32))
def test_a_choice_is_made_again_from_the_same_arguments_and_by_any_name(given_columns, budget, seed):
    keys, times, sizes = given_columns
    chosen = choose(keys, times, sizes, budget_bytes=budget, seed=seed).tolist()
    assert choose(keys, times, sizes, budget_bytes=budget, seed=seed).tolist() == chosen
    names = [f"k{key * 7919 % 1009}" for key in keys]
    assert choose(names, times, sizes, budget_bytes=budget, seed=seed).tolist() == chosen


@settings(max_examples=25)
@given(columns(), st.lists(st.integers(0, 2000), min_size=1, max_size=4), st.integers(1, 2000))
def test_each_of_several_budgets_gets_what_it_would_alone(given_columns, budgets, capacity):
    together = choose_within(*given_columns, budgets, capacity)
    assert len(together) == len(budgets)
    for budget, chosen in zip(budgets, together, strict=True):
        check(chosen, given_columns, budget)
        assert chosen.tolist() == choose(*given_columns, budget_bytes=budget, capacity_bytes=capacity).tolist()


@settings(max_examples=25)
@given(columns(), st.data())
def test_only_what_costs_something_is_chosen(given_columns, data):
    keys = given_columns[0]
    cost_of = {key: data.draw(COSTS) for key in sorted(set(keys))[:20]}
    costs = [cost_of.get(key, 1.0) for key in keys]
    chosen = choose(*given_columns, budget_bytes=10**9, costs=costs)
    assert all(costs[n] > 0 for n in chosen.tolist())
    check(chosen, given_columns, 10**9)


WILD = st.one_of(
    st.none(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=True),
    st.text(max_size=2),
    st.booleans(),
    st.lists(st.integers(-2, 2**70) | st.floats() | st.text(max_size=2) | st.none(), max_size=4),
)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(["keys", "times", "sizes", "costs", "capacity_bytes", "horizon", "seed"]), WILD))
def test_whatever_comes_is_used_or_refused(wild):
    arguments = {"keys": [1, 2, 1], "times": [0.0, 1.0, 2.0], "sizes": [5, 5, 5], "budget_bytes": 7} | wild
    try:
        chosen = choose(**arguments)
    except InvalidSetting:
        return
    assert len(chosen) <= len(arguments["keys"])


@given(WILD)
def test_a_budget_is_a_whole_number_or_refused(budget):
    if isinstance(budget, int) and not isinstance(budget, bool) and 0 <= budget < 2**62:
        assert len(choose([1], [0.0], [1], budget_bytes=budget)) == min(budget, 1)
        return
    with pytest.raises(InvalidSetting, match="budget_bytes"):
        choose([1], [0.0], [1], budget_bytes=budget)
