"""How replicas share out keys and a rate."""

import random

import pytest

from preheat._fleet import (
    BEAT_SECONDS,
    GRACE_SECONDS,
    MOST_BEATS_PER_SECOND,
    MOST_LOOKS_PER_SECOND,
    SILENT_SECONDS,
    USED_RATIO,
    Draw,
    Pace,
    beat_seconds,
    book_arguments,
    looking_seconds,
    owners,
    portion,
    start_delay,
    turn_lengths,
)
from preheat._reach import RETRY_SECONDS, SPREAD_SECONDS

KEYS = [f"key {n}" for n in range(1000)]


def test_every_key_has_one_owner_and_all_have_about_as_many():
    owner = owners(KEYS, 8)
    assert owner == owners(KEYS, 8)
    assert set(owner) == set(range(8))
    assert max(map(owner.count, range(8))) < 1.5 * min(map(owner.count, range(8)))


def test_what_belonged_to_somebody_who_is_gone_is_spread_over_the_others_and_nothing_else_moves():
    before, after = owners(KEYS, 8), owners(KEYS, 8, gone={3})
    assert [b for b in before if b != 3] == [a for a, b in zip(after, before, strict=True) if b != 3]
    assert {a for a, b in zip(after, before, strict=True) if b == 3} == set(range(8)) - {3}


def test_with_everybody_gone_nothing_changes():
    assert owners(KEYS, 3) == owners(KEYS, 3, gone={0, 1, 2})


@pytest.mark.parametrize("replicas", [1, 2, 8])
def test_all_portions_together_are_everything_once(replicas):
    taken = sorted(n for number in range(replicas) for n in portion(KEYS, number, replicas))
    assert taken == list(range(len(KEYS)))


def test_who_has_nothing_left_of_its_own_helps_the_next_with_a_share():
    owner = owners(KEYS, 4)
    others = [key for key, who in zip(KEYS, owner, strict=True) if who != 2]
    helped = [others[n] for n in portion(others, 2, 4)]
    assert {owners([key], 4)[0] for key in helped} == {3}
    assert 0 < len(helped) <= -(-len(others) // 4)


def test_who_helps_takes_no_less_than_it_may_load_at_once():
    others = [key for key, who in zip(KEYS, owners(KEYS, 100), strict=True) if who != 2]
    assert len(portion(others, 2, 100)) == 10
    assert len(portion(others, 2, 100, at_once=25)) == 25
    assert len(portion(others[:7], 2, 100, at_once=25)) == 7


def test_what_is_a_replicas_own_it_takes_whatever_it_may_load_at_once():
    assert portion(KEYS, 2, 100, at_once=50) == portion(KEYS, 2, 100)


def test_beats_keep_a_coordinator_no_busier_than_it_can_bear_and_are_soon_enough_to_be_no_silence():
    assert beat_seconds(1) == beat_seconds(4000) == BEAT_SECONDS
    assert 10_000 / beat_seconds(10_000) == pytest.approx(MOST_BEATS_PER_SECOND)
    assert 1.2 * beat_seconds(10_000) < SILENT_SECONDS
    assert 1.2 * beat_seconds(10_000) + RETRY_SECONDS + SPREAD_SECONDS < GRACE_SECONDS


@pytest.mark.parametrize(("replicas", "batches"), [(1, 1), (8, 4), (1000, 16), (10_000, 4)])
def test_all_replicas_together_look_again_at_the_same_rate_however_many_there_are(replicas, batches):
    looks_per_second = replicas * batches / looking_seconds(replicas, batches)
    assert looks_per_second == pytest.approx(MOST_LOOKS_PER_SECOND)


def test_who_has_no_number_may_take_anything():
    assert portion(KEYS, None, 8) == list(range(len(KEYS)))
    assert portion([], 1, 8) == []


def test_a_pace_lets_loads_begin_evenly_and_without_bursts():
    pace, at, begun = Pace(10.0), 0.0, []
    for _ in range(30):
        at += pace.book(2, at)
        begun.append(at)
    assert begun == pytest.approx([0.2 / USED_RATIO * n for n in range(30)])


def test_a_pace_that_rested_has_saved_nothing_up():
    pace = Pace(10.0)
    pace.book(1, 0.0)
    assert pace.book(1, 100.0) == 0.0
    assert pace.book(1, 100.0) == pytest.approx(0.1 / USED_RATIO)


def test_a_pace_changes_with_the_share():
    pace = Pace(10.0)
    pace.change_rate(1.0)
    pace.book(1, 0.0)
    assert pace.book(1, 0.0) == pytest.approx(1.0 / USED_RATIO)


def test_a_pace_holds_as_long_as_it_is_told():
    pace = Pace(10.0)
    pace.hold_until(5.0)
    assert pace.book(1, 2.0) == 3.0


def test_delays_are_spread_over_the_whole_jitter():
    delays = [start_delay(3.0, random.Random(n)) for n in range(500)]
    assert 0.0 <= min(delays) < 0.1
    assert 2.9 < max(delays) <= 3.0
    assert start_delay(0.0, random.Random(0)) == 0.0


def test_a_script_gets_its_times_in_microseconds_and_what_is_drawn_of_each_limit():
    draws = [Draw("rate pages", 2, 100.0), Draw("bytes pages", 700, 1e6)]
    assert book_arguments("me", 8, draws)[:4] == ("me", "8", "0", "50000")
    assert book_arguments("me", 8, draws)[7:] == ("2", repr(100.0 * USED_RATIO), "700", repr(1e6 * USED_RATIO))
    assert book_arguments("me", 8, leaves=True)[2] == "1"


def test_turns_are_cut_by_loads_and_by_bytes():
    assert turn_lengths([10] * 7, 3, 1e9) == [3, 3, 1]
    assert turn_lengths([10, 50, 200, 10, 10, 100], 10, 100) == [2, 1, 2, 1]
    assert turn_lengths([10] * 4, float("inf"), float("inf")) == [4]
    assert turn_lengths([], 3, 100) == []
