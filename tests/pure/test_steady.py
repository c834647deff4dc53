"""When a hit rate is steady."""

import numpy as np
import pytest

from preheat._steady import NEAR, WINDOW, SteadyWatch


def hits(text):
    return np.array([c == "+" for c in text])


def first_steady(outcomes, steady_ratio):
    """The plain way: the first request at which the newest WINDOW of them are near enough."""
    for n in range(WINDOW, len(outcomes) + 1):
        if outcomes[n - WINDOW : n].mean() >= NEAR * steady_ratio:
            return n
    return None


def test_nothing_is_seen_before_the_window_is_full():
    watch = SteadyWatch(0.5, 0.0)
    watch.observe(1.0, hits("+" * (WINDOW - 1)))
    assert watch.reached is None
    watch.observe(2.0, hits("+"))
    assert (watch.reached.requests, watch.reached.seconds, watch.reached.hit_ratio) == (WINDOW, 2.0, 1.0)


def test_the_first_moment_stays():
    watch = SteadyWatch(0.5, 10.0)
    watch.observe(11.0, hits("+" * WINDOW))
    seen = watch.reached
    watch.observe(12.0, hits("-" * WINDOW + "+" * WINDOW))
    assert seen == watch.reached
    assert watch.requests == 3 * WINDOW


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_moment_that_counting_finds_however_requests_come(seed):
    rng = np.random.default_rng(seed)
    outcomes = rng.random(600) < np.linspace(0.1, 0.9, 600)
    watch = SteadyWatch(0.7, 0.0)
    for part in np.split(outcomes, np.sort(rng.integers(0, 600, 12))):
        watch.observe(1.0, part)
    expected = first_steady(outcomes, 0.7)
    assert expected == (watch.reached.requests if watch.reached else None)


def test_without_a_known_rate_there_is_no_such_moment():
    watch = SteadyWatch(0.0, 0.0)
    assert watch.hit_ratio == 0.0
    watch.observe(1.0, hits("+" * 500))
    assert watch.reached is None
    assert watch.hit_ratio == 1.0


def test_a_clock_that_is_set_back_gives_no_negative_time():
    watch = SteadyWatch(0.5, 100.0)
    watch.observe(50.0, hits("+" * WINDOW))
    assert watch.reached.seconds == 0.0
