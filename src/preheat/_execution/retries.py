"""Which failed items are tried again, and when.

A failed item is tried again after a random wait that is capped and doubles with each attempt [1].

[1] Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: "full jitter".
"""

from __future__ import annotations

import heapq
import random

MAX_ATTEMPTS = 3
BACKOFF_BASE_SECONDS = 0.1
BACKOFF_CAP_SECONDS = 5.0


class Retries:
    """The items that wait for their next attempt.

    Args:
        items: How many items there are.
        seed: Seed of the jitter.
    """

    def __init__(self, items: int, seed: int) -> None:
        self._failures = bytearray(items)
        self._waiting: list[tuple[float, int]] = []
        self._jitter = random.Random(seed)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def next_at(self) -> float:
        """When the first of them is due; there has to be one."""
        return self._waiting[0][0]

    def add(self, item: int, at: float) -> bool:
        """`item` failed at `at`: whether it is tried again, which it then waits for."""
        self._failures[item] = failures = self._failures[item] + 1
        if failures >= MAX_ATTEMPTS:
            return False
        wait = self._jitter.uniform(0.0, min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0**failures))
        heapq.heappush(self._waiting, (at + wait, item))
        return True

    def take_due(self, at: float) -> list[int]:
        """Those whose time has come; they wait no longer."""
        due: list[int] = []
        while self._waiting and self._waiting[0][0] <= at:
            due.append(heapq.heappop(self._waiting)[1])
        return due

    def clear(self) -> None:
        """Nothing is tried again any more."""
        self._waiting.clear()
