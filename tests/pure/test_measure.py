"""What a run won, and how sure that is."""

import math
from dataclasses import replace

import numpy as np

from builders import batch, item, plan_of, ref
from preheat._interval import difference_interval
from preheat._measure import (
    HIT,
    MISS,
    UNASKED,
    TrafficWindow,
    combine_effects,
    measure_effects,
    with_effects,
)
from preheat._model import STATUS_CODE, ItemStatus, WarmupReport

PLAN = plan_of([item(str(n), cost=2.0) for n in range(40)], holdout_ratio=0.5, seed=3)


def report(plan=PLAN, status=ItemStatus.LOADED, loaded_bytes=100):
    n = len(plan)
    return WarmupReport(
        plan,
        np.full(n, STATUS_CODE[status], np.int8),
        np.full(n, loaded_bytes, np.int64),
        {},
        None,
        None,
        None,
        None,
        1.0,
        {},
        n,
    )


def outcome(first, plan=PLAN):
    """By row, whether the first request was a hit; the others were not asked for."""
    outcomes = np.full(len(plan.candidates), UNASKED, np.int8)
    for row, hit in first.items():
        outcomes[row] = HIT if hit else MISS
    return outcomes


def window_of(first, accesses, plan=PLAN):
    """A window that has seen these first outcomes, in so many requests of the cache."""
    window = TrafficWindow(plan)
    for row, hit in first.items():
        ref = plan.candidates.ref(int(row))
        window.observe(batch([ref.key], cache=ref.cache, hits=[hit]))
    window.observe(batch(["stranger"] * (accesses - window.accesses)))
    return window


def uplift_of(made, first, accesses, plan=PLAN):
    return with_effects(made, window_of(first, accesses, plan)).uplift


def key_of(row, plan=PLAN):
    return plan.candidates.ref(int(row)).key


def test_uplift_is_the_difference_of_first_hits_times_what_was_asked_for():
    warmed, held = PLAN.comparable.tolist()[:10], PLAN.held_out.tolist()[:4]
    first = {row: n < 9 for n, row in enumerate(warmed)} | {row: n < 1 for n, row in enumerate(held)}
    uplift = uplift_of(report(), first, 200)
    low, high = difference_interval(9, 10, 1, 4)
    assert math.isclose(100 * (0.9 - 0.25) * 10 / 200, uplift.points)
    assert np.allclose((5 * low, 5 * high), (uplift.low, uplift.high))
    assert math.isclose((0.9 - 0.25) * 10 * 2.0, uplift.saved_seconds)
    assert np.allclose((20 * low, 20 * high), (uplift.saved_low, uplift.saved_high)), "all misses cost the same here"
    assert uplift[7:] == (10, 9, 4, 1, 200)
    assert (len(PLAN) - 10) * 100 == uplift.unused_bytes


def test_items_that_failed_to_load_count_with_the_planned():
    first = dict.fromkeys((*PLAN.comparable.tolist(), *PLAN.held_out.tolist()), False)
    uplift = uplift_of(report(status=ItemStatus.FAILED, loaded_bytes=0), first, 100)
    assert (0.0, 0, len(PLAN.comparable)) == (uplift.points, uplift.unused_bytes, uplift.warmed_asked)
    assert uplift.low < 0 < uplift.high


def test_a_harmful_run_shows_as_negative():
    first = dict.fromkeys(PLAN.comparable.tolist(), False) | dict.fromkeys(PLAN.held_out.tolist(), True)
    uplift = uplift_of(report(), first, 100)
    assert uplift.high < 0
    assert uplift.saved_seconds < 0


def test_nothing_is_claimed_until_both_groups_were_asked_for():
    warmed = {PLAN.comparable[0]: True}
    held = {PLAN.held_out[0]: False}
    assert uplift_of(report(), {}, 10) is None
    assert uplift_of(report(), warmed, 10) is None
    assert uplift_of(report(), held, 10) is None
    assert uplift_of(report(), warmed | held, 10) is not None


def test_items_that_could_not_have_been_held_out_are_not_compared():
    plan = plan_of([item("pin", priority=9), *(item(str(n)) for n in range(20))], holdout_ratio=0.5, seed=1)
    first = {0: True, plan.held_out[0]: False}
    assert plan.candidates.ref(0) == ref("pin")
    assert uplift_of(report(plan), first, 10, plan) is None


# ------------------------------------------------------------------------------------------------------------ window


def test_the_window_keeps_the_first_outcome_of_each_item_of_the_plan():
    row_a, row_b = PLAN.order[0], PLAN.held_out[0]
    a, b = key_of(row_a), key_of(row_b)
    window = TrafficWindow(PLAN)
    window.observe(batch([a, "stranger", b, a], hits=[True, False, False, False]))
    window.observe(batch([b, a], hits=[True, False]))
    assert outcome({row_a: True, row_b: False}).tolist() == window.outcome.tolist()
    assert window.accesses == 6


def test_the_window_tells_caches_apart():
    window = TrafficWindow(PLAN)
    window.observe(batch([key_of(PLAN.order[0])], cache="another"))
    assert outcome({}).tolist() == window.outcome.tolist()
    assert window.accesses == 1


def test_a_report_is_unchanged_while_the_window_says_nothing():
    fresh = report()
    assert with_effects(fresh, TrafficWindow(PLAN)) is fresh
    window = TrafficWindow(PLAN)
    window.observe(batch([key_of(PLAN.comparable[0]), key_of(PLAN.held_out[0])], hits=[True, False]))
    assert with_effects(fresh, window).uplift.points > 0
    assert fresh.uplift is None


# --------------------------------------------------------------------------------------------- the index of the window


def test_keys_are_told_apart_to_the_last_bit(monkeypatch):
    near = {"stranger": 2**63 + 1, "0": 2**63 + 2}
    monkeypatch.setattr("preheat._measure._hash", lambda cache, key: near.get(key, int(key) if key.isdigit() else 0))
    window = TrafficWindow(PLAN)
    window.observe(batch(["stranger"], hits=[True]))
    assert outcome({}).tolist() == window.outcome.tolist()
    window.observe(batch(["0"], hits=[True]))
    assert window.outcome.tolist() == outcome({0: True}).tolist()


def test_the_window_of_an_empty_plan_counts_requests_alone():
    window = TrafficWindow(plan_of([]))
    window.observe(batch(["a", "b"], hits=[True, False]))
    assert (window.outcome.tolist(), window.accesses) == ([], 2)


def test_a_batch_without_accesses_changes_nothing():
    window = TrafficWindow(PLAN)
    window.observe(batch([]))
    assert (set(window.outcome.tolist()), window.accesses) == ({UNASKED}, 0)


# ------------------------------------------------------------------------------------------------------ cache by cache

TWO = plan_of(
    [item(f"{cache}:{n}", cost=cost, size=50) for cache, cost in (("a", 1.0), ("b", 5.0)) for n in range(30)],
    holdout_ratio=0.4,
    seed=2,
)


def first_of(cache, *, warmed, held_out, plan=TWO):
    """Of `cache`, so many hits and misses among the first requests of the warmed and of the held out."""
    first = {}
    for rows, (hits, misses) in ((plan.comparable, warmed), (plan.held_out, held_out)):
        mine = [row for row in rows.tolist() if plan.candidates.ref(row).cache == cache]
        first |= {row: n < hits for n, row in enumerate(mine[: hits + misses])}
    return first


def test_each_cache_is_measured_by_itself_and_the_whole_is_their_sum():
    first = first_of("a", warmed=(8, 2), held_out=(1, 3)) | first_of("b", warmed=(5, 5), held_out=(2, 2))
    made = with_effects(report(TWO), window_of(first, 28, TWO))
    a, b = made.effects
    assert (a.cache, a.accesses, b.cache, b.accesses) == ("a", 14, "b", 14)
    assert math.isclose(100 * (0.8 - 0.25) * 10 / 14, a.uplift.points)
    assert math.isclose(0.0, b.uplift.points, abs_tol=1e-12)
    assert math.isclose((a.uplift.points + b.uplift.points) / 2, made.uplift.points), "each had half of the requests"
    assert math.isclose(a.uplift.saved_seconds + b.uplift.saved_seconds, made.uplift.saved_seconds)
    assert made.uplift.points - made.uplift.low < max(e.uplift.points - e.uplift.low for e in made.effects)
    assert made.uplift[7:] == (20, 13, 8, 3, 28)


def test_what_is_unused_is_told_by_cache_and_adds_up():
    first = first_of("a", warmed=(8, 2), held_out=(1, 3))
    made = with_effects(report(TWO), window_of(first, 20, TWO))
    a, b = made.effects
    assert a.unused_bytes == a.loaded_bytes - 10 * 100
    assert b.unused_bytes == b.loaded_bytes
    assert made.uplift.unused_bytes == a.unused_bytes + b.unused_bytes


def test_what_was_won_where_nothing_held_out_was_asked_for_is_not_claimed():
    known = first_of("a", warmed=(8, 2), held_out=(1, 3))
    more = known | first_of("b", warmed=(10, 0), held_out=(0, 0))
    alone, beside = (with_effects(report(TWO), window_of(first, 40, TWO)) for first in (known, more))
    assert beside.effects[1].uplift is None
    assert math.isclose(alone.uplift.points, beside.uplift.points)
    assert alone.uplift.saved_seconds == beside.uplift.saved_seconds


def test_seconds_are_weighed_by_what_a_miss_costs():
    plan = plan_of([item(str(n), cost=9.0 if n % 2 else 1.0) for n in range(40)], holdout_ratio=0.5, seed=3)
    dear = {row: plan.candidates.warmup_cost[row] > 1 for row in plan.comparable.tolist()}
    first = dear | dict.fromkeys(plan.held_out.tolist(), False)
    uplift = uplift_of(report(plan), first, 100, plan)
    assert math.isclose(9.0 * sum(dear.values()), uplift.saved_seconds), "the dear ones hit, so that is what was saved"


def test_effects_name_the_predictor_of_each_cache():
    plan = replace(TWO, predictors={"a": "sequence"})
    assert [effect.predictor for effect in measure_effects(report(plan), TrafficWindow(plan))] == ["sequence", ""]


def test_nothing_measured_is_nothing_won():
    assert combine_effects(measure_effects(report(TWO), TrafficWindow(TWO)), 0) is None


# --------------------------------------------------------------------------------------------------------- until steady


def test_a_window_tells_when_each_cache_and_all_of_them_were_steady():
    window = TrafficWindow(TWO, {"a": 0.8, "b": 0.5}, began_at=1000.0)
    window.observe(batch(["x"] * 100, at=1001.0, cache="a", hits=[True] * 80 + [False] * 20))
    window.observe(batch(["y"] * 100, at=1002.0, cache="b", hits=[False] * 100))
    window.observe(batch(["y"] * 100, at=1003.0, cache="b", hits=[True] * 100))
    made = with_effects(report(TWO), window)
    a, b = (effect.steady for effect in made.effects)
    assert (a.seconds, a.requests, a.hit_ratio, a.steady_ratio) == (1.0, 100, 0.8, 0.8)
    assert (b.seconds, b.requests, b.hit_ratio) == (3.0, 148, 0.48)
    assert (made.steady.seconds, made.steady.requests) == (1.0, 100), "up to then all traffic was that of one cache"


def test_the_whole_is_steady_when_the_caches_by_their_traffic_are():
    window = TrafficWindow(TWO, {"a": 0.8, "b": 0.8})
    window.observe(batch(["x"] * 90, at=1.0, cache="a", hits=[True] * 90))
    window.observe(batch(["y"] * 90, at=1.0, cache="b", hits=[False] * 90))
    assert window.steady is None
    window.observe(batch(["y"] * 90, at=2.0, cache="b", hits=[True] * 90))
    assert (window.steady.seconds, window.steady.requests) == (2.0, 270)
    assert window.steady.hit_ratio >= 0.95 * 0.8


def test_a_cache_whose_hit_rate_is_not_known_is_never_steady():
    window = TrafficWindow(TWO, {"b": 0.0})
    for cache in "ab":
        window.observe(batch(["x"] * 500, cache=cache, hits=[True] * 500))
    assert window.steady is None
    assert [effect.steady for effect in measure_effects(report(TWO), window)] == [None, None]


def test_each_hit_of_a_sampled_batch_stands_for_as_many_as_it_says():
    window, counted = TrafficWindow(PLAN, {"c": 0.9}), TrafficWindow(PLAN, {"c": 0.9})
    sampled = batch(["x", "y", "x"], hits=[True, False, True])._replace(stride=16)
    whole = batch(["x"] * 16 + ["y"] + ["x"] * 16, hits=[True] * 16 + [False] + [True] * 16)
    for _ in range(5):
        window.observe(sampled)
        counted.observe(whole)
    assert window.accesses == counted.accesses == 5 * 33
    assert window.accesses_of("c") == counted.accesses_of("c")
    assert window.watches["c"].reached == counted.watches["c"].reached
    assert window.steady is not None
    assert window.steady == counted.steady
