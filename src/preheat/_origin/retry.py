"""Retries: how many an origin is worth, and when one may go.

An origin that is overloaded fails more and is then asked again, which overloads it more.  So retries are paid for:
each first request adds a tenth of one [1].  When nothing is left, what fails waits for the later pass.  The wait before
a retry is random up to a bound that doubles with each try, and is capped [2].

[1] Beyer et al. (eds), "Site Reliability Engineering" (2016), chapter 21: retries below a tenth of the requests.
[2] Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: "full jitter".
"""

from __future__ import annotations

import random

MAX_ATTEMPTS = 3
"""Of an item, over both passes."""

FIRST_PASS_ATTEMPTS = 2
"""The last one is kept for the later pass, when the origin may have healed."""

RETRY_RATIO = 0.1
RETRY_FLOOR = 10.0
"""Retries that are there at the beginning, so that a small run has any."""

RETRY_CAP = 100.0
"""Retries that can be saved up at the most: what an origin earned in health is not all spent on its first fault."""

BACKOFF_BASE_SECONDS = 0.1
BACKOFF_CAP_SECONDS = 5.0


class RetryBudget:
    """The retries that are left: `RETRY_FLOOR` and a tenth of the first requests, less those that went."""

    __slots__ = ("_earned_from", "_left")

    def __init__(self) -> None:
        self._left, self._earned_from = RETRY_FLOOR, 0

    def spend(self, first_requests: int) -> bool:
        """Take one retry, if one is left after so many first requests in all."""
        new = max(0, first_requests - self._earned_from)
        self._left = min(RETRY_CAP, self._left + new * RETRY_RATIO)
        self._earned_from += new
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def backoff_seconds(tries: int, jitter: random.Random) -> float:
    """How long to wait before the next try after `tries` of them."""
    return jitter.uniform(0.0, min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0**tries))
