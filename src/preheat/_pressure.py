"""When memory counts as short: a reading and the level before it become the level now.

Byte headroom decides first, because the kernel kills a growing process before its stall figures move; stall comes
second, for what bytes don't show: page cache thrashing and neighbours.  A signal of the kernel or of the service
manager raises the level for a while.  How memory is read and signals are heard is not here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from preheat._model import MIB, MemoryPressureLevel, MemoryReading

GIB = 1024 * MIB


class Threshold(NamedTuple):
    """Where a level begins: at this much headroom or less, or at this much stall or more.

    The headroom is `headroom_ratio` of the limit, but at least `least_bytes`, since a small limit is used up by a
    few values at once, and at most `most_bytes`, since a share of a big one is far more than any warm-up takes.
    """

    level: MemoryPressureLevel
    headroom_ratio: float
    least_bytes: int
    most_bytes: int
    stall: float


THRESHOLDS = (
    Threshold(MemoryPressureLevel.MODERATE, 0.25, 64 * MIB, 8 * GIB, 0.05),
    Threshold(MemoryPressureLevel.HIGH, 0.12, 32 * MIB, 4 * GIB, 0.20),
    Threshold(MemoryPressureLevel.CRITICAL, 0.05, 16 * MIB, 2 * GIB, math.inf),
)
"""Stall alone never makes memory CRITICAL: it says that somebody waits, not that the next byte kills."""

SMALL_LIMIT_FACTOR = 2
"""`least_bytes` asks for at most this many times the ratio; otherwise a tiny limit would never be LOW again."""

FALL_MARGIN_RATIO = 0.05
FALL_MARGIN_MOST_BYTES = GIB
FALL_STALL_RATIO = 0.5
"""A level is left at this share of the stall that began it, and with the margin on top of its headroom."""

SIGNAL_HOLD_SECONDS = 4.5
"""A signal counts for two windows of 2 s and a quarter of one.

It comes once per window at most while pressure lasts, and a trigger without privilege skips a turn now and then.
"""


class Signal(NamedTuple):
    """A notification of pressure: the level that it stands for, and when it was heard."""

    level: MemoryPressureLevel
    at: float


def held_level(signal: Signal | None, at: float) -> MemoryPressureLevel:
    """The level below which memory must not be taken to be at the instant `at`, having heard `signal`."""
    if signal is None or at - signal.at >= SIGNAL_HOLD_SECONDS:
        return MemoryPressureLevel.LOW
    return signal.level


def strongest_signal(before: Signal | None, heard: Signal) -> Signal:
    """What is to be held after `heard`: a milder signal does not end a stronger one that is still held."""
    if before is not None and held_level(before, heard.at) > heard.level:
        return before
    return heard


def pressure_level(
    reading: MemoryReading, previous: MemoryPressureLevel = MemoryPressureLevel.LOW
) -> MemoryPressureLevel:
    """How short memory is, given that it was `previous` before.

    Rising is immediate, over any number of levels.  Falling goes, in one step, to the highest level that `reading`
    has not left by the margin; so a repeated reading changes nothing.  For one limit the level never drops when
    there is less available or more stall, and `previous` can only delay falling.
    """
    return max(
        (
            threshold.level
            for threshold in THRESHOLDS
            if _has_begun(threshold, reading) or (threshold.level <= previous and _has_not_left(threshold, reading))
        ),
        default=MemoryPressureLevel.LOW,
    )


def outlook_level(
    reading: MemoryReading, more_bytes: int, previous: MemoryPressureLevel = MemoryPressureLevel.LOW
) -> MemoryPressureLevel:
    """How short memory would be, were `more_bytes` used beyond what `reading` shows."""
    return pressure_level(reading._replace(used_bytes=reading.used_bytes + max(0, more_bytes)), previous)


def expected_level(reading: MemoryReading, planned_bytes: int) -> MemoryPressureLevel:
    """How short memory may be once `planned_bytes` are loaded, going by the reading that they were planned with.

    What others take meanwhile is no surprise up to the margin by which levels are left.
    """
    return outlook_level(reading, planned_bytes + int(_margin_bytes(reading.limit_bytes)))


def headroom_bytes(threshold: Threshold, limit_bytes: int) -> float:
    """The headroom under a limit of `limit_bytes` at which the level of `threshold` begins."""
    share = threshold.headroom_ratio * limit_bytes
    least = min(threshold.least_bytes, SMALL_LIMIT_FACTOR * share)
    return min(max(share, least), threshold.most_bytes)


def _has_begun(threshold: Threshold, reading: MemoryReading) -> bool:
    # "<=", so that a limit of nothing is CRITICAL
    return reading.available_bytes <= headroom_bytes(threshold, reading.limit_bytes) or reading.stall >= threshold.stall


def _margin_bytes(limit_bytes: int) -> float:
    return min(FALL_MARGIN_RATIO * limit_bytes, FALL_MARGIN_MOST_BYTES)


def _has_not_left(threshold: Threshold, reading: MemoryReading) -> bool:
    margin = _margin_bytes(reading.limit_bytes)
    return (
        reading.available_bytes <= headroom_bytes(threshold, reading.limit_bytes) + margin
        or reading.stall >= FALL_STALL_RATIO * threshold.stall
    )
