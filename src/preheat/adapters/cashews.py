"""Caches of cashews: recorded by a middleware, which is the library's own way, and warmed by a `set` where nothing is.

With `@cache(ttl=..., key=...)` over a function, `preheat.heat.loader` stands beneath it: a warm-up calls the function
again with the arguments that were recorded, and puts what it returns under the key that cashews gave it, for the time
that it was last put in for, under the tags of its template.  Strategies that keep more than the value beside it
(`early`, `soft`, `hit`) are recorded, and not warmed; no pattern should match their keys.

What this process writes, deletes or invalidates by a tag while a load is under way is neither replaced nor brought
back; of other processes cashews could tell nothing.  In memory nothing is evicted for a warm-up, and what it put in
goes before all that was asked for.  What is on a server, the run finds out by itself.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cashews import Cache
from cashews.commands import Command

from preheat._log import CacheLog
from preheat._model import DEFAULT_PRIORITY
from preheat.adapters.library import LoadOf, Recorder
from preheat.adapters.library_async import AsyncLibraryCache
from preheat.adapters.loaders import USUAL
from preheat.adapters.recorded import Steps, Telling, follow_async, given
from preheat.errors import InvalidSetting

__all__ = ["CashewsCache", "watch"]


# ---------------------------------------------------------------------------------------------------------- recording


class _Middleware:
    """What cashews calls with each command, and what that tells a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._tellings: dict[Command, Telling] = {
            Command.GET: self._get,
            Command.GET_MANY: self._get_many,
            Command.EXISTS: self._exists,
            Command.SET: self._set,
            Command.SET_MANY: self._set_many,
            Command.DELETE: self._change,
            Command.DELETE_MANY: self._delete_many,
            Command.INCR: self._change,
            Command.DELETE_MATCH: self._clear,
            Command.SET_POP: self._clear,  # how it finds the keys of a tag, among which those under way are not yet
            Command.CLEAR: self._clear,
        }

    async def __call__(
        self, call: Callable[..., Any], cmd: Command, backend: Any, *arguments: Any, **named: Any
    ) -> Any:
        telling = self._tellings.get(cmd)
        if telling is None:
            return await call(*arguments, **named)
        return await follow_async(telling(*arguments, **named), call)

    def _get(self, key: str, default: Any = None) -> Steps:
        value = yield given(key=key, default=default)
        self._recorder.read(key, is_hit=value is not default)
        return value

    def _get_many(self, *keys: str, default: Any = None) -> Steps:
        values = yield given(*keys, default=default)
        for key, value in zip(keys, values, strict=False):
            self._recorder.read(key, is_hit=value is not default)
        return values

    def _exists(self, key: str) -> Steps:
        is_there = yield given(key=key)
        self._recorder.looked(key, is_there=bool(is_there))
        return is_there

    def _set(self, key: str, value: Any, expire: float | None = None, **named: Any) -> Steps:
        self._recorder.changing(key)
        is_set = yield given(key=key, value=value, expire=expire, **named)
        if is_set:
            self._recorder.put(key, value, _life(expire))
        return is_set

    def _set_many(self, pairs: Mapping[str, Any], expire: float | None = None) -> Steps:
        for key in pairs:
            self._recorder.changing(key)
        result = yield given(pairs=pairs, expire=expire)
        for key, value in pairs.items():
            self._recorder.put(key, value, _life(expire))
        return result

    def _change(self, key: str, **named: Any) -> Steps:
        self._recorder.changing(key)
        return (yield given(key=key, **named))

    def _delete_many(self, *keys: str) -> Steps:
        for key in keys:
            self._recorder.changing(key)
        return (yield given(*keys))

    def _clear(self, *arguments: Any, **named: Any) -> Steps:
        self._recorder.clearing()
        return (yield given(*arguments, **named))


def _life(expire: float | None) -> float | None:
    """Without an expiry a value lives for ever, which is what cashews does by default."""
    return float(expire) if expire else USUAL


# ------------------------------------------------------------------------------------------------------------ warming


class _Cache:
    """What a warm-up asks of a cache: see `preheat.adapters.library_async.AsyncLibrary`."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    async def holds(self, key: str) -> bool:
        return bool(await self.cache.exists(key))

    async def add(self, key: str, value: Any, life_seconds: float | None) -> bool:
        expire = None if life_seconds is None or life_seconds == USUAL else life_seconds
        tags = self.cache.get_key_tags(key)
        is_set = await self.cache.set(key, value, expire=expire, exist=False, tags=tags)
        entries = self._entries(key)
        if is_set and entries is not None and key in entries:
            entries.move_to_end(key, last=False)
        return bool(is_set)

    async def drop(self, key: str) -> None:
        await self.cache.delete(key)

    async def refuses(self, value: Any, size_bytes: int) -> str:
        full = any(len(backend.store) >= backend.size for backend in self._in_memory())
        return "its cache has as many entries as it may" if full else ""

    def find(self, keys: Sequence[str]) -> list[bool]:
        return [self._is_there(key) for key in keys]

    def count(self) -> int | None:
        backends = self._in_memory()
        return sum(len(backend.store) for backend in backends) if backends else None

    def drop_now(self, key: str) -> bool:
        entries = self._entries(key)
        return entries is not None and entries.pop(key, None) is not None

    def _is_there(self, key: str) -> bool:
        entries = self._entries(key)
        entry = None if entries is None else entries.get(key)
        return entry is not None and (not entry[0] or entry[0] >= time.time())

    def _entries(self, key: str) -> OrderedDict[str, tuple[float | None, Any]] | None:
        """What is in the memory of this process, if `key` belongs there: expiry and value by key, the coldest first."""
        entries = getattr(self.cache._get_backend(key), "store", None)
        return entries if isinstance(entries, OrderedDict) else None

    def _in_memory(self) -> list[Any]:
        backends = self.cache._backends.values()
        return [backend for backend in backends if isinstance(getattr(backend, "store", None), OrderedDict)]


class CashewsCache(AsyncLibraryCache):
    """A cache of cashews as the service sees it.

    Args:
        cache: It.
        name: Name of the cache in history and reports.
        log: Where accesses go until `record_to` names another.
        load: As for `preheat.heat.watch`.
        priority: The operator's word for its items, 1 to 10.
    """

    def __init__(
        self, cache: Cache, *, name: str, log: CacheLog, load: LoadOf = None, priority: int = DEFAULT_PRIORITY
    ) -> None:
        super().__init__(name, Recorder(name, log), _Cache(cache), load, priority=priority)


def watch(
    cache: Cache, *, name: str, log: CacheLog, load: LoadOf = None, priority: int = DEFAULT_PRIORITY
) -> tuple[Cache, CashewsCache]:
    """Record `cache`, set up already or later, and what the service is to warm; see `heat.watch`.

    Raises:
        InvalidSetting: It is recorded already.
    """
    if any(isinstance(middleware, _Middleware) for middleware in cache._default_middlewares):
        raise InvalidSetting(f"cache {name!r}: this cache is being watched already")
    made = CashewsCache(cache, name=name, log=log, load=load, priority=priority)
    cache.add_middleware(_Middleware(made.recorder))
    return cache, made
