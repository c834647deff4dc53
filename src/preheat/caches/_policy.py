"""What a cache keeps: S3-FIFO over bytes (`_queues`), or a clock where that serves better (`_duel`).

Pure: slots, tags and sizes in, evictions out.  Decision 0024 has the measurements.
"""

from __future__ import annotations

from collections.abc import Iterator

from preheat.caches._duel import Duel
from preheat.caches._queues import MOST_USES, WATCHED, Queues

__all__ = ["MOST_USES", "WATCHED", "Policy"]


class Policy:
    """Decides what leaves a cache of `capacity_bytes`; what is in it is known by slots, small numbers from 0.

    A hit is `uses[slot] += 1` up to `MOST_USES`; where the slot is `WATCHED`, it is `use(slot)` instead.  A tag is a
    64-bit hash of the key.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._queues, self._duel = Queues(capacity_bytes), Duel(capacity_bytes)
        self.uses, self.size_bytes, self.tags = self._queues.uses, self._queues.size_bytes, self._queues.tags

    def add(self, slot: int, tag: int, size_bytes: int) -> None:
        """Take in what traffic loaded, for which there is room."""
        self._queues.set_aside(slot, tag, size_bytes)
        self._enqueue(slot)

    def set_aside(self, slot: int, tag: int, size_bytes: int) -> None:
        """Take note of what a warm-up loaded; `evict` does not take it, and its first use is watched."""
        self._queues.set_aside(slot, tag, size_bytes)
        self.uses[slot] = WATCHED

    def use(self, slot: int) -> None:
        """Traffic uses `slot`, which is watched; if it was set aside, it is now as if traffic had loaded it."""
        if self._queues.is_aside(slot):
            self.uses[slot] = 0
            self._enqueue(slot)
            return
        tag, uses = self.tags[slot], self.uses[slot] & MOST_USES
        is_sampled = self._duel.samples(tag)
        self.uses[slot] = min(uses + 1, MOST_USES) | (WATCHED if is_sampled else 0)
        if is_sampled:
            self._tell(tag, self.size_bytes[slot])

    def is_aside(self, slot: int) -> bool:
        """Whether a warm-up loaded `slot` and nobody used it since."""
        return self._queues.is_aside(slot)

    def remove(self, slot: int) -> None:
        """Forget `slot`: it leaves the cache for another reason than for want of room."""
        self._queues.remove(slot)

    def evict(self, excess_bytes: int) -> list[int]:
        """Forget so many of what traffic loaded that they have `excess_bytes` together, or all of it."""
        return self._queues.evict(excess_bytes)

    def coldest(self) -> Iterator[int]:
        """What traffic loaded, about in the order in which it would leave."""
        return self._queues.coldest()

    def _enqueue(self, slot: int) -> None:
        tag = self.tags[slot]
        if self._duel.samples(tag):
            self._tell(tag, self.size_bytes[slot])
            self.uses[slot] |= WATCHED
        self._queues.take_over(slot)

    def _tell(self, tag: int, size_bytes: int) -> None:
        self._duel.tell(tag, size_bytes)
        self._queues.manner = self._duel.manner
