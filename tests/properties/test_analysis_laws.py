"""The curve is what a simulated LRU cache does; churn and working sets are what counting by hand gives."""

from __future__ import annotations

from dataclasses import replace

import cachetools
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from builders import batch, history_of, trail_of
from preheat._analysis import churn, lru_curve, working_set

REQUESTS = st.lists(st.integers(0, 9).map(str), min_size=1, max_size=80)
SIZES = st.lists(st.integers(1, 20), min_size=10, max_size=10)


def recorded(requests, sizes):
    history = history_of(batch(requests), batch(["0", "1"], cache="other"))
    return replace(history, size_bytes=np.array([sizes[int(key)] for key in history.keys], np.int64))


def simulated_hits(requests, capacity, size_of):
    cache = cachetools.LRUCache(capacity, getsizeof=size_of)
    hits = 0
    for key in requests:
        if key in cache:
            hits += 1
            cache[key]
        elif size_of(key) <= capacity:
            cache[key] = key
    return hits


@given(REQUESTS, SIZES)
def test_the_curve_is_what_an_lru_cache_does_that_is_larger_than_its_items(requests, sizes):
    curve = lru_curve(recorded(requests, sizes), "c")
    size_of = lambda key: sizes[int(key)]  # noqa: E731
    for capacity in range(max(map(size_of, requests)), sum(sizes) + 2):
        assert simulated_hits(requests, capacity, size_of) == round(curve.hit_ratio(capacity) * len(requests))


@given(REQUESTS, SIZES)
def test_below_its_largest_item_a_cache_hits_at_least_as_often(requests, sizes):
    curve = lru_curve(recorded(requests, sizes), "c")
    size_of = lambda key: sizes[int(key)]  # noqa: E731
    for capacity in range(1, max(map(size_of, requests))):
        assert simulated_hits(requests, capacity, size_of) >= round(curve.hit_ratio(capacity) * len(requests))


@given(REQUESTS, SIZES)
def test_the_curve_by_items_is_what_an_lru_cache_of_that_many_does(requests, sizes):
    curve = lru_curve(recorded(requests, sizes), "c", in_items=True)
    assert curve.footprint == len(set(requests))
    for capacity in range(1, 12):
        assert simulated_hits(requests, capacity, lambda _: 1) == round(curve.hit_ratio(capacity) * len(requests))


@given(REQUESTS, SIZES, st.floats(0.0, 1.0))
def test_the_capacity_for_a_hit_ratio_is_the_least_that_reaches_it(requests, sizes, wished):
    curve = lru_curve(recorded(requests, sizes), "c")
    capacity = curve.capacity_for(wished)
    if capacity is None:
        assert curve.best < wished
    else:
        assert curve.hit_ratio(capacity) >= wished - 1e-9
        assert capacity == 0 or curve.hit_ratio(capacity - 1) < wished


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 30), st.sampled_from("xy")), min_size=1, max_size=40))
def test_churn_and_working_sets_are_what_counting_by_hand_gives(accesses):
    in_order = sorted(accesses, key=lambda each: each[1])
    history = history_of(*(batch([key], float(at), cache) for key, at, cache in in_order))
    for seconds in (1.0, 5.0, 14.0):
        now = {key for cache, key, at in trail_of(history) if cache == "x" and at > history.at - seconds}
        reach = history.at - 2 * seconds, history.at - seconds
        before = {key for cache, key, at in trail_of(history) if cache == "x" and reach[0] < at <= reach[1]}
        assert working_set(history, "x", seconds).items == len(now)
        known = in_order[0][1] <= reach[0] and now
        assert churn(history, "x", seconds) == (len(now - before) / len(now) if known else None)
