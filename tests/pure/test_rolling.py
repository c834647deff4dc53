"""How often a replica asks that waits for a place, and what it says of it."""

import pytest

from preheat._fleet import BEAT_SECONDS, LEASE_SECONDS
from preheat._rolling import MOST_ASK_SECONDS, Act, Standing, ask_seconds, place_arguments, shown_wait


def test_the_next_ask_at_every_beat_and_those_behind_them_more_rarely():
    asked = [ask_seconds(Standing(False, 3, ahead), 3) for ahead in range(7)]
    assert asked == pytest.approx([BEAT_SECONDS * n for n in (1, 1, 1, 2, 2, 2, 3)])


@pytest.mark.parametrize("most", [1, 3, 100])
def test_nobody_is_silent_for_so_long_that_its_turn_is_lost(most):
    assert ask_seconds(Standing(False, most, 10_000), most) <= MOST_ASK_SECONDS < LEASE_SECONDS / 2


@pytest.mark.parametrize("most", [1, 10])
def test_however_many_wait_they_ask_not_much_more_than_once_in_the_longest_silence(most):
    """At most 10 beats' worth of those at the front come on top."""
    waiting = 10_000
    per_second = sum(1 / ask_seconds(Standing(False, most, ahead), most) for ahead in range(waiting))
    assert per_second <= waiting / MOST_ASK_SECONDS + 10 * most / BEAT_SECONDS


def test_a_wait_is_told_in_words():
    assert shown_wait(Standing(False, 3, 0), 3) == "waiting for a place: 3 of 3 taken"
    assert shown_wait(Standing(False, 3, 5), 3) == "waiting for a place: 3 of 3 taken, 5 waiting before it"


def test_a_script_gets_its_lease_in_microseconds():
    assert place_arguments(Act.KEEP, "me", 3) == ("keep", "me", "3", "10000000")
