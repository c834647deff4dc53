"""Accesses in, neighbours, refills, windows and arrivals out."""

import pytest

from preheat._predict.trail import LEAST_PAST, MOST_WINDOW_RATIO, Window
from trails import popular_trail, trail_of


def naive_refill(trail, stop, capacity_bytes):
    """Walks back until so many distinct bytes were met."""
    met, seen = 0, set()
    for position in reversed(range(stop)):
        item = int(trail.items[position])
        if item in seen:
            continue
        seen.add(item)
        size = int(trail.size_bytes[item])
        met += size if size <= capacity_bytes else 0
        if met >= capacity_bytes:
            return stop - position
    return max(1, stop)


def test_neighbours_are_the_accesses_to_the_same_item_before_and_after():
    trail = trail_of(b"abacab")
    assert trail.items.tolist() == [0, 1, 0, 2, 0, 1]
    assert trail.previous.tolist() == [-1, -1, 0, -1, 2, 1]
    assert trail.following.tolist() == [2, 5, 4, 6, 6, 6]
    assert trail.first.tolist() == [0, 1, 3]


def test_known_are_the_items_asked_for_before():
    trail = trail_of(b"abacab")
    assert [trail.known(position) for position in range(7)] == [0, 1, 2, 2, 3, 3, 3]


def test_an_empty_trail_knows_nothing_and_has_no_windows():
    trail = trail_of([])
    assert (len(trail), trail.known(0), trail.refill(0, 10), trail.windows(10, 5)) == (0, 0, 1, [])


@pytest.mark.parametrize("capacity_bytes", [0, 1, 500, 5_000, 60_000, 10**9])
def test_refill_is_a_walk_back_until_the_capacity_was_touched(capacity_bytes):
    trail = popular_trail(6000, 900)
    for stop in (1, 2, 1500, 6000):
        assert trail.refill(stop, capacity_bytes) == naive_refill(trail, stop, capacity_bytes)


def test_what_is_larger_than_the_cache_fills_nothing():
    trail = trail_of(b"xaybz", [100, 1, 100, 1, 100])
    assert trail.refill(5, 2) == 4


@pytest.mark.parametrize("capacity_bytes", [2_000, 20_000, 10**9])
def test_windows_lie_side_by_side_and_each_is_a_refill(capacity_bytes):
    trail = popular_trail(8000, 900)
    windows = trail.windows(capacity_bytes, 5)
    assert 0 < len(windows) <= 5
    stop = len(trail)
    for window in windows:
        length = min(naive_refill(trail, stop, capacity_bytes), int(MOST_WINDOW_RATIO * len(trail)))
        assert window == Window(stop - length, stop)
        assert window.start >= LEAST_PAST
        stop = window.start


def test_windows_stop_where_too_little_past_is_left():
    trail = popular_trail(2000, 100)
    windows = trail.windows(10**9, 100)
    assert windows == [Window(1500, 2000), Window(1000, 1500), Window(500, 1000)]


def test_a_short_trail_has_no_windows():
    assert popular_trail(LEAST_PAST, 100).windows(100, 5) == []


@pytest.mark.parametrize("capacity_bytes", [1, 700, 50_000])
def test_arrivals_are_first_accesses_with_the_bytes_touched_by_then(capacity_bytes):
    trail = popular_trail(3000, 400)
    window = Window(2000, 2600)
    items, fullness = trail.arrivals(window, capacity_bytes)
    expected, touched = {}, 0
    for item in trail.items[2000:2600].tolist():
        if item not in expected and trail.size_bytes[item] <= capacity_bytes:
            touched += int(trail.size_bytes[item])
            expected[item] = touched / capacity_bytes
    assert dict(zip(items.tolist(), fullness.tolist(), strict=True)) == expected
    assert items.tolist() == list(expected)
