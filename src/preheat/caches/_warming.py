"""How a cache is warmed: an item is loaded as a miss would load it, quietly, and evicts nothing.

What a warm-up inserts is colder than anything that traffic used, so traffic never loses to it what it loaded itself;
what traffic uses of it becomes traffic's own.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from preheat._model import DEFAULT_PRIORITY, History, ItemRef, ItemResult, ItemStatus, MemoryEventKind, WarmupItem
from preheat._record import quietly
from preheat.caches._candidates import warmup_candidates
from preheat.caches._flight import Flight
from preheat.caches._residents import Made
from preheat.caches._traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

V = TypeVar("V")

_RESIDENT = ItemResult(ItemStatus.RESIDENT)
_Settle = Callable[[Sequence[Made[V] | None]], list[ItemResult]]


class Warming(Traffic[V]):
    """The part of a cache that a warm-up calls; see `preheat.caches._loading` for the whole."""

    priority: int = DEFAULT_PRIORITY

    def get_warmup_candidates(self, history: History, rates: NDArray[np.float64]) -> Sequence[WarmupItem]:
        """What history knows of this cache and is not resident; see `preheat.abc.WarmableCache`."""
        return warmup_candidates(self, history, rates)

    def warmup_item(self, item: WarmupItem) -> ItemResult | Awaitable[ItemResult]:
        """Load `item` as a miss would; see `preheat.abc.WarmableCache`.  To be awaited if the loader is a coroutine."""
        if self._is_async:
            return self._awarm_one(item)
        return self._warm_batch([item])[0]

    def estimate_item_size(self, item: WarmupItem) -> int:
        """The size that history saw; failing that, the mean of what is resident, of its kind if there is any."""
        if item.size_bytes > 0:
            return item.size_bytes
        kind = self.kind_of(item.ref.key)
        with self._lock:
            return self._residents.mean_bytes(kind)

    def undo_warmup(self, key: str) -> int:
        """Drop `key` if a warm-up loaded it and nobody used it since; the bytes released."""
        with self._lock:
            slot = self._residents.find(key)
            unused = [slot] if slot >= 0 and self._residents.is_warmed(slot) else []
            released_bytes = self._residents.drop(unused, MemoryEventKind.ROLLBACK, "undone")
        self._memory.tell()
        return released_bytes

    # ------------------------------------------------------------------------------- for the ready caches

    def _make(self, items: Sequence[WarmupItem]) -> Any:
        """Value and version of each item, made as a miss makes them; None where there is none any more.

        Awaitable where the cache loads by a coroutine function.
        """
        made = [self._make_one(item.ref.key) for item in items]
        return _finished(made) if self._is_async else made

    def _make_one(self, key: str) -> tuple[V, str] | None:
        """The same for one item whose key says it all; of an asynchronous cache, with the value to be awaited."""
        raise NotImplementedError

    def _find_needs(self) -> Callable[[str, str], Iterable[ItemRef]] | None:
        """What tells, for a key and its recipe, what has to be resident before; None if nothing ever has."""
        return None

    def _version_of(self, key: str) -> str | None:
        """The version that a read of `key` would ask for now; None if there is nothing to read."""
        raise NotImplementedError

    def _resident(self) -> list[str]:
        with self._lock:
            return list(self._residents.shelf.keys())

    def _holds(self, key: str) -> bool:
        """Whether a read of `key` would be a hit."""
        held = self._held_version(key)
        is_held = held is not None and held == self._version_of(key)  # which may read a file, so only where need be
        self._memory.tell()
        return is_held

    def _held_version(self, key: str) -> str | None:
        """The version that is resident; None if none is."""
        with self._lock:
            slot = self._residents.find(key)
            return self._residents.shelf.version_of(slot) if slot >= 0 else None

    # ---------------------------------------------------------------------------------- a batch of items

    def _warm_batch(self, items: Sequence[WarmupItem]) -> list[ItemResult]:
        with self._boarded(items) as (mine, settle), quietly():
            held, absent = self._look_up_kept(items, mine)
            return settle(self._completed(items, held, absent, self._make(absent) if absent else []))

    async def _awarm_batch(self, items: Sequence[WarmupItem]) -> list[ItemResult]:
        with self._boarded(items) as (mine, settle), quietly():
            held, absent = self._look_up_kept(items, mine)
            return settle(self._completed(items, held, absent, await self._make(absent) if absent else []))

    async def _awarm_one(self, item: WarmupItem) -> ItemResult:
        return (await self._awarm_batch([item]))[0]

    @contextmanager
    def _boarded(self, items: Sequence[WarmupItem]) -> Iterator[tuple[Iterable[int], _Settle[V]]]:
        """Gives the positions that are ours to load, and what settles them; whatever happens, their flights land."""
        flights = self._board_quietly(items)
        mine = {n: flight for n, flight in enumerate(flights) if flight is not None}
        started = time.perf_counter()

        def settle(made: Sequence[Made[V] | None]) -> list[ItemResult]:
            seconds = (time.perf_counter() - started) / max(1, len(mine))
            results = [_RESIDENT for _ in items]
            for n, new in zip(mine, made, strict=True):
                results[n] = self._settle(items[n], mine[n], new, seconds)
            return results

        try:
            yield mine, settle
        except BaseException as error:
            for n, flight in mine.items():
                self._end_flight(items[n].ref.key, flight, error=error)
            raise
        finally:
            self._memory.tell()

    def _look_up_kept(
        self, items: Sequence[WarmupItem], mine: Iterable[int]
    ) -> tuple[list[Made[V] | None], list[WarmupItem]]:
        """Of those that are `mine`: what the snapshot holds, None where it does not; and those that it does not."""
        held = [self._held(items[n].ref.key) for n in mine]
        return held, [items[n] for n, made in zip(mine, held, strict=True) if made is None]

    def _held(self, key: str) -> Made[V] | None:
        version = None if self._snapshot is None else self._version_of(key)
        return None if self._snapshot is None or version is None else self._find_kept(self._snapshot, key, version)

    def _completed(
        self,
        items: Sequence[WarmupItem],
        held: Sequence[Made[V] | None],
        absent: Sequence[WarmupItem],
        made: Sequence[tuple[V, str] | None],
    ) -> list[Made[V] | None]:
        now, rest = time.time(), zip(absent, made, strict=True)
        return [self._weighed(*next(rest), now) if kept is None else kept for kept in held]

    def _weighed(self, item: WarmupItem, made: tuple[V, str] | None, now: float) -> Made[V] | None:
        if made is None:
            return None
        value, version = made
        return Made(value, version, now, self._size_of(item.ref.key, value), self._expiry(now))

    def _board_quietly(self, items: Sequence[WarmupItem]) -> list[Flight[V] | None]:
        """A flight for each item that is neither resident nor being loaded already."""
        flights: list[Flight[V] | None] = []
        held = [self._holds(item.ref.key) for item in items]
        with self._lock:
            for item, is_held in zip(items, held, strict=True):
                taken = is_held or item.ref.key in self._flights
                flights.append(None if taken else self._flights.setdefault(item.ref.key, Flight(warming=True)))
        return flights

    def _settle(self, item: WarmupItem, flight: Flight[V], made: Made[V] | None, seconds: float) -> ItemResult:
        key = item.ref.key
        if made is None:
            self._end_flight(key, flight, error=LookupError(f"{self.name}: {key} is not there any more"))
            return ItemResult(ItemStatus.UNAVAILABLE, 0, seconds, "its source is not there any more")
        flight.value, flight.version = made.value, made.version
        with self._lock:
            result = self._admit(item, flight, made, seconds)
            self._leave(key, flight)
        flight.land()
        return result

    def _admit(self, item: WarmupItem, flight: Flight[V], made: Made[V], seconds: float) -> ItemResult:
        """Insert what a warm-up loaded: where nobody waits for it, at the cold end and evicting nothing."""
        key, residents = item.ref.key, self._residents
        if flight.invalidated or not self._may_keep(made.version, made.value):
            return ItemResult(ItemStatus.REJECTED, 0, seconds, "it was invalidated while it was being loaded")
        known = residents.find(key)
        if known >= 0 and residents.shelf.version_of(known) == flight.version:
            return _RESIDENT
        stale_bytes = residents.policy.size_bytes[known] if known >= 0 else 0
        room = self.capacity_bytes - (0 if flight.wanted else residents.used_bytes - stale_bytes)
        if made.size_bytes > room:
            return ItemResult(ItemStatus.REJECTED, 0, seconds, "it does not fit its cache without evicting")
        worth = None if flight.wanted else item.worth(made.size_bytes)
        residents.insert(key, made, "warm-up", kind=self.kind_of(key), worth=worth)
        return ItemResult(ItemStatus.LOADED, made.size_bytes, seconds)


async def _finished(made: Sequence[tuple[Any, str] | None]) -> list[tuple[Any, str] | None]:
    return [None if each is None else (await each[0], each[1]) for each in made]
