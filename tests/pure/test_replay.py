"""One restart at a time, in numbers that can be checked by hand."""

import numpy as np
import pytest

from preheat._replay import PRACTICE, Cell, Hits, Trace, fill, miss_ratio_curve, play_restart
from preheat._replay.cell import MIN_SAVED_MISSES


def trace(items, sizes=None, times=None, costs=None):
    items = np.array(items, np.int64)
    size_bytes = np.ones(items.max() + 1, np.int64) if sizes is None else np.array(sizes, np.int64)
    at = np.arange(len(items), dtype=np.float64) if times is None else np.array(times, np.float64)
    return Trace("hand-made", at, items, size_bytes, costs)


def planned(name, past, budget):
    (plan,) = PRACTICE[name](past, [budget])
    return plan.tolist()


#        0 is asked for often and long ago, 3 last, 1 and 2 in between; then nothing for long
BEFORE = [0, 1, 0, 2, 0, 2, 1, 1, 3, 3]
PADDED = [*BEFORE, *[4] * 90]


def test_today_s_rules_order_by_what_they_are_named_for():
    past = trace(PADDED).past(10, 4)
    assert planned("mru", past, 4) == [3, 1, 2, 0]
    assert planned("frequency", past, 4) == [1, 0, 3, 2]  # of equals, what was used last
    assert planned("mru-25", past, 4) == [3]


def test_frequency_per_byte_prefers_the_small():
    past = trace(PADDED, sizes=[30, 10, 1, 1, 1]).past(10, 42)
    assert planned("frequency-per-byte", past, 42) == [3, 2, 1, 0]
    assert planned("frequency", past, 41) == [1, 0, 3]


def test_decayed_counts_forget_in_sixteen_windows():
    asked = [0] * 20 + [1] * 19 + [2, 3] * 4000 + [4] * 2500
    past = trace(asked).past(8039, 2)
    assert past.refill_requests == 2
    assert planned("frequency", past, 2) == [3, 2]
    assert planned("decayed-per-byte", past, 4)[2:] == [1, 0]  # 0 was asked for once more, but 19 requests earlier


def test_the_naive_score_ages_by_the_hour():
    hours = np.repeat([0.0, 1.0, 50.0], 5)
    asked = [0] * 5 + [1] * 5 + [2] * 5
    past = trace([*asked, 3], times=[*(hours * 3600), 50 * 3600]).past(15, 3)
    assert planned("naive", past, 3) == [2, 1, 0]


def test_the_naive_score_stops_at_the_first_misfit():
    past = trace([0, 0, 0, 1, 1, 2, 3], sizes=[1, 5, 1, 1]).past(6, 10)
    assert planned("naive", past, 3) == [0]


@pytest.mark.parametrize("name", PRACTICE)
def test_a_rule_gives_one_plan_for_each_budget(name):
    past = trace(PADDED).past(10, 4)
    plans = PRACTICE[name](past, [4, 2, 1])
    assert [len(plan) <= budget for plan, budget in zip(plans, [4, 2, 1], strict=True)] == [True] * 3
    assert plans[0].tolist()[:1] == plans[2].tolist()


def played(warmers=PRACTICE, costs=None):
    # 300 items in turn, restart, the same turn once more
    items = [*range(300)] * 2
    return play_restart(trace([*items, *[300] * 900], costs=costs), 300, 200, [200, 50], warmers)


def test_a_turn_that_comes_again_can_be_captured_whole():
    full, quarter = played()
    assert (full.cold.whole, full.oracle.whole, quarter.oracle.whole) == (0, 200, 50)
    assert full.requests == Hits(20, 60, 200)
    assert full.captured(full.warmers["mru"]).whole == 0.0  # each goes just before its turn
    assert full.captured(full.oracle) == (1.0, 1.0, 1.0)
    assert full.captured(full.cold) == (0.0, 0.0, 0.0)
    assert full.never_restarted == full.warmers["mru"]
    assert full.counts
    assert not quarter.counts  # 50 misses are too few to speak of


def test_the_curve_tells_what_part_of_the_first_plan_brings():
    by_turn = {"as-they-come": lambda past, budgets: [np.arange(b) for b in budgets]}
    full, quarter = played(by_turn)
    assert full.curve == tuple((cut, cut) for cut in range(0, 201, 10))
    assert quarter.curve == ()


def test_saved_seconds_are_the_costs_of_the_saved_misses():
    costs = np.arange(301) / 10
    by_turn = {"as-they-come": lambda past, budgets: [np.arange(b) for b in budgets]}
    full, quarter = played(by_turn, costs=costs)
    assert full.saved_seconds["as-they-come"] == pytest.approx(costs[:200].sum())
    assert quarter.saved_seconds["as-they-come"] == pytest.approx(costs[:50].sum())
    assert played(by_turn)[0].saved_seconds == {}


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [([300], "never asked for"), ([-1], "never asked for"), ([1, 1], "twice"), (list(range(100)), "budget of 50")],
)
def test_a_warmer_that_cheats_is_refused(plan, complaint):
    with pytest.raises(ValueError, match=complaint):
        played({"cheat": lambda past, budgets: [np.array(plan, np.int64) for _ in budgets]})


@pytest.mark.parametrize(
    ("saved", "requests", "counts"),
    [(MIN_SAVED_MISSES, 5000, True), (MIN_SAVED_MISSES - 1, 100, False), (MIN_SAVED_MISSES, 5001, False)],
)
def test_a_cell_counts_from_100_misses_and_2_points_on(saved, requests, counts):
    best = Hits(saved, saved, saved)
    none = Hits(0, 0, 0)
    cell = Cell(1, 1, 1, Hits(1, 1, requests), none, none, best, {}, {})
    assert cell.counts is counts


def test_where_nothing_can_be_won_no_share_is_claimed():
    none = Hits(0, 0, 0)
    cell = Cell(1, 1, 1, Hits(1, 1, 10), none, none, Hits(0, 1, 2), {}, {})
    assert cell.captured(Hits(0, 1, 1)) == (None, 1.0, 0.5)


def test_items_larger_than_the_cache_pass_it_by():
    asked = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]
    (cell,) = play_restart(trace([*asked, *[3] * 60], sizes=[1, 1, 50, 1]), 6, 2, [2], {})
    assert (cell.requests.whole, cell.cold.whole, cell.oracle.whole) == (2, 0, 2)


def test_without_a_past_nothing_is_planned():
    past = trace(PADDED).past(0, 4)
    assert [planned(name, past, 4) for name in PRACTICE] == [[]] * len(PRACTICE)


def test_nothing_fits_no_budget():
    assert fill(np.arange(3), np.array([1, 2, 3]), 0).tolist() == []
    assert fill(np.arange(0), np.array([1]), 5).tolist() == []


def test_a_sampled_curve_is_near_the_exact_one():
    rng = np.random.default_rng(3)
    _, items = np.unique((rng.pareto(0.8, 60_000) * 200).astype(np.int64) % 20_000, return_inverse=True)
    sizes = np.ones(items.max() + 1, np.int64)
    exact, near = (miss_ratio_curve(items, sizes, limit) for limit in (60_000, 20_000))
    assert (exact.sampled, near.sampled) == (1.0, pytest.approx(1 / 3))
    assert np.all(np.diff(exact.miss_ratio) <= 0)
    assert np.abs(exact.miss_ratio - near.miss_ratio).max() < 0.02


def test_the_curve_of_no_requests_is_empty_of_hits():
    curve = miss_ratio_curve(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert curve.miss_ratio.tolist() == [1.0]
