"""Hits and misses by cache and hour."""

import numpy as np

from builders import batch, history_of
from preheat._history import HistoryBuilder
from preheat._history.traffic import MOST_HOURS

HOUR = 3600.0


def hit_rates(history):
    """By hour and cache, hits and misses."""
    return {
        (hour, cache): tuple(counted)
        for hour, caches in zip(history.hours.tolist(), history.hourly.tolist(), strict=True)
        for cache, counted in zip(history.caches, caches, strict=True)
    }


def test_a_history_of_nothing_has_no_hours():
    history = history_of()
    assert (history.hours.shape, history.hourly.shape) == ((0,), (0, 0, 2))


def test_hits_and_misses_are_told_by_the_hour():
    history = history_of(
        batch(["a", "b", "a"], at=10 * HOUR, cache="x", hits=[True, False, True]),
        batch(["a"], at=11 * HOUR - 1, cache="x"),
        batch(["a", "b"], at=12 * HOUR, cache="y", hits=[True, True]),
    )
    assert hit_rates(history) == {(10, "x"): (2, 2), (10, "y"): (0, 0), (12, "x"): (0, 0), (12, "y"): (2, 0)}


def test_a_sampled_hit_stands_for_as_many_in_its_hour():
    history = history_of(batch(["a", "a"], at=HOUR, hits=[True, False])._replace(stride=16))
    assert hit_rates(history) == {(1, "c"): (16, 1)}
    assert (history.hits.tolist(), history.misses.tolist(), history.counts[0, 0]) == ([16], [1], 17.0)


def test_hours_come_in_order_though_a_clock_went_back():
    history = history_of(batch(["a"], at=9 * HOUR), batch(["a"], at=3 * HOUR), batch(["a"], at=9 * HOUR))
    assert (history.hours.tolist(), history.hourly.tolist()) == ([3, 9], [[[0, 1]], [[0, 2]]])


def test_only_the_newest_hours_with_traffic_are_kept():
    builder = HistoryBuilder()
    for hour in range(0, 2 * (MOST_HOURS + 3), 2):
        builder.fold(batch(["a"], at=hour * HOUR))
    history = builder.history()
    assert history.hours.tolist() == list(range(6, 2 * (MOST_HOURS + 3), 2))
    assert history.misses.tolist() == [MOST_HOURS + 3]


def test_hours_go_on_after_a_restart():
    first = history_of(batch(["a"], at=5 * HOUR, cache="x"))
    builder = HistoryBuilder(first)
    builder.fold(batch(["a"], at=5 * HOUR, cache="y", hits=[True]))
    assert hit_rates(builder.history()) == {(5, "x"): (0, 1), (5, "y"): (1, 0)}
    assert np.array_equal(first.hourly, [[[0, 1]]])
