"""In which manner a cache had better evict: shadows of it, one for each, run on a sample of the keys.

Probation wins nearly everywhere, and loses where traffic goes by recency alone.  So a sample of the keys, drawn by
their hash as miniature simulations do [1], is replayed in each manner, by caches scaled down like the traffic.  The
cache follows the one that had hits where the present one had none, once chance does not explain it.  A shadow holds
tags of at most `LARGEST` items, so what this costs does not grow with the cache.

[1] Waldspurger, Saemundsson, Ahmad, Park, *Cache Modeling and Optimization using Miniature Simulations*, ATC 2017.
"""

from __future__ import annotations

import math

from preheat.caches._queues import MANNERS, MOST_USES, PROBATION_FIRST, Queues

LARGEST = 128  # items of a shadow, beyond which every other key is dropped from the sample
SMALLEST = 16  # items of a full shadow, below which the sample is doubled
TOO_LARGE = 0.25  # share of the sample that is larger than a shadow, above which the sample is doubled
ROUND = 5  # accesses of the sample, for each item of a shadow, after which the winner is asked for
SURE = 1.0  # standard deviations by which another manner has to lead


class Duel:
    """Says, access by access of a sample, in which manner to evict.

    Attributes:
        manner: The one, of `MANNERS`.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.manner = PROBATION_FIRST
        self._capacity_bytes = capacity_bytes
        self._begin(0)

    def _begin(self, halvings: int) -> None:
        self._halvings, self._mask = halvings, (1 << halvings) - 1
        scaled_bytes = max(1, self._capacity_bytes >> halvings)
        self._shadows = [_Shadow(scaled_bytes, manner) for manner in MANNERS]
        self._won = [[0.0 for _ in MANNERS] for _ in MANNERS]  # hits of the one where the other had none
        self._accesses = self._passed = 0

    def samples(self, tag: int) -> bool:
        """Whether accesses to `tag` are to be told."""
        return not tag & self._mask

    def tell(self, tag: int, size_bytes: int) -> None:
        """An access to `tag`, which is one of the sample."""
        hits = [shadow.access(tag, size_bytes) for shadow in self._shadows]
        if any(hits) and not all(hits):
            self._note(hits)
        self._accesses += 1
        self._passed += size_bytes > self._shadows[0].capacity_bytes
        items = max(map(len, self._shadows))
        if items > LARGEST:
            self._begin(self._halvings + 1)
        elif self._accesses > ROUND * max(SMALLEST, items):
            self._end_round(items)

    def _note(self, hits: list[bool]) -> None:
        for one in MANNERS:
            for other in MANNERS:
                self._won[one][other] += hits[one] and not hits[other]

    def _end_round(self, items: int) -> None:
        self.manner = max(MANNERS, key=self._lead)
        self._won = [[hits / 2 for hits in row] for row in self._won]
        is_full = any(shadow.is_full for shadow in self._shadows)
        is_coarse = (is_full and items < SMALLEST) or self._passed > TOO_LARGE * self._accesses
        self._accesses = self._passed = 0
        if is_coarse and self._halvings:
            self._begin(self._halvings - 1)

    def _lead(self, manner: int) -> float:
        """By how many hits it leads over the present manner, beyond what chance explains; 0 for that one itself."""
        won, lost = self._won[manner][self.manner], self._won[self.manner][manner]
        if manner == self.manner:
            return 0.0
        return won - lost if won - lost > SURE * math.sqrt(won + lost) + 1.0 else -1.0


class _Shadow:
    """A cache of tags alone."""

    def __init__(self, capacity_bytes: int, manner: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.is_full = False
        self._queues = Queues(capacity_bytes, manner)
        self._slots: dict[int, int] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._slots)

    def access(self, tag: int, size_bytes: int) -> bool:
        queues, slot = self._queues, self._slots.get(tag)
        if slot is not None:
            queues.uses[slot] = min(queues.uses[slot] + 1, MOST_USES)
            return True
        if size_bytes <= self.capacity_bytes:
            for victim in queues.evict(queues.used_bytes + size_bytes - self.capacity_bytes):
                self.is_full = True
                del self._slots[queues.tags[victim]]
                self._free.append(victim)
            slot = self._free.pop() if self._free else len(self._slots)
            self._slots[tag] = slot
            queues.add(slot, tag, size_bytes)
        return False
