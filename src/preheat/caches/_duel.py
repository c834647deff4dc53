"""Whether probation pays: two shadows of the cache, with and without it, run on a sample of the keys.

Probation wins nearly everywhere, and loses where traffic goes by recency alone.  So a sample of the keys, drawn by
their hash as miniature simulations do [1], is replayed by S3-FIFO and by plain LRU, each of a size scaled down like the
traffic; the cache follows the one that had hits where the other had none, once chance does not explain it.  A
shadow holds fingerprints of at most `LARGEST` items, so what this costs does not grow with the cache.

[1] Waldspurger, Saemundsson, Ahmad, Park, *Cache Modeling and Optimization using Miniature Simulations*, ATC 2017.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from preheat.caches._queues import MOST_USES, Queues

LARGEST = 128  # items of a shadow, beyond which every other key is dropped from the sample
SMALLEST = 16  # items of a full shadow, below which the sample is doubled
TOO_LARGE = 0.25  # share of the sample that is larger than a shadow, above which the sample is doubled
ROUND = 5  # accesses of the sample, for each item of a shadow, after which the winner is asked for
SURE = 2.0  # standard deviations by which a shadow has to win


class Duel:
    """Says, access by access of a sample, whether what is new had better skip probation.

    Attributes:
        is_direct: Whether it had.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.is_direct = False
        self._capacity_bytes = capacity_bytes
        self._begin(0)

    def _begin(self, halvings: int) -> None:
        self._halvings, self._mask = halvings, (1 << halvings) - 1
        scaled_bytes = max(1, self._capacity_bytes >> halvings)
        self._probing, self._recent = _ShadowQueues(scaled_bytes), _ShadowLru(scaled_bytes)
        self._won_by_probing = self._won_by_recency = 0.0
        self._accesses = self._passed = 0

    def samples(self, tag: int) -> bool:
        """Whether accesses to `tag` are to be told."""
        return not tag & self._mask

    def tell(self, tag: int, size_bytes: int) -> None:
        """An access to `tag`, which is one of the sample."""
        probing, recent = self._probing.access(tag, size_bytes), self._recent.access(tag, size_bytes)
        self._won_by_probing += probing and not recent
        self._won_by_recency += recent and not probing
        self._accesses += 1
        self._passed += size_bytes > self._recent.capacity_bytes
        items = len(self._recent)
        if items > LARGEST:
            self._begin(self._halvings + 1)
        elif self._accesses > ROUND * max(SMALLEST, items):
            self._decide(items)

    def _decide(self, items: int) -> None:
        lead = self._won_by_recency - self._won_by_probing
        doubt = SURE * math.sqrt(self._won_by_recency + self._won_by_probing) + 1.0
        if abs(lead) > doubt:
            self.is_direct = lead > 0
        self._won_by_probing /= 2
        self._won_by_recency /= 2
        is_coarse = (self._recent.is_full and items < SMALLEST) or self._passed > TOO_LARGE * self._accesses
        self._accesses = self._passed = 0
        if is_coarse and self._halvings:
            self._begin(self._halvings - 1)


class _ShadowQueues:
    """S3-FIFO over tags alone."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._queues = Queues(capacity_bytes)
        self._slots: dict[int, int] = {}
        self._free: list[int] = []

    def access(self, tag: int, size_bytes: int) -> bool:
        queues, slot = self._queues, self._slots.get(tag)
        if slot is not None:
            queues.uses[slot] = min(queues.uses[slot] + 1, MOST_USES)
            return True
        if size_bytes <= self._capacity_bytes:
            for victim in queues.evict(queues.used_bytes + size_bytes - self._capacity_bytes):
                del self._slots[queues.tags[victim]]
                self._free.append(victim)
            slot = self._slots[tag] = self._free.pop() if self._free else len(self._slots)
            queues.add(slot, tag, size_bytes)
        return False


class _ShadowLru:
    """What was used least recently goes first."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self._sizes: OrderedDict[int, int] = OrderedDict()
        self._used_bytes = 0
        self.is_full = False

    def __len__(self) -> int:
        return len(self._sizes)

    def access(self, tag: int, size_bytes: int) -> bool:
        if tag in self._sizes:
            self._sizes.move_to_end(tag)
            return True
        if size_bytes <= self.capacity_bytes:
            self._sizes[tag] = size_bytes
            self._used_bytes += size_bytes
            while self._used_bytes > self.capacity_bytes:
                self._used_bytes -= self._sizes.popitem(last=False)[1]
                self.is_full = True
        return False
