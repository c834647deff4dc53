"""Ordering, selection, phases and hold-out."""

import math
import time

import numpy as np
import pytest

from builders import EVERYTHING, batch, history_of, item, plan_of, planned, reasons, ref
from preheat import prioritize_warmup_items
from preheat._model import PHASES, CandidateTable, WarmupItem
from preheat._plan import request_probability
from preheat._plan.bundles import Bundles
from preheat._plan.candidates import candidates_from_history
from preheat._plan.ordering import MOST_WAVES, Dependencies
from preheat._plan.selection import knee
from preheat._plan.strategy import StrategyProfile
from preheat.errors import DependencyCycle, InvalidSetting

NO_NEEDS = StrategyProfile("alone", 1.0, "brings nothing along", with_needs=False)
DEEP = 100_000

# -------------------------------------------------------------------------------------------------------- ordering


def graph_of(needs):
    edges = [(row, need) for row, needed in needs.items() for need in needed]
    above, below = np.array(edges, np.int64).reshape(-1, 2).T
    return Dependencies(1 + int(max(above.max(initial=-1), below.max(initial=-1))), above, below)


def test_levels_are_one_above_the_highest_need():
    graph = graph_of({1: (0,), 3: (2, 0), 2: (1,), 5: (1,)})
    assert dict(zip(graph.nodes.tolist(), graph.levels.tolist(), strict=True)) == {0: 0, 1: 1, 2: 2, 3: 3, 5: 2}


def test_edges_are_ordered_by_the_level_of_the_dependant():
    graph = graph_of({3: (2,), 2: (1,), 1: (0,), 5: (4,)})
    assert graph.levels[graph.dependants].tolist() == [1, 1, 2, 3]


@pytest.mark.parametrize("length", [5, MOST_WAVES + 5])  # wave by wave, and edge by edge
def test_what_goes_along_the_edges_reaches_all_that_hangs_together(length):
    graph = graph_of({n: (n - 1,) for n in range(1, length)} | {length + 1: (length,)})
    up, down = np.zeros(length + 2, np.bool_), np.zeros(length + 2, np.bool_)
    up[2] = down[2] = True
    graph.mark_dependants(up)
    graph.mark_needs(down)
    assert np.flatnonzero(up).tolist() == list(range(2, length))
    assert np.flatnonzero(down).tolist() == [0, 1, 2]
    keys = np.zeros(length + 2, np.int64)
    graph.lift_needs(keys, np.ones(length + 2, np.bool_))
    assert keys.tolist() == [*range(length - 1, -1, -1), 1, 0]
    graph.lower_dependants(keys[::-1].copy())
    assert graph.sum_ways(np.ones(length + 2)).tolist() == [*range(1, length + 1), 1, 2]


@pytest.mark.parametrize("length", [5, MOST_WAVES + 5])
def test_keys_are_lowered_below_what_is_needed(length):
    graph = graph_of({n: (n - 1,) for n in range(1, length)})
    keys = np.full(length, 1000)
    graph.lower_dependants(keys)
    assert keys.tolist() == [1000 - n for n in range(length)]


@pytest.mark.parametrize("length", [5, MOST_WAVES + 5])
def test_only_dependants_that_count_lift(length):
    graph = graph_of({n: (n - 1,) for n in range(1, length)})
    keys, counts = np.arange(length), np.arange(length) < 2
    graph.lift_needs(keys, counts)
    assert keys.tolist() == [2, *range(1, length)]


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
        graph_of({n: ((n + 1) % DEEP,) for n in range(DEEP)})
    assert len(refusal.value.cycle) == DEEP + 1


def test_a_need_that_is_no_candidate_is_taken_to_be_resident():
    assert planned(plan_of([item("a", "elsewhere", "other:thing")])) == ["a"]


def bundles_of(needs, size_bytes, deserves=None):
    rows = np.ones(len(size_bytes), np.bool_) if deserves is None else np.array(deserves)
    return Bundles.of(graph_of(needs), np.array(size_bytes), rows)


def test_what_is_reached_is_counted_once_however_many_ways_lead_there():
    closures = bundles_of({3: (1, 2), 2: (0,), 1: (0,)}, [80, 40, 20, 10]).closures
    assert list(zip(closures.owner.tolist(), closures.need.tolist(), strict=True)) == [
        (1, 0),
        (2, 0),
        (3, 0),
        (3, 1),
        (3, 2),
    ]
    assert closures.is_exact.all()


def test_a_bundle_is_within_reach_where_all_of_it_fits_that_is_not_chosen_yet():
    bundles = bundles_of({2: (0, 1), 3: (0,)}, [50, 30, 20, 10])
    none, every = np.zeros(4, np.bool_), np.ones(4, np.bool_)
    assert bundles.within_reach(none, every, 99).tolist() == [True, True, False, True]
    assert bundles.within_reach(none, every, 100).tolist() == [True, True, True, True]
    assert bundles.within_reach(np.array([True, False, False, False]), every, 50).tolist()[1:] == [True, True, True]
    assert bundles.within_reach(none, np.array([False, True, True, True]), 999).tolist() == [False, True, False, False]


def test_a_mere_need_is_within_reach_only_for_somebody():
    bundles = bundles_of({1: (0,)}, [50, 60], deserves=[False, True])
    none, every = np.zeros(2, np.bool_), np.ones(2, np.bool_)
    assert bundles.within_reach(none, every, 109).tolist() == [False, False]
    assert bundles.within_reach(none, every, 110).tolist() == [True, True]
    assert bundles.in_vain(np.array([True, False])).tolist() == [True, False]
    assert bundles.in_vain(every).tolist() == [False, False]


def test_vast_bundles_have_no_exact_closure_and_finite_keys():
    needs = {n: tuple(range(max(0, n - 70), n)) for n in range(1, 3000)}
    bundles = bundles_of(needs, [1] * 3000)
    keys = bundles.bringing_keys(np.zeros(3000, np.int64), np.ones(3000)).among(bundles.deserves)
    assert not bundles.closures.is_exact.all()
    assert (np.diff(keys) < 0).all()  # each after what it needs


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
    assert planned(plan_of(rows, 1000)) == ["need", "top"]  # worth more, though not per byte
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


def test_caches_that_need_each_other_are_loaded_in_order_of_need():
    rows = [item("a:1", "b:2"), item("b:2"), item("b:3", "a:4"), item("a:4")]
    order = planned(plan_of(rows))
    assert order.index("2") < order.index("1")
    assert order.index("4") < order.index("3")


# ---------------------------------------------------------------------------------------------------------- prices


def test_a_need_that_comes_anyway_costs_its_dependant_nothing():
    rows = [
        item("good", size=100, cost=9.0),
        item("top", "good", size=100, cost=2.0),
        item("other", size=100, cost=3.0),
    ]
    assert planned(plan_of(rows)) == ["good", "other", "top"]


@pytest.mark.parametrize("more", [0, 60])  # in the best order, and by prices
def test_a_mere_need_brings_its_own_needs_along(more):
    rows = [item("top", "a", cost=9.0), item("a", "b", rate=0.0), item("b", *(f"n{n}" for n in range(more)), rate=0.0)]
    plan = plan_of([*rows, *(item(f"n{n}", rate=0.0, size=1) for n in range(more)), item("good")])
    assert planned(plan)[more:] == ["b", "a", "top", "good"]


def test_a_need_comes_right_before_the_first_that_needs_it():
    rows = [item("need", size=100, rate=0.001), item("top", "need", size=100, cost=9.0), item("good", size=100)]
    assert planned(plan_of(rows)) == ["need", "top", "good"]


def test_what_several_need_is_paid_by_all_of_them():
    hub = [item("hub", size=900, rate=0.0), *(item(f"top{n}", "hub", size=10, cost=5.0) for n in range(3))]
    assert {"hub", "top0", "top1", "top2"} == set(planned(plan_of([*hub, item("rival", size=900, cost=10.0)], 930)))
    assert planned(plan_of([*hub, item("rival", size=900, cost=18.0)], 930)) == ["rival"]


def test_a_bundle_whose_items_do_not_all_fit_leaves_no_need_behind():
    rows = [item("need", size=50, rate=0.0), item("top", "need", size=60, cost=9.0), item("own", size=70)]
    plan = plan_of(rows, 100)
    assert planned(plan) == ["own"]
    assert reasons(plan) == {"need": "WORTHLESS", "top": "OVER_BUDGET"}


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


def test_the_standard_phase_goes_to_the_last_likely_item_so_that_the_order_stays_that_of_value_per_byte():
    rows = [item("dense", rate=0.1, cost=99.0), item("likely"), item("poor", rate=0.1), item("poorest", rate=0.05)]
    assert in_phases(plan_of(rows)) == [[], ["dense", "likely"], ["poor", "poorest"]]


def test_what_an_item_needs_is_in_no_later_phase():
    rows = [item("top", "middle", priority=9), item("middle", "low", rate=0.1), item("low", rate=0.1)]
    assert in_phases(plan_of(rows)) == [["low", "middle", "top"], [], []]


def test_what_only_a_critical_item_without_a_place_needs_is_not_critical():
    rows = [item("top", "low", priority=9, size=1000), item("low", size=100), item("good", size=100, cost=3.0)]
    assert in_phases(plan_of(rows, 500)) == [[], ["good", "low"], []]


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


def test_items_of_the_same_price_keep_their_order_of_need():
    rows = [item("last", "middle", cost=0.0), item("middle", "first", "side", cost=0.0), item("first", cost=0.0)]
    rows += [item("side", cost=0.0), item("more", "first", cost=0.0), item("most", "more", "side", cost=0.0)]
    ranked = [each.ref.key for each in prioritize_warmup_items(rows)]
    for key, needs in {"last": ["middle"], "middle": ["first", "side"], "most": ["more", "side"]}.items():
        assert all(ranked.index(need) < ranked.index(key) for need in needs)


# ------------------------------------------------------------------------------------------------- the second look


def test_one_large_item_is_taken_instead_of_small_ones_where_it_is_worth_more():
    rows = [item("large", size=100, cost=10.0), item("small", size=10, cost=2.0)]
    assert planned(plan_of(rows, 100)) == ["large"]


def test_one_item_is_given_up_for_two_that_fit_in_its_place():
    rows = [item("dense", size=60, cost=6.5), item("one", size=50, cost=5.0), item("two", size=50, cost=5.0)]
    assert {"one", "two"} == set(planned(plan_of(rows, 100)))


def test_a_critical_item_is_never_given_up_for_others():
    rows = [item("pinned", size=60, priority=9, rate=0.0), item("dear", size=50, cost=99.0)]
    assert planned(plan_of(rows, 100)) == ["pinned"]


def test_what_is_given_up_takes_its_mere_needs_along():
    rows = [item("need", size=40, rate=0.0), item("top", "need", size=10, cost=3.0), item("large", size=100, cost=5.0)]
    assert planned(plan_of(rows, 100)) == ["large"]


def test_the_second_look_keeps_to_the_room_of_each_cache():
    rows = [item("x:large", size=100, cost=9.0), item("x:small", size=10), item("y:other", size=50)]
    assert {"small", "other"} == set(planned(plan_of(rows, 150, free_bytes={"x": 99, "y": None})))


def test_more_limited_caches_than_are_counted_are_filled_as_well():
    rows = [item(f"c{n}:k{m}", size=10, cost=1.0 + m) for n in range(40) for m in range(3)]
    plan = plan_of(rows, 10**6, free_bytes={f"c{n}": 20 for n in range(40)})
    assert {"k1", "k2"} == set(planned(plan))
    assert len(plan) == 80
