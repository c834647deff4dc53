"""Who is evicted: what was used outlives what was not, scans pass by, and recency is followed where it is better."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable

import pytest

from preheat.caches._duel import Duel
from preheat.caches._policy import MOST_USES, WATCHED, Policy
from preheat.caches._queues import CLOCK, PROBATION_FIRST, RECENT, Queues


def tag_of(key: int) -> int:
    return key * 0x9E3779B97F4A7C15 & 2**64 - 1


def hits_of_policy(keys: Iterable[int], capacity: int) -> tuple[int, Policy]:
    policy, slots, owners, free, hits = Policy(capacity), {}, {}, [], 0
    for key in keys:
        slot = slots.get(key)
        if slot is not None:
            hits += 1
            if policy.uses[slot] < MOST_USES:
                policy.uses[slot] += 1
            elif policy.uses[slot] >= WATCHED:
                policy.use(slot)
            continue
        for victim in policy.evict(len(slots) + 1 - capacity):
            del slots[owners[victim]]
            free.append(victim)
        slot = slots[key] = free.pop() if free else len(slots)
        owners[slot] = key
        policy.add(slot, tag_of(key), 1)
    return hits, policy


def hits_of_lru(keys: Iterable[int], capacity: int) -> int:
    held, hits = OrderedDict(), 0
    for key in keys:
        hits += key in held
        held[key] = None
        held.move_to_end(key)
        if len(held) > capacity:
            held.popitem(last=False)
    return hits


def skewed(n: int, seed: int = 1) -> list[int]:
    draw = random.Random(seed)
    return [min(int(draw.paretovariate(0.7)), 10_000) for _ in range(n)]


def by_recency(n: int, seed: int = 1) -> list[int]:
    draw, stack, keys = random.Random(seed), list(range(300)), []
    for new in range(1000, 1000 + n):
        depth = min(int(draw.expovariate(1 / 60)), len(stack) - 1)
        key = new if draw.random() < 0.05 else stack.pop(depth)
        stack.insert(0, key)
        keys.append(key)
    return keys


def test_popular_items_outlive_scans():
    popular = skewed(20_000)
    keys = [key for n, one in enumerate(popular) for key in ((one, 100_000 + n) if n // 1000 % 2 else (one,))]
    hits, _ = hits_of_policy(keys, 100)
    assert hits > 1.05 * hits_of_lru(keys, 100)


def test_where_traffic_goes_by_recency_probation_is_given_up_and_nearly_nothing_is_lost_to_lru():
    keys = by_recency(30_000)
    hits, policy = hits_of_policy(keys, 100)
    assert policy._queues.manner == RECENT
    assert hits > 0.98 * hits_of_lru(keys, 100)


def test_where_it_does_not_probation_stays():
    _, policy = hits_of_policy(skewed(30_000), 100)
    assert policy._queues.manner == PROBATION_FIRST


def test_the_sample_follows_the_number_of_items_down_and_up():
    duel = Duel(2**20)
    for key in range(5_000):
        if duel.samples(tag_of(key)):
            duel.tell(tag_of(key), 1)
    assert duel._halvings > 2
    before = duel._halvings
    for key in range(20_000):
        if duel.samples(tag_of(key)):
            duel.tell(tag_of(key), 2**16)
    assert duel._halvings < before


def test_what_is_asked_for_again_soon_after_its_eviction_skips_probation():
    queues = Queues(10)
    for slot in range(10):
        queues.add(slot, tag_of(slot), 1)
    assert queues.evict(1) == [0]
    queues.add(0, tag_of(0), 1)
    assert list(queues.coldest())[-1] == 0
    assert queues.evict(9) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_of_two_that_are_used_alike_the_larger_goes_first():
    queues = Queues(100)
    queues.manner = CLOCK
    for slot, size_bytes in enumerate((10, 30, 10, 10, 10, 10)):
        queues.add(slot, tag_of(slot), size_bytes)
        queues.uses[slot] = 1
    queues.manner = PROBATION_FIRST
    assert queues.evict(1) == [1]


def test_the_first_use_of_what_a_warm_up_loaded_makes_it_traffic_s():
    policy = Policy(10)
    policy.set_aside(0, tag_of(5), 4)
    assert (policy.is_aside(0), policy.uses[0], policy.evict(99)) == (True, WATCHED, [])
    policy.use(0)
    assert not policy.is_aside(0)
    assert policy.evict(1) == [0]


@pytest.mark.parametrize(("manner", "first"), [(CLOCK, 0), (RECENT, 1)])
def test_a_clock_remembers_three_uses_and_recency_one(manner, first):
    queues = Queues(10, manner)
    for slot in (0, 1):
        queues.add(slot, tag_of(slot), 5)
    queues.uses[0], queues.uses[1] = 1, 3
    assert queues.evict(1) == [0]
    queues.add(0, tag_of(0), 5)
    queues.uses[0] = 1
    assert queues.evict(1) == [first]
