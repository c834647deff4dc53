"""Intervals, against published ones and by hand."""

import math

import numpy as np
import pytest

from preheat._interval import (
    Estimate,
    difference_interval,
    share_difference,
    sum_estimates,
    weighted_share,
    wilson_interval,
)


def share_of(hit, weight):
    return weighted_share(hit, weight, weight)


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


def test_the_difference_of_two_shares_carries_its_interval():
    low, high = difference_interval(9, 10, 3, 10)
    assert (low, high) == share_difference((9, 10), (3, 10))[1:]
    assert math.isclose(0.6, share_difference((9, 10), (3, 10)).middle)


def test_a_sum_adds_middles_and_the_squares_of_the_distances():
    total = sum_estimates([(2.0, Estimate(1.0, 0.5, 2.0)), (1.0, Estimate(-1.0, -1.0, 3.0))])
    assert total.middle == 1.0
    assert math.isclose(total.middle - total.low, math.hypot(2 * 0.5, 0.0))
    assert math.isclose(total.high - total.middle, math.hypot(2 * 1.0, 4.0))


def test_a_sum_of_one_is_that_one_times_its_weight_and_of_none_is_nothing():
    assert Estimate(2.0, 1.0, 4.0) == sum_estimates([(2.0, Estimate(1.0, 0.5, 2.0))])
    assert Estimate(0.0, 0.0, 0.0) == sum_estimates([])


def test_newcombes_interval_is_the_sum_of_two_shares_with_weights_of_unlike_sign():
    low_a, high_a = wilson_interval(9, 10)
    low_b, high_b = wilson_interval(3, 10)
    total = sum_estimates([(1.0, Estimate(0.9, low_a, high_a)), (1.0, Estimate(-0.3, -high_b, -low_b))])
    assert np.allclose(difference_interval(9, 10, 3, 10), (total.low, total.high))


def test_equal_weights_leave_hits_and_trials_as_they_are():
    hits, trials = share_of(np.array([True, True, False, True]), np.full(4, 2.5))
    assert (round(hits, 9), round(trials, 9)) == (3.0, 4.0)


def test_a_share_is_weighed_and_counts_as_fewer_trials():
    hits, trials = share_of(np.array([True, False, False, False]), np.array([7.0, 1.0, 1.0, 1.0]))
    assert math.isclose(0.7, hits / trials)
    assert 1.0 <= trials < 100 / 52 + 1e-9  # Kish's number


@pytest.mark.parametrize("hit", [True, False])
def test_a_share_of_nothing_or_all_counts_by_the_weights_alone(hit):
    hits, trials = share_of(np.array([hit, hit]), np.array([3.0, 1.0]))
    assert (round(trials, 9), round(hits / trials, 9)) == (1.6, float(hit))


def test_weights_of_zero_count_alike():
    assert share_of(np.array([True, False]), np.zeros(2)) == (1.0, 2.0)


def test_a_draw_without_the_heavy_ones_is_no_surer_than_one_with_them():
    hit, weight = np.array([True, False] * 10), np.ones(20)
    alike, uneven = np.ones(100), np.append(np.ones(99), 50.0)
    assert math.isclose(20.0, weighted_share(hit, weight, alike)[1])
    hits, trials = weighted_share(hit, weight, uneven)
    assert math.isclose(0.5, hits / trials)
    assert math.isclose(20 * 149**2 / (100 * (99 + 2500)), trials)
