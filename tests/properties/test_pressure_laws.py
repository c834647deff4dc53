"""The laws of pressure levels."""

from hypothesis import given
from hypothesis import strategies as st

from preheat._model import MemoryPressureLevel, MemoryReading
from preheat._pressure import pressure_level

levels = st.sampled_from(MemoryPressureLevel)
sizes = st.integers(0, 2**21) | st.integers(0, 2**34) | st.integers(0, 2**42)
stalls = st.floats(0.0, 1.0)


@st.composite
def readings(draw) -> MemoryReading:
    limit = draw(sizes)
    used = int(limit * draw(st.floats(0.0, 1.1)))
    reclaimable = int(used * draw(st.just(0.0) | st.floats(0.0, 1.0)))
    return MemoryReading(0.0, limit, used, reclaimable, 0, draw(st.just(0.0) | stalls), "test")


@given(readings(), sizes, levels)
def test_less_available_never_lowers_the_level(reading, more_used, previous):
    tighter = reading._replace(used_bytes=reading.used_bytes + more_used)
    assert pressure_level(reading, previous) <= pressure_level(tighter, previous)


@given(readings(), stalls, levels)
def test_more_stall_never_lowers_the_level(reading, stall, previous):
    worse = reading._replace(stall=max(stall, reading.stall))
    assert pressure_level(reading, previous) <= pressure_level(worse, previous)


@given(readings(), levels, levels)
def test_a_worse_past_never_lowers_the_level(reading, one, other):
    assert pressure_level(reading, min(one, other)) <= pressure_level(reading, max(one, other))


@given(readings(), levels)
def test_a_repeated_reading_changes_nothing(reading, previous):
    level = pressure_level(reading, previous)
    assert level == pressure_level(reading, level)


@given(readings(), levels)
def test_history_only_delays_falling(reading, previous):
    assert pressure_level(reading) <= pressure_level(reading, previous)


@given(readings(), levels)
def test_the_level_is_the_past_one_or_the_fresh_one_at_most(reading, previous):
    assert pressure_level(reading, previous) <= max(previous, pressure_level(reading))


@given(readings(), levels)
def test_stall_alone_is_never_critical(reading, previous):
    calm = reading._replace(stall=0.0)
    if pressure_level(calm, previous) < MemoryPressureLevel.CRITICAL:
        assert pressure_level(reading._replace(stall=1.0), previous) < MemoryPressureLevel.CRITICAL


@given(sizes.filter(bool), levels)
def test_an_unused_limit_is_low_whatever_the_past(limit_bytes, previous):
    unused = MemoryReading(0.0, limit_bytes, 0, 0, 0, 0.0, "test")
    low = MemoryPressureLevel.LOW
    assert low == pressure_level(unused, previous)
