"""By how much the process grows while a load goes on: what a load holds while it makes its value."""

from __future__ import annotations

import sys
from collections.abc import Callable

from preheat._model import MemoryReading


class Growth:
    """Measures loads of which nobody knows yet what they hold; told of all of them, since only one alone tells.

    Args:
        read: Reads memory; None where it can't be read.
    """

    def __init__(self, read: Callable[[], MemoryReading | None]) -> None:
        self._read = read
        self._begun = self._ended = 0

    def begin(self, *, is_known: bool) -> Callable[[], int]:
        """A run of loads begins: a function that tells, at its end, by how many bytes the process has grown at most.

        0 where that is not known: another load went on meanwhile, or the process has been larger before; or where it
        need not be measured, since what such loads hold `is_known`.
        """
        is_alone = self._begun == self._ended
        self._begun += 1
        if not is_alone or is_known:
            return self._end_unmeasured
        number, peak_before, resident = self._begun, peak_process_bytes(), self._read()

        def grown_bytes() -> int:
            self._ended += 1
            if resident is None or number != self._begun:
                return 0
            peak = peak_process_bytes()
            return peak - resident.process_bytes if peak > peak_before else 0

        return grown_bytes

    def _end_unmeasured(self) -> int:
        self._ended += 1
        return 0


def peak_process_bytes() -> int:
    """The most memory that this process ever had resident; 0 where the system does not tell."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
