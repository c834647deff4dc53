"""How fast a run goes: by what it did in the last seconds, since the next ones will be like those."""

from __future__ import annotations

from collections import deque

PACE_SECONDS = 5.0
MOST_SAMPLES = 64


class Pace:
    """The rates of a run, going by samples of how far it had come."""

    def __init__(self) -> None:
        self.items_per_second = self.bytes_per_second = 0.0
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=MOST_SAMPLES)

    def note(self, at: float, done: int, loaded_bytes: int) -> None:
        """At the instant `at`, `done` items had ended and `loaded_bytes` were loaded."""
        self._samples.append((at, done, loaded_bytes))
        while len(self._samples) > 2 and self._samples[1][0] <= at - PACE_SECONDS:
            self._samples.popleft()
        since, done_before, bytes_before = self._samples[0]
        if at > since:
            self.items_per_second = (done - done_before) / (at - since)
            self.bytes_per_second = max(0, loaded_bytes - bytes_before) / (at - since)
