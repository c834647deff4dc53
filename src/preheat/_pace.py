"""How fast a run goes: by what it did in the last seconds, since the next ones will be like those."""

from __future__ import annotations

from array import array

PACE_SECONDS = 5.0
MOST_SAMPLES = 64


class Pace:
    """The rates of a run, going by samples of how far it had come.

    The samples are numbers in arrays: an object of each would pin the memory of the values that are loaded beside it.
    """

    def __init__(self) -> None:
        self.items_per_second = self.bytes_per_second = 0.0
        self._at = array("d", bytes(8 * MOST_SAMPLES))
        self._done, self._bytes = array("q", bytes(8 * MOST_SAMPLES)), array("q", bytes(8 * MOST_SAMPLES))
        self._first = self._next = 0  # of the samples that count; places are these modulo their number

    def note(self, at: float, done: int, loaded_bytes: int) -> None:
        """At the instant `at`, `done` items had ended and `loaded_bytes` were loaded."""
        place = self._next % MOST_SAMPLES
        self._at[place], self._done[place], self._bytes[place] = at, done, loaded_bytes
        self._next += 1
        self._first = max(self._first, self._next - MOST_SAMPLES)
        while self._next - self._first > 2 and self._at[(self._first + 1) % MOST_SAMPLES] <= at - PACE_SECONDS:
            self._first += 1
        oldest = self._first % MOST_SAMPLES
        if at > self._at[oldest]:
            seconds = at - self._at[oldest]
            self.items_per_second = (done - self._done[oldest]) / seconds
            self.bytes_per_second = max(0, loaded_bytes - self._bytes[oldest]) / seconds
