"""A token bucket: so much per second on average, and a burst at the most.

What is asked for at once may be larger than the burst: it starts when the bucket is full and leaves it in debt, so that
the average holds and nothing waits for ever.  In any span of T seconds it lets pass at most rate x T + burst, and
beyond that the part of one amount that did not fit the burst [1].

[1] Turner, "New directions in communications (or which way to the information age?)", IEEE Communications Magazine 24
    (1986): the leaky bucket; ours is its mirror image.
"""

from __future__ import annotations

import math


class TokenBucket:
    """Tokens that come at `rate` per second, up to `burst` of them; full at the beginning.

    Args:
        rate: Tokens per second, positive.
        burst: What may pass at once after a rest, in tokens, positive.
    """

    __slots__ = ("_at", "_level", "burst", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self._level, self._at = burst, -math.inf

    def ready_at(self, at: float, amount: float) -> float:
        """The instant from which on `amount` may be taken; `at` or before if it may be taken now."""
        missing = min(amount, self.burst) - self._level_at(at)
        return at + missing / self.rate if missing > _ROUNDING * self.burst else at

    def take(self, at: float, amount: float) -> None:
        """Take `amount`, whether or not it is there; a negative one is given back."""
        self._level = min(self.burst, self._level_at(at) - amount)
        self._at = max(at, self._at)

    def _level_at(self, at: float) -> float:
        passed = at - self._at
        return min(self.burst, self._level + passed * self.rate) if passed > 0.0 else self._level


_ROUNDING = 1e-9
"""So little may be missing, as a part of the burst: or the instant that was named would be too early by a bit."""
