"""Under which strategy a run goes on, and that it does not flap."""

import itertools
import math

import pytest

from preheat._footing import CALM_SECONDS, DWELL_SECONDS, SHORT_SECONDS, Footing
from preheat._model import MemoryPressureLevel, PressureResponse, PressureResponses

LOW, MODERATE, HIGH, CRITICAL = MemoryPressureLevel


def footing():
    return Footing("adaptive", PressureResponses(), "conservative", PressureResponses())


def changes(seen, made=None):
    """The switches that follow from (instant, level, is_falling)."""
    made = made or footing()
    return [s for at, level, fall in seen if (s := made.note(at, level, is_falling=fall)) is not None]


def steps(start, stop, level, fall=False, step=0.1):
    return [(start + n * step, level, fall) for n in range(math.ceil((stop - start) / step))]


def test_it_begins_with_its_own_strategy():
    assert footing().strategy == "adaptive"
    assert Footing("balanced").strategy == "balanced"


def test_moderate_pressure_for_long_makes_it_fall_back():
    (switch,) = changes(steps(0.0, 10.0, MODERATE))
    assert (switch.before, switch.after) == ("adaptive", "conservative")
    assert math.isclose(SHORT_SECONDS, switch.at, abs_tol=0.11)
    assert switch.reason == "MODERATE pressure for 2.0 s"


def test_a_short_peak_does_not():
    seen = steps(0.0, SHORT_SECONDS - 0.2, MODERATE) + steps(SHORT_SECONDS, 3.0, LOW) + steps(3.0, 4.5, MODERATE)
    assert changes(seen) == []


def test_high_pressure_does_at_once():
    (switch,) = changes([(0.0, LOW, False), (1.0, HIGH, False), (1.1, HIGH, False)])
    assert (switch.at, switch.reason) == (1.0, "HIGH pressure")


def test_pressure_that_was_expected_is_no_shortage():
    made = Footing("adaptive", PressureResponses(), "conservative", PressureResponses(), expected=MODERATE)
    assert changes(steps(0.0, 30.0, MODERATE), made) == []
    (switch,) = changes([(31.0, HIGH, False)], made)
    assert switch.reason == "HIGH pressure"
    (back,) = changes(steps(32.0, 40.0, MODERATE), made)
    assert back.reason == "memory as expected for 5.0 s"
    high = Footing("adaptive", PressureResponses(), "conservative", PressureResponses(), expected=HIGH)
    assert changes(steps(0.0, 30.0, HIGH), high) == []
    assert len(changes(steps(30.0, 33.0, HIGH, fall=True), high)) == 1


def test_pressure_in_sight_for_long_makes_it_fall_back_but_never_at_once():
    made = footing()
    assert made.note(0.0, LOW, CRITICAL) is None
    assert made.note(SHORT_SECONDS - 0.1, LOW, CRITICAL) is None
    assert made.note(SHORT_SECONDS, LOW, CRITICAL).reason == "CRITICAL pressure in sight for 2.0 s"
    assert made.note(7.1, LOW, LOW) is None
    assert made.note(11.9, LOW, MODERATE) is None, "calm was broken"
    assert made.note(12.2, LOW, LOW) is None
    assert made.note(17.2, LOW, LOW).after == "adaptive"


def test_falling_headroom_for_long_does_too():
    (switch,) = changes(steps(0.0, 4.0, LOW, fall=True))
    assert switch.reason.startswith("falling headroom for 2.")


def test_calm_for_long_brings_it_back_and_twice_as_long_the_next_time():
    made = footing()
    seen = steps(0.0, 3.0, MODERATE) + steps(3.0, 20.0, LOW) + steps(20.0, 23.0, MODERATE) + steps(23.0, 60.0, LOW)
    first, back, second, again = changes(seen, made)
    assert [s.after for s in (first, back, second, again)] == ["conservative", "adaptive"] * 2
    assert math.isclose(3.0 + CALM_SECONDS, back.at, abs_tol=0.25)
    assert math.isclose(23.0 + 2 * CALM_SECONDS, again.at, abs_tol=0.25)
    assert back.reason == "memory as expected for 5.0 s"
    assert made.strategy == "adaptive"


def test_after_a_change_nothing_changes_for_a_while():
    seen = [(0.0, HIGH, False), *steps(0.1, 5.3, LOW, step=0.01), (5.4, HIGH, False), *steps(5.5, 30.0, HIGH)]
    instants = [switch.at for switch in changes(seen)]
    assert instants[0] == 0.0
    assert all(b - a >= DWELL_SECONDS for a, b in itertools.pairwise(instants))


@pytest.mark.parametrize("period", [0.1, 1.0, 5.0, 12.0, 30.0])
def test_memory_that_goes_up_and_down_for_an_hour_changes_it_seldom(period):
    seen = [(n / 10, MODERATE if (n / 10) % period < period / 2 else LOW, False) for n in range(36_000)]
    assert len(changes(seen)) <= 2 + 2 * math.log2(3600 / CALM_SECONDS)


def test_seeing_the_same_again_changes_nothing():
    made = footing()
    assert changes([(0.0, MODERATE, False)] * 100, made) == []
    assert len(changes([(2.0, MODERATE, False)] * 100, made)) == 1


def test_without_a_fallback_it_never_changes():
    assert changes(steps(0.0, 60.0, HIGH, fall=True), Footing("balanced")) == []


def test_pressure_is_answered_as_the_strategy_of_the_moment_says():
    stop = PressureResponse.STOP
    made = Footing("a", PressureResponses(), "b", PressureResponses(stop, stop, stop))
    assert (made.response(LOW), made.response(MODERATE)) == (PressureResponse.CONTINUE, PressureResponse.SLOW)
    made.note(0.0, HIGH, is_falling=False)
    assert (made.response(LOW), made.response(MODERATE)) == (PressureResponse.CONTINUE, stop)
