"""Who is evicted next: S3-FIFO [1] over slots, aware of bytes.  Pure: slots, tags and sizes in, slots out.

What is new goes on probation, into a queue that may fill `PROBATION` of the bytes.  What was not used there until it
comes out leaves the cache, and a ghost of it stays: should it be asked for again soon, it goes straight to the main
queue, as does what was used on probation.  The main queue is a clock: what was used there goes round once more for
each use, up to three.  A hit is one count, nothing is moved.

Where we differ: an item that is larger than the mean has to be used more often to be promoted (by the root of its
relative size), and going round costs it as many uses as it is times as large; so bytes are given to what has many hits
for them, and where all are of one size nothing changes.  And there are two other manners, which `preheat.caches._duel`
chooses where they serve better: what is new skips probation, so that the main queue is all there is.  As a `CLOCK` it
still remembers up to three uses; in the manner `RECENT` it remembers one, and is close to least recently used.

[1] Yang, Zhang, Qiu, Yue, Rashmi, *FIFO Queues are All You Need for Cache Eviction*, SOSP 2023.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator

from preheat.caches._ghosts import Ghosts

PROBATION = 0.15  # of the bytes; the paper's tenth loses to LRU where traffic goes by recency
GHOSTS = 0.9  # of the bytes: for how much of what was evicted ghosts are kept
MOST_USES = 3
WATCHED = 0x80  # in the column of uses: a hit has more to do than to count
PROBATION_FIRST, CLOCK, RECENT = MANNERS = 0, 1, 2
_ASIDE, _NEW, _MAIN = 0, 1, 2


class Queues:
    """The order of eviction of what is resident, known by slots: small numbers from 0, without large gaps.

    Attributes:
        uses: A byte per slot: how often it was used, up to `MOST_USES`, and perhaps `WATCHED`.  A hit counts here.
        size_bytes, tags: Columns of what was told of the slot.
        manner: One of `MANNERS`; it may change at any time.
    """

    def __init__(self, capacity_bytes: int, manner: int = PROBATION_FIRST) -> None:
        self.uses = bytearray()
        self.size_bytes = array("q")
        self.tags = array("Q")
        self.manner = manner
        self._where = bytearray()
        newer, older = array("i"), array("i")
        self._new, self._main = _Fifo(newer, older), _Fifo(newer, older)
        self._links = (newer, older)
        self._probation_bytes = max(1, int(PROBATION * capacity_bytes))
        self._ghosts = Ghosts(int(GHOSTS * capacity_bytes))

    @property
    def used_bytes(self) -> int:
        """Of what is in the queues, without what is set aside."""
        return self._new.used_bytes + self._main.used_bytes

    def __len__(self) -> int:
        return self._new.items + self._main.items

    def add(self, slot: int, tag: int, size_bytes: int) -> None:
        """Take in what traffic loaded: last to leave its queue."""
        self.set_aside(slot, tag, size_bytes)
        self.take_over(slot)

    def set_aside(self, slot: int, tag: int, size_bytes: int) -> None:
        """Take note of a slot that is in no queue, and that `evict` leaves alone."""
        if slot >= len(self.uses):
            self._extend(slot + 1)
        self.tags[slot], self.size_bytes[slot] = tag, size_bytes
        self.uses[slot], self._where[slot] = 0, _ASIDE

    def take_over(self, slot: int) -> None:
        """Enqueue what was set aside, as if it had just been added."""
        is_known = self._ghosts.discard(self.tags[slot])
        where = _MAIN if is_known or self.manner != PROBATION_FIRST else _NEW
        self._where[slot] = where
        (self._main if where == _MAIN else self._new).push(slot, self.size_bytes[slot])

    def is_aside(self, slot: int) -> bool:
        """Whether `slot` is in no queue."""
        return self._where[slot] == _ASIDE

    def remove(self, slot: int) -> None:
        """Forget `slot`, which leaves the cache for another reason than for want of room; no ghost stays."""
        where = self._where[slot]
        if where != _ASIDE:
            (self._main if where == _MAIN else self._new).remove(slot, self.size_bytes[slot])
            self._where[slot] = _ASIDE

    def evict(self, excess_bytes: int) -> list[int]:
        """Take out so many that they have `excess_bytes` together, or all; in the order in which they go."""
        victims: list[int] = []
        while excess_bytes > 0 and (self._new.items or self._main.items):
            slot = self._next()
            if slot >= 0:
                victims.append(slot)
                excess_bytes -= self.size_bytes[slot]
        return victims

    def coldest(self) -> Iterator[int]:
        """All that is in the queues: those on probation, then the others, each in the order in which they came."""
        yield from self._new
        yield from self._main

    def _next(self) -> int:
        """Take one step: the slot that it evicted, or -1 if it moved one."""
        mean = self.used_bytes / len(self)
        limit = self._probation_bytes if self.manner == PROBATION_FIRST else 0
        if self._new.items and (self._new.used_bytes >= limit or not self._main.items):
            return self._judge_new(self._new.oldest, mean)
        return self._judge_main(self._main.oldest, mean)

    def _judge_new(self, slot: int, mean: float) -> int:
        size_bytes, uses = self.size_bytes[slot], self.uses[slot] & MOST_USES
        self._new.remove(slot, size_bytes)
        if uses and (uses == MOST_USES or uses >= round(math.sqrt(size_bytes / mean))):
            self.uses[slot] &= WATCHED
            self._where[slot] = _MAIN
            self._main.push(slot, size_bytes)
            return -1
        self._where[slot] = _ASIDE
        self._ghosts.add(self.tags[slot], size_bytes)
        return slot

    def _judge_main(self, slot: int, mean: float) -> int:
        size_bytes, uses = self.size_bytes[slot], self.uses[slot] & MOST_USES
        price = max(1, round(size_bytes / mean)) if self.manner == PROBATION_FIRST else 1
        self._main.remove(slot, size_bytes)
        if uses >= price:
            self.uses[slot] -= uses if self.manner == RECENT else price
            self._main.push(slot, size_bytes)
            return -1
        self._where[slot] = _ASIDE
        return slot

    def _extend(self, slots: int) -> None:
        more = slots - len(self.uses)
        self.uses.extend(bytes(more))
        self._where.extend(bytes(more))
        for column in (self.size_bytes, self.tags, *self._links):
            column.frombytes(bytes(more * column.itemsize))
        self._ghosts.make_room_for(slots)


class _Fifo:
    """Slots in the order in which they came, doubly linked in columns that it shares with other queues."""

    __slots__ = ("_newer", "_newest", "_older", "items", "oldest", "used_bytes")

    def __init__(self, newer: array[int], older: array[int]) -> None:
        self._newer, self._older = newer, older
        self._newest = self.oldest = -1
        self.items = self.used_bytes = 0

    def push(self, slot: int, size_bytes: int) -> None:
        newest = self._newest
        self._older[slot], self._newer[slot] = newest, -1
        if newest < 0:
            self.oldest = slot
        else:
            self._newer[newest] = slot
        self._newest = slot
        self.items += 1
        self.used_bytes += size_bytes

    def remove(self, slot: int, size_bytes: int) -> None:
        newer, older = self._newer[slot], self._older[slot]
        if newer < 0:
            self._newest = older
        else:
            self._older[newer] = older
        if older < 0:
            self.oldest = newer
        else:
            self._newer[older] = newer
        self.items -= 1
        self.used_bytes -= size_bytes

    def __iter__(self) -> Iterator[int]:
        slot = self.oldest
        while slot >= 0:
            yield slot
            slot = self._newer[slot]
