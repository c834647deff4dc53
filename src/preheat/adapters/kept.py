"""What a snapshot keeps of a mapping: when its values were made, which of them to save, and what not to restore.

A mapping has no versions, so a value is the one that was kept until it is written or deleted.  What is told here is
erased in the snapshot before whoever wrote or deleted goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from preheat._model import HeldValue
from preheat._size import estimate_item_memory_usage

if TYPE_CHECKING:
    from preheat.abc import Snapshot, SnapshotCodec

UNKNOWN = -1
READ_AT_ONCE = 1024  # values read while the lock is held


class _Made(NamedTuple):
    at: float
    size_bytes: int


class KeptValues:
    """The values of one mapping, as far as a snapshot is concerned; does nothing while there is none.

    Args:
        codec: How they become bytes; None if they are not to be kept.
    """

    def __init__(self, codec: SnapshotCodec | None) -> None:
        self.codec = codec
        self._snapshot: Snapshot | None = None
        self._made: dict[str, _Made] = {}  # of what has come since there is a snapshot

    def __len__(self) -> int:
        return len(self._made)

    @property
    def is_on(self) -> bool:
        """Whether there is a snapshot."""
        return self._snapshot is not None

    def restore_from(self, snapshot: Snapshot | None) -> None:
        """From now on look in `snapshot`; None ends that."""
        self._snapshot = snapshot
        if snapshot is None:
            self._made = {}

    def find(self, key: str) -> HeldValue | None:
        """What is kept of `key` and may be served."""
        return None if self._snapshot is None else self._snapshot.find(key, "")

    def note(self, key: str, held: HeldValue | None = None) -> None:
        """`key` has been put in: the value that was `held` in the snapshot, or one that has just been made."""
        if self._snapshot is not None:
            self._made[key] = _Made(time.time(), UNKNOWN) if held is None else _Made(held.made_at, held.size_bytes)

    def drop(self, keys: Iterable[str]) -> None:
        """The mapping holds `keys` no more, and whoever asks for them may have them back."""
        for key in keys:
            self._made.pop(key, None)

    def erase(self, keys: Iterable[str]) -> None:
        """Never restore what is kept of `keys`."""
        keys = list(keys)
        self.drop(keys)
        if self._snapshot is not None:
            self._snapshot.erase(keys)

    def erase_all(self) -> None:
        """Never restore what is kept so far."""
        self._made.clear()
        if self._snapshot is not None:
            self._snapshot.erase_all()

    def drop_others(self, is_there: Callable[[str], bool]) -> None:
        """Drop all keys but those that are there."""
        self.drop([key for key in list(self._made) if not is_there(key)])

    def held(self, keys: list[str], mapping: Any, lock: Any, weigh: Callable[[str], int | None]) -> list[HeldValue]:
        """Those of `keys`, coldest first, that were put in while there was a snapshot: the hottest first."""
        found: list[HeldValue] = []
        for start in range(0, len(keys), READ_AT_ONCE):
            with lock:
                read = [self._read(key, mapping) for key in keys[start : start + READ_AT_ONCE]]
            found += [self._weighed(value, weigh) for value in read if value is not None]
        return found[::-1]

    def find_held(
        self, keys: Sequence[str], mapping: Any, weigh: Callable[[str], int | None]
    ) -> list[HeldValue | None]:
        """What `mapping` holds of each of `keys` and was put in while there was a snapshot; the lock is held."""
        found = [self._read(key, mapping) for key in keys]
        return [None if value is None else self._weighed(value, weigh) for value in found]

    def _read(self, key: str, mapping: Any) -> HeldValue | None:
        made = self._made.get(key)
        if made is not None:
            with suppress(KeyError):
                return HeldValue(key, "", mapping[key], made.size_bytes, made.at)
        return None

    def _weighed(self, value: HeldValue, weigh: Callable[[str], int | None]) -> HeldValue:
        if value.size_bytes != UNKNOWN:
            return value
        known = weigh(value.key)
        size_bytes = estimate_item_memory_usage(value.value, key=value.key) if known is None else known
        made = self._made.get(value.key)
        if made is not None and made.at == value.made_at:
            self._made[value.key] = made._replace(size_bytes=size_bytes)
        return value._replace(size_bytes=size_bytes)
