"""Laws of the packed plan of a shard: what was packed comes back, and nothing else is ever made a plan."""

import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat import create_warmup_item
from preheat._bulk.packing import pack_plan, unpack_plan
from preheat._model import CandidateTable, ItemRef
from preheat._plan.saved import plan_to_json
from preheat.errors import InvalidPlan
from replicas import plan_of

names = st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=2, max_size=20, unique=True)


def plan_with(keys):
    plan = plan_of(len(keys))
    items = [
        create_warmup_item(f"cache {n % 3}", key, size_bytes=n, usage_frequency=0.5, warmup_cost=0.25, recipe=key[:3])
        for n, key in enumerate(keys)
    ]
    items[1] = items[1]._replace(dependencies=(items[0].ref, ItemRef("elsewhere", "x")))
    order = plan.order
    order.sort()
    end = len(keys)
    chosen = (order[: end // 3], order[end // 3 : end - 1], order[:0])
    return replace(
        plan,
        candidates=CandidateTable.of(items).with_value(plan.value),
        chosen=chosen,
        held_out=order[end - 1 :],
        size_factors={("cache 0", ""): 1.5},
    )


@given(names)
def test_what_was_packed_comes_back(keys):
    plan = plan_with(keys)
    back = unpack_plan(pack_plan(plan))
    there, here = plan_to_json(back), plan_to_json(plan)
    assert there[there.index('"phases"') :] == here[here.index('"phases"') :]
    assert (back.strategy, back.seed, dict(back.size_factors)) == (plan.strategy, plan.seed, dict(plan.size_factors))
    assert back.comparable.tolist() == sorted(plan.comparable.tolist())
    assert pack_plan(back) == pack_plan(plan)


@given(st.data())
def test_damage_makes_no_plan_that_can_not_be_loaded(data):
    text = bytearray(zlib.decompress(pack_plan(plan_with(["one", "two", "drei", "vier é"]))))
    text[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        plan = unpack_plan(zlib.compress(bytes(text)))
    except InvalidPlan:
        return
    assert len(plan) + len(plan.held_out) == len(plan.candidates)
    assert all(item.size_bytes >= 0 and 1 <= item.priority <= 10 for item in plan.candidates)


@pytest.mark.parametrize("data", [b"", b"nothing", zlib.compress(b"\x90"), pack_plan(plan_of(3))[:-5]])
def test_what_nobody_packed_is_refused(data):
    with pytest.raises(InvalidPlan):
        unpack_plan(data)
