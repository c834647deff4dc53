"""From a memory reading to the bytes that a plan may fill."""

from __future__ import annotations

import math

from preheat._model import MIB, MemoryBudget, MemoryPressureLevel, MemoryReading
from preheat._plan.strategy import StrategyProfile, find_strategy
from preheat.errors import InvalidSetting

FLOOR_BYTES = 10 * MIB
RESERVE_RATIO = 0.05
MIN_RESERVE_BYTES = 16 * MIB


def calculate_memory_budget(
    available_memory_mb: float,
    strategy: str = "balanced",
    pressure_level: MemoryPressureLevel | str = MemoryPressureLevel.LOW,
) -> float:
    """MiB that a warm-up may fill: share of `strategy` x factor of `pressure_level` x available memory.

    At least 10 MiB unless the pressure is CRITICAL, then 0; never more than what is available.

    Raises:
        InvalidSetting: The memory is negative or not a number, or the level is not known.
        UnknownStrategy: No strategy has that name.
    """
    if not (isinstance(available_memory_mb, int | float) and 0 <= available_memory_mb < math.inf):
        raise InvalidSetting(f"available_memory_mb is {available_memory_mb!r}; it has to be 0 or more MiB")
    level = parse_pressure_level(pressure_level)
    return budget_bytes(int(available_memory_mb * MIB), find_strategy(strategy), level) / MIB


def budget_bytes(available_bytes: int, profile: StrategyProfile, pressure: MemoryPressureLevel) -> int:
    """The same in bytes, for a row of the strategy table."""
    if pressure == MemoryPressureLevel.CRITICAL:
        return 0
    wanted = int(available_bytes * profile.budget_ratio(pressure))
    return min(available_bytes, max(FLOOR_BYTES, wanted))


def grant_budget(
    reading: MemoryReading,
    profile: StrategyProfile,
    pressure: MemoryPressureLevel,
    limit_bytes: int | None = None,
    in_flight_bytes: int = 0,
) -> MemoryBudget:
    """What a plan may fill now.

    A reserve is kept free first: 5 % of the limit and at least 16 MiB, but never more than half of what is
    available.  So is what loads hold at their peak, `in_flight_bytes`, but at most a quarter of the rest.
    `limit_bytes`, an operator's word, only ever lowers the result.
    """
    reserve = min(max(int(reading.limit_bytes * RESERVE_RATIO), MIN_RESERVE_BYTES), reading.available_bytes // 2)
    in_flight = min(in_flight_bytes, (reading.available_bytes - reserve) // 4)
    free_bytes = reading.available_bytes - reserve - in_flight
    granted = budget_bytes(free_bytes, profile, pressure)
    reason = (
        f"{profile.share:.0%} x {profile.pressure_factors[pressure]:g} ({pressure.name} pressure) of "
        f"{free_bytes / MIB:.0f} MiB: {reading.available_bytes / MIB:.0f} available under {reading.source}, less "
        f"{reserve / MIB:.0f} in reserve and {in_flight / MIB:.0f} for loads in flight"
    )
    if limit_bytes is not None and limit_bytes < granted:
        granted, reason = limit_bytes, f"the {limit_bytes / MIB:g} MiB asked for; memory would allow {reason}"
    return MemoryBudget(granted, reserve, in_flight, pressure, reading, reason)


def limit_from_mb(memory_budget_mb: float | None, configured_bytes: int | None) -> int | None:
    """The lower of an argument in MiB and a configured limit in bytes; None if neither is given.

    Raises:
        InvalidSetting: The argument is negative or not a number.
    """
    if memory_budget_mb is None:
        return configured_bytes
    if not (isinstance(memory_budget_mb, int | float) and 0 <= memory_budget_mb < math.inf):
        raise InvalidSetting(f"memory_budget_mb is {memory_budget_mb!r}; it has to be a number of MiB, 0 or more")
    asked = int(memory_budget_mb * MIB)
    return asked if configured_bytes is None else min(asked, configured_bytes)


def parse_pressure_level(level: MemoryPressureLevel | str) -> MemoryPressureLevel:
    """The level called `level`, in any case.

    Raises:
        InvalidSetting: There is none.
    """
    if isinstance(level, MemoryPressureLevel):
        return level
    try:
        return MemoryPressureLevel[str(level).upper()]
    except KeyError:
        names = ", ".join(name.name for name in MemoryPressureLevel)
        raise InvalidSetting(f"there is no pressure level {level!r}; there are: {names}") from None
