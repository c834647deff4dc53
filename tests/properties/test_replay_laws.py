"""The judge must be right: its shortcuts give what a plain replay of every request gives."""

from collections import OrderedDict
from itertools import permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from preheat._replay import (
    PRACTICE,
    Hits,
    Trace,
    best_possible,
    fill,
    fill_window,
    miss_ratio_curve,
    play_restart,
    saved_misses,
)
from preheat._replay.curve import NEVER, least_capacities


def numbered(requests):
    """Item numbers by first appearance."""
    known = {}
    return np.array([known.setdefault(request, len(known)) for request in requests], np.int64)


def trace_of(requests, sizes):
    items = numbered(requests)
    size_bytes = np.resize(np.array(sizes, np.int64), int(items.max()) + 1)
    return Trace("trace", np.arange(len(items), dtype=np.float64), items, size_bytes)


def lru(requests, sizes, capacity, warm=()):
    """Whether each request hits a plain LRU cache into which `warm` was loaded in its order; and what it holds then."""
    held = OrderedDict()
    hits = []
    for item in (*warm, *requests):
        hits.append(item in held)
        if item in held:
            held.move_to_end(item)
        elif sizes[item] <= capacity:
            while sum(sizes[x] for x in held) + sizes[item] > capacity:
                held.popitem(last=False)
            held[item] = None
    return hits[len(warm) :], list(held)


def distinct_bytes(requests, sizes):
    return sum(sizes[item] for item in set(requests))


requests = st.lists(st.integers(0, 12), min_size=10, max_size=120)
sizes = st.lists(st.integers(1, 9), min_size=13, max_size=13)
shares = st.floats(0.1, 0.9)


@st.composite
def restarts(draw, sizes=sizes):
    trace = trace_of(draw(requests), draw(sizes))
    restart = min(max(1, int(len(trace) * draw(shares))), len(trace) - 1)
    capacity = draw(st.integers(1, trace.footprint_bytes))
    return trace, restart, capacity


def a_plan(draw, trace, restart, budget):
    known = int(trace.items[:restart].max()) + 1
    order = np.array(draw(st.permutations(range(known))), np.int64)
    return fill(order, trace.size_bytes, budget)


@given(restarts())
def test_the_window_ends_when_the_capacity_has_been_touched(case):
    trace, restart, capacity = case
    window = fill_window(trace, restart, capacity)
    fitting = [x for x in trace.items[restart:].tolist() if trace.size_bytes[x] <= capacity]
    played = trace.items[restart : restart + window.requests].tolist()
    before = [x for x in played[:-1] if trace.size_bytes[x] <= capacity]
    assert distinct_bytes(before, trace.size_bytes) < capacity
    limit = min(trace.window_limit, len(trace) - restart)
    touched = distinct_bytes([x for x in played if x in fitting], trace.size_bytes)
    assert touched >= capacity or window.requests == limit


@given(restarts(), st.data())
def test_a_replay_of_first_requests_hits_as_a_replay_of_all_does(case, data):
    trace, restart, capacity = case
    window = fill_window(trace, restart, capacity)
    plan = a_plan(data.draw, trace, restart, data.draw(st.integers(0, capacity)))
    played = trace.items[restart : restart + window.requests].tolist()
    expected, _ = lru(played, trace.size_bytes, capacity, warm=plan[::-1].tolist())
    saved = window.at[saved_misses(window, plan, trace, capacity)]
    for mark in range(window.requests + 1):
        assert window.cold_hits(mark) + np.searchsorted(saved, mark) == sum(expected[:mark])


@given(restarts())
def test_a_cache_that_went_on_is_the_cache_that_never_restarted(case):
    trace, restart, capacity = case
    (cell,) = play_restart(trace, restart, capacity, [capacity], {})
    played = trace.items[: restart + cell.requests.whole].tolist()
    hits, _ = lru(played, trace.size_bytes, capacity)
    assert cell.never_restarted == Hits(*(sum(hits[restart : restart + mark]) for mark in cell.requests))


@given(restarts())
def test_what_is_resident_is_what_a_plain_cache_holds(case):
    trace, restart, capacity = case
    _, held = lru(trace.items[:restart].tolist(), trace.size_bytes, capacity)
    assert trace.past(restart, capacity).resident.tolist() == held[::-1]


small = st.lists(st.integers(0, 3), min_size=4, max_size=25)


@given(small, st.lists(st.integers(0, 7), min_size=5, max_size=25), st.integers(1, 6), st.data())
def test_no_plan_at_all_beats_the_oracle_on_equal_sizes(before, after, capacity, data):
    trace = trace_of([*before, *after, *([99] * 4 * (len(before) + len(after)))], [1])
    restart, known = len(before), len(set(before))
    budget = data.draw(st.integers(1, capacity))
    window = fill_window(trace, restart, capacity)
    best = saved_misses(window, best_possible(window, known, capacity, budget), trace, capacity)
    reached = 0
    for length in range(min(known, budget) + 1):
        for plan in permutations(range(known), length):
            saved = saved_misses(window, np.array(plan, np.int64), trace, capacity)
            assert all(np.searchsorted(saved, at) <= np.searchsorted(best, at) for at in range(len(window.at) + 1))
            reached = max(reached, len(saved))
    assert reached == len(best)


@given(restarts(), st.data())
def test_the_oracle_loads_what_a_warmer_could_and_all_of_it_is_used(case, data):
    trace, restart, capacity = case
    known = int(trace.items[:restart].max()) + 1
    window = fill_window(trace, restart, capacity)
    budget = data.draw(st.just(capacity) | st.integers(1, capacity))
    plan = best_possible(window, known, capacity, budget)
    assert trace.size_bytes[plan].sum() <= budget
    assert plan.max(initial=0) < known
    assert window.items[saved_misses(window, plan, trace, capacity)].tolist() == plan.tolist()


@given(restarts(sizes=st.just([1])))
def test_no_rule_of_today_beats_the_oracle_or_loads_beyond_its_budget(case):
    trace, restart, capacity = case
    for cell in play_restart(trace, restart, capacity, [capacity, max(1, capacity // 4)], PRACTICE):
        assert cell.captured(cell.cold).whole in (0.0, None)
        assert cell.captured(cell.oracle).whole in (1.0, None)
        assert all(mark <= best for hits in cell.warmers.values() for mark, best in zip(hits, cell.oracle, strict=True))


@given(restarts(), st.data())
def test_warmers_see_nothing_of_the_future(case, data):
    trace, restart, capacity = case
    future = data.draw(st.permutations(range(restart, len(trace))))
    order = np.array([*range(restart), *future])
    other = Trace("other", trace.times, trace.items[order], trace.size_bytes)
    for warmer in PRACTICE.values():
        (here,), (there,) = (warmer(of.past(restart, capacity), [capacity]) for of in (trace, other))
        assert here.tolist() == there.tolist()


@given(st.permutations(range(12)), st.lists(st.integers(1, 9), min_size=12, max_size=12), st.integers(0, 80))
def test_filling_passes_over_what_does_not_fit(order, item_sizes, budget):
    expected, left = [], budget
    for item in order:
        if item_sizes[item] <= left:
            expected.append(item)
            left -= item_sizes[item]
    assert fill(np.array(order), np.array(item_sizes), budget).tolist() == expected


@given(requests, sizes)
def test_the_least_capacity_is_the_distinct_bytes_since_the_last_request(asked, item_sizes):
    trace = trace_of(asked, item_sizes)
    items = trace.items.tolist()
    expected = []
    for at, item in enumerate(items):
        last = max((i for i in range(at) if items[i] == item), default=None)
        expected.append(NEVER if last is None else distinct_bytes(items[last:at], trace.size_bytes))
    assert least_capacities(trace.items, trace.size_bytes[trace.items]).tolist() == expected


@given(requests)
def test_the_miss_ratio_curve_is_that_of_plain_caches_of_every_size(asked):
    trace = trace_of(asked, [1])
    curve = miss_ratio_curve(trace.items, trace.size_bytes)
    for capacity, ratio in zip(curve.capacity_bytes.tolist(), curve.miss_ratio.tolist(), strict=True):
        hits, _ = lru(trace.items.tolist(), trace.size_bytes, capacity)
        assert abs(ratio - (1 - sum(hits) / len(hits))) < 1e-12
