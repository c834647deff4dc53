"""Mappings that an application has already: recorded while it goes on using them and, with a load, warmable."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeVar

from preheat._log import CacheLog, quietly
from preheat._model import DEFAULT_PRIORITY, CacheStatistics, ItemResult, ItemStatus, WarmupItem
from preheat.adapters.ear import Change, Ear
from preheat.adapters.in_place import RECORDED, record_in_place
from preheat.adapters.mapping import MappingCache, has_life_time
from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    from preheat.abc import AccessLog, SnapshotCodec

V = TypeVar("V")

_ABSENT: Any = object()


class RecordedMapping(MutableMapping[str, V]):
    """A mapping in front of another, which it reads and writes, and whose accesses it records.

    Whatever else the other one can do, this one can do through it.
    """

    _is_recorded_by_preheat = True

    def __init__(self, mapping: MutableMapping[str, V], ear: Ear) -> None:
        self._mapping, self._ear = mapping, ear

    def __getitem__(self, key: str) -> V:
        if key in self._mapping:
            value = self._mapping[key]
            self._ear.hit(key)
            return value
        self._ear.missed(key)
        value = self._mapping[key]  # raises, or the mapping makes it
        self._ear.put(key, value)
        return value

    def get(self, key: str, default: Any = None) -> Any:
        value = self._mapping.get(key, _ABSENT)
        if value is _ABSENT:
            self._ear.missed(key)
            return default
        self._ear.hit(key)
        return value

    def pop(self, key: str, *default: Any) -> Any:
        try:
            return self._mapping.pop(key, *default)
        finally:  # also of what is not there: it may be in a snapshot
            self._ear.changed(Change.DELETED, key)

    def __contains__(self, key: object) -> bool:
        if key in self._mapping:
            return True
        self._ear.absent(key)  # type: ignore[arg-type]
        return False

    def __setitem__(self, key: str, value: V) -> None:
        self._mapping[key] = value
        self._ear.put(key, value)

    def __delitem__(self, key: str) -> None:
        try:
            del self._mapping[key]
        finally:
            self._ear.changed(Change.DELETED, key)

    def clear(self) -> None:
        self._mapping.clear()
        self._ear.changed(Change.CLEARED, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._mapping)

    def __len__(self) -> int:
        return len(self._mapping)

    def __repr__(self) -> str:
        return f"RecordedMapping({self._mapping!r})"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mapping, name)


# ------------------------------------------------------------------------------------------------------- warmable


class WatchedCache(MappingCache[V]):
    """A watched mapping that can be warmed: traffic reads the mapping itself, warm-ups come through here.

    Which of the warmed entries traffic has asked for is known from the log; where that is sampled, one that was asked
    for a few times only may be taken for unused.

    Warm-ups look in the snapshot, if there is one; reads of the mapping don't.  What is written or deleted is erased
    there at once.  Nothing is kept of a mapping that lets its entries expire: they would begin to live anew.
    """

    def __init__(
        self,
        unheard: MutableMapping[str, V],
        ear: Ear,
        load: Callable[[str], V],
        *,
        priority: int = DEFAULT_PRIORITY,
        lock: AbstractContextManager[Any] | None = None,
        codec: SnapshotCodec | None = None,
    ) -> None:
        super().__init__(unheard, load, name=ear.name, priority=priority, lock=lock, codec=codec)
        self._ear = ear
        ear.changed = self._note_change
        self._asked: set[str] = set()  # of what was warmed; the folding thread adds and must not wait for a lock
        if ear.log is not None:
            self.record_to(ear.log)

    @property
    def log(self) -> AccessLog | None:
        """Where accesses go."""
        return self._ear.log

    def record_to(self, log: AccessLog) -> None:
        """From now on report every access to `log`."""
        self._log = log
        if isinstance(log, CacheLog):
            log.asked = self._note_asked
        self._ear.record_to(log)

    def snapshot_codec(self) -> SnapshotCodec | None:
        """How its values become bytes: as plain data, unless told otherwise; see `preheat.abc.SnapshotsValues`."""
        if has_life_time(self.mapping):
            return None
        if self._kept.codec is None:
            from preheat.codecs import DocumentCodec

            self._kept.codec = DocumentCodec()
        return self._kept.codec

    def _note_change(self, change: Change, key: Any) -> None:
        """Called by who changes the mapping, and may hold its lock: so without it."""
        if change is Change.CLEARED:
            self._loading.clear()
            self._kept.erase_all()
        elif not isinstance(key, str):
            pass  # nothing is kept of it
        elif change is Change.EVICTED:
            self._kept.drop([key])
        else:
            self._kept.erase([key])
            if change is Change.WRITTEN:
                self._kept.note(key)
            else:
                self._loading.pop(key, None)

    def get_warmup_statistics(self) -> CacheStatistics:
        """What the mapping holds, and what was recorded of it; see `MappingCache`."""
        self._settle()
        statistics = super().get_warmup_statistics()
        if isinstance(self._log, CacheLog):
            statistics = statistics._replace(hits=self._log.recorded_hits, misses=self._log.recorded_misses)
        return statistics

    def _note_asked(self, keys: Sequence[str]) -> None:
        if self._warmed:
            self._asked.update(key for key in keys if key in self._warmed)

    def _settle(self) -> None:
        if self._warmed and isinstance(self._log, CacheLog):
            self._log.settle()
            self._note_asked(self._log.waiting())
            with self._lock:
                while self._asked:
                    self._warmed.pop(self._asked.pop(), None)

    def undo_warmup(self, key: str) -> int:
        """Drop `key` if a warm-up loaded it and nobody read or replaced it since; the bytes released."""
        self._settle()
        return super().undo_warmup(key)


class AwaitedCache(WatchedCache[V]):
    """The same where the load is a coroutine function."""

    _load: Callable[[str], Awaitable[V]]  # type: ignore[assignment]

    async def warmup_item(self, item: WarmupItem) -> ItemResult:  # type: ignore[override]
        """Load `item` as a miss would; see `preheat.abc.WarmableCache`."""
        key = item.ref.key
        if key in self.mapping:
            return ItemResult(ItemStatus.RESIDENT)
        started, load = time.perf_counter(), self._begin_load(key)
        try:
            held = self._kept.find(key)
            with quietly():
                value = await self._load(key) if held is None else held.value
            return self._admit(item, value, time.perf_counter() - started, partial(self._may_keep, key, load), held)
        finally:
            self._end_load(key, load)


def watch(
    mapping: MutableMapping[str, V],
    *,
    name: str,
    log: CacheLog,
    load: Callable[[str], Any] | None = None,
    priority: int = DEFAULT_PRIORITY,
    lock: AbstractContextManager[Any] | None = None,
    codec: SnapshotCodec | None = None,
) -> tuple[MutableMapping[str, V], Ear | WatchedCache[V]]:
    """`mapping` recorded to `log`, and what can be recorded elsewhere or, with `load`, be warmed.

    Raises:
        InvalidSetting: It is no mapping, is recorded already, or has keys that are no text.
    """
    _demand_recordable(mapping, name)
    if load is not None and not callable(load):
        raise InvalidSetting(f"cache {name!r}: the load of a mapping has to be a function of the key")
    ear = Ear(name, log)
    unheard = mapping
    if _is_of_cachetools(mapping):
        unheard = record_in_place(mapping, ear)
    else:
        mapping = RecordedMapping(mapping, ear)
    if load is None:
        return mapping, ear
    kind = AwaitedCache if iscoroutinefunction(load) else WatchedCache
    return mapping, kind(unheard, ear, load, priority=priority, lock=lock, codec=codec)


def _is_of_cachetools(mapping: Any) -> bool:
    cachetools = sys.modules.get("cachetools")  # whoever has such a cache has imported it
    return cachetools is not None and isinstance(mapping, cachetools.Cache)


def _demand_recordable(mapping: Any, name: str) -> None:
    if not isinstance(mapping, MutableMapping):
        kind = type(mapping).__name__
        raise InvalidSetting(
            f"cache {name!r}: a {kind} can't be watched; it has to be a mapping that can be written to"
        )
    if hasattr(type(mapping), RECORDED):
        raise InvalidSetting(f"cache {name!r}: this mapping is being watched already")
    strange = next((key for key in mapping if not isinstance(key, str)), None)
    if strange is not None:
        raise InvalidSetting(
            f"cache {name!r} has the key {strange!r}, a {type(strange).__name__}; keys have to be text, which outlives"
            " the process"
        )
