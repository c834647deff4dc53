"""Regions of dogpile.cache, whatever their backend: recorded in place, warmed under the creator's own lock.

A `get_or_create` is one access, however often dogpile looks: a hit if the creator was not called (a value that is
served while another thread makes a new one is one too), else a miss, which took as long as all of it.

A warm-up calls `get_or_create` as a reader would, with the expiration time of the newest reader that missed: so
creators of the application and warm-ups never make a key at the same time, creation time and invalidation of the region
decide what is stale, and the backend's own expiry holds.  What is put in or deleted by this process meanwhile stays:
the value made is not stored.  dogpile has no way to add only where nothing is; what another process puts in between the
last look and the store is replaced, as by two creators without a distributed lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any

from dogpile.cache.api import NO_VALUE
from dogpile.cache.region import CacheRegion

from preheat._log import CacheLog
from preheat._model import DEFAULT_PRIORITY, ItemResult, ItemStatus
from preheat._size import estimate_item_memory_usage
from preheat.adapters.library import OVERTAKEN, LibraryCache, LoadOf, Recorder, complete, not_added, unheard
from preheat.adapters.loaders import USUAL, Load, Recipe
from preheat.adapters.recorded import Steps, Telling, demand_unrecorded, given, record_object
from preheat.errors import InvalidSetting

__all__ = ["DogpileCache", "watch"]


class _Tellings:
    """What each method of a region tells a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def by_name(self) -> dict[str, Telling]:
        """By name of the method."""
        return {
            "get": self._get,
            "get_multi": self._get_multi,
            "get_or_create": self._get_or_create,
            "get_or_create_multi": self._get_or_create_multi,
            "set": self._set,
            "set_multi": self._set_multi,
            "delete": self._delete,
            "delete_multi": self._delete_multi,
            "invalidate": self._invalidate,
        }

    def _get(self, region: Any, key: Any, *how: Any, **named: Any) -> Steps:
        value = yield given(key, *how, **named)
        self._recorder.read(key, is_hit=value is not NO_VALUE)
        return value

    def _get_multi(self, region: Any, keys: Iterable[Any], *how: Any, **named: Any) -> Steps:
        keys = list(keys)
        values = yield given(keys, *how, **named)
        for key, value in zip(keys, values, strict=True):
            self._recorder.read(key, is_hit=value is not NO_VALUE)
        return values

    def _get_or_create(
        self,
        region: Any,
        key: Any,
        creator: Callable[..., Any],
        expiration_time: float | None = None,
        *how: Any,
        **named: Any,
    ) -> Steps:
        made, begun = _Creator(creator, self._recorder, key), time.perf_counter()
        try:
            value = yield given(key, made, expiration_time, *how, **named)
        except Exception:
            if made.is_asked:
                self._recorder.failed(key)
            raise
        if made.is_asked and made.value is value:
            self._recorder.loaded(key, value, time.perf_counter() - begun, _life(expiration_time))
        else:
            self._recorder.hit(key)
        return value

    def _get_or_create_multi(
        self, region: Any, keys: Iterable[Any], creator: Callable[..., Any], *how: Any, **named: Any
    ) -> Steps:
        keys, missing, begun = list(keys), list[Any](), time.perf_counter()

        def create(*asked: Any) -> Any:
            missing.extend(asked)
            with unheard(is_deaf=False):
                return creator(*asked)

        values = yield given(keys, create, *how, **named)
        seconds = (time.perf_counter() - begun) / max(1, len(missing))
        absent = set(missing)
        for key, value in dict(zip(keys, values, strict=True)).items():
            if key in absent:
                self._recorder.loaded(key, value, seconds)
            else:
                self._recorder.hit(key)
        return values

    def _set(self, region: Any, key: Any, value: Any) -> Steps:
        self._recorder.changing(key)
        result = yield given(key, value)
        self._recorder.put(key, value)
        return result

    def _set_multi(self, region: Any, mapping: Mapping[Any, Any]) -> Steps:
        for key in mapping:
            self._recorder.changing(key)
        result = yield given(mapping)
        for key, value in mapping.items():
            self._recorder.put(key, value)
        return result

    def _delete(self, region: Any, key: Any) -> Steps:
        self._recorder.changing(key)
        return (yield given(key))

    def _delete_multi(self, region: Any, keys: Iterable[Any]) -> Steps:
        keys = list(keys)
        for key in keys:
            self._recorder.changing(key)
        return (yield given(keys))

    def _invalidate(self, region: Any, *how: Any, **named: Any) -> Steps:
        self._recorder.clearing()
        return (yield given(*how, **named))


def _life(expiration_time: float | None) -> float | None:
    """How dogpile's word for the life of a value is recorded: None is the region's, -1 for ever."""
    return USUAL if expiration_time is None else None if expiration_time == -1 else float(expiration_time)


def _expiration_time(life_seconds: float | None) -> float | None:
    return -1 if life_seconds is None else None if life_seconds == USUAL else life_seconds


class _Creator:
    """The creator of a `get_or_create`: whether it was called, and what it made."""

    __slots__ = ("_creator", "_key", "_recorder", "is_asked", "value")

    def __init__(self, creator: Callable[..., Any], recorder: Recorder, key: Any) -> None:
        self._creator, self._recorder, self._key = creator, recorder, key
        self.is_asked, self.value = False, None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self._recorder.asking(self._key)
        self.is_asked = True
        with unheard(is_deaf=False):
            self.value = self._creator(*arguments, **named)
        return self.value


# ------------------------------------------------------------------------------------------------------------ warming


class _Region:
    """What a warm-up asks of a region: see `preheat.adapters.library.Library`."""

    def __init__(self, region: CacheRegion) -> None:
        self.region = region

    def holds(self, key: str) -> bool:
        return self.region.get(key) is not NO_VALUE

    def find(self, keys: Sequence[str]) -> list[bool]:
        get_multi: Callable[[list[str]], Sequence[Any]] = self.region.get_multi
        return [value is not NO_VALUE for value in get_multi(list(keys))]

    def add(self, key: str, value: Any, life_seconds: float | None) -> bool:
        self.region.set(key, value)
        return True

    def drop(self, key: str) -> None:
        self.region.delete(key)

    def count(self) -> int | None:
        backend: Any = self.region.actual_backend
        inside = getattr(backend, "_cache", None)
        if isinstance(inside, Sized):
            return len(inside)
        client: Any = getattr(backend, "reader_client", None)
        return int(client.dbsize()) if hasattr(client, "dbsize") else None

    def refuses(self, value: Any, size_bytes: int) -> str:
        return ""


class DogpileCache(LibraryCache):
    """A region as the service sees it.

    Args:
        region: It, configured.
        name: Name of the cache in history and reports.
        log: Where accesses go until `record_to` names another.
        load: As for `preheat.heat.watch`.
        priority: The operator's word for its items, 1 to 10.
    """

    _library: _Region

    def __init__(
        self,
        region: CacheRegion,
        *,
        name: str,
        log: CacheLog,
        load: LoadOf = None,
        priority: int = DEFAULT_PRIORITY,
    ) -> None:
        super().__init__(name, Recorder(name, log), _Region(region), load, priority=priority)

    def _holds(self, key: str, recipe: Recipe) -> bool:
        return self._library.region.get(key, _expiration_time(recipe.life_seconds)) is not NO_VALUE

    def _warm(self, key: str, make: Load, recipe: Recipe, is_current: Callable[[], bool]) -> ItemResult:
        made, stored, started = list[Any](), list[bool](), time.perf_counter()

        def create() -> Any:
            made.append(complete(make()))
            return made[0]

        def may_store(value: Any) -> bool:
            stored.append(is_current() and not self._holds(key, recipe))
            return stored[0]

        self._library.region.get_or_create(key, create, _expiration_time(recipe.life_seconds), may_store)
        seconds, is_stored = time.perf_counter() - started, any(stored)
        if not is_current():
            if is_stored:
                self._library.drop(key)
            return ItemResult(ItemStatus.REJECTED, 0, seconds, OVERTAKEN)
        if not made or not is_stored or not self._holds(key, recipe):
            return not_added(self._holds(key, recipe), seconds)
        return self._note_warmed(key, estimate_item_memory_usage(made[0], key=key), seconds)


def watch(
    region: CacheRegion, *, name: str, log: CacheLog, load: LoadOf = None, priority: int = DEFAULT_PRIORITY
) -> tuple[CacheRegion, DogpileCache]:
    """Record `region`, which has to be configured, and what the service is to warm; see `heat.watch`.

    Raises:
        InvalidSetting: It is recorded already, or not configured yet.
    """
    demand_unrecorded(region, name)
    if not region.is_configured:
        raise InvalidSetting(f"cache {name!r}: its region has no backend yet; watch it after region.configure(...)")
    made = DogpileCache(region, name=name, log=log, load=load, priority=priority)
    record_object(region, name, _Tellings(made.recorder).by_name())
    return region, made
