"""The cache that the four ready ones are made of: bounded in bytes, one load however many ask, good without a warm-up.

How it serves is in `_traffic`, how it loads in `_misses`, how it is warmed in `_warming`, what it holds in
`_residents`, who is evicted in `_policy`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from preheat._model import DEFAULT_PRIORITY, CacheStatistics, HeldValue, MemoryEventKind
from preheat.abc import AccessLog, Clock, MemoryTracker, Snapshot, SnapshotCodec
from preheat.caches._candidates import warmup_candidates
from preheat.caches._coroutines import in_thread, is_coroutine_function
from preheat.caches._misses import ABSENT, Request
from preheat.caches._shelf import Places
from preheat.caches._warming import Warming
from preheat.errors import InvalidSetting

__all__ = ["ABSENT", "LoadingCache", "Request", "is_coroutine_function", "warmup_candidates"]

V = TypeVar("V")


class LoadingCache(Warming[V]):
    """The machinery; a ready cache adds what its keys, recipes and versions mean.  Thread-safe.

    Args:
        name: Name of the cache in history and reports.
        capacity_bytes: What the entries may occupy.
        priority: The operator's word for its items, 1 to 10.
        codec: How values are kept in snapshots; by default as plain data.
        ttl_seconds: How long a value is served after it was made, restarts included; for ever if not given.
        shelf: Where values stand; by default as they are.
        is_async: Whether it loads by a coroutine function.
        clock: Seconds that never go back.

    Raises:
        InvalidSetting: The capacity is no positive int, the priority not from 1 to 10, the time no positive number.
    """

    def __init__(
        self,
        name: str,
        *,
        capacity_bytes: int,
        priority: int = DEFAULT_PRIORITY,
        codec: SnapshotCodec | None = None,
        ttl_seconds: float | None = None,
        shelf: Places[V] | None = None,
        is_async: bool = False,
        clock: Clock = time.monotonic,
    ) -> None:
        if not isinstance(capacity_bytes, int) or capacity_bytes <= 0:
            raise InvalidSetting(f"cache {name!r}: capacity_bytes is {capacity_bytes!r}; it has to be a positive int")
        if not 1 <= priority <= 10:
            raise InvalidSetting(f"cache {name!r}: priority is {priority!r}; it has to be from 1 to 10")
        if ttl_seconds is not None and not 0 < ttl_seconds < math.inf:
            raise InvalidSetting(f"cache {name!r}: ttl_seconds is {ttl_seconds!r}; it has to be a positive number")
        super().__init__(name, capacity_bytes, ttl_seconds, shelf=shelf, is_async=is_async, clock=clock)
        self.priority = priority
        self._codec = codec

    async def aget(self, *arguments: Any, **named: Any) -> V:
        """As `get`, in a coroutine: nothing blocks its loop, and a load is shared with whoever waits in a thread."""
        request, make = await in_thread(lambda: self._ask(*arguments, **named))
        return await self._aget(request, make)

    def _ask(self, *arguments: Any, **named: Any) -> tuple[Request, Callable[[], V]]:
        """What `get` asks for, and what makes it; called in a thread, for it may look at files."""
        raise NotImplementedError

    def invalidate(self, key: str) -> None:
        """Forget `key`; a load of it under way will not be kept, and a snapshot of it not restored."""
        with self._lock:
            slot = self._residents.find(key)
            self._residents.drop([slot] if slot >= 0 else [], MemoryEventKind.RELEASE, "invalidated")
            self._ground([key])
            if self._snapshot is not None:  # under the lock: what is being saved was taken before this or is without it
                self._snapshot.erase([key])
        self._memory.tell()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._residents.drop(list(self._residents.coldest()), MemoryEventKind.RELEASE, "cleared")
            self._ground(list(self._flights))
            if self._snapshot is not None:
                self._snapshot.erase_all()
        self._memory.tell()

    def _ground(self, keys: Iterable[str]) -> None:
        for key in keys:
            flight = self._flights.pop(key, None)  # whoever asks from now on must not ride along on it
            if flight is not None:
                flight.invalidated = True

    def __len__(self) -> int:
        return len(self._residents)

    def __contains__(self, key: str) -> bool:
        with self._lock:
            is_there = self._residents.find(key) >= 0
        self._memory.tell()
        return is_there

    def record_to(self, log: AccessLog) -> None:
        """From now on report every access to `log`."""
        self._log = log

    def report_memory_to(self, track: MemoryTracker) -> None:
        """From now on report every byte allocated and dropped to `track`; see `preheat.abc.ReportsMemory`."""
        with self._lock:
            self._memory.follow(track, self._residents.used_bytes, len(self._residents))
        self._memory.tell()

    def get_warmup_statistics(self) -> CacheStatistics:
        """What the cache holds; `warmed_*` is what a warm-up loaded and traffic has not used yet."""
        with self._lock:
            residents = self._residents
            return CacheStatistics(
                items=len(residents),
                used_bytes=residents.used_bytes,
                capacity_bytes=self.capacity_bytes,
                hits=self._hits,
                misses=self._misses,
                evictions=residents.evictions,
                warmed_items=residents.warmed_items,
                warmed_bytes=residents.warmed_bytes,
                expirations=residents.expirations,
                load_seconds=self._load_seconds,
            )

    def snapshot_codec(self) -> SnapshotCodec:
        """How its values become bytes; see `preheat.abc.SnapshotsValues`."""
        if self._codec is None:
            from preheat.codecs import DocumentCodec

            self._codec = DocumentCodec()
        return self._codec

    def held_values(self) -> Sequence[HeldValue]:
        """What is resident, what would be evicted last first."""
        with self._lock:
            held = [self._residents.held(slot) for slot in self._residents.coldest()]
        return held[::-1]

    def find_held(self, keys: Sequence[str]) -> Sequence[HeldValue | None]:
        """What a read of each of `keys` would be served now; see `preheat.abc.GivesValues`."""
        held = [self._held_under(key) for key in keys]
        self._memory.tell()
        return [each if each is not None and each.version == self._version_of(each.key) else None for each in held]

    def _held_under(self, key: str) -> HeldValue | None:
        with self._lock:
            slot = self._residents.find(key)
            return self._residents.held(slot) if slot >= 0 else None

    def restore_from(self, snapshot: Snapshot | None) -> None:
        """From now on look in `snapshot` before loading; see `preheat.abc.SnapshotsValues`."""
        self._snapshot = snapshot
