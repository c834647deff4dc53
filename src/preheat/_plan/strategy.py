"""The strategies: rows of one table.

A strategy says how much of the free memory a plan may fill, which candidates deserve a place in it, and what its run
does about pressure.  A new one is a new row (`CacheWarmupService.register_strategy`, or a table of the settings), never
a new class.  How a row is moved by conditions is `adaptive`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from preheat._model import USUAL_RESPONSES, MemoryPressureLevel, PressureResponse, PressureResponses, WarmupStrategy
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
        min_usage_frequency: Items that are expected to be asked for less often, in accesses per second, are left out
            likewise.
        by_priority: Choose by priority first and by value per byte among equals; else by value per byte alone.
        to_knee: Stop at the knee of the value curve, where more memory begins to buy little.
        with_needs: Whether an item may bring what it needs along; else an item with needs of its own is left out
            unless they were chosen for their own sake.
        pressure_factors: What `share` is multiplied by at LOW, MODERATE, HIGH, CRITICAL.
        pressure_response: What a run does at MODERATE, HIGH, CRITICAL.  It never does less at a higher level, and at
            CRITICAL it stops at least.
        adapts: Whether share and thresholds move with pressure, the trend of the headroom and what past runs won.
        falls_back_to: Name of the strategy under which a run goes on while memory is short; empty if it never changes.
    """

    name: str
    share: float
    why: str
    min_priority: int = 1
    min_probability: float = 0.0
    min_usage_frequency: float = 0.0
    by_priority: bool = False
    to_knee: bool = False
    with_needs: bool = True
    pressure_factors: tuple[float, float, float, float] = PRESSURE_FACTORS
    pressure_response: PressureResponses = USUAL_RESPONSES
    adapts: bool = False
    falls_back_to: str = ""

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
        if not 0.0 <= self.min_usage_frequency < math.inf:
            raise InvalidSetting(
                f"strategy {self.name!r}: min_usage_frequency is {self.min_usage_frequency!r}; it has to be a number "
                "of accesses per second, 0 or more"
            )
        _demand_rising(self.name, self.pressure_response)

    def budget_ratio(self, pressure: MemoryPressureLevel) -> float:
        """Part of the available memory that may be filled at `pressure`."""
        return self.share * self.pressure_factors[pressure]


def _demand_rising(name: str, responses: PressureResponses) -> None:
    if responses.critical < PressureResponse.STOP or list(responses) != sorted(responses):
        words = ", ".join(response.name.lower() for response in responses)
        raise InvalidSetting(
            f"strategy {name!r}: pressure_response is {words}; it must not become milder from MODERATE to CRITICAL, "
            "and at CRITICAL it has to be stop or roll_back"
        )


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
            adapts=True,
            falls_back_to=WarmupStrategy.CONSERVATIVE,
            why="fills memory up to the knee of the value curve, more or less of it by how memory and past runs went",
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


def strategy_row(name: str, rules: Mapping[str, Any], known: StrategyProfile | None = None) -> StrategyProfile:
    """The row called `name` that `rules` make: fields of the table by name, over those of the `known` row, if any.

    Responses to pressure may be given as text.

    Raises:
        InvalidSetting: A rule is not known, `share` is missing, or a value can't be used.
    """
    values = {rule: _parse(name, rule, raw) for rule, raw in rules.items()}
    if known is not None:
        return replace(known, **values)
    if "share" not in values:
        raise InvalidSetting(f"strategy {name!r}: its share of the free memory is missing; add share, from 0 to 1")
    return StrategyProfile(name=name, why=values.pop("why", "") or "added by the application", **values)


def configure_strategies(
    tables: Mapping[str, Mapping[str, Any]], known: Mapping[str, StrategyProfile] = STRATEGIES
) -> dict[str, StrategyProfile]:
    """The `known` rows with those of `tables`: a table of a known name changes the row, any other one adds a row.

    Raises:
        InvalidSetting: A rule is not known or can't be used.
        UnknownStrategy: A row falls back to a strategy that does not exist.
    """
    rows = dict(known)
    plain = {_plain(name): name for name in rows}
    for name, rules in tables.items():
        name = plain.get(_plain(name), name)
        rows[name] = strategy_row(name, rules, rows.get(name))
    for name in tables:
        find_fallback(find_strategy(name, rows), rows)
    return rows


def find_fallback(profile: StrategyProfile, table: Mapping[str, StrategyProfile]) -> StrategyProfile | None:
    """The row under which a run of `profile` goes on while memory is short; None if it never changes.

    Raises:
        UnknownStrategy: It is not in `table`.
    """
    if not profile.falls_back_to:
        return None
    try:
        return find_strategy(profile.falls_back_to, table)
    except UnknownStrategy as error:
        raise UnknownStrategy(f"strategy {profile.name!r}: falls_back_to can't be followed: {error}") from None


def _parse(name: str, rule: str, raw: Any) -> Any:
    if rule not in _PARSERS:
        raise InvalidSetting(
            f"strategy {name!r}: {rule} is not a rule; {nearest(rule, _PARSERS)}there are: {', '.join(_PARSERS)}"
        )
    expected, parse = _PARSERS[rule]
    value = parse(raw)
    if value is None:
        raise InvalidSetting(f"strategy {name!r}: {rule} is {raw!r}; it has to be {expected}")
    return value


def _number(raw: Any) -> float | None:
    return float(raw) if isinstance(raw, int | float) and not isinstance(raw, bool) else None


def _whole(raw: Any) -> int | None:
    return raw if isinstance(raw, int) and not isinstance(raw, bool) else None


def _truth(raw: Any) -> bool | None:
    return raw if isinstance(raw, bool) else None


def _text(raw: Any) -> str | None:
    return str(raw) if isinstance(raw, str) else None


def _factors(raw: Any) -> tuple[float, ...] | None:
    if not isinstance(raw, Sequence) or isinstance(raw, str) or len(raw) != len(MemoryPressureLevel):
        return None
    factors = tuple(factor for factor in map(_number, raw) if factor is not None)
    return factors if len(factors) == len(raw) else None


def _responses(raw: Any) -> PressureResponses | None:
    if not isinstance(raw, Sequence) or isinstance(raw, str) or len(raw) != len(PressureResponses._fields):
        return None
    words = [r.name if isinstance(r, PressureResponse) else _plain(r).upper() for r in raw]
    known = PressureResponse.__members__
    return PressureResponses(*(known[word] for word in words)) if all(word in known for word in words) else None


_WORDS = ", ".join(response.name.lower() for response in PressureResponse)
_YES_OR_NO = ("true or false", _truth)
_RATIO = ("a number from 0 to 1", _number)
_PARSERS: dict[str, tuple[str, Any]] = {
    "share": _RATIO,
    "why": ("text", _text),
    "min_priority": ("a whole number from 1 to 10", _whole),
    "min_probability": _RATIO,
    "min_usage_frequency": ("a number of accesses per second, 0 or more", _number),
    "by_priority": _YES_OR_NO,
    "to_knee": _YES_OR_NO,
    "with_needs": _YES_OR_NO,
    "pressure_factors": ("four numbers from 0 to 1, for LOW, MODERATE, HIGH and CRITICAL", _factors),
    "pressure_response": (f"three of {_WORDS}, for MODERATE, HIGH and CRITICAL", _responses),
    "adapts": _YES_OR_NO,
    "falls_back_to": ("the name of a strategy", _text),
}
