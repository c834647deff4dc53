"""Laws of cutting a plan into shards."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat import create_warmup_item
from preheat._bulk.sharding import MOST_SHARDS, shard_count, shard_plan, shards_of, split_plan
from preheat._model import CandidateTable, Fallback, ItemRef
from preheat._plan.saved import plan_to_json
from preheat.errors import InvalidSetting
from replicas import plan_of

keys = st.lists(st.text("abcdefgh/é", min_size=1, max_size=40), min_size=1, max_size=60, unique=True)
counts = st.integers(1, 20)


def table(names, cache="pages"):
    return CandidateTable.of(create_warmup_item(cache, name, size_bytes=1) for name in names)


def refs_of(plan):
    return [plan.candidates.ref(row) for row in plan.order.tolist()]


@given(keys, counts)
def test_the_shards_are_a_partition_of_the_plan_in_its_order(names, shards):
    plan = plan_from_items(names)
    parts = list(split_plan(plan, shards))
    refs = refs_of(plan)
    assert sorted(refs) == sorted(ref for part in parts for ref in refs_of(part))
    for part in parts:
        places = [refs.index(ref) for ref in refs_of(part)]
        assert places == sorted(places)


@given(keys, counts)
def test_a_shard_alone_is_what_splitting_makes_of_it(names, shards):
    plan = plan_from_items(names)
    for n, part in enumerate(split_plan(plan, shards)):
        assert plan_to_json(part) == plan_to_json(shard_plan(plan, n, shards))


@given(keys, counts, st.randoms(use_true_random=False))
def test_the_shard_of_an_item_depends_on_nothing_but_itself(names, shards, rng):
    shuffled = rng.sample(names, len(names))
    by_name = dict(zip(names, shards_of(table(names), shards).tolist(), strict=True))
    among_others = CandidateTable.concatenate([table(["other"], cache="files"), table(shuffled)])
    assert [by_name[name] for name in shuffled] == shards_of(among_others, shards).tolist()[1:]


@given(keys, counts)
def test_one_shard_more_takes_items_and_moves_no_other(names, shards):
    before, after = shards_of(table(names), shards), shards_of(table(names), shards + 1)
    assert set(after[before != after].tolist()) <= {shards}


def test_one_shard_more_takes_its_part_and_all_are_about_alike():
    many = table(f"page {n}" for n in range(50_000))
    before, after = shards_of(many, 9), shards_of(many, 10)
    assert 0.09 <= float((before != after).mean()) <= 0.11
    sizes = np.bincount(after, minlength=10)
    assert sizes.min() >= 4700
    assert sizes.max() <= 5300


@given(st.integers(2, 30), st.integers(1, 8), st.integers(0, 2**32))
def test_items_that_need_each_other_stay_together(items, shards, seed):
    rng = random.Random(seed)
    rows = [
        create_warmup_item(
            "pages",
            f"page {n}",
            size_bytes=1,
            dependencies=[ItemRef("pages", f"page {rng.randrange(n)}")] if n and rng.random() < 0.5 else [],
        )
        for n in range(items)
    ]
    candidates = CandidateTable.of(rows)
    shard_of = dict(zip(candidates.refs(), shards_of(candidates, shards).tolist(), strict=True))
    for row in rows:
        assert {shard_of[row.ref]} >= {shard_of[ref] for ref in row.dependencies}


def test_what_is_held_out_is_held_out_of_its_shard_and_what_is_left_out_is_in_none():
    plan = plan_of(200)
    order = plan.order
    plan = replace(plan, chosen=(order[:0], order[:100], order[:0]), held_out=order[100:150])
    parts = list(split_plan(plan, 4))
    assert sum(len(part) for part in parts) == 100
    assert sum(len(part.held_out) for part in parts) == 50
    assert sum(len(part.candidates) for part in parts) == 150


def test_what_a_milder_strategy_would_take_goes_along():
    plan = plan_of(100)
    takes = np.arange(100) % 3 == 0
    plan = replace(plan, fallback=Fallback("conservative", takes))
    for part in split_plan(plan, 4):
        expected = [int(ref.key.split()[1]) for ref in part.candidates.refs()]
        rows = {plan.candidates.ref(row).key: row for row in range(100)}
        assert [bool(takes[rows[f"page {n}"]]) for n in expected] == part.fallback.takes.tolist()


@pytest.mark.parametrize(("shard", "shards"), [(-1, 2), (2, 2), (0, 0), (0, MOST_SHARDS + 1)])
def test_a_shard_that_there_is_not_is_refused(shard, shards):
    with pytest.raises(InvalidSetting):
        shard_plan(plan_of(3), shard, shards)


@pytest.mark.parametrize(
    ("items", "size_bytes", "expected"),
    [(0, 0, 1), (9_999, 1, 1), (10_000, 1, 2), (400_001, 1, 9), (1, 2**30, 16), (10**9, 2**40, MOST_SHARDS)],
)
def test_shards_are_small_and_not_too_many(items, size_bytes, expected):
    assert expected == shard_count(items, size_bytes)


def plan_from_items(names):
    from preheat._model import MemoryBudget, MemoryPressureLevel
    from preheat._plan import create_plan
    from preheat._plan.strategy import STRATEGIES

    items = [create_warmup_item("pages", name, size_bytes=1, usage_frequency=1.0, warmup_cost=0.01) for name in names]
    return create_plan(
        CandidateTable.of(items),
        MemoryBudget(10**9, 0, 10**9, MemoryPressureLevel.LOW, None, "enough"),
        STRATEGIES["aggressive"],
        horizon_seconds={"pages": 1e6},
        free_bytes={"pages": None},
        holdout_ratio=0.0,
        seed=1,
    )
