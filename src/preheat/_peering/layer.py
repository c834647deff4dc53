"""Where a cache finds what a peer gave: a snapshot in front of the one on disk, if there is one.

So a value of a peer passes where a restored one does: in the version that a read would ask for, not past its end, and
not if it has been deleted meanwhile.  What is deleted here is not taken from a peer for a while either, for the peer
may hear of it later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from preheat._limit import load_limit_bytes
from preheat._model import HeldValue
from preheat._peering.wire import Arrived
from preheat._size import estimate_item_memory_usage

if TYPE_CHECKING:
    from preheat.abc import Snapshot, SnapshotCodec, SnapshotsValues

HOLD_OFF_SECONDS = 60.0
"""How long after it was deleted here an item is not taken from a peer."""

MOST_BARRED = 2**16


class Layer:
    """What peers gave of `cache`, and its snapshot on disk: a `preheat.abc.Snapshot`; thread-safe.

    To whoever keeps snapshots it stands for the cache itself: it is a `preheat.abc.SnapshotsValues` too.
    """

    def __init__(self, cache: SnapshotsValues, codec: SnapshotCodec) -> None:
        self.codec = codec
        self.cache = cache
        self._kept: Snapshot | None = None
        self._lock = threading.Lock()
        self._given: dict[str, Arrived] = {}
        self._taken: set[str] = set()
        self._own_erasures = 0
        self._barred_until: dict[str, float] = {}
        self._all_barred_until = 0.0
        cache.restore_from(self)

    # ----------------------------------------------------------------------------------------- for who takes

    def put(self, arrived: Sequence[Arrived]) -> set[str]:
        """Let the cache find what has `arrived`; the keys of what it will, if it looks in time."""
        now = time.monotonic()
        with self._lock:
            given = {each.key: each for each in arrived if not self._is_barred(each.key, now)}
            self._given |= given
            return set(given)

    def is_taken(self, key: str) -> bool:
        """Whether the cache has taken the value of `key` that was put."""
        with self._lock:
            return key in self._taken

    def withdraw(self, keys: Iterable[str]) -> set[str]:
        """Let it find these no more; those of `keys` that it has taken."""
        with self._lock:
            keys = set(keys)
            for key in keys:
                self._given.pop(key, None)
            taken = keys & self._taken
            self._taken -= keys
            return taken

    def may_ask_for(self, keys: Sequence[str]) -> list[str]:
        """Those of `keys` that have not been deleted here lately."""
        now = time.monotonic()
        with self._lock:
            return [key for key in keys if not self._is_barred(key, now)]

    def close(self) -> None:
        """The cache looks nowhere from now on."""
        self.cache.restore_from(None)

    # ------------------------------------------------------------------------------------------ as a snapshot

    @property
    def erasures(self) -> int:
        """How often something has been erased; see `preheat.abc.Snapshot`."""
        return self._own_erasures + (0 if self._kept is None else self._kept.erasures)

    def find(self, key: str, version: str) -> HeldValue | None:
        """What a peer gave of `key`, or what is kept of it, in this `version`; never raises."""
        found = self._find_given(key, version)
        return self._kept.find(key, version) if found is None and self._kept is not None else found

    def _find_given(self, key: str, version: str) -> HeldValue | None:
        with self._lock:
            arrived = self._given.get(key)
        if arrived is None or arrived.version != version or arrived.expires_at <= time.time():
            return None
        try:
            value: Any = self.codec.decode(memoryview(arrived.data))
            size_bytes = max(arrived.size_bytes, estimate_item_memory_usage(value, key=key))
        except Exception:  # codecs raise what they like, and a load must not fail because of a peer
            return None
        limit_bytes = load_limit_bytes()
        with self._lock:
            if self._given.get(key) is not arrived or (limit_bytes is not None and size_bytes > limit_bytes):
                return None  # deleted meanwhile, or for its loader to judge
            self._taken.add(key)
        return HeldValue(key, version, value, size_bytes, arrived.made_at, arrived.expires_at)

    def erase(self, keys: Iterable[str]) -> None:
        """Give nothing of `keys` that is older than this; never raises."""
        keys = list(keys)
        until = time.monotonic() + HOLD_OFF_SECONDS
        with self._lock:
            self._own_erasures += 1
            for key in keys:
                self._given.pop(key, None)
                self._barred_until.pop(key, None)  # so that they stand in the order of their ends
                self._barred_until[key] = until
            self._forget_bars(until)
        if self._kept is not None:
            self._kept.erase(keys)

    def erase_all(self) -> None:
        """Give nothing that is older than this; never raises."""
        with self._lock:
            self._own_erasures += 1
            self._given.clear()
            self._barred_until.clear()
            self._all_barred_until = time.monotonic() + HOLD_OFF_SECONDS
        if self._kept is not None:
            self._kept.erase_all()

    def _is_barred(self, key: str, now: float) -> bool:
        return now < max(self._all_barred_until, self._barred_until.get(key, 0.0))

    def _forget_bars(self, until: float) -> None:
        """Of those that are over, and of all where there are too many; then everything is barred."""
        now = until - HOLD_OFF_SECONDS
        while self._barred_until and next(iter(self._barred_until.values())) <= now:
            del self._barred_until[next(iter(self._barred_until))]
        if len(self._barred_until) > MOST_BARRED:
            self._barred_until.clear()
            self._all_barred_until = until

    # ------------------------------------------------------------------------------- for who keeps snapshots

    def snapshot_codec(self) -> SnapshotCodec:
        """That of the cache."""
        return self.codec

    def held_values(self) -> Sequence[HeldValue]:
        """What the cache holds."""
        return self.cache.held_values()

    def restore_from(self, snapshot: Snapshot | None) -> None:
        """From now on look in `snapshot` for what no peer gave."""
        self._kept = snapshot
