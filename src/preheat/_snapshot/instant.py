"""What time it is at least, whatever somebody did to the clock.

Beside the wall clock there is one that counts from the boot of the machine, sleep included, and can't be set.  As long
as the machine has not been booted since, it says how much time has passed; then downtime counts in full, and no item
lives longer because a clock was put back.
"""

from __future__ import annotations

import time
from functools import cache
from typing import NamedTuple

_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Instant(NamedTuple):
    """An instant by both clocks: Unix seconds, and seconds since the boot called `boot` ("" if it has no name)."""

    at: float
    boot: str
    since_boot: float


def read_instant() -> Instant:
    """Now."""
    return Instant(time.time(), _boot(), time.clock_gettime(_SINCE_BOOT))


@cache
def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read(64).strip()
    except (OSError, ValueError):
        return ""


def at_least(now: Instant, known: Instant) -> float:
    """Unix seconds that it is by now at least, going by what it was at the `known` instant."""
    if not known.boot or known.boot != now.boot:
        return now.at
    return max(now.at, known.at + now.since_boot - known.since_boot)
