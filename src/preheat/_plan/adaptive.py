"""How a strategy is moved by conditions: pressure, the trend of the headroom, and what past runs won.

Only rows that say they adapt are moved; the result is a row again, with the reasons as sentences.  The share moves
between fixed bounds, whatever is told of the past; thresholds only ever become stricter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from preheat._model import MIB, MemoryPressureLevel, MemoryReading, PastRun, WarmupStrategy
from preheat._plan.strategy import STRATEGIES, StrategyProfile

LEAST_SHARE, MOST_SHARE = STRATEGIES[WarmupStrategy.CONSERVATIVE].share, STRATEGIES[WarmupStrategy.AGGRESSIVE].share

STRICTER = {
    MemoryPressureLevel.MODERATE: STRATEGIES[WarmupStrategy.BALANCED].min_probability,
    MemoryPressureLevel.HIGH: STRATEGIES[WarmupStrategy.CONSERVATIVE].min_probability,
    MemoryPressureLevel.CRITICAL: STRATEGIES[WarmupStrategy.CONSERVATIVE].min_probability,
}
"""How likely an item has to be under pressure: as the milder rows demand."""

LEAST_TREND_SECONDS = 10.0
LEAST_TREND_SAMPLES = 4
FALL_LIMIT_SHARE = 128
"""Headroom falls if it has lost more than 1/128 of the limit while it was watched; less is noise."""

LOOK_AHEAD_SECONDS = 120.0
"""What a growing application will take in this time is left to it."""

REMEMBERED_RUNS = 10
FADING = 0.8
"""Each run counts this much of the one after it."""

UNCLEAR_WEIGHT = 0.1
"""What a run counts whose interval includes 0."""

PRIOR_WEIGHT = 1.0
"""Runs are weighed against one that says nothing, so that a single one moves the share by half of the most."""

MOST_MOVE = 0.5
"""By which part of itself the past may move a share."""

BEYOND_KNEE = 0.25
"""Experience above this is a better guide than the knee: one clear gain with nine tenths of its bytes used, say."""


class Sample(NamedTuple):
    """Available bytes at an instant, in seconds of any clock."""

    at: float
    available_bytes: int


class Conditions(NamedTuple):
    """What a strategy adapts to.

    Attributes:
        pressure: The level now.
        reading: Memory now; None if it can't be read.
        samples: The headroom of the last minute, oldest first, without what runs of ours took.
        runs: What runs have won, newest first.
    """

    pressure: MemoryPressureLevel
    reading: MemoryReading | None = None
    samples: Sequence[Sample] = ()
    runs: Sequence[PastRun] = ()


class Adaptation(NamedTuple):
    """A row as conditions would have it, and why it is not the row of the table."""

    profile: StrategyProfile
    reasons: tuple[str, ...]


def adapt_strategy(profile: StrategyProfile, conditions: Conditions) -> Adaptation:
    """`profile` as `conditions` would have it; unchanged if it does not adapt.

    The share is moved by the past, then kept to LEAST_SHARE and MOST_SHARE (or its own, where that is outside of
    them), then lowered by the trend.  A past that clearly speaks for more also takes the plan beyond the knee of its
    value curve, where more memory is expected to buy little.  `pressure_factors` are applied later, when the budget is
    granted.
    """
    if not profile.adapts:
        return Adaptation(profile, ())
    reasons: list[str] = []
    share = _moved_by_past(profile.share, conditions.runs, reasons)
    goes_beyond = profile.to_knee and experience(conditions.runs) > BEYOND_KNEE
    if goes_beyond:
        reasons.append("beyond the knee of the value curve: what past runs loaded was asked for")
    share *= _left_by_trend(conditions, reasons)
    least = max(profile.min_probability, STRICTER.get(conditions.pressure, 0.0))
    if least > profile.min_probability:
        reasons.append(f"{conditions.pressure.name} pressure: only what is at least {least:.0%} likely to be asked for")
    to_knee = profile.to_knee and not goes_beyond
    return Adaptation(replace(profile, share=share, min_probability=least, to_knee=to_knee), tuple(reasons))


def recommend_strategy(conditions: Conditions) -> WarmupStrategy:
    """The strategy that suits `conditions`.

    Short memory asks for the conservative row, memory that is getting short for the balanced one, and so does not
    knowing yet what a warm-up wins.  With memory to spare, runs that clearly won and do not speak for taking less ask
    for the aggressive row, any others for the adaptive one.
    """
    if conditions.pressure >= MemoryPressureLevel.HIGH:
        return WarmupStrategy.CONSERVATIVE
    is_falling = falling_bytes_per_second(conditions.samples, conditions.reading) > 0
    if conditions.pressure == MemoryPressureLevel.MODERATE or is_falling or not conditions.runs:
        return WarmupStrategy.BALANCED
    recent = conditions.runs[:REMEMBERED_RUNS]
    won = experience(recent) >= 0.0 and any(run.low > 0.0 for run in recent)
    return WarmupStrategy.AGGRESSIVE if won else WarmupStrategy.ADAPTIVE


def experience(runs: Sequence[PastRun]) -> float:
    """What `runs`, newest first, say about taking more memory (towards 1) or less (towards -1).

    A run that won votes by how much of what it loaded was used: 1 for all, 0 for half, -1 for nothing.  One that
    won nothing votes -1.  A run whose interval includes 0 counts a tenth, and so do all votes together at most 1.
    """
    recent = runs[:REMEMBERED_RUNS]
    weights = [FADING**age * (1.0 if _is_clear(run) else UNCLEAR_WEIGHT) for age, run in enumerate(recent)]
    votes = [_vote(run) for run in recent]
    return sum(w * v for w, v in zip(weights, votes, strict=True)) / (PRIOR_WEIGHT + sum(weights))


def falling_bytes_per_second(samples: Sequence[Sample], reading: MemoryReading | None) -> float:
    """How fast the headroom falls, 0 if it does not or too little is known.

    The slope of the least-squares line through `samples`.  It counts only over ten seconds at least, and if it makes
    more than 1/128 of the limit over the time that was watched.
    """
    if reading is None or len(samples) < LEAST_TREND_SAMPLES:
        return 0.0
    at = np.array([sample.at for sample in samples]) - samples[0].at
    if at[-1] < LEAST_TREND_SECONDS:
        return 0.0
    available = np.array([sample.available_bytes for sample in samples], np.float64)
    middle = at - at.mean()
    fall = -float(middle @ available) / float(middle @ middle)
    return fall if fall * float(at[-1]) > reading.limit_bytes / FALL_LIMIT_SHARE else 0.0


def _is_clear(run: PastRun) -> bool:
    return run.low > 0.0 or run.high < 0.0


def _vote(run: PastRun) -> float:
    if run.points <= 0.0:
        return -1.0
    return 0.0 if run.unused_ratio is None else 1.0 - 2.0 * run.unused_ratio


def _moved_by_past(share: float, runs: Sequence[PastRun], reasons: list[str]) -> float:
    moved = share * (1.0 + MOST_MOVE * experience(runs))
    moved = min(max(moved, min(share, LEAST_SHARE)), max(share, MOST_SHARE))
    if round(moved, 3) != round(share, 3):
        recent = runs[:REMEMBERED_RUNS]
        clear = [run for run in recent if _is_clear(run)]
        points = f", {np.mean([run.points for run in clear]):+.1f} points on average" if clear else ""
        used = [1.0 - run.unused_ratio for run in recent if run.unused_ratio is not None]
        share_used = f", {np.mean(used):.0%} of the loaded bytes used" if used else ""
        reasons.append(
            f"share {moved:.0%} instead of {share:.0%}: {len(clear)} of the last {len(recent)} measured runs with a "
            f"clear result{points}{share_used}"
        )
    return moved


def _left_by_trend(conditions: Conditions, reasons: list[str]) -> float:
    """The part of what is available that a growing application will leave."""
    reading = conditions.reading
    falling = falling_bytes_per_second(conditions.samples, reading)
    if reading is None or falling <= 0.0:
        return 1.0
    expected_bytes = falling * LOOK_AHEAD_SECONDS
    left = max(0.0, 1.0 - expected_bytes / max(reading.available_bytes, 1))
    reasons.append(
        f"headroom falls by {falling / MIB:.2f} MiB a second: {expected_bytes / MIB:.0f} MiB, two minutes of that, "
        f"are left to whoever takes it"
    )
    return left
