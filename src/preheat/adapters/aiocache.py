"""Caches of aiocache, whatever their backend: recorded in place, warmed by `add`, which replaces nothing.

A value is put in for the `ttl` that it was last put in with.  With `@cached` over a function, `preheat.heat.loader`
stands beneath it, and warm-ups call the function again with the arguments that were recorded; `@cached_stampede`, which
looks twice, counts once.  aiocache keeps no None: what loads as None is not put in.

What this process writes or deletes while a load is under way is neither replaced nor brought back; of other processes
aiocache could tell nothing.  What a Redis or Valkey server has is asked over a blocking client before a run; of other
servers the run finds out by itself.  Keys in another namespace than the cache's own are not recorded.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

from aiocache.base import SENTINEL, BaseCache

from preheat._log import CacheLog
from preheat._model import DEFAULT_PRIORITY
from preheat._sharing.rules import FULL_RATIO
from preheat.adapters.library import LoadOf, Recorder
from preheat.adapters.library_async import AsyncLibrary, AsyncLibraryCache
from preheat.adapters.loaders import USUAL, is_asked
from preheat.adapters.recorded import Steps, Telling, demand_unrecorded, given, record_object
from preheat.adapters.redis import _blocking

__all__ = ["AioCache", "watch"]

WAIT_SECONDS = 2.0  # for an answer of a server, where a thread asks it
LOOK_SECONDS = 1.0  # how old what is known of a server's memory may be


# ---------------------------------------------------------------------------------------------------------- recording


class _Tellings:
    """What each method of a cache tells a recorder.

    Arguments go on as they came, by place or by name: the plugins of the cache see them.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def by_name(self) -> dict[str, Telling]:
        """By name of the method."""
        return {
            "get": self._get,
            "multi_get": self._multi_get,
            "exists": self._exists,
            "set": self._put,
            "add": self._put,
            "multi_set": self._multi_set,
            "delete": self._change,
            "increment": self._change,
            "clear": self._clear,
            "raw": self._clear,
        }

    def _get(self, cache: Any, key: Any, *how: Any, **named: Any) -> Steps:
        default = named.get("default", how[0] if how else None)
        value = yield given(key, *how, **named)
        if _is_own(cache, named):
            self._read(_text(key), is_hit=value is not None and value is not default)
        return value

    def _multi_get(self, cache: Any, keys: Iterable[Any], *how: Any, **named: Any) -> Steps:
        keys = list(keys)
        values = yield given(keys, *how, **named)
        if _is_own(cache, named):
            for key, value in zip(keys, values, strict=False):
                self._read(_text(key), is_hit=value is not None)
        return values

    def _read(self, key: str, *, is_hit: bool) -> None:
        if is_hit or not is_asked(self._recorder, key):
            self._recorder.read(key, is_hit=is_hit)

    def _exists(self, cache: Any, key: Any, **named: Any) -> Steps:
        is_there = yield given(key, **named)
        if _is_own(cache, named):
            self._recorder.looked(_text(key), is_there=bool(is_there))
        return is_there

    def _put(self, cache: Any, key: Any, value: Any, *how: Any, **named: Any) -> Steps:
        self._recorder.changing(_text(key))
        result = yield given(key, value, *how, **named)
        if _is_own(cache, named) and result:
            self._recorder.put(_text(key), value, _life(how, named))
        return result

    def _multi_set(self, cache: Any, pairs: Iterable[Any], *how: Any, **named: Any) -> Steps:
        pairs = [tuple(pair) for pair in pairs]
        for key, _ in pairs:
            self._recorder.changing(_text(key))
        result = yield given(pairs, *how, **named)
        if _is_own(cache, named):
            for key, value in pairs:
                self._recorder.put(_text(key), value, _life(how, named))
        return result

    def _change(self, cache: Any, key: Any, *how: Any, **named: Any) -> Steps:
        self._recorder.changing(_text(key))
        return (yield given(key, *how, **named))

    def _clear(self, cache: Any, *how: Any, **named: Any) -> Steps:
        self._recorder.clearing()
        return (yield given(*how, **named))


def _is_own(cache: Any, named: dict[str, Any]) -> bool:
    return named.get("namespace") in (None, cache.namespace)


def _text(key: Any) -> str:
    return str(key.value if isinstance(key, Enum) else key)


def _life(how: tuple[Any, ...], named: dict[str, Any]) -> float | None:
    ttl = named.get("ttl", how[0] if how else SENTINEL)
    return USUAL if ttl is SENTINEL else float(ttl) if ttl else None


def _ttl(life_seconds: float | None) -> Any:
    """A life as aiocache has it; whole seconds as an int, which memcached demands."""
    if life_seconds is None:
        return None
    return SENTINEL if life_seconds == USUAL else int(life_seconds) if life_seconds.is_integer() else life_seconds


# ------------------------------------------------------------------------------------------------------------ warming


class _Cache:
    """What a warm-up asks of a cache that can only be awaited: see `preheat.adapters.library_async.AsyncLibrary`."""

    def __init__(self, cache: BaseCache) -> None:
        self.cache = cache

    async def holds(self, key: str) -> bool:
        return bool(await self.cache.exists(key))

    async def add(self, key: str, value: Any, life_seconds: float | None) -> bool:
        try:
            return bool(await self.cache.add(key, value, ttl=_ttl(life_seconds)))
        except ValueError:  # that is how it says that something is there
            if await self.holds(key):
                return False
            raise

    async def drop(self, key: str) -> None:
        await self.cache.delete(key)

    async def refuses(self, value: Any, size_bytes: int) -> str:
        return "aiocache keeps no None" if value is None else ""

    def find(self, keys: Sequence[str]) -> Sequence[bool] | None:
        return None

    def count(self) -> int | None:
        return None

    def drop_now(self, key: str) -> bool:
        return False

    def _built(self, key: str) -> Any:
        return self.cache.build_key(key, namespace=self.cache.namespace)


class _InMemory(_Cache):
    """One whose entries are in this process."""

    def find(self, keys: Sequence[str]) -> Sequence[bool]:
        return [self._built(key) in self.cache._cache for key in keys]

    def count(self) -> int:
        return len(self.cache._cache)

    def drop_now(self, key: str) -> bool:
        # its timer stays, for only the loop may touch that: the next value put in there cancels it
        return self.cache._cache.pop(self._built(key), None) is not None


class _OnRedis(_Cache):
    """One on a server, which a blocking client can ask as well."""

    def __init__(self, cache: BaseCache) -> None:
        super().__init__(cache)
        self._blocking = _blocking(cache.client)
        self._blocking.connection_pool.connection_kwargs.setdefault("socket_timeout", WAIT_SECONDS)
        self._looked_at, self._is_full = float("-inf"), False

    def find(self, keys: Sequence[str]) -> Sequence[bool]:
        pipeline = self._blocking.pipeline(transaction=False)
        for key in keys:
            pipeline.exists(self._built(key))
        return [bool(found) for found in pipeline.execute()]

    def count(self) -> int:
        return int(self._blocking.dbsize())

    def drop_now(self, key: str) -> bool:
        return bool(self._blocking.delete(self._built(key)))

    async def refuses(self, value: Any, size_bytes: int) -> str:
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS:
            memory = await self.cache.client.info("memory")
            self._looked_at = now
            self._is_full = 0 < memory.get("maxmemory", 0) * FULL_RATIO <= memory.get("used_memory", 0)
        full = f"its server has filled {FULL_RATIO:.0%} of its memory" if self._is_full else ""
        return full or await super().refuses(value, size_bytes)


def _library_of(cache: BaseCache) -> AsyncLibrary:
    if isinstance(getattr(cache, "_cache", None), dict):
        return _InMemory(cache)
    return _OnRedis(cache) if hasattr(getattr(cache, "client", None), "connection_pool") else _Cache(cache)


class AioCache(AsyncLibraryCache):
    """A cache of aiocache as the service sees it.

    Args:
        cache: It.
        name: Name of the cache in history and reports.
        log: Where accesses go until `record_to` names another.
        load: As for `preheat.heat.watch`.
        priority: The operator's word for its items, 1 to 10.
    """

    def __init__(
        self, cache: BaseCache, *, name: str, log: CacheLog, load: LoadOf = None, priority: int = DEFAULT_PRIORITY
    ) -> None:
        super().__init__(name, Recorder(name, log), _library_of(cache), load, priority=priority)


def watch(
    cache: BaseCache, *, name: str, log: CacheLog, load: LoadOf = None, priority: int = DEFAULT_PRIORITY
) -> tuple[BaseCache, AioCache]:
    """Record `cache`, and what the service is to warm; see `heat.watch`.

    Raises:
        InvalidSetting: It is recorded already.
    """
    demand_unrecorded(cache, name)
    made = AioCache(cache, name=name, log=log, load=load, priority=priority)
    record_object(cache, name, _Tellings(made.recorder).by_name())
    return cache, made
