"""Readings in, levels out."""

import pytest

from preheat._model import MIB, MemoryPressureLevel, MemoryReading
from preheat._pressure import THRESHOLDS, expected_level, headroom_bytes, outlook_level, pressure_level

low, moderate, high, critical = MemoryPressureLevel
GIB = 1024 * MIB


def reading(available_bytes: int, limit_bytes: int = 8 * GIB, stall: float = 0.0) -> MemoryReading:
    return MemoryReading(0.0, limit_bytes, limit_bytes - available_bytes, 0, 0, stall, "test")


@pytest.mark.parametrize(
    ("limit_bytes", "available_bytes", "expected"),
    [
        (8 * GIB, 3 * GIB, low),
        (8 * GIB, 2 * GIB, moderate),
        (8 * GIB, 900 * MIB, high),
        (8 * GIB, 400 * MIB, critical),
        # a small limit asks for a larger share of itself
        (128 * MIB, 70 * MIB, low),
        (128 * MIB, 60 * MIB, moderate),
        (128 * MIB, 30 * MIB, high),
        (128 * MIB, 12 * MIB, critical),
        # a big one for a smaller
        (512 * GIB, 9 * GIB, low),
        (512 * GIB, 8 * GIB, moderate),
        (512 * GIB, 4 * GIB, high),
        (512 * GIB, 2 * GIB, critical),
        # even a tiny one can be low
        (16 * MIB, 9 * MIB, low),
        (0, 0, critical),
    ],
)
def test_headroom_decides_by_share_and_by_bytes(limit_bytes, available_bytes, expected):
    assert expected == pressure_level(reading(available_bytes, limit_bytes))


@pytest.mark.parametrize(("stall", "expected"), [(0.0, low), (0.049, low), (0.05, moderate), (0.2, high), (1.0, high)])
def test_stall_alone_raises_to_high_at_most(stall, expected):
    assert expected == pressure_level(reading(6 * GIB, stall=stall))


def test_reclaimable_pages_are_headroom():
    full_of_page_cache = MemoryReading(0.0, GIB, GIB, GIB * 3 // 4, 0, 0.0, "test")
    assert low == pressure_level(full_of_page_cache)


def test_usage_above_the_limit_is_critical():
    assert critical == pressure_level(MemoryReading(0.0, GIB, 2 * GIB, 0, 0, 0.0, "test"))


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=lambda t: t.level.name)
def test_a_level_is_left_only_with_the_margin_on_top(threshold):
    begins_at = int(headroom_bytes(threshold, 8 * GIB))
    margin = int(0.05 * 8 * GIB)
    assert threshold.level == pressure_level(reading(begins_at))
    assert threshold.level == pressure_level(reading(begins_at + margin), threshold.level)
    assert threshold.level > pressure_level(reading(begins_at + margin + 2), threshold.level)


def test_the_margin_of_a_big_limit_is_a_gibibyte():
    assert critical == pressure_level(reading(3 * GIB, 512 * GIB), critical)
    assert high == pressure_level(reading(3 * GIB + 1, 512 * GIB), critical)


def test_falling_takes_one_reading_over_several_levels():
    assert low == pressure_level(reading(7 * GIB), critical)


def test_rising_takes_one_reading_over_several_levels():
    assert critical == pressure_level(reading(0), low)


def test_stall_is_left_at_half_of_what_began_it():
    assert high == pressure_level(reading(7 * GIB, stall=0.11), high)
    assert moderate == pressure_level(reading(7 * GIB, stall=0.09), high)
    assert low == pressure_level(reading(7 * GIB, stall=0.02), high)


def test_thresholds_are_ordered():
    assert sorted(THRESHOLDS, key=lambda t: t.level) == list(THRESHOLDS)
    assert sorted(THRESHOLDS, key=lambda t: -t.headroom_ratio) == list(THRESHOLDS)
    assert sorted(THRESHOLDS, key=lambda t: t.stall) == list(THRESHOLDS)


# ------------------------------------------------------------------------------------------------------------ outlook


def test_the_outlook_is_the_level_with_the_rest_loaded():
    seen = reading(3 * GIB)
    assert [outlook_level(seen, more) for more in (0, GIB, int(2.2 * GIB), 9 * GIB)] == [low, moderate, high, critical]
    assert outlook_level(seen, -GIB) == low, "what was loaded beyond the plan makes it no better than it is"


def test_the_outlook_falls_with_a_margin_as_the_level_does():
    just_above = reading(2 * GIB + GIB // 4 + MIB)
    assert outlook_level(just_above, 0, moderate) == moderate
    assert outlook_level(just_above, 0) == low


def test_what_is_expected_leaves_others_a_margin():
    seen = reading(3 * GIB)
    assert expected_level(seen, GIB // 2) == low
    assert expected_level(seen, GIB // 2 + 200 * MIB) == moderate, "the next twentieth of the limit is no surprise"
    assert outlook_level(seen, GIB // 2 + 200 * MIB) == low
