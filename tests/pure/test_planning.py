"""Ordering, selection, phases and hold-out."""

import math
import time

import numpy as np
import pytest

from builders import EVERYTHING, batch, history_of, item, plan_of, planned, reasons, ref
from preheat._model import PHASES, CandidateTable, WarmupItem
from preheat._plan import request_probability
from preheat._plan.candidates import candidates_from_history
from preheat._plan.ordering import bundle, bundle_totals, cache_ranks, dependency_levels, try_bundle
from preheat._plan.selection import knee
from preheat._plan.strategy import StrategyProfile
from preheat.errors import DependencyCycle, InvalidSetting

NO_NEEDS = StrategyProfile("alone", 1.0, "brings nothing along", with_needs=False)
DEEP = 100_000

# -------------------------------------------------------------------------------------------------------- ordering


def test_levels_are_one_above_the_highest_need():
    assert dependency_levels({1: (0,), 2: (1, 0), 3: (1,)}) == {1: 1, 2: 2, 3: 2}


@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_cycle_is_refused_with_its_items_in_the_message(start):
    items = [item("a", "b"), item("b", "c"), item("c", "a"), item("d", "a")]
    with pytest.raises(DependencyCycle) as refusal:
        plan_of([*items[start:], *items[:start]])
    cycle = refusal.value.cycle
    assert cycle[0] == cycle[-1]
    assert {"c:a", "c:b", "c:c"} == set(cycle)
    assert " -> ".join(cycle) in str(refusal.value)


def test_an_item_that_needs_itself_is_a_cycle():
    with pytest.raises(DependencyCycle, match="c:a -> c:a"):
        plan_of([item("a", "a")])


def test_only_the_cycle_is_named_and_not_the_way_to_it():
    with pytest.raises(DependencyCycle) as refusal:
        plan_of([item("way", "in"), item("in", "x"), item("x", "y"), item("y", "x")])
    assert {"c:x", "c:y"} == set(refusal.value.cycle)


def chain(length, *, deepest_first=False, **columns):
    rows = [item(str(n), *([str(n - 1)] if n else []), **columns) for n in range(length)]
    return rows[::-1] if deepest_first else rows


@pytest.mark.parametrize(("share", "deepest_first"), [(0.5, False), (0.5, True), (1.0, True)])
def test_a_chain_of_a_hundred_thousand_is_planned_in_order_and_in_seconds(deepest_first, share):
    started = time.perf_counter()
    plan = plan_of(chain(DEEP, deepest_first=deepest_first, size=1), granted_bytes=int(DEEP * share))
    assert [str(n) for n in range(int(DEEP * share))] == planned(plan)
    assert time.perf_counter() - started < 20.0


@pytest.mark.parametrize("deepest_first", [False, True])
def test_a_chain_whose_root_has_no_room_is_left_out_in_seconds(deepest_first):
    rows = [item("r:root", size=10), item("0", "r:root", size=1), *chain(DEEP, size=1)[1:]]
    started = time.perf_counter()
    plan = plan_of(rows[::-1] if deepest_first else rows, free_bytes={"r": 9})
    assert {"OVER_CAPACITY"} == set(reasons(plan).values())
    assert planned(plan) == []
    assert time.perf_counter() - started < 20.0


def test_an_item_with_a_hundred_thousand_needs_is_planned_in_seconds():
    rows = [item("top", *(f"{n}" for n in range(DEEP // 2))), *(item(f"{n}", f"b{n}") for n in range(DEEP // 2))]
    started = time.perf_counter()
    plan = plan_of([*rows, *(item(f"b{n}") for n in range(DEEP // 2))])
    assert planned(plan)[-1] == "top"
    assert time.perf_counter() - started < 20.0


def test_a_long_cycle_is_found_without_recursion():
    with pytest.raises(DependencyCycle) as refusal:
        dependency_levels({n: ((n + 1) % DEEP,) for n in range(DEEP)})
    assert len(refusal.value.cycle) == DEEP + 1


def test_a_need_that_is_no_candidate_is_taken_to_be_resident():
    assert planned(plan_of([item("a", "elsewhere", "other:thing")])) == ["a"]


def test_a_bundle_is_all_that_is_needed_and_not_taken_in_loading_order():
    needs = {3: (2, 1), 2: (0,), 1: (0,)}
    assert bundle(3, needs, ()) == [0, 2, 1, 3]
    assert bundle(3, needs, {0, 2}) == [1, 3]
    assert try_bundle(3, needs, (), lambda row: True) == ([0, 2, 1, 3], [])
    assert try_bundle(3, needs, (), lambda row: row != 0) == ([], [3, 2, 0])
    assert try_bundle(3, needs, (), lambda row: row != 3) == ([], [3])


def test_totals_count_what_is_shared_once():
    needs = {3: (1, 2), 2: (0,), 1: (0,)}
    totals = bundle_totals(needs, dependency_levels(needs), [1.0, 2.0, 4.0, 8.0], [10, 20, 40, 80])
    assert totals == {1: (3.0, 30.0), 2: (5.0, 50.0), 3: (15.0, 150.0)}


def test_totals_of_huge_bundles_stay_finite():
    needs = {n: tuple(range(max(0, n - 70), n)) for n in range(1, 3000)}
    totals = bundle_totals(needs, dependency_levels(needs), [1.0] * 3000, [1] * 3000)
    assert all(math.isfinite(value) and math.isfinite(size) for value, size in totals.values())
    assert all(size > 0 for _, size in totals.values())


# ------------------------------------------------------------------------------------------------------- selection


def test_the_most_valuable_per_byte_come_first():
    rows = [item("big", size=1000, cost=5.0), item("small", size=10, cost=1.0), item("dear", size=100, cost=3.0)]
    plan = plan_of(rows, granted_bytes=110)
    assert {"small", "dear"} == set(planned(plan))
    assert reasons(plan) == {"big": "OVER_BUDGET"}


def test_an_item_that_fits_is_taken_after_one_that_does_not():
    plan = plan_of([item("dense", size=90, cost=9.0), item("denser", size=120, cost=99.0), item("last", size=10)], 100)
    assert {"dense", "last"} == set(planned(plan))


def test_an_item_of_exactly_the_budget_fits():
    assert plan_of([item("a", size=100)], 100).size_bytes == 100
    assert plan_of([item("a", size=101)], 100).size_bytes == 0


def test_each_cache_has_its_own_room():
    rows = [item("x:a", size=60), item("x:b", size=60), item("y:c", size=60), item("z:d", size=60)]
    plan = plan_of(rows, free_bytes={"x": 100, "y": 10, "z": None})
    assert {"a", "d"} == set(planned(plan))
    assert reasons(plan) == {"b": "OVER_CAPACITY", "c": "OVER_CAPACITY"}


def test_a_bundle_is_refused_whole_where_a_need_has_no_room():
    plan = plan_of([item("x:need", size=60), item("y:top", "x:need", cost=99.0)], free_bytes={"x": 50, "y": None})
    assert planned(plan) == []
    assert reasons(plan) == {"need": "OVER_CAPACITY", "top": "OVER_CAPACITY"}


def test_an_item_brings_what_it_needs_along_and_pays_for_it():
    rows = [item("need", size=900, rate=0.0), item("top", "need", size=100, cost=2.0), item("free", size=100, cost=1.0)]
    assert planned(plan_of(rows, 100)) == ["free"]
    assert planned(plan_of(rows, 1000)) == ["free"]  # denser than the bundle, which then has no room
    assert {"free", "need", "top"} == set(planned(plan_of(rows, 1100)))


def test_what_is_chosen_already_costs_the_next_nothing():
    rows = [item("need", size=900, rate=0.0), *(item(f"top{n}", "need", size=10, cost=5.0) for n in range(3))]
    assert len(plan_of(rows, 930)) == 4
    assert len(plan_of(rows, 929)) == 3


def test_a_strategy_may_bring_nothing_along():
    rows = [item("need", rate=0.0), item("top", "need", cost=9.0), item("own", cost=99.0), item("on_own", "own")]
    plan = plan_of(rows, profile=NO_NEEDS)
    assert planned(plan) == ["own", "on_own"]
    assert reasons(plan) == {"top": "NEEDS_LEFT_OUT", "need": "WORTHLESS"}


def test_an_item_that_comes_twice_counts_as_it_came_first():
    plan = plan_of([item("a", size=10), item("a", size=99), item("b", "a")])
    assert (planned(plan), plan.size_bytes) == (["a", "b"], 110)
    assert len(plan.candidates) == 2


def test_no_candidates_make_an_empty_plan():
    plan = plan_of([])
    assert (len(plan), plan.size_bytes, len(plan.held_out)) == (0, 0, 0)
    assert tuple(phase.name for phase in plan.phases) == PHASES


@pytest.mark.parametrize(
    "wrong",
    [
        {"size_bytes": -1},
        {"usage_frequency": math.nan},
        {"usage_frequency": math.inf},
        {"usage_frequency": -1.0},
        {"warmup_cost": math.nan},
        {"warmup_cost": -0.5},
        {"priority": 0},
        {"priority": 11},
    ],
)
def test_a_candidate_that_cannot_be_is_refused_by_name(wrong):
    row = {"priority": 5, "size_bytes": 1, "usage_frequency": 1.0, "warmup_cost": 1.0} | wrong
    with pytest.raises(InvalidSetting, match="item c:wrong: "):
        plan_of([item("fine"), WarmupItem(ref("wrong"), **row)])


def test_the_probability_of_a_request_is_that_of_a_poisson_process():
    table = CandidateTable.of([item("a", rate=0.5), item("b:x", rate=0.5), item("zero", rate=0.0)])
    expected = [1 - math.exp(-1.0), 0.0, 0.0]
    assert np.allclose(expected, request_probability(table, {"c": 2.0}))


def test_rows_of_history_become_candidates():
    history = history_of(
        batch(["x"], cache="other"),
        batch(
            ["a", "b", "c"],
            loads={"a": (100, 0.5, "v", "recipe of a"), "b": (300, 1.5, "v", "")},
        ),
    )
    table = candidates_from_history(
        history,
        history.rows_of("c"),
        np.array([9.0, 1.0, 2.0, 3.0]),
        cache="c",
        priority=6,
        needs=lambda key, recipe: [ref("other:x")] if recipe else (),
    )
    assert list(table) == [
        WarmupItem(ref("a"), 6, 100, 1.0, 0.5, (ref("other:x"),), "recipe of a"),
        WarmupItem(ref("b"), 6, 300, 2.0, 1.5),
        WarmupItem(ref("c"), 6, 200, 3.0, 0.0),  # never loaded: as large as the others, and worth nothing
    ]


def test_without_a_known_size_candidates_have_none():
    history = history_of(batch(["a"]))
    table = candidates_from_history(history, history.rows_of("c"), np.ones(1), cache="c", priority=5)
    assert list(table) == [WarmupItem(ref("a"), 5, 0, 1.0)]


def test_a_cache_is_loaded_after_those_that_it_needs():
    rows = [item("a:top", "b:low", cost=99.0), item("b:low"), item("a:free", cost=99.0)]
    assert planned(plan_of(rows)) == ["low", "free", "top"]


def test_caches_that_need_each_other_have_no_order_and_their_items_do():
    rows = [item("a:1", "b:2"), item("b:2"), item("b:3", "a:4"), item("a:4")]
    order = planned(plan_of(rows))
    assert order.index("2") < order.index("1")
    assert order.index("4") < order.index("3")


# ------------------------------------------------------------------------------------------------------------- knee


def test_the_knee_is_where_the_curve_leaves_its_chord_farthest():
    assert knee(np.full(10, 10), np.array([9.0, 8.0, 7.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])) == 3


@pytest.mark.parametrize("value", [np.ones(10), np.linspace(1.04, 1.0, 10), np.array([5.0, 1.0]), np.zeros(5)])
def test_a_curve_that_hardly_bends_is_taken_whole(value):
    assert len(value) == knee(np.full(len(value), 10), value)


def test_what_the_kept_need_is_kept_beyond_the_knee():
    sharp = StrategyProfile("sharp", 1.0, "to the knee", to_knee=True)
    rows = [item("pinned", "far", priority=9, rate=0.0), item("far", rate=0.001, size=500)]
    rows += [item(f"hot{n}", cost=9.0, size=1) for n in range(5)] + [item(f"tail{n}", rate=0.01) for n in range(20)]
    plan = plan_of(rows, profile=sharp)
    assert {"pinned", "far"} <= set(planned(plan))
    assert {"BEYOND_KNEE"} == set(reasons(plan).values())


# ---------------------------------------------------------------------------------------------------------- phases


def in_phases(plan):
    return [list(phase.items.keys) for phase in plan.phases]


def test_priority_then_likelihood_decide_the_phase():
    rows = [item("likely", rate=5.0), item("eight", priority=8, rate=0.01), item("unlikely", rate=0.1)]
    assert in_phases(plan_of(rows)) == [["eight"], ["likely"], ["unlikely"]]


def test_what_an_item_needs_is_in_no_later_phase():
    rows = [item("top", "middle", priority=9), item("middle", "low", rate=0.1), item("low", rate=0.1)]
    assert in_phases(plan_of(rows)) == [["low", "middle", "top"], [], []]


def test_within_a_phase_waves_come_first_and_density_second():
    rows = [item("dear", "base", cost=99.0), item("cheap", cost=0.5), item("base", rate=2.0, cost=0.1), item("good")]
    assert in_phases(plan_of(rows))[1] == ["good", "cheap", "base", "dear"]


def test_a_phase_knows_its_bytes():
    assert [phase.size_bytes for phase in plan_of([item("a", size=100), item("b", size=200)]).phases] == [0, 300, 0]


# -------------------------------------------------------------------------------------------------------- hold-out


def many(n, **columns):
    return [item(str(i), **columns) for i in range(n)]


def test_the_hold_out_is_about_the_ratio():
    plan = plan_of(many(10_000), holdout_ratio=0.2, seed=1)
    assert 0.19 < len(plan.held_out) / 10_000 < 0.21
    assert len(plan) + len(plan.held_out) == 10_000


def test_nothing_is_held_out_at_a_ratio_of_zero():
    assert plan_of(many(1000), holdout_ratio=0.0).held_out.tolist() == []


def test_the_draw_depends_on_the_seed_alone():
    draws = [plan_of(many(200), holdout_ratio=0.5, seed=seed).held_out.tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_critical_items_and_what_others_need_are_never_held_out():
    rows = [*many(200, priority=8), *(item(f"need{n}") for n in range(200))]
    rows += [item(f"top{n}", f"need{n}") for n in range(200)]
    plan = plan_of(rows, holdout_ratio=0.5)
    held = {plan.candidates.keys[row] for row in plan.held_out.tolist()}
    assert held
    assert all(key.startswith("top") for key in held)


def test_what_is_held_out_is_compared_with_what_might_have_been():
    plan = plan_of([*many(100), *(item(f"p{n}", priority=9) for n in range(50))], holdout_ratio=0.3)
    assert len(plan.held_out) + len(plan.comparable) == 100
    assert set(plan.comparable.tolist()) <= set(plan.order.tolist())


def test_a_plan_prints_what_it_holds():
    assert repr(plan_of(many(3), 200, EVERYTHING)) == "WarmupPlan(everything, 2 of 3 items, 200 of 200 bytes)"


def test_a_cache_is_loaded_after_those_that_its_items_need():
    rows = [item("search:q", "vector:q", rate=9.0), item("vector:q"), item("vector:chunk", "file:f", rate=8.0)]
    rows += [item("search:free", rate=99.0), item("file:f"), item("file:g")]
    plan = plan_of(rows)
    assert [ref.cache for ref in plan.phases[1].items.refs()] == [
        "file",
        "file",
        "vector",
        "vector",
        "search",
        "search",
    ]


def test_caches_that_need_each_other_are_loaded_in_waves_only():
    rows = [item("a:1", "b:1"), item("b:1"), item("b:2", "a:2"), item("a:2")]
    order = planned(plan_of(rows))
    assert len(order) == 4
    assert cache_ranks(CandidateTable.of(rows), {0: (1,), 2: (3,)}) == [0, 0]
