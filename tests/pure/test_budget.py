"""From available memory to the bytes that a plan may fill."""

import math

import pytest

from builders import GIB, reading
from preheat import calculate_memory_budget
from preheat._model import MIB, MemoryPressureLevel
from preheat._plan.budget import grant_budget, limit_from_mb, parse_pressure_level
from preheat._plan.strategy import STRATEGIES, StrategyProfile
from preheat.errors import InvalidSetting, UnknownStrategy

SHARES = {"aggressive": 0.8, "balanced": 0.6, "conservative": 0.2}
FACTORS = {"LOW": 1.0, "MODERATE": 0.6, "HIGH": 0.2, "CRITICAL": 0.0}


@pytest.mark.parametrize("strategy", SHARES)
@pytest.mark.parametrize("level", FACTORS)
def test_the_budget_is_share_times_factor_of_what_is_available(strategy, level):
    budget = calculate_memory_budget(10_000.0, strategy, MemoryPressureLevel[level])
    assert math.isclose(SHARES[strategy] * FACTORS[level] * 10_000.0, budget, rel_tol=1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_at_least_ten_mib_are_granted_where_they_are_there(strategy):
    assert calculate_memory_budget(12.0, strategy, "high") == 10.0


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("available", [0.0, 0.5, 9.0])
def test_never_more_than_what_is_available(strategy, available):
    assert available == calculate_memory_budget(available, strategy, "low")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_is_granted_at_critical_pressure(strategy):
    assert calculate_memory_budget(100_000.0, strategy, MemoryPressureLevel.CRITICAL) == 0.0


@pytest.mark.parametrize("level", list(MemoryPressureLevel))
def test_conservative_is_below_balanced_is_below_aggressive(level):
    granted = [grant_budget(reading(), STRATEGIES[name], level).granted_bytes for name in reversed(SHARES)]
    assert sorted(granted) == granted


@pytest.mark.parametrize("available", [-1.0, math.nan, math.inf, "1", None])
def test_memory_that_is_no_size_is_refused(available):
    with pytest.raises(InvalidSetting, match="available_memory_mb is "):
        calculate_memory_budget(available)


def test_a_misspelt_strategy_names_the_nearest():
    with pytest.raises(UnknownStrategy, match="no strategy 'agressive'; did you mean 'aggressive'"):
        calculate_memory_budget(100.0, "agressive")


@pytest.mark.parametrize("written", ["high", "High", "HIGH", MemoryPressureLevel.HIGH])
def test_a_level_is_known_in_any_case(written):
    assert MemoryPressureLevel.HIGH is parse_pressure_level(written)


def test_an_unknown_level_lists_those_there_are():
    with pytest.raises(InvalidSetting, match=r"no pressure level 'panic'; there are: LOW, MODERATE, HIGH, CRITICAL"):
        calculate_memory_budget(1.0, "balanced", "panic")


# --------------------------------------------------------------------------------------------------- granted budgets


def test_a_reserve_of_five_percent_of_the_limit_stays_free():
    granted = grant_budget(reading(4 * GIB, 8 * GIB), STRATEGIES["balanced"], MemoryPressureLevel.LOW)
    reserve = int(8 * GIB * 0.05)
    assert (reserve, int((4 * GIB - reserve) * 0.6)) == (granted.reserve_bytes, granted.granted_bytes)


def test_the_reserve_is_sixteen_mib_at_least_and_half_of_what_is_available_at_most():
    small = grant_budget(reading(100 * MIB, 128 * MIB), STRATEGIES["balanced"], MemoryPressureLevel.LOW)
    tiny = grant_budget(reading(8 * MIB, 128 * MIB), STRATEGIES["balanced"], MemoryPressureLevel.LOW)
    assert (small.reserve_bytes, tiny.reserve_bytes) == (16 * MIB, 4 * MIB)
    assert tiny.granted_bytes == 4 * MIB


def test_an_operator_s_limit_only_lowers():
    row, low = STRATEGIES["aggressive"], MemoryPressureLevel.LOW
    free = grant_budget(reading(), row, low)
    assert grant_budget(reading(), row, low, 5 * MIB).granted_bytes == 5 * MIB
    assert free.granted_bytes == grant_budget(reading(), row, low, 100 * GIB).granted_bytes
    assert grant_budget(reading(), row, MemoryPressureLevel.CRITICAL, 5 * MIB).granted_bytes == 0


def test_what_loads_hold_in_flight_is_not_granted():
    row, low = STRATEGIES["balanced"], MemoryPressureLevel.LOW
    free, busy = grant_budget(reading(), row, low), grant_budget(reading(), row, low, in_flight_bytes=100 * MIB)
    assert busy.in_flight_bytes == 100 * MIB
    assert math.isclose(free.granted_bytes - busy.granted_bytes, 60 * MIB, abs_tol=1)


def test_loads_in_flight_take_a_quarter_at_most():
    granted = grant_budget(reading(), STRATEGIES["balanced"], MemoryPressureLevel.LOW, in_flight_bytes=10**15)
    assert granted.in_flight_bytes == (4 * GIB - granted.reserve_bytes) // 4


def test_the_reason_tells_share_factor_pressure_and_source():
    reason = grant_budget(reading(), STRATEGIES["balanced"], MemoryPressureLevel.MODERATE).reason
    assert reason == (
        "60% x 0.6 (MODERATE pressure) of 3686 MiB: "
        "4096 available under a test, less 410 in reserve and 0 for loads in flight"
    )
    limited = grant_budget(reading(), STRATEGIES["balanced"], MemoryPressureLevel.MODERATE, 2 * MIB).reason
    assert f"the 2 MiB asked for; memory would allow {reason}" == limited


@pytest.mark.parametrize(
    ("argument", "configured", "expected"),
    [(None, None, None), (None, 7, 7), (1.0, None, MIB), (1.0, 7, 7), (0.5, GIB, MIB // 2), (0, 7, 0)],
)
def test_the_lower_of_argument_and_setting_counts(argument, configured, expected):
    assert expected == limit_from_mb(argument, configured)


@pytest.mark.parametrize("argument", [-0.1, math.nan, math.inf, "500"])
def test_a_budget_that_is_no_size_is_refused(argument):
    with pytest.raises(InvalidSetting, match="memory_budget_mb is "):
        limit_from_mb(argument, None)


def test_a_registered_strategy_has_its_own_pressure_factors():
    row = StrategyProfile("mine", 0.5, "ours", pressure_factors=(1.0, 1.0, 0.5, 0.5))
    assert row.budget_ratio(MemoryPressureLevel.HIGH) == 0.25
    assert grant_budget(reading(), row, MemoryPressureLevel.CRITICAL).granted_bytes == 0  # whatever the row says
