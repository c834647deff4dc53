"""A cache of diskcache, in a folder that processes share: it loads what is missing and is warmed without harm.

Sizes are bytes on disk, and so is what a run's budget means for it: how much is written, not how much memory it takes.
A folder's own limit counts (`size_limit`): a warm-up stops at nine tenths of it, so that nothing is culled for it.

A load first leaves a token beside the key, its claim, and what was loaded is stored only if that is still there; both
in one transaction.  `delete` and `put` take the token away, in every process.  What the application deletes from the
folder by itself leaves no trace of that kind; what it stores there stays, for nothing is put over it.

diskcache pickles values that are no text, bytes or number, and unpickles what it finds: whoever can write to the folder
can run code in whoever reads it.  Here values are read by `get` only; looks and warm-ups read no more than their own
claims.  With `disk=DataDisk` nothing is pickled, and what others pickled is not read.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from msgspec.structs import replace

from preheat._log import is_quiet, quietly
from preheat._model import DEFAULT_PRIORITY, CacheStatistics, History, ItemRef, ItemResult, ItemStatus, WarmupItem
from preheat._sharing.rules import FULL_RATIO, Life
from preheat._size import estimate_item_memory_usage
from preheat.adapters.counted import Counted
from preheat.errors import InvalidSetting

try:
    from diskcache import UNKNOWN, Disk
except ImportError:
    raise InvalidSetting("diskcache is missing; pip install 'preheat[diskcache]'") from None

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DataDisk", "DiskCache"]

V = TypeVar("V")

_CHANGED = "it was deleted or put while it was being loaded, or that took too long"
ENTRY_BYTES = 256  # of a row and its indices
_ABSENT: Any = object()


class DiskCache(Counted, Generic[V]):
    """A `diskcache.Cache` or `FanoutCache` that loads what is missing, reports its traffic and can be warmed.

    Args:
        cache: The cache, of text keys; `get` returns what it returns.
        load: Makes the value of a key; what it raises passes to the reader and is never stored.
        name: Name of the cache in history and reports.
        ttl_seconds: How long values live; a warm-up's by up to a tenth more or less, so that they don't end together.
        remaining_seconds: What is left of a value's own life, instead; None for ever.
        tag: Of a key and its value: what `cache.evict(tag)` knows it by.
        load_deadline_seconds: What took longer to load is not stored.
        priority: The operator's word for its items, 1 to 10.
        needs: For a key, what has to be resident before its value is loaded.

    Raises:
        InvalidSetting: It is no cache of diskcache, or a time is none.
    """

    def __init__(
        self,
        cache: Any,
        load: Callable[[str], V],
        *,
        name: str,
        ttl_seconds: float | None = None,
        remaining_seconds: Callable[[str, V], float | None] | None = None,
        tag: Callable[[str, V], str | None] | None = None,
        load_deadline_seconds: float = 30.0,
        priority: int = DEFAULT_PRIORITY,
        needs: Callable[[str], Iterable[ItemRef]] | None = None,
    ) -> None:
        if not all(hasattr(cache, member) for member in ("transact", "volume", "add", "directory")):
            raise InvalidSetting(f"cache {name!r}: a {type(cache).__name__} is no Cache or FanoutCache of diskcache")
        if ttl_seconds is not None and not 0.001 <= ttl_seconds <= 2**31:
            raise InvalidSetting(f"ttl_seconds is {ttl_seconds!r}; it has to be from 0.001 to {2**31}")
        super().__init__(name, priority, needs)
        self.cache, self._load, self._tag = cache, load, tag
        self._life, self._deadline_seconds = Life(ttl_seconds, remaining_seconds), load_deadline_seconds
        self._rng = random.Random()

    def get(self, key: str) -> V:
        """The value of `key`, loaded if it is missing; it is kept unless it has changed meanwhile."""
        value = self.cache.get(key, default=_ABSENT, retry=True)
        if value is not _ABSENT:
            if not is_quiet():
                self._count(key, is_hit=True)
            found: V = value
            return found
        if is_quiet():
            return self._load(key)
        return self._load_and_keep(key)

    def put(self, key: str, value: V) -> None:
        """Store the application's own, newer `value`; loads under way, in any process, will not be kept."""
        milliseconds = self._life.milliseconds(key, value)
        with self.cache.transact(retry=True):
            self.delete(key)
            if milliseconds >= 0:
                self.cache.set(key, value, expire=_seconds(milliseconds), tag=self._tag_of(key, value), retry=True)

    def delete(self, *keys: str) -> None:
        """Delete `keys`; loads of them under way, in any process, will not be kept."""
        for key in keys:
            with self.cache.transact(retry=True):
                self.cache.delete(_claim(key), retry=True)
                self.cache.delete(key, retry=True)

    def get_warmup_candidates(self, history: History, rates: NDArray[Any]) -> Sequence[WarmupItem]:
        """Keys that history knows and the folder lacks."""
        return self._candidates(history, rates, lambda keys: [key in self.cache for key in keys])

    def warmup_item(self, item: WarmupItem) -> ItemResult:
        """Load `item` as a miss would; see `preheat.abc.WarmableCache`."""
        key = item.ref.key
        if key in self.cache:
            return ItemResult(ItemStatus.RESIDENT)
        token = self._take(key)
        if token is None:
            return ItemResult(ItemStatus.RESIDENT, reason="another process is loading it")
        started = time.perf_counter()
        try:
            with quietly():
                value = self._load(key)
            milliseconds = self._life.milliseconds(key, value, self._rng)
            result = self._stored(key, value, milliseconds, token, may_cull=False)
        finally:
            self._give_back(key, token)
        result = replace(result, seconds=time.perf_counter() - started)
        self._count_warmed([item], [result])
        return result

    def get_warmup_statistics(self) -> CacheStatistics:
        """Items, bytes and limit are those of the folder, the rest of this process."""
        used_bytes, limit_bytes = (sum(each) for each in zip(*map(_volume, _shards(self.cache)), strict=True))
        return self._statistics(len(self.cache), used_bytes, int(limit_bytes * FULL_RATIO))

    # ------------------------------------------------------------------------------------------------- within

    def _load_and_keep(self, key: str) -> V:
        started, token = time.perf_counter(), self._take(key)
        try:
            value = self._load(key)
            if token is not None:
                self._stored(key, value, self._life.milliseconds(key, value), token, may_cull=True)
        except BaseException:
            self._count(key, is_hit=False)
            self._tell_miss(key, -1, -1.0)
            raise
        finally:
            self._give_back(key, token)
        self._count(key, is_hit=False)
        if self._log is not None:
            self._tell_miss(key, _disk_bytes(key, value), time.perf_counter() - started)
        return value

    def _take(self, key: str) -> str | None:
        """A claim to `key`, if nobody else has one."""
        token = os.urandom(16).hex()
        is_mine = self.cache.add(_claim(key), token, expire=self._deadline_seconds, retry=True)
        return token if is_mine else None

    def _give_back(self, key: str, token: str | None) -> None:
        if token is not None:
            with self.cache.transact(retry=True):
                if self._holds(key, token):
                    self.cache.delete(_claim(key), retry=True)

    def _holds(self, key: str, token: str) -> bool:
        return bool(self.cache.get(_claim(key), retry=True) == token)

    def _stored(self, key: str, value: V, milliseconds: int, token: str, *, may_cull: bool) -> ItemResult:
        if milliseconds < 0:
            return ItemResult(ItemStatus.UNAVAILABLE, reason="its time is over already")
        size_bytes = _disk_bytes(key, value)
        options = {"expire": _seconds(milliseconds), "tag": self._tag_of(key, value), "retry": True}
        with self.cache.transact(retry=True):
            if not may_cull and not _has_room(self.cache, size_bytes):
                return ItemResult(ItemStatus.REJECTED, reason="its folder is nine tenths full")
            if not self._holds(key, token):
                return ItemResult(ItemStatus.REJECTED, reason=_CHANGED)
            is_stored = self.cache.add(key, value, **options)
        return ItemResult(ItemStatus.LOADED, size_bytes) if is_stored else ItemResult(ItemStatus.RESIDENT)

    def _tag_of(self, key: str, value: V) -> str | None:
        return None if self._tag is None else self._tag(key, value)


def _claim(key: str) -> str:
    """Where the token of a load stands: a key that no application has."""
    return f"\0preheat loading {key}"


def _seconds(milliseconds: int) -> float | None:
    return milliseconds / 1000 if milliseconds else None


def _disk_bytes(key: str, value: Any) -> int:
    """What a value needs on disk, about: diskcache itself counts nothing for what stands in its rows.

    For what it has to encode, the memory that the value takes stands for the bytes that it will take.
    """
    if isinstance(value, str):
        value = value.encode(errors="replace")
    value_bytes = len(value) if isinstance(value, bytes) else estimate_item_memory_usage(value)
    return len(key.encode(errors="replace")) + value_bytes + ENTRY_BYTES


def _has_room(cache: Any, size_bytes: int) -> bool:
    """Whether `size_bytes` more fit the fullest of its shards without anything being culled."""
    return all(used + size_bytes <= limit * FULL_RATIO for used, limit in map(_volume, _shards(cache)))


def _volume(shard: Any) -> tuple[int, int]:
    return int(shard.volume()), int(shard.size_limit)


def _shards(cache: Any) -> Sequence[Any]:
    """The caches that a `FanoutCache` is made of."""
    return getattr(cache, "_shards", None) or [cache]


class DataDisk(Disk):  # type: ignore[misc]
    """For `diskcache.Cache(folder, disk=DataDisk)`: text, bytes and numbers only; nothing is pickled or unpickled.

    What somebody else has pickled there is absent.
    """

    def put(self, key: Any) -> Any:
        """The columns of a key."""
        return super().put(_data(key))

    def get(self, key: Any, raw: bool) -> Any:
        """The key of its columns."""
        return super().get(key, raw) if raw else None

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> Any:
        """The columns of a value."""
        return super().store(value if read else _data(value), read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """The value of its columns."""
        if mode not in _DATA_MODES:
            raise FileNotFoundError("what is pickled is not read")  # which diskcache takes for an absent value
        return super().fetch(mode, filename, value, read)


_DATA_MODES = frozenset({1, 2, 3})  # raw, bytes in a file, text in a file


def _data(value: Any) -> Any:
    is_short = type(value) is not int or -(2**63) <= value < 2**63
    if type(value) not in (str, bytes, int, float) or not is_short:
        raise TypeError(f"a {type(value).__name__} is neither text nor bytes nor a number of 64 bits")
    return value
