"""When a server that is away is asked again."""

import itertools
import random

from preheat._reach import RETRY_SECONDS, SPREAD_SECONDS, Door


def test_a_door_is_open_until_something_fails():
    door = Door(random.Random(0))
    assert all(door.lets_in(at) for at in (0.0, 0.0, 5.0))
    assert not door.is_shut


def test_a_shut_door_lets_one_in_each_second_or_a_little_more_and_opens_with_an_answer():
    door = Door(random.Random(0))
    door.failed(0.0)
    let_in = [at / 100 for at in range(10_000) if door.lets_in(at / 100)]
    gaps = [b - a for a, b in itertools.pairwise(let_in)]
    assert min(gaps) >= RETRY_SECONDS
    assert max(gaps) <= RETRY_SECONDS + SPREAD_SECONDS + 0.01
    assert len({round(gap, 2) for gap in gaps}) > 10
    assert door.is_shut
    door.answered()
    assert door.lets_in(100.0)
    assert door.lets_in(100.0)


def test_it_tells_how_long_it_stays_shut():
    door = Door(random.Random(0))
    assert door.seconds_shut(3.0) == 0.0
    door.failed(3.0)
    assert RETRY_SECONDS <= door.seconds_shut(3.0) <= RETRY_SECONDS + SPREAD_SECONDS
    assert door.seconds_shut(9.0) == 0.0
