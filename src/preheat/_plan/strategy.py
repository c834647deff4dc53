"""The strategies: rows of one table.

A strategy says how much of the free memory a plan may fill and which candidates deserve a place in it.  A new one
is a new row (`CacheWarmupService.register_strategy`), never a new class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from preheat._model import MemoryPressureLevel, WarmupStrategy
from preheat.errors import InvalidSetting, UnknownStrategy, nearest

PRESSURE_FACTORS = (1.0, 0.6, 0.2, 0.0)


@dataclass(frozen=True, slots=True)
class StrategyProfile:
    """One strategy.

    Attributes:
        name: What it is called in settings and on the command line.
        share: Part of the available memory that it may fill at LOW pressure.
        why: One sentence for people.
        min_priority: Items below are left out.
        min_probability: Items less likely to be asked for within the horizon are left out, unless their priority
            is critical (8 or more).
        by_priority: Choose by priority first and by value per byte among equals; else by value per byte alone.
        to_knee: Stop at the knee of the value curve, where more memory begins to buy little.
        with_needs: Whether an item may bring what it needs along; else an item with needs of its own is left out
            unless they were chosen for their own sake.
        pressure_factors: What `share` is multiplied by at LOW, MODERATE, HIGH, CRITICAL.
    """

    name: str
    share: float
    why: str
    min_priority: int = 1
    min_probability: float = 0.0
    by_priority: bool = False
    to_knee: bool = False
    with_needs: bool = True
    pressure_factors: tuple[float, float, float, float] = PRESSURE_FACTORS

    def __post_init__(self) -> None:
        ratios = {"share": self.share, "min_probability": self.min_probability}
        ratios |= {f"pressure_factors[{i}]": f for i, f in enumerate(self.pressure_factors)}
        for name, ratio in ratios.items():
            if not 0.0 <= ratio <= 1.0:
                raise InvalidSetting(f"strategy {self.name!r}: {name} is {ratio!r}; it has to be from 0 to 1")
        if not 1 <= self.min_priority <= 10:
            raise InvalidSetting(
                f"strategy {self.name!r}: min_priority is {self.min_priority!r}; it has to be from 1 to 10"
            )

    def budget_ratio(self, pressure: MemoryPressureLevel) -> float:
        """Part of the available memory that may be filled at `pressure`."""
        return self.share * self.pressure_factors[pressure]


STRATEGIES: Mapping[str, StrategyProfile] = {
    profile.name: profile
    for profile in (
        StrategyProfile(
            name=WarmupStrategy.AGGRESSIVE,
            share=0.8,
            why="takes everything that has ever been asked for, most valuable per byte first",
        ),
        StrategyProfile(
            name=WarmupStrategy.BALANCED,
            share=0.6,
            min_probability=0.05,
            why="takes what is asked for with some regularity, most valuable per byte first",
        ),
        StrategyProfile(
            name=WarmupStrategy.CONSERVATIVE,
            share=0.2,
            min_probability=0.8,
            why="takes only what is critical: priority 8 and above, or almost certain to be asked for",
        ),
        StrategyProfile(
            name=WarmupStrategy.ADAPTIVE,
            share=0.7,
            to_knee=True,
            why="fills memory up to the knee of the value curve, where more bytes begin to buy little",
        ),
        StrategyProfile(
            name=WarmupStrategy.PRIORITY_BASED,
            share=0.5,
            min_priority=7,
            by_priority=True,
            why="takes what the operator ranked 7 or higher, in that order, and nothing else",
        ),
    )
}


def find_strategy(name: str, table: Mapping[str, StrategyProfile] = STRATEGIES) -> StrategyProfile:
    """The row called `name`.

    Raises:
        UnknownStrategy: There is none; names the nearest one and all there are.
    """
    wanted = _plain(name)
    for known, profile in table.items():
        if _plain(known) == wanted:
            return profile
    raise UnknownStrategy(f"there is no strategy {name!r}; {nearest(wanted, table)}there are: {', '.join(table)}")


def _plain(name: str) -> str:
    return str(name).strip().lower().replace("-", "_")


def recommend_strategy(pressure: MemoryPressureLevel, measured_points: float | None = None) -> WarmupStrategy:
    """The strategy that suits `pressure` and what the last run won (percentage points; None if not measured).

    Short memory asks for the conservative row.  With memory to spare and a measured gain, the aggressive one;
    until a gain has been measured, the balanced one; where a warm-up won nothing, the adaptive one.
    """
    if pressure >= MemoryPressureLevel.HIGH:
        return WarmupStrategy.CONSERVATIVE
    if pressure == MemoryPressureLevel.MODERATE or measured_points is None:
        return WarmupStrategy.BALANCED
    return WarmupStrategy.AGGRESSIVE if measured_points > 0 else WarmupStrategy.ADAPTIVE
