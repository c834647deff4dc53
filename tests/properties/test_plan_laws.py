"""Laws of every plan, over all strategies, random candidates, budgets and hold-outs."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import EVERYTHING, budget, plan_of, reading
from preheat import group_items_by_dependencies, prioritize_warmup_items
from preheat._model import CandidateTable, ItemRef, MemoryPressureLevel, WarmupItem
from preheat._plan import create_plan
from preheat._plan.budget import FLOOR_BYTES, grant_budget
from preheat._plan.strategy import STRATEGIES, StrategyProfile

CACHES = ("a", "b", "c")
PROFILES = [
    *STRATEGIES.values(),
    EVERYTHING,
    StrategyProfile("alone", 1.0, "brings nothing along", with_needs=False),
    StrategyProfile("knee", 1.0, "to the knee, by priority", to_knee=True, by_priority=True),
]


@st.composite
def candidates(draw: st.DrawFn, max_size: int = 25) -> list[WarmupItem]:
    """Items without cycles: each needs only some made before it, or things that are no candidates; then shuffled."""
    made: list[WarmupItem] = []
    for n in range(draw(st.integers(0, max_size))):
        earlier = [item.ref for item in made] + [ItemRef("elsewhere", "thing")]
        made.append(
            WarmupItem(
                ItemRef(draw(st.sampled_from(CACHES)), str(n)),
                draw(st.integers(1, 10)),
                draw(st.integers(0, 100)),
                draw(st.sampled_from([0.0, 1e-3, 0.1, 1.0, 50.0])),
                draw(st.sampled_from([0.0, 0.01, 1.0])),
                tuple(draw(st.lists(st.sampled_from(earlier), max_size=3))),
            )
        )
    return draw(st.permutations(made))


@st.composite
def plans(draw: st.DrawFn):
    items = draw(candidates())
    repeated = items + draw(st.lists(st.sampled_from(items), max_size=3)) if items else items
    free = draw(st.fixed_dictionaries({name: st.one_of(st.none(), st.integers(0, 500)) for name in CACHES}))
    arguments = {
        "granted_bytes": draw(st.integers(0, 1500)),
        "profile": draw(st.sampled_from(PROFILES)),
        "free_bytes": free,
        "holdout_ratio": draw(st.sampled_from([0.0, 0.1, 0.5])),
        "seed": draw(st.integers(0, 2**63 - 1)),
    }
    return plan_of(repeated, **arguments), repeated, arguments


@given(plans())
def test_a_plan_fits_its_budget_and_each_cache(drawn):
    plan, _, arguments = drawn
    assert plan.size_bytes <= arguments["granted_bytes"]
    for code, name in enumerate(plan.candidates.caches):
        rows = plan.order[plan.candidates.cache[plan.order] == code]
        free = arguments["free_bytes"][name]
        assert free is None or plan.candidates.size_bytes[rows].sum() <= free


@given(plans())
def test_what_is_held_out_would_have_fitted_too(drawn):
    plan, _, arguments = drawn
    deserved = np.concatenate([plan.order, plan.held_out])
    assert plan.candidates.size_bytes[deserved].sum() <= arguments["granted_bytes"]


@given(plans())
def test_every_dependency_precedes_its_dependant(drawn):
    plan, items, _ = drawn
    known = {item.ref for item in items}
    seen = set()
    for row in plan.order.tolist():
        item = plan.candidates[row]
        assert {need for need in item.dependencies if need in known} <= seen
        seen.add(item.ref)


@given(plans())
def test_planned_held_out_and_left_out_are_all_candidates_and_disjoint(drawn):
    plan, items, _ = drawn
    left_out = np.flatnonzero(plan.left_out >= 0)
    parts = [*plan.order.tolist(), *plan.held_out.tolist(), *left_out.tolist()]
    assert list(range(len(plan.candidates))) == sorted(parts)  # so none comes twice
    assert {item.ref for item in items} == set(plan.candidates.refs())
    assert len(plan.candidates) == len({item.ref for item in items})
    assert len(plan) == sum(len(phase.items) for phase in plan.phases)
    assert set(plan.comparable.tolist()) <= set(plan.order.tolist())


@given(plans())
def test_nothing_planned_needs_something_held_out(drawn):
    plan, _, _ = drawn
    held = {plan.candidates.ref(row) for row in plan.held_out.tolist()}
    assert not any(set(plan.candidates[row].dependencies) & held for row in plan.order.tolist())


@given(plans())
def test_the_same_input_and_seed_give_the_same_plan(drawn):
    plan, items, arguments = drawn
    again = plan_of(items, **arguments)
    assert [rows.tolist() for rows in plan.chosen] == [rows.tolist() for rows in again.chosen]
    assert plan.held_out.tolist() == again.held_out.tolist()
    assert plan.left_out.tolist() == again.left_out.tolist()


@given(candidates(), st.integers(0, 1500))
def test_what_is_left_out_for_room_would_not_fit_what_is_left(items, granted):
    plan = plan_of(items, granted, STRATEGIES["aggressive"])
    room = granted - plan.size_bytes
    taken = {plan.candidates.ref(row) for row in plan.order.tolist()}
    for row in np.flatnonzero(plan.left_out >= 0).tolist():
        item = plan.candidates[row]
        if plan.reasons[plan.left_out[row]].name == "OVER_BUDGET" and set(item.dependencies) <= taken:
            assert item.size_bytes > room


@given(st.integers(0, 2**40), st.integers(1, 2**40), st.sampled_from(MemoryPressureLevel))
def test_bolder_strategies_never_get_less_and_none_more_than_there_is(available, extra, level):
    seen = reading(available, available + extra)
    granted = [
        grant_budget(seen, STRATEGIES[n], level).granted_bytes for n in ("conservative", "balanced", "aggressive")
    ]
    assert sorted(granted) == granted
    assert 0 <= granted[-1] <= available
    if level == MemoryPressureLevel.CRITICAL:
        assert granted == [0, 0, 0]
    else:
        assert granted[0] >= min(FLOOR_BYTES, available // 2)


@given(st.integers(0, 2**40), st.sampled_from(list(STRATEGIES)))
def test_more_pressure_never_grants_more(available, name):
    granted = [
        grant_budget(reading(available, 2**40), STRATEGIES[name], level).granted_bytes for level in MemoryPressureLevel
    ]
    assert sorted(granted, reverse=True) == granted
    assert granted[-1] == 0


@given(candidates())
def test_ranking_and_grouping_keep_all_items_and_their_order_of_need(items):
    ranked = prioritize_warmup_items(items)
    grouped = [item for group in group_items_by_dependencies(items) for item in group]
    known = {item.ref for item in items}
    for order in (ranked, grouped):
        assert sorted(items, key=repr) == sorted(order, key=repr)
        seen = set()
        for item in order:
            assert {need for need in item.dependencies if need in known} <= seen
            seen.add(item.ref)


@given(candidates())
def test_members_of_a_group_do_not_need_each_other(items):
    for group in group_items_by_dependencies(items):
        refs = {item.ref for item in group}
        assert not any(set(item.dependencies) & refs for item in group)


@given(candidates(max_size=8), st.integers(0, 400))
def test_greedy_is_within_one_item_of_the_best_for_items_without_needs(items, granted):
    rows = [
        item.__class__(item.ref, 5, max(1, item.size_bytes), item.usage_frequency, item.warmup_cost) for item in items
    ]
    table = CandidateTable.of(rows)
    plan = create_plan(
        table, budget(granted), EVERYTHING, horizon_seconds=dict.fromkeys(table.caches, 1.0), free_bytes={}
    )
    best = 0.0
    sizes, values = plan.candidates.size_bytes.tolist(), plan.value.tolist()
    for mask in range(2 ** len(sizes)):
        chosen = [n for n in range(len(sizes)) if mask >> n & 1]
        if sum(sizes[n] for n in chosen) <= granted:
            best = max(best, sum(values[n] for n in chosen))
    greedy = float(plan.value[plan.order].sum())
    assert (
        greedy >= best - max([v for v, size in zip(values, sizes, strict=True) if size <= granted], default=0.0) - 1e-9
    )


def larger_plan(seed):
    """A plan over some hundred items with chains of needs, mixed priorities and limited caches."""
    rng = random.Random(seed)
    is_deep = rng.random() < 0.3
    items: list[WarmupItem] = []
    for n in range(rng.choice([60, 300])):
        few = range(max(0, n - 3), n) if is_deep else range(n)
        needs = {items[rng.choice(few)].ref for _ in range(rng.choice([0, 0, 1, 1, 2, 5]) if n else 0)}
        items.append(
            WarmupItem(
                ItemRef(rng.choice(CACHES), str(n)),
                rng.choice([5, 5, 5, 9, 7, 3]),
                rng.randint(0, 100),
                rng.choice([0.0, 0.01, 0.1, 1.0, 5.0]),
                rng.choice([0.0, 0.01, 0.1, 1.0]),
                tuple(sorted(needs)),
            )
        )
    rng.shuffle(items)
    total = sum(item.size_bytes for item in items)
    free = {name: rng.choice([None, int(total * rng.random() / 2)]) for name in CACHES}
    granted, profile = int(total * rng.random()), rng.choice(PROFILES)
    return plan_of(items, granted, profile, free_bytes=free, holdout_ratio=0.1, seed=seed), granted, free


@pytest.mark.parametrize("seed", range(40))
def test_the_laws_hold_for_larger_plans_too(seed):
    plan, granted, free = larger_plan(seed)
    table, deserved = plan.candidates, np.concatenate([plan.order, plan.held_out])
    left_out = np.flatnonzero(plan.left_out >= 0).tolist()
    assert sorted([*deserved.tolist(), *left_out]) == list(range(len(table)))
    assert table.size_bytes[deserved].sum() <= granted
    used = [int(table.size_bytes[deserved[table.cache[deserved] == code]].sum()) for code in range(len(table.caches))]
    assert all(free[name] is None or used[code] <= free[name] for code, name in enumerate(table.caches))
    seen = set()
    for row in plan.order.tolist():
        assert set(table[row].dependencies) <= seen
        seen.add(table.ref(row))
    assert {row for row in deserved.tolist() if table.priority[row] >= 8} <= set(plan.chosen[0].tolist())


# ------------------------------------------------------------------------------------------------- a plan cut short


def missing(row, needs, loaded):
    """`row` and all that it needs, directly or not, less what is loaded."""
    found, waiting = {}, [row]
    while waiting:
        at = waiting.pop()
        if at not in loaded and at not in found:
            found[at] = None
            waiting += needs[at]
    return list(found)


def density(rows, plan):
    return float(plan.value[rows].sum()) / max(int(plan.candidates.size_bytes[rows].sum()), 1)


def least_share_of_the_best(order, needs, plan):
    """At the worst cut: the best that comes next, per byte, over the best bundle that could have come next."""
    worst = 1.0
    for cut in range(len(order)):
        rest, loaded = order[cut:], set(order[:cut])
        best = max(density(missing(row, needs, loaded), plan) for row in rest)
        comes = max(density(rest[:stop], plan) for stop in range(1, len(rest) + 1))
        worst = min(worst, comes / best if best else 1.0)
    return worst


def tangled(rng, count):
    """A plan of `count` items, no two alike, that need each other; and what each needs."""
    items = [
        WarmupItem(
            ItemRef(rng.choice(CACHES), str(n)),
            5,
            rng.randint(1, 10**6),
            rng.choice([1e-3, 0.1, 1.0, 5.0]) * rng.uniform(0.9, 1.1),
            rng.choice([0.01, 0.1, 1.0]) * rng.uniform(0.9, 1.1),
        )
        for n in range(count)
    ]
    for n in range(1, count):
        needs = rng.sample(range(n), min(n, rng.choice([0, 0, 1, 1, 2, 3])))
        items[n] = items[n]._replace(dependencies=tuple(items[need].ref for need in needs))
    return plan_of(items), [[int(ref.key) for ref in item.dependencies] for item in items]


@st.composite
def tangled_plans(draw: st.DrawFn):
    return tangled(random.Random(draw(st.integers(0, 2**32))), draw(st.integers(2, 14)))


@given(tangled_plans())
def test_wherever_a_plan_is_cut_the_best_comes_next(drawn):
    plan, needs = drawn
    assert least_share_of_the_best(plan.order.tolist(), needs, plan) > 0.999


def test_an_order_by_waves_would_put_a_dear_bundle_behind_worthless_items():
    """The control: the law above tells a good order from one by dependency waves and density within them."""
    shares = []
    for seed in range(20):
        plan, needs = tangled(random.Random(seed), 14)
        level = {}
        for row in range(len(needs)):
            level[row] = 1 + max((level[need] for need in needs[row]), default=-1)
        by_waves = sorted(range(len(needs)), key=lambda row: (level[row], -density([row], plan)))
        shares.append(least_share_of_the_best(by_waves, needs, plan))
    assert min(shares) < 0.1
    assert sorted(shares)[10] < 0.9


# ---------------------------------------------------------------------------------------------- against the optimum


def best_value(needs, plan, granted):
    """The most value that any complete set within `granted` bytes has, by trying all of them."""
    sizes, values = plan.candidates.size_bytes.tolist(), plan.value.tolist()
    best = 0.0
    for mask in range(2 ** len(sizes)):
        rows = [row for row in range(len(sizes)) if mask >> row & 1]
        is_complete = all(mask >> need & 1 for row in rows for need in needs[row])
        if is_complete and sum(sizes[row] for row in rows) <= granted:
            best = max(best, sum(values[row] for row in rows))
    return best


@given(st.integers(0, 2**32), st.floats(0.1, 0.9))
@settings(max_examples=30)
def test_a_small_plan_is_near_the_optimum_though_items_need_each_other(seed, share):
    whole, needs = tangled(random.Random(seed), 10)
    granted = int(whole.size_bytes * share)
    plan = plan_of(list(whole.candidates), granted)
    assert float(plan.value[plan.order].sum()) >= 0.85 * best_value(needs, plan, granted)


def test_most_small_plans_are_the_optimum():
    gaps = []
    for seed in range(40):
        whole, needs = tangled(random.Random(seed), 10)
        granted = whole.size_bytes // 3
        plan = plan_of(list(whole.candidates), granted)
        best = best_value(needs, plan, granted)
        gaps.append(1.0 - float(plan.value[plan.order].sum()) / best if best else 0.0)
    assert sum(gap < 1e-9 for gap in gaps) >= 36
    assert sum(gaps) / len(gaps) < 0.02
