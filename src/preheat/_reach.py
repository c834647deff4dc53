"""When to ask a server again that did not answer: at once never, together with others never."""

from __future__ import annotations

import random

RETRY_SECONDS = 1.0
"""The least time between two attempts at a server that is away."""

SPREAD_SECONDS = 0.5  # what is drawn on top, so that those who lost it together do not come back together


class Door:
    """Open while the server answers; after a failure shut, but for one attempt each 1 to 1.5 s.

    Not thread-safe: two threads may both be let in as the one attempt.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._next_attempt_at: float | None = None

    @property
    def is_shut(self) -> bool:
        """Whether the last attempt failed."""
        return self._next_attempt_at is not None

    def lets_in(self, at: float) -> bool:
        """Whether the server may be asked at the instant `at`; while shut, whoever is let in is the one attempt."""
        if self._next_attempt_at is None:
            return True
        if at < self._next_attempt_at:
            return False
        self.failed(at)
        return True

    def failed(self, at: float) -> None:
        """The server did not answer at the instant `at`."""
        self._next_attempt_at = at + RETRY_SECONDS + self._rng.uniform(0.0, SPREAD_SECONDS)

    def answered(self) -> None:
        """The server has answered."""
        self._next_attempt_at = None

    def seconds_shut(self, at: float) -> float:
        """How long from the instant `at` until somebody is let in; 0 while open."""
        return 0.0 if self._next_attempt_at is None else max(0.0, self._next_attempt_at - at)
