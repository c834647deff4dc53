"""How a cache serves: what is resident at once, then what the snapshot has; what is absent is loaded (`_misses`).

While a warm-up loads an item in this thread or task, reads count as no traffic, change no order and keep nothing that
they had to load.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from preheat._model import HeldValue
from preheat._record import is_quiet
from preheat.abc import Snapshot
from preheat.caches._coroutines import in_thread, listed
from preheat.caches._misses import ABSENT, Misses, Request
from preheat.caches._policy import MOST_USES, WATCHED
from preheat.caches._residents import Made

V = TypeVar("V")


class Traffic(Misses[V]):
    """The part of a cache that serves; see `preheat.caches._loading` for the whole.  Thread-safe."""

    _snapshot: Snapshot | None = None

    def _get(self, request: Request, make: Callable[[], V]) -> V:
        """The value of `request`, made by `make` if it is absent."""
        value = self._lookup(request)
        if value is ABSENT:
            value = self._restore(request)
        if value is not ABSENT:
            found: V = value
            return found
        return self._load_missing([request], lambda _: [make()])[0]

    async def _aget(self, request: Request, make: Callable[[], V | Awaitable[V]]) -> V:
        """As `_get`, in a coroutine; `make` is called in a thread, or awaited if the cache's loader is a coroutine."""
        value = self._lookup(request)
        if value is ABSENT:
            (value,) = await self._arestore([request])
        if value is not ABSENT:
            found: V = value
            return found
        return (await self._aload_missing([request], partial(_one_by_one, make)))[0]

    def _lookup(self, request: Request) -> Any:
        """The resident value, counted as a hit; `ABSENT` if there is none of this version."""
        residents = self._residents
        with self._lock:
            slot, value = residents.shelf.look(request.key, request.version)
            if slot < 0 or (residents.dies_at is not None and residents.unless_expired(slot) < 0):
                return ABSENT
            if is_quiet():
                return value
            uses = residents.policy.uses
            count = uses[slot]
            if count < MOST_USES:
                uses[slot] = count + 1
            elif count >= WATCHED:
                residents.use(slot)
            self._hits += 1
        if self._log is not None:
            self._log.hit(request.key)
        return value

    def _restore(self, request: Request) -> Any:
        """The value from the snapshot, kept and counted as a hit; `ABSENT` if it has none."""
        snapshot = self._snapshot
        if snapshot is None:
            return ABSENT
        erasures = snapshot.erasures
        made = self._find_kept(snapshot, request.key, request.version)
        if made is None or is_quiet():
            return ABSENT if made is None else made.value
        value = made.value
        with self._lock:
            slot = self._residents.find(request.key)
            if slot >= 0 and self._residents.shelf.version_of(slot) == request.version:  # another thread was faster
                value = self._residents.shelf.value_of(slot)
                self._note_use(slot)
            elif snapshot.erasures != erasures:  # this value may be what was erased
                return ABSENT
            elif made.size_bytes <= self.capacity_bytes and self._may_keep(request.version, value):
                self._residents.insert(request.key, made, "snapshot", kind=self.kind_of(request.key))
            self._hits += 1
        self._memory.tell()
        if self._log is not None:
            self._log.hit(request.key)
        return value

    async def _arestore(self, requests: Sequence[Request]) -> list[Any]:
        if self._snapshot is None:
            return [ABSENT] * len(requests)
        return await in_thread(lambda: [self._restore(request) for request in requests])

    def _find_kept(self, snapshot: Snapshot, key: str, version: str) -> Made[V] | None:
        """What `snapshot` has of it, if that may still be served; its time to live goes on from when it was made."""
        held = snapshot.find(key, version)
        if held is None:
            return None
        expires_at = min(held.expires_at, self._expiry(held.made_at))
        if expires_at <= time.time():
            return None
        value, size_bytes = self._from_kept(held)
        return Made(value, held.version, held.made_at, size_bytes, expires_at)

    def _from_kept(self, held: HeldValue) -> tuple[V, int]:
        """A value from the snapshot as it is served and kept now, and its bytes."""
        return held.value, held.size_bytes


def _one_by_one(make: Callable[[], Any], positions: list[int]) -> Any:
    made = make()
    return listed(made) if isinstance(made, Awaitable) else [made]
