"""What each predictor sees that others don't: planted patterns, each with its control."""

import numpy as np
import pytest

from preheat._predict import context, decayed_frequency, interarrival, neighbourhood, periodicity, recency
from preheat._predict.context import SPANS, Span, expected
from trails import moment_of, trail_of

DAY = 86400.0

# ----------------------------------------------------------------------------------------------------------- context


def looping():
    """Three loops of a hundred items each, run through in turn four times."""
    loops = [list(range(100 * n, 100 * n + 100)) for n in range(3)]
    past = [*loops[0], *loops[1], *loops[2]] * 4
    return past, loops


def of(chances, trail, keys, wanted):
    """Chances by key."""
    number = dict(zip(dict.fromkeys(keys), range(len(chances)), strict=True))
    return np.array([chances[number[key]] for key in wanted])


@pytest.mark.parametrize("chance", [context.chance, context.agreeing_chance])
def test_what_followed_before_is_expected_when_its_beginning_is_seen_again(chance):
    past, loops = looping()
    keys = [*past, *loops[1][:40]]
    trail = trail_of(keys)
    moment = moment_of(trail, horizon=60.0)
    next_ones = of(chance(moment), trail, keys, loops[1][40:50])
    others = of(chance(moment), trail, keys, [*loops[0][40:60], *loops[2][20:40]])
    assert next_ones.min() > 2 * others.max()


def test_the_control_frequency_does_not_know_and_recency_expects_the_wrong_ones():
    past, loops = looping()
    keys = [*past, *loops[1][:40]]
    trail = trail_of(keys)
    moment = moment_of(trail, horizon=60.0)
    next_ones, others = loops[1][40:60], loops[2][40:60]
    counts = [of(moment.count, trail, keys, wanted) for wanted in (next_ones, others)]
    assert set(counts[0]) == set(counts[1]) == {4}
    for expert in (recency.chance, decayed_frequency.chance):
        assert of(expert(moment), trail, keys, next_ones).max() < of(expert(moment), trail, keys, others).min()


def test_accesses_expected_are_a_horizon_full():
    past, loops = looping()
    moment = moment_of(trail_of([*past, *loops[1][:40]]), horizon=60.0)
    assert [each.sum() for each in expected(moment)] == [pytest.approx(60.0)] * len(SPANS)


def test_without_a_repetition_nothing_is_expected_of_context():
    moment = moment_of(trail_of(range(50)))
    assert [each.tolist() for each in expected(moment)] == [[0.0] * 50] * len(SPANS)
    assert context.chance(moment).tolist() == [0.0] * 50


def test_nothing_is_known_before_the_first_access():
    moment = moment_of(trail_of([1, 2]), 0)
    assert [len(each) for each in expected(moment)] == [0] * len(SPANS)


def test_common_items_are_weaker_cues():
    rare, after_rare, common = 1, 2, 3
    keys = [rare, after_rare, *range(900, 910)]
    for after_common in range(10, 20):
        keys += [common, after_common, *range(100 * after_common, 100 * after_common + 10)]
    keys += [*range(3000, 3100), rare, common]
    chances = context.chance(moment_of(trail_of(keys), horizon=16.0))
    number = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    assert chances[number[after_rare]] > 1.5 * chances[number[19]]  # though it is the newer cue that points at this one


def test_spans_say_what_they_are():
    assert str(Span(accesses=64)) == "64 accesses"
    assert str(Span(horizons=0.25)) == "0.25 horizons"
    assert str(Span(horizons=1.0, agreeing=0.0625)) == "1 horizons, cues agreeing within 0.0625"
    assert len(set(map(str, SPANS))) == len(SPANS)


# ------------------------------------------------------------------------------------------------------- periodicity


def daily(days, hour, now_hour, last_day):
    """Item 0 each day at `hour`, others every ten minutes, until `now_hour` of `last_day`."""
    until = last_day * DAY + now_hour * 3600.0
    others = np.arange(0.0, until, 600.0)
    own = np.array([day * DAY + hour * 3600.0 for day in range(days)])
    own = own[own < until]
    times = np.concatenate([others, own])
    keys = np.concatenate([1 + np.arange(len(others)) % 50, np.zeros(len(own), np.int64)])
    order = np.argsort(times, kind="stable")
    return keys[order], times[order]


def chance_of_daily(now_hour, *, clock=True):
    keys, times = daily(6, 9.25, now_hour, 5)
    trail = trail_of(keys, times=times if clock else None)
    chances = periodicity.chance(moment_of(trail, horizon=12.0))
    return chances[list(dict.fromkeys(keys.tolist())).index(0)], chances


def test_a_daily_item_is_expected_at_its_hour():
    chance, chances = chance_of_daily(8.5)
    assert chance > 0.3
    assert chance == chances.max()


def test_it_is_not_expected_twelve_hours_later():
    chance, chances = chance_of_daily(20.5)
    assert chance == 0.0
    assert chances.max() > 0.0


def test_the_numbers_of_the_accesses_are_no_clock():
    assert chance_of_daily(8.5, clock=False)[1].any() == np.False_
    row_numbers = trail_of(np.arange(400_000) % 7)
    assert periodicity.chance(moment_of(row_numbers)).tolist() == [0.0] * 7


def test_less_than_two_days_have_no_period():
    trail = trail_of(np.arange(100) % 7, times=np.cumsum(np.tile([1000.0, 2000.0], 50)))
    assert trail.times[-1] - trail.times[0] < 2 * DAY
    assert not periodicity.is_clock(trail.times)
    assert periodicity.chance(moment_of(trail)).tolist() == [0.0] * 7


def test_the_same_weekday_counts_double_and_passing_weeks_halve():
    """One item at noon of each day, another each time; it is the noon of the eighth day."""
    times = np.concatenate([np.arange(8) * DAY + 12 * 3600.0 + 60.0, np.arange(8) * DAY + 18 * 3600.0])
    keys = np.concatenate([np.arange(8), np.full(8, 100)])
    order = np.argsort(times)
    times, keys = [0.0, *times[order][:14], 7 * DAY + 12 * 3600.0], [99, *keys[order][:14], 98]
    chances = periodicity.chance(moment_of(trail_of(keys, times=np.array(times)), horizon=1.0))
    first, second, last = (chances[list(dict.fromkeys(keys)).index(day)] for day in (0, 1, 6))
    assert second < last < first  # of days 7, 6 and 1 ago: 0.5 x 2, 0.5 ** (6 / 7), 0.5 ** (1 / 7)
    assert np.log1p(-first) / np.log1p(-second) == pytest.approx(1.0 / 0.5 ** (6 / 7))


# ------------------------------------------------------------------------------------------------------------ others


def test_recency_orders_by_the_last_access():
    chances = recency.chance(moment_of(trail_of(b"abcab"), horizon=2.0))
    assert chances.tolist() == [1 / (1 + 2 / 2), 1 / (1 + 1 / 2), 1 / (1 + 3 / 2)]


def test_decayed_frequency_orders_by_the_count_and_knows_the_rate():
    keys = np.arange(40_000) % 10
    chances = decayed_frequency.chance(moment_of(trail_of(keys), horizon=5.0))
    assert chances == pytest.approx(-np.expm1(-5.0 / 10), rel=0.05)
    chances = decayed_frequency.chance(moment_of(trail_of(b"aabaac"), horizon=2.0))
    assert chances.argmax() == 0


def test_an_item_with_a_rhythm_is_expected_when_it_is_due():
    """Items 0 and 1 come every 40 accesses; 0 is due now, 1 has just been."""
    keys = []
    for n in range(10):
        keys += [0, *range(1000 * n, 1000 * n + 37), 1, 5]
    moment = moment_of(trail_of(keys), horizon=4.0)
    number = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    due, just_been, single = (interarrival.chance(moment)[number[key]] for key in (0, 1, 9001))
    assert due > 3 * just_been
    assert due > single
    assert recency.chance(moment)[number[1]] > recency.chance(moment)[number[0]]  # which can't know


def test_items_are_warmed_by_their_neighbours():
    keys = [*range(200), *range(40, 60, 2)]
    chances = neighbourhood.chance(moment_of(trail_of(keys), horizon=20.0))
    assert chances[41:59:2].min() > chances[100:140].max() * 2  # never seen again themselves, but those beside them
