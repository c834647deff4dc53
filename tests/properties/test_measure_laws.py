"""An interval that says 95 % has to be right about 95 times in a hundred."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import batch, item, plan_of
from preheat._interval import (
    Estimate,
    difference_interval,
    share_difference,
    sum_estimates,
    weighted_share,
    wilson_interval,
)
from preheat._measure import HIT, MISS, UNASKED, TrafficWindow, combine_effects, measure_effects, with_effects
from preheat._model import ItemRef, WarmupItem, WarmupPlan, WarmupReport

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


def report_of(plan: WarmupPlan) -> WarmupReport:
    n = len(plan)
    return WarmupReport(plan, np.zeros(n, np.int8), np.zeros(n, np.int64), {}, None, None, None, None, 0, {}, 0)


def measured(plan, outcome, accesses=500):
    """A report with the effects of these first requests."""
    window = TrafficWindow(plan)
    for cache in plan.candidates.caches:
        window.observe(batch(["stranger"] * (accesses // len(plan.candidates.caches)), cache=cache))
    window.outcome[:] = outcome
    return with_effects(report_of(plan), window)


def covers(uplift, points=0.0, seconds=0.0):
    return np.array([uplift.low <= points <= uplift.high, uplift.saved_low <= seconds <= uplift.saved_high])


COSTS = np.random.default_rng(5).lognormal(0.0, 1.2, 240)  # a few misses cost as much as all the others
ITEMS = [item(f"{'ab'[n % 2]}:{n}", cost=float(cost)) for n, cost in enumerate(COSTS)]


@pytest.mark.parametrize("dear_ones_hit_more", [False, True])
def test_without_an_effect_each_cache_and_all_together_cover_zero_in_about_95_of_100(dear_ones_hit_more):
    """Which items hit has nothing to do with the draw, but perhaps with what they cost."""
    rng = np.random.default_rng(7)
    chance = np.clip(0.25 + 0.25 * (np.log(COSTS) if dear_ones_hit_more else 0.6), 0.02, 0.98)
    covered = {"a": np.zeros(2), "b": np.zeros(2), "all": np.zeros(2)}
    runs = RUNS // 2
    for seed in range(runs):
        plan = plan_of(ITEMS, holdout_ratio=0.3, seed=seed)
        outcome = np.where(np.arange(240) % 3, np.where(rng.random(240) < chance, HIT, MISS), UNASKED)
        made = measured(plan, outcome)
        for effect in made.effects:
            covered[effect.cache] += covers(effect.uplift)
        covered["all"] += covers(made.uplift)
    for name, counts in covered.items():
        points, seconds = counts / runs
        assert 0.93 <= points <= 0.985, name
        assert 0.94 <= seconds <= 0.998, name  # where costs are so uneven, rather too wide


def test_a_true_gain_in_seconds_is_inside_and_the_plain_ways_would_miss_it():
    """The controls: taking each miss for equally dear, and taking weighted trials for as many as there are."""
    rng = np.random.default_rng(17)
    chance = np.clip(0.5 - 0.2 * np.log(COSTS), 0.05, 0.95)  # the dear ones are the hardest to keep warm
    ours = alike = as_many = 0
    runs = RUNS // 2
    for _ in range(runs):
        drawn = rng.random(240) < 0.3
        hit = rng.random(240) < np.where(drawn, 0.5, chance)
        gain = float((COSTS * (chance - 0.5))[~drawn].sum() / COSTS[~drawn].sum())
        groups = [(hit[rows], COSTS[rows]) for rows in (~drawn, drawn)]
        shares = [weighted_share(*group, COSTS) for group in groups]
        ours += is_inside(gain, share_difference(*shares))
        alike += is_inside(gain, share_difference(*((hits.sum(), len(hits)) for hits, _ in groups)))
        whole = [
            (hits / trials * len(cost), len(cost)) for (hits, trials), (_, cost) in zip(shares, groups, strict=True)
        ]
        as_many += is_inside(gain, share_difference(*whole))
    assert ours / runs >= 0.94
    assert alike / runs < 0.5
    assert as_many / runs < 0.8


def is_inside(number: float, estimate: Estimate) -> bool:
    return estimate.low <= number <= estimate.high


@given(
    st.lists(st.tuples(st.integers(1, 900), st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_the_whole_is_consistent_with_its_caches(sizes, random):
    parts = []
    for accesses, n_a, n_b in sizes:
        share = share_difference((random.randint(0, n_a), n_a), (random.randint(0, n_b), n_b))
        parts.append((float(accesses), share))
    total = sum_estimates(parts)
    assert math.isclose(total.middle, sum(w * e.middle for w, e in parts), abs_tol=1e-9)
    assert total.low <= total.middle <= total.high
    widths = [w * (e.high - e.low) for w, e in parts]
    assert max(widths) * (1 - 1e-9) <= total.high - total.low <= sum(widths) * (1 + 1e-9)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1e6)), min_size=1, max_size=50))
def test_weighted_trials_are_at_most_as_many_as_there_are(rows):
    hit, weight = (np.array(column) for column in zip(*rows, strict=True))
    hits, trials = weighted_share(hit, weight, weight)
    assert 1.0 <= trials <= len(rows) * (1 + 1e-9)
    assert 0.0 <= hits <= trials * (1 + 1e-12)


@given(st.data())
def test_a_cache_without_traffic_leaves_the_whole_as_it_was(data):
    plan = plan_of(ITEMS, holdout_ratio=0.3, seed=data.draw(st.integers(0, 50)))
    ofa = plan.candidates.cache == 0
    hit = np.array(data.draw(st.lists(st.booleans(), min_size=240, max_size=240)))
    made = measured(plan, np.where(ofa, np.where(hit, HIT, MISS), UNASKED), accesses=1000)
    a, b = made.effects
    assert b.uplift is None
    assert np.allclose(made.uplift[:3], np.array(a.uplift[:3]) / 2), "half of the requests were the other cache's"
    assert made.uplift[3:6] == a.uplift[3:6]
    assert combine_effects(measure_effects(report_of(plan), TrafficWindow(plan)), 1) is None


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
