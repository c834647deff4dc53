"""What a run won, and how sure that is."""

import math

import numpy as np
import pytest

from builders import batch, item, plan_of, ref
from preheat._measure import (
    HIT,
    MISS,
    UNASKED,
    TrafficWindow,
    difference_interval,
    measure_uplift,
    wilson_interval,
    with_uplift,
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


def key_of(row, plan=PLAN):
    return plan.candidates.ref(int(row)).key


# Newcombe, "Two-sided confidence intervals for the single proportion", Stat. Med. 17 (1998), table I, method 3
@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_is_the_published_one(hits, n, low, high):
    assert (low, high) == tuple(round(bound, 4) for bound in wilson_interval(hits, n))


# Newcombe, "Interval estimation for the difference between independent proportions" (1998), table II, method 10
@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_difference_interval_is_the_published_one(a, b, low, high):
    assert (low, high) == tuple(round(bound, 4) for bound in difference_interval(*a, *b))


def test_uplift_is_the_difference_of_first_hits_times_what_was_asked_for():
    warmed, held = PLAN.comparable.tolist()[:10], PLAN.held_out.tolist()[:4]
    first = {row: n < 9 for n, row in enumerate(warmed)} | {row: n < 1 for n, row in enumerate(held)}
    uplift = measure_uplift(report(), outcome(first), accesses=200)
    low, high = difference_interval(9, 10, 1, 4)
    assert math.isclose(100 * (0.9 - 0.25) * 10 / 200, uplift.points)
    assert (5 * low, 5 * high) == (uplift.low, uplift.high)
    assert math.isclose((0.9 - 0.25) * 10 * 2.0, uplift.saved_seconds)
    assert uplift[5:] == (10, 9, 4, 1, 200)
    assert (len(PLAN) - 10) * 100 == uplift.unused_bytes


def test_items_that_failed_to_load_count_with_the_planned():
    first = dict.fromkeys((*PLAN.comparable.tolist(), *PLAN.held_out.tolist()), False)
    uplift = measure_uplift(report(status=ItemStatus.FAILED, loaded_bytes=0), outcome(first), accesses=100)
    assert (0.0, 0, len(PLAN.comparable)) == (uplift.points, uplift.unused_bytes, uplift.warmed_asked)
    assert uplift.low < 0 < uplift.high


def test_a_harmful_run_shows_as_negative():
    first = dict.fromkeys(PLAN.comparable.tolist(), False) | dict.fromkeys(PLAN.held_out.tolist(), True)
    uplift = measure_uplift(report(), outcome(first), accesses=100)
    assert uplift.high < 0
    assert uplift.saved_seconds < 0


def test_nothing_is_claimed_until_both_groups_were_asked_for():
    warmed = {PLAN.comparable[0]: True}
    held = {PLAN.held_out[0]: False}
    assert measure_uplift(report(), outcome({}), 0) is None
    assert measure_uplift(report(), outcome(warmed), 10) is None
    assert measure_uplift(report(), outcome(held), 10) is None
    assert measure_uplift(report(), outcome(warmed | held), 10) is not None


def test_items_that_could_not_have_been_held_out_are_not_compared():
    plan = plan_of([item("pin", priority=9), *(item(str(n)) for n in range(20))], holdout_ratio=0.5, seed=1)
    first = {0: True, plan.held_out[0]: False}
    assert plan.candidates.ref(0) == ref("pin")
    assert measure_uplift(report(plan), outcome(first, plan), 10) is None


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
    assert with_uplift(fresh, TrafficWindow(PLAN)).uplift is None
    window = TrafficWindow(PLAN)
    window.observe(batch([key_of(PLAN.comparable[0]), key_of(PLAN.held_out[0])], hits=[True, False]))
    assert with_uplift(fresh, window).uplift.points > 0
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
