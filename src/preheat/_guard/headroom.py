"""Whether others take memory while a run does."""

from __future__ import annotations

from array import array

from preheat._guard.experience import REMEMBERED
from preheat._model import MIB

FALL_SECONDS = 0.5
FALL_LEAST_BYTES = 2 * MIB
FALL_LIMIT_SHARE = 128
"""Headroom is falling if others took more than this in FALL_SECONDS: 1/128 of the limit, and 2 MiB at least."""


class Headroom:
    """What there was to have of memory at the newest readings, whether or not the run has taken it by now."""

    __slots__ = ("_at", "_bytes", "_noted")

    def __init__(self) -> None:
        self._at, self._bytes = array("d", bytes(8 * REMEMBERED)), array("q", bytes(8 * REMEMBERED))
        self._noted = 0

    def fallen_bytes(self, at: float, free_bytes: int) -> int:
        """By how much it has fallen in FALL_SECONDS, now that it is `free_bytes`."""
        n = self._noted % REMEMBERED
        self._at[n], self._bytes[n] = at, min(free_bytes, 2**62)
        self._noted += 1
        newest_first = (
            number % REMEMBERED for number in range(self._noted - 1, max(-1, self._noted - 1 - REMEMBERED), -1)
        )
        before = free_bytes
        for n in newest_first:
            before = self._bytes[n]
            if self._at[n] <= at - FALL_SECONDS:
                break
        return before - free_bytes
