"""Whether others take memory while a run does."""

from __future__ import annotations

from preheat._guard.experience import REMEMBERED
from preheat._model import MIB
from preheat._samples import Samples

FALL_SECONDS = 0.5
FALL_LEAST_BYTES = 2 * MIB
FALL_LIMIT_SHARE = 128
"""Headroom is falling if others took more than this in FALL_SECONDS: 1/128 of the limit, and 2 MiB at least."""


class Headroom:
    """What there was to have of memory at the newest readings, whether or not the run has taken it by now."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen = Samples(REMEMBERED)

    def fallen_bytes(self, at: float, free_bytes: int) -> int:
        """By how much it has fallen in FALL_SECONDS, now that it is `free_bytes`."""
        self._seen.add(at, free_bytes)
        return self._seen.as_of(at - FALL_SECONDS) - free_bytes
