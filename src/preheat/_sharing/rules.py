"""What has to hold for a shared cache, and the small decisions: how long values live, and what still fits."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from preheat.errors import InvalidSetting

TOMBSTONE = b"\x00preheat deleted "
"""What stands in place of a deleted value, followed by a token of its own."""

FULL_RATIO = 0.9
"""How full a server with a limit is made by a warm-up."""

ENTRY_BYTES = 128  # what the server needs for an entry beside key and value, with an expiry
STAGGER = 0.1


class Rules(NamedTuple):
    """What has to hold for a shared cache.

    Attributes:
        namespace: What all its keys on the server begin with.
        hold_off_seconds: How long nothing loaded before it takes the place of a deleted value.
        load_deadline_seconds: How long after its beginning a load may still be put, retries included.
        patience_seconds: How long a warm-up waits for a server that is away before it gives an item up.
    """

    namespace: str
    hold_off_seconds: float
    load_deadline_seconds: float
    patience_seconds: float

    def demand(self) -> Rules:
        """Itself.

        Raises:
            InvalidSetting: A value can't be, or the hold-off would end before a load may be put.
        """
        if not self.namespace or any(ord(letter) < 33 for letter in self.namespace) or len(self.namespace) > 200:
            raise InvalidSetting(f"namespace is {self.namespace!r}; it has to be 1 to 200 letters without spaces")
        if not 0 < self.load_deadline_seconds < float("inf") or not 0 <= self.patience_seconds <= 600:
            raise InvalidSetting("load_deadline_seconds has to be positive, patience_seconds from 0 to 600")
        if not self.load_deadline_seconds < self.hold_off_seconds < 86_400:
            raise InvalidSetting(
                f"hold_off_seconds is {self.hold_off_seconds:g}; it has to be longer than load_deadline_seconds, "
                f"{self.load_deadline_seconds:g}, or a load that began before a delete could bring its value back"
            )
        return self


class Codec(NamedTuple):
    """How values become bytes and come back."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


class Life(NamedTuple):
    """How long values live: `seconds` for all, or what `remaining(key, value)` says is left of each; for ever if None.

    Those that a warm-up puts would all end together, so theirs are staggered: by up to a tenth either way, and what is
    left of a value's own life only downwards, so that it is never extended.
    """

    seconds: float | None = None
    remaining: Callable[[str, Any], float | None] | None = None

    def milliseconds(self, key: str, value: Any, rng: random.Random | None = None) -> int:
        """Of one value, for a warm-up if `rng` is given: 0 for ever, -1 if it is over."""
        seconds = self.seconds if self.remaining is None else self.remaining(key, value)
        if seconds is None:
            return 0
        if rng is not None:
            seconds *= rng.uniform(1 - STAGGER, 1.0 if self.remaining is not None else 1 + STAGGER)
        return min(int(seconds * 1000), 2**53) if seconds * 1000 >= 1 else -1


class Room(NamedTuple):
    """What a server says of its memory: bytes free below nine tenths of its limit, None without a limit."""

    free_bytes: int | None
    evicted: int

    @classmethod
    def of(cls, memory: Mapping[str, Any], statistics: Mapping[str, Any]) -> Room:
        """From the sections of the server's INFO."""
        limit_bytes = int(memory.get("maxmemory", 0))
        used_bytes = int(memory.get("used_memory", 0)) - int(memory.get("mem_not_counted_for_evict", 0))
        free_bytes = int(limit_bytes * FULL_RATIO) - used_bytes if limit_bytes else None
        return cls(free_bytes, int(statistics.get("evicted_keys", 0)))

    @classmethod
    def tightest(cls, rooms: Sequence[Room]) -> Room:
        """Of several servers: as if all went to the one that has least."""
        free = [room.free_bytes for room in rooms if room.free_bytes is not None]
        return cls(min(free) if free else None, sum(room.evicted for room in rooms))

    def less(self, taken_bytes: int) -> Room:
        """What is left of it beside `taken_bytes`."""
        return self if self.free_bytes is None else self._replace(free_bytes=self.free_bytes - taken_bytes)

    def holds(self, costs: Sequence[int]) -> int:
        """How many of the first items fit, each twice: as it will lie there, and in the request that brings it."""
        if self.free_bytes is None:
            return len(costs)
        left_bytes = self.free_bytes
        for n, cost in enumerate(costs):
            left_bytes -= 2 * cost
            if left_bytes < 0:
                return n
        return len(costs)
