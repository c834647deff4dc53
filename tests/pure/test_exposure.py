"""How long a run was under which pressure."""

from preheat._exposure import ExposureClock
from preheat._model import MemoryPressureLevel, PressureExposure

LOW, MODERATE, HIGH, CRITICAL = MemoryPressureLevel


def test_nothing_noted_is_nothing():
    assert ExposureClock().exposure() == PressureExposure()


def test_each_level_lasts_until_the_next_note():
    clock = ExposureClock()
    for at, level in ((10.0, LOW), (12.0, HIGH), (15.0, LOW), (16.0, LOW)):
        clock.note(at, level, is_waiting=level is HIGH)
    assert clock.exposure() == PressureExposure((3.0, 0.0, 3.0, 0.0), pauses=1, paused_seconds=3.0)


def test_waiting_that_goes_on_is_one_pause():
    clock = ExposureClock()
    for at, waits in ((0.0, False), (1.0, True), (2.0, True), (3.0, False), (4.0, True), (6.0, False)):
        clock.note(at, CRITICAL, is_waiting=waits)
    assert clock.exposure() == PressureExposure((0.0, 0.0, 0.0, 6.0), pauses=2, paused_seconds=4.0)


def test_a_clock_that_goes_back_adds_nothing():
    clock = ExposureClock()
    clock.note(5.0, LOW, is_waiting=False)
    clock.note(4.0, LOW, is_waiting=False)
    assert clock.exposure().seconds == (0.0,) * 4
