"""How long a run was under which pressure, and how long it stood still for want of memory."""

from __future__ import annotations

from array import array

from preheat._model import MemoryPressureLevel, PressureExposure


class ExposureClock:
    """Adds up the time of a run by level, as it is told where memory stands.

    What is noted holds until the next note.  Numbers in an array, since an object made between the values that are
    loaded would pin their memory.
    """

    def __init__(self) -> None:
        self._seconds = array("d", bytes(8 * len(MemoryPressureLevel)))
        self._at: float | None = None
        self._level, self._is_waiting = MemoryPressureLevel.LOW, False
        self._pauses, self._paused_seconds = 0, 0.0

    def note(self, at: float, level: MemoryPressureLevel, *, is_waiting: bool) -> None:
        """From the instant `at` on, the pressure is `level`, and nothing starts for want of memory if `is_waiting`."""
        if self._at is not None:
            seconds = max(0.0, at - self._at)
            self._seconds[self._level] += seconds
            self._paused_seconds += seconds if self._is_waiting else 0.0
        self._pauses += is_waiting and not self._is_waiting
        self._at, self._level, self._is_waiting = at, level, is_waiting

    def exposure(self) -> PressureExposure:
        """What has been added up, until the last note."""
        return PressureExposure(tuple(self._seconds), self._pauses, self._paused_seconds)
