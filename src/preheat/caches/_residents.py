"""What a cache holds: values on their shelf, who of them goes first, when they expire, and the books of their bytes.

What a warm-up inserted and nobody used is colder than all that traffic loaded: of it the least valuable per byte goes
first.  Nothing here is thread-safe: the cache's lock is held.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from preheat._events import MemoryReporter
from preheat._model import HeldValue, MemoryEventKind
from preheat.abc import Clock
from preheat.caches._policy import MOST_USES, WATCHED, Policy
from preheat.caches._shelf import Places
from preheat.caches._warmed import Warmed

if TYPE_CHECKING:
    from numpy.typing import NDArray

V = TypeVar("V")

SWEPT = 2  # slots that an insertion looks at, for whether they have expired


class Made(NamedTuple, Generic[V]):
    """A value at hand: `made_at` and `expires_at` are Unix seconds, `size_bytes` is -1 until it has been weighed."""

    value: V
    version: str
    made_at: float
    size_bytes: int = -1
    expires_at: float = math.inf


class Residents(Generic[V]):
    """What is resident, never more than `capacity_bytes`.

    Attributes:
        shelf: The values by slot.
        policy: Who goes first.
        used_bytes: Of all of them; `warmed_bytes` of what a warm-up inserted and nobody used.
        evictions, expirations: How many left for want of room, and because their time had come.
        kinds: Number and bytes of what is resident, by kind.
        dies_at: By slot, until when its value is served, by the clock; None as long as nothing can expire.
    """

    def __init__(self, capacity_bytes: int, shelf: Places[V], memory: MemoryReporter, clock: Clock) -> None:
        self.capacity_bytes, self.shelf, self.policy = capacity_bytes, shelf, Policy(capacity_bytes)
        self._memory, self._clock = memory, clock
        self.used_bytes = self.warmed_bytes = self.evictions = self.expirations = 0
        self.kinds: dict[str, list[int]] = {}
        self._warmed = Warmed()
        self._free: list[int] = []
        self._kind_of: list[str] = []
        self._made_at = array("d")
        self.dies_at: array[float] | None = None
        self._swept = 0

    def __len__(self) -> int:
        return len(self.shelf)

    @property
    def warmed_items(self) -> int:
        """How many a warm-up inserted and nobody used."""
        return len(self._warmed)

    def find(self, key: str) -> int:
        """The slot of `key`; -1 if it is absent, or has just been found to have expired."""
        return self.unless_expired(self.shelf.find(key))

    def unless_expired(self, slot: int) -> int:
        """`slot`; -1 if it is -1, or what is there has just been found to have expired."""
        if self.dies_at is not None and slot >= 0 and self.dies_at[slot] <= self._clock():
            self._expire(slot)
            return -1
        return slot

    def use(self, slot: int) -> None:
        """Traffic has used `slot`, which is watched."""
        self._warmed_no_more(slot)
        self.policy.use(slot)

    def without_expired(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """`slots`, with -1 for those that have just been found to have expired."""
        if self.dies_at is None:
            return slots
        is_over = (np.frombuffer(self.dies_at)[slots] <= self._clock()) & (slots >= 0)
        for slot in set(slots[is_over].tolist()):
            self._expire(slot)
        return np.where(is_over, -1, slots)

    def use_many(self, slots: NDArray[np.int64]) -> None:
        """Traffic uses all of `slots`."""
        uses = np.frombuffer(self.policy.uses, np.uint8)
        counts = uses[slots]
        uses[slots] = counts + (counts < MOST_USES)
        for slot in slots[counts >= WATCHED].tolist():
            if self.policy.uses[slot] >= WATCHED:  # it may be named twice
                self.use(slot)

    def insert(
        self, key: str, made: Made[V], cause: str, *, kind: str = "", worth: tuple[bool, float] | None = None
    ) -> None:
        """Put what fits the capacity in its place, making room.  With a worth, as a warm-up's."""
        known = self.shelf.find(key)
        if known >= 0:
            self.drop([known], MemoryEventKind.RELEASE, "replaced")
        if self.dies_at is not None:
            self._sweep()
        self._make_room(made.size_bytes)
        slot = self._take_slot(made)
        self.shelf.put(slot, key, made.value, made.version)
        if worth is None:
            self.policy.add(slot, self.shelf.tag_of(key), made.size_bytes)
        else:
            self.policy.set_aside(slot, self.shelf.tag_of(key), made.size_bytes)
            self._warmed.add(slot, worth)
            self.warmed_bytes += made.size_bytes
        self._kind_of[slot] = kind
        self._count(kind, 1, made.size_bytes)
        self._memory.note(MemoryEventKind.ALLOCATION, made.size_bytes, cause)

    def drop(self, slots: Sequence[int], kind: MemoryEventKind, cause: str) -> int:
        """Forget what is in `slots`, as one event; its bytes."""
        for slot in slots:
            self._warmed_no_more(slot)
            self.policy.remove(slot)
        return self._clear(slots, kind, cause)

    def is_warmed(self, slot: int) -> bool:
        """Whether a warm-up inserted it and nobody used it since."""
        return self.policy.is_aside(slot)

    def coldest(self) -> Iterator[int]:
        """All slots that are filled, in about the order in which they would be evicted."""
        yield from self._warmed.least_first()
        yield from self.policy.coldest()

    def held(self, slot: int) -> HeldValue:
        """What is in `slot`, as a snapshot keeps it."""
        shelf = self.shelf
        expires_at = math.inf if self.dies_at is None else time.time() + self.dies_at[slot] - self._clock()
        return HeldValue(
            shelf.key_of(slot),
            shelf.version_of(slot),
            shelf.value_of(slot),
            self.policy.size_bytes[slot],
            self._made_at[slot],
            expires_at,
        )

    def mean_bytes(self, kind: str) -> int:
        """The mean size of what is resident, of `kind` if there is any of it; 0 if nothing is."""
        items, size_bytes = self.kinds.get(kind) or (len(self), self.used_bytes)
        return size_bytes // items if items else 0

    def _take_slot(self, made: Made[Any]) -> int:
        slot = self._free.pop() if self._free else len(self._made_at)
        if slot == len(self._made_at):
            self._made_at.append(0.0)
            self._kind_of.append("")
            if self.dies_at is not None:
                self.dies_at.append(math.inf)
        self._made_at[slot] = made.made_at
        if self.dies_at is None and made.expires_at < math.inf:
            self.dies_at = array("d", [math.inf]) * len(self._made_at)
        if self.dies_at is not None:
            self.dies_at[slot] = self._clock() + made.expires_at - time.time()
        return slot

    def _make_room(self, size_bytes: int) -> None:
        excess_bytes = self.used_bytes + size_bytes - self.capacity_bytes
        if excess_bytes <= 0:
            return
        victims: list[int] = []
        while excess_bytes > 0 and len(self._warmed):
            slot = self._warmed.pop_least()
            self.warmed_bytes -= self.policy.size_bytes[slot]
            excess_bytes -= self.policy.size_bytes[slot]
            victims.append(slot)
        victims += self.policy.evict(excess_bytes)
        self.evictions += len(victims)
        self._clear(victims, MemoryEventKind.EVICTION, "to make room")

    def _clear(self, slots: Sequence[int], kind: MemoryEventKind, cause: str) -> int:
        size_bytes = 0
        for slot in slots:
            size_bytes += self.policy.size_bytes[slot]
            self._count(self._kind_of[slot], -1, -self.policy.size_bytes[slot])
            self.shelf.remove(slot)
            if self.dies_at is not None:
                self.dies_at[slot] = math.inf
        self._free += slots
        if slots:
            self._memory.note(kind, size_bytes, cause, len(slots))
        return size_bytes

    def _warmed_no_more(self, slot: int) -> None:
        if self.policy.is_aside(slot):
            self._warmed.discard(slot)
            self.warmed_bytes -= self.policy.size_bytes[slot]

    def _count(self, kind: str, items: int, size_bytes: int) -> None:
        self.used_bytes += size_bytes
        resident = self.kinds.get(kind)
        if resident is None:
            resident = self.kinds[kind] = [0, 0]
        resident[0] += items
        resident[1] += size_bytes
        if resident[0] == 0:
            del self.kinds[kind]

    def _expire(self, slot: int) -> None:
        self.expirations += 1
        self.drop([slot], MemoryEventKind.RELEASE, "expired")

    def _sweep(self) -> None:
        """Look at the next few slots, so that what nobody asks for again does not stay until it is evicted."""
        assert self.dies_at is not None  # noqa: S101 - the caller has looked
        now, slots = self._clock(), len(self.dies_at)
        for _ in range(min(SWEPT, slots)):
            self._swept = (self._swept + 1) % slots
            if self.dies_at[self._swept] <= now:
                self._expire(self._swept)
