"""Rows at the door: made, ranked and grouped by hand."""

import math
import time

import pytest

from builders import item
from preheat import create_warmup_item, group_items_by_dependencies, prioritize_warmup_items
from preheat._model import ItemRef, WarmupItem
from preheat.errors import DependencyCycle, InvalidSetting


def keys(items):
    return [each.ref.key for each in items]


def test_an_item_is_what_was_asked_for():
    made = create_warmup_item(
        "search",
        "日本",
        priority=9,
        size_bytes=10,
        usage_frequency=2,
        warmup_cost=0.5,
        dependencies=[("file", "a.py"), ("file", "a.py")],
        recipe="r",
    )
    expected = WarmupItem(ItemRef("search", "日本"), 9, 10, 2.0, 0.5, (ItemRef("file", "a.py"),), "r")
    assert expected == made
    assert isinstance(made.usage_frequency, float)


def test_little_has_to_be_said():
    assert WarmupItem(ItemRef("c", "k"), 5, 0, 0.0, 0.0, (), "") == create_warmup_item("c", "k")


@pytest.mark.parametrize(
    ("wrong", "value"),
    [
        *(("priority", value) for value in (0, 11, -1, 5.0, "5", None, True, math.nan)),
        *(("size_bytes", value) for value in (-1, 1.5, "10", None, 2**63, math.nan, math.inf, True)),
        *(("usage_frequency", value) for value in (-0.1, math.nan, math.inf, -math.inf, "1", None)),
        *(("warmup_cost", value) for value in (-0.1, math.nan, math.inf, "1", None)),
        *(("recipe", value) for value in ("\udc80", b"bytes", None)),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(wrong, value):
    with pytest.raises(InvalidSetting) as refusal:
        create_warmup_item("c", "k", **{wrong: value})
    assert f"item c:k: {wrong} is {value!r}; it has to be " in str(refusal.value)


@pytest.mark.parametrize(("cache", "key"), [("c", "\ud800"), ("\ud800", "k"), ("c", 7), (None, "k"), ("c", b"k")])
def test_a_name_that_is_no_text_is_refused(cache, key):
    with pytest.raises(InvalidSetting, match="it has to be text that UTF-8 can hold"):
        create_warmup_item(cache, key)


@pytest.mark.parametrize("dependency", ["search", ("a", "b", "c"), ("a",)])
def test_a_dependency_that_is_no_pair_is_refused(dependency):
    with pytest.raises(InvalidSetting, match="it has to be a pair of cache and key"):
        create_warmup_item("c", "k", dependencies=[dependency])


# -------------------------------------------------------------------------------------------------------- prioritise


def test_priority_decides_first_and_seconds_per_byte_second():
    rows = [
        item("low", priority=1, cost=99.0),
        item("slow", cost=9.0),
        item("big", cost=9.0, size=999),
        item("top", priority=9),
    ]
    assert keys(prioritize_warmup_items(rows)) == ["top", "slow", "big", "low"]


def test_recency_counts_through_the_decayed_frequency():
    rows = [item("old", rate=1e-5), item("new", rate=1e-4)]
    assert keys(prioritize_warmup_items(rows)) == ["new", "old"]


def test_equals_keep_their_order():
    assert keys(prioritize_warmup_items([item("b"), item("a"), item("c")])) == ["b", "a", "c"]


def test_a_dependency_comes_before_its_dependant_whatever_its_priority():
    rows = [item("top", "low", priority=10), item("middle", priority=5), item("low", priority=1)]
    assert keys(prioritize_warmup_items(rows)) == ["low", "top", "middle"]


def test_what_an_item_needs_is_priced_with_it():
    rows = [item("dear", "huge", cost=5.0), item("huge", size=10_000, cost=0.0), item("plain")]
    assert keys(prioritize_warmup_items(rows)) == ["plain", "huge", "dear"]


def test_the_horizon_is_what_frequency_is_weighed_over():
    rows = [item("rare", rate=0.001, cost=10.0), item("often", rate=1.0, cost=1.0)]
    assert keys(prioritize_warmup_items(rows, horizon_seconds=1.0)) == ["often", "rare"]
    assert keys(prioritize_warmup_items(rows, horizon_seconds=10_000.0)) == ["rare", "often"]


def test_ranking_names_a_cycle():
    with pytest.raises(DependencyCycle, match=r"c:a -> c:b -> c:a|c:b -> c:a -> c:b"):
        prioritize_warmup_items([item("a", "b"), item("b", "a")])


def test_ranking_nothing_gives_nothing():
    assert prioritize_warmup_items([]) == []


def test_a_long_chain_is_ranked_in_seconds():
    rows = [item(str(n), *([str(n - 1)] if n else [])) for n in range(20_000)]
    started = time.perf_counter()
    assert keys(rows) == keys(prioritize_warmup_items(rows[::-1]))
    assert time.perf_counter() - started < 10.0


# ------------------------------------------------------------------------------------------------------------- group


def test_each_group_is_loadable_once_those_before_it_are():
    rows = [item("d", "b", "c"), item("b", "a"), item("a"), item("c"), item("e", "elsewhere")]
    assert [keys(group) for group in group_items_by_dependencies(rows)] == [["a", "c", "e"], ["b"], ["d"]]


def test_items_without_dependencies_are_one_group():
    assert [keys(group) for group in group_items_by_dependencies([item("b"), item("a")])] == [["b", "a"]]


def test_nothing_is_no_group():
    assert group_items_by_dependencies([]) == []


def test_grouping_refuses_a_cycle_and_carries_it():
    with pytest.raises(DependencyCycle) as refusal:
        group_items_by_dependencies([item("a", "b"), item("b", "a"), item("c", "a")])
    assert {"c:a", "c:b"} == set(refusal.value.cycle)
