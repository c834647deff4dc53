"""Which failed items are tried again, and when.

The gate of their origin says so; without one they are tried again after a random wait that doubles with each try.
"""

from __future__ import annotations

import heapq
import random

from preheat._origin.retry import MAX_ATTEMPTS, backoff_seconds


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

    def count_failure(self, item: int) -> int:
        """`item` has failed: how often by now."""
        self._failures[item] += 1
        return self._failures[item]

    def retry_at(self, at: float, tries: int) -> float | None:
        """When an item without a gate is tried again after so many tries; None if never."""
        return at + backoff_seconds(tries, self._jitter) if tries < MAX_ATTEMPTS else None

    def add(self, item: int, due_at: float) -> None:
        """`item` is tried again when it is due."""
        heapq.heappush(self._waiting, (due_at, item))

    def take_due(self, at: float) -> list[int]:
        """Those whose time has come; they wait no longer."""
        due: list[int] = []
        while self._waiting and self._waiting[0][0] <= at:
            due.append(heapq.heappop(self._waiting)[1])
        return due

    def clear(self) -> None:
        """Nothing is tried again any more."""
        self._waiting.clear()
