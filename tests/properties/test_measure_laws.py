"""An interval that says 95 % has to be right about 95 times in a hundred."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import batch, item, plan_of
from preheat._measure import (
    HIT,
    MISS,
    UNASKED,
    TrafficWindow,
    difference_interval,
    measure_uplift,
    wilson_interval,
)
from preheat._model import ItemRef, WarmupItem, WarmupReport

RUNS = 2000


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize(("n_a", "n_b"), [(200, 20), (60, 60)])
def test_without_an_effect_the_interval_covers_zero_in_about_95_of_100(share, n_a, n_b):
    rng = np.random.default_rng([n_a, n_b, round(share * 100)])
    covered = 0
    for hits_a, hits_b in zip(rng.binomial(n_a, share, RUNS), rng.binomial(n_b, share, RUNS), strict=True):
        low, high = difference_interval(int(hits_a), n_a, int(hits_b), n_b)
        covered += low <= 0.0 <= high
    assert 0.93 <= covered / RUNS <= 0.985


def test_without_an_effect_a_whole_measurement_covers_zero_in_about_95_of_100():
    items = [item(str(n)) for n in range(120)]
    rng = np.random.default_rng(7)
    first_hits = rng.random((RUNS // 4, 120)) < 0.4  # whatever was warmed: each item's first request is a draw
    covered = claimed = 0
    for seed, hits in enumerate(first_hits):
        plan = plan_of(items, holdout_ratio=0.3, seed=seed)
        n = len(plan)
        report = WarmupReport(plan, np.zeros(n, np.int8), np.zeros(n, np.int64), {}, None, None, None, None, 0, {}, 0)
        asked = np.where(np.arange(120) % 2, UNASKED, np.where(hits, HIT, MISS)).astype(np.int8)
        uplift = measure_uplift(report, asked, accesses=500)
        if uplift is not None:
            claimed += 1
            covered += uplift.low <= 0.0 <= uplift.high
    assert claimed > RUNS // 5
    assert 0.92 <= covered / claimed <= 0.985


def test_a_true_effect_is_inside_the_interval_in_about_95_of_100():
    rng = np.random.default_rng(11)
    draws = zip(rng.binomial(150, 0.8, RUNS), rng.binomial(30, 0.3, RUNS), strict=True)
    covered = sum(low <= 0.5 <= high for low, high in (difference_interval(int(a), 150, int(b), 30) for a, b in draws))
    assert 0.93 <= covered / RUNS <= 0.985


def test_the_plain_interval_would_not_do():
    """The control: with few held out, Wald's interval is wrong far more often than it says, and ours is not."""
    rng = np.random.default_rng(13)
    plain = ours = 0
    for a, b in zip(rng.binomial(100, 0.98, RUNS).tolist(), rng.binomial(10, 0.9, RUNS).tolist(), strict=True):
        half = 1.96 * math.sqrt(a * (100 - a) / 100**3 + b * (10 - b) / 10**3)
        plain += abs(a / 100 - b / 10 - 0.08) <= half
        low, high = difference_interval(a, 100, b, 10)
        ours += low <= 0.08 <= high
    assert plain / RUNS < 0.80
    assert ours / RUNS >= 0.93


counts = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, counts)
def test_an_interval_holds_its_difference_and_stays_in_bounds(a, b):
    low, high = difference_interval(*a, *b)
    assert -1.0 - 1e-12 <= low <= a[0] / a[1] - b[0] / b[1] <= high <= 1.0 + 1e-12


@given(counts, counts)
def test_swapping_the_groups_turns_the_interval_round(a, b):
    low, high = difference_interval(*a, *b)
    turned = difference_interval(*b, *a)
    assert math.isclose(low, -turned[1], abs_tol=1e-12)
    assert math.isclose(high, -turned[0], abs_tol=1e-12)


@given(counts)
def test_more_of_the_same_narrows_the_interval(share):
    hits, n = share
    low, high = wilson_interval(hits, n)
    closer = wilson_interval(hits * 4, n * 4)
    assert closer[1] - closer[0] < high - low
    assert 0.0 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1.0


planned_keys = st.sampled_from(["", "a", "b", "caf?", "é", "a\0", "A"])
keys = planned_keys | st.sampled_from(["caf\udce9", "\ud800"])  # traffic may ask for what no plan can name
traffic = st.lists(
    st.tuples(st.sampled_from(["c", "d", "\udce9"]), st.lists(st.tuples(keys, st.booleans()), max_size=12)), max_size=6
)


@given(st.lists(st.tuples(st.sampled_from("cd"), planned_keys), unique=True, max_size=12), traffic)
def test_the_window_sees_what_a_dict_of_first_outcomes_would(rows, batches):
    plan = plan_of([WarmupItem(ItemRef(*row), 5, 100, 1.0, 1.0) for row in rows], holdout_ratio=0.4, seed=5)
    window = TrafficWindow(plan)
    first: dict[tuple[str, str], bool] = {}
    for cache, accesses in batches:
        for key, hit in accesses:
            first.setdefault((cache, key), hit)
        window.observe(batch([key for key, _ in accesses], cache=cache, hits=[hit for _, hit in accesses]))
    watched = {*plan.order.tolist(), *plan.held_out.tolist()}
    expected = [
        UNASKED if row not in watched or (hit := first.get(tuple(ref))) is None else HIT if hit else MISS
        for row, ref in enumerate(plan.candidates.refs())
    ]
    assert window.outcome.tolist() == expected
    assert window.accesses == sum(len(accesses) for _, accesses in batches)
