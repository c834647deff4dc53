"""Caches of Django's cache framework, whatever their backend: recorded in place, warmed by `add`.

Every connection to a cache (Django keeps one per thread and task) becomes of a subclass of its backend, made for its
alias, whose methods also record.  Reads, writes, versions, prefixes, timeouts and the asynchronous methods stay what
they were; a `get_or_set` that finds nothing is one miss, which took as long as its default.

A value is put in for the timeout that it was last put in with, by `add`, which replaces nothing in any backend.
Deletes and writes of this process overtake loads under way; those of other processes can't be seen: the framework
has nothing to ask for that.

In history a key is called as the application calls it; in another version than its alias has, "#", the version and
"#" stand before it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from functools import partial
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.utils.connection import ConnectionProxy

from preheat._log import CacheLog
from preheat._model import DEFAULT_PRIORITY
from preheat._sharing.rules import FULL_RATIO
from preheat.adapters.in_place import RECORDED
from preheat.adapters.library import LibraryCache, LoadOf, Recorder, unheard
from preheat.adapters.loaders import USUAL
from preheat.adapters.recorded import Steps, Telling, given, recorded_class
from preheat.errors import InvalidSetting

__all__ = ["DjangoCache", "watch"]


LOOK_SECONDS = 1.0  # how old what is known of a server's memory may be

_ABSENT: Any = object()


# --------------------------------------------------------------------------------------------------------------- keys


def key_text(key: Any, version: Any, usual: Any) -> str:
    """What `key` in `version` is called in history; `usual` is the version of its cache."""
    text = str(key)
    if (version is None or version == usual) and not text.startswith("#"):
        return text
    return f"#{usual if version is None else version}#{text}"


def key_and_version(text: str) -> tuple[str, Any]:
    """The key and the version (None for the usual one) that history calls `text`."""
    if not text.startswith("#"):
        return text, None
    version, _, key = text[1:].partition("#")
    return key, int(version) if version.isdecimal() else version


# ---------------------------------------------------------------------------------------------------------- recording


def _life(timeout: Any) -> float | None:
    return USUAL if timeout is DEFAULT_TIMEOUT else None if timeout is None else max(0.0, float(timeout))


class _Tellings:
    """What each method of a backend tells a recorder; `a` before a name is the same for its coroutine."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def by_name(self) -> dict[str, Telling]:
        """By name of the method."""
        plain: dict[str, Telling] = {
            "get": self._get,
            "get_many": self._get_many,
            "get_or_set": self._get_or_set,
            "has_key": self._has_key,
            "set": self._put,
            "add": self._put,
            "set_many": self._set_many,
            "delete": self._delete,
            "delete_many": self._delete_many,
            "incr": self._count,
            "decr": self._count,
            "incr_version": self._move,
            "decr_version": partial(self._move, sign=-1),
            "clear": self._clear,
        }
        return plain | {f"a{name}": telling for name, telling in plain.items()}

    def _get(self, cache: Any, key: Any, default: Any = None, version: Any = None) -> Steps:
        value = yield given(key, _ABSENT, version)
        self._recorder.read(key_text(key, version, cache.version), is_hit=value is not _ABSENT)
        return default if value is _ABSENT else value

    def _get_many(self, cache: Any, keys: Iterable[Any], version: Any = None) -> Steps:
        keys = list(keys)
        found = yield given(keys, version)
        for key in keys:
            self._recorder.read(key_text(key, version, cache.version), is_hit=key in found)
        return found

    def _has_key(self, cache: Any, key: Any, version: Any = None) -> Steps:
        is_there = yield given(key, version)
        self._recorder.looked(key_text(key, version, cache.version), is_there=bool(is_there))
        return is_there

    def _get_or_set(
        self, cache: Any, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> Steps:
        text = key_text(key, version, cache.version)
        made, begun = _Default(default, partial(self._recorder.asking, text)), time.perf_counter()
        try:
            value = yield given(key, made, timeout, version)
        except Exception:
            if made.is_asked:
                self._recorder.failed(text)
            raise
        if made.is_asked:
            self._recorder.loaded(text, made.value, time.perf_counter() - begun, _life(timeout))
        else:
            self._recorder.hit(text)
        return value

    def _put(self, cache: Any, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> Steps:
        text = key_text(key, version, cache.version)
        self._recorder.changing(text)
        result = yield given(key, value, timeout, version)
        if result is not False:  # an `add` that found something
            self._recorder.put(text, value, _life(timeout))
        return result

    def _set_many(
        self, cache: Any, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> Steps:
        texts = {key: key_text(key, version, cache.version) for key in data}
        for text in texts.values():
            self._recorder.changing(text)
        failed = yield given(data, timeout, version)
        for key in data.keys() - set(failed or ()):
            self._recorder.put(texts[key], data[key], _life(timeout))
        return failed

    def _delete(self, cache: Any, key: Any, version: Any = None) -> Steps:
        self._recorder.changing(key_text(key, version, cache.version))
        return (yield given(key, version))

    def _delete_many(self, cache: Any, keys: Iterable[Any], version: Any = None) -> Steps:
        keys = list(keys)
        for key in keys:
            self._recorder.changing(key_text(key, version, cache.version))
        return (yield given(keys, version))

    def _count(self, cache: Any, key: Any, delta: int = 1, version: Any = None) -> Steps:
        self._recorder.changing(key_text(key, version, cache.version))
        return (yield given(key, delta, version))

    def _move(self, cache: Any, key: Any, delta: int = 1, version: Any = None, *, sign: int = 1) -> Steps:
        before = cache.version if version is None else version
        for each in (before, before + sign * delta):
            self._recorder.changing(key_text(key, each, cache.version))
        return (yield given(key, delta, version))

    def _clear(self, cache: Any) -> Steps:
        self._recorder.clearing()
        return (yield given())


class _Default:
    """The default of a `get_or_set`: whether it was asked for, and what it came to."""

    def __init__(self, default: Any, asking: Callable[[], None]) -> None:
        self._default, self._asking = default, asking
        self.is_asked, self.value = False, None

    def __call__(self) -> Any:
        self.is_asked = True
        if not callable(self._default):
            self.value = self._default
            return self.value
        self._asking()
        with unheard(is_deaf=False):
            self.value = self._default()
        return self.value


# ------------------------------------------------------------------------------------------------------------ warming


class _Backend:
    """What a warm-up asks of a cache: see `preheat.adapters.library.Library`.  `connect` gives this thread's."""

    def __init__(self, connect: Callable[[], BaseCache]) -> None:
        self._connect = connect
        self._looked_at, self._is_full = float("-inf"), False

    def holds(self, key: str) -> bool:
        name, version = key_and_version(key)
        return bool(self._connect().has_key(name, version=version))

    def find(self, keys: Sequence[str]) -> list[bool]:
        cache = self._connect()
        return [bool(cache.has_key(name, version=version)) for name, version in map(key_and_version, keys)]

    def add(self, key: str, value: Any, life_seconds: float | None) -> bool:
        name, version = key_and_version(key)
        timeout = DEFAULT_TIMEOUT if life_seconds == USUAL else life_seconds
        return bool(self._connect().add(name, value, timeout if timeout is None else _whole(timeout), version=version))

    def drop(self, key: str) -> None:
        name, version = key_and_version(key)
        self._connect().delete(name, version=version)

    def count(self) -> int | None:
        return _count(self._connect())

    def refuses(self, value: Any, size_bytes: int) -> str:
        cache = self._connect()
        if hasattr(cache, "_cull"):  # it limits itself, and goes by its entries
            counted = _count(cache) or 0
            return "its cache has as many entries as it may" if counted >= cache._max_entries else ""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at, self._is_full = now, _is_nearly_full(getattr(cache, "_cache", None))
        return f"its server has filled {FULL_RATIO:.0%} of its memory" if self._is_full else ""


def _whole(timeout: Any) -> Any:
    """A timeout as it was given: whole numbers, which some backends demand, come back as such."""
    return int(timeout) if timeout is not DEFAULT_TIMEOUT and float(timeout).is_integer() else timeout


def _count(cache: Any) -> int | None:
    """How many entries there are, where the backend, or its server, can say: of a server, all that it has."""
    inside = getattr(cache, "_cache", None)
    if isinstance(inside, Sized):
        return len(inside)
    if hasattr(cache, "_list_cache_files"):
        return len(cache._list_cache_files())
    if hasattr(cache, "cache_model_class"):
        return _count_rows(cache)
    client = _redis_client(inside)
    if client is not None:
        return int(client.dbsize())
    told = _memcached_statistics(inside)
    return sum(int(each[b"curr_items"]) for each in told) if told else None


def _count_rows(cache: Any) -> int:
    from django.db import connections, router  # only of a project that has a database

    connection = connections[router.db_for_read(cache.cache_model_class)]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM {connection.ops.quote_name(cache._table)}")  # noqa: S608
        return int(cursor.fetchone()[0])


def _redis_client(inside: Any) -> Any:
    make = getattr(inside, "get_client", None)
    client = make(write=True) if callable(make) else None
    return client if hasattr(client, "dbsize") else None


def _memcached_statistics(inside: Any) -> list[Mapping[bytes, Any]]:
    """What each server that pymemcache is connected to says of itself."""
    servers = getattr(inside, "clients", None)
    return [server.stats() for server in servers.values()] if isinstance(servers, Mapping) else []


def _is_nearly_full(inside: Any) -> bool:
    """Whether a server has so little memory left that it might evict; no if it doesn't say."""
    client = _redis_client(inside)
    if client is not None:
        memory = client.info("memory")
        return bool(0 < memory.get("maxmemory", 0) * FULL_RATIO <= memory.get("used_memory", 0))
    told = _memcached_statistics(inside)
    return any(0 < int(each[b"limit_maxbytes"]) * FULL_RATIO <= int(each[b"bytes"]) for each in told)


class DjangoCache(LibraryCache):
    """A cache of Django's as the service sees it.

    Args:
        alias: Its alias in CACHES; None for a cache that no alias leads to.
        connect: Gives the connection of the thread that asks.
        name: Name of the cache in history and reports.
        log: Where accesses go until `record_to` names another.
        load: As for `preheat.heat.watch`.
        priority: The operator's word for its items, 1 to 10.
    """

    def __init__(
        self,
        alias: str | None,
        connect: Callable[[], BaseCache],
        *,
        name: str,
        log: CacheLog,
        load: LoadOf = None,
        priority: int = DEFAULT_PRIORITY,
    ) -> None:
        self.alias = alias
        super().__init__(name, Recorder(name, log), _Backend(connect), load, priority=priority)
        self._classes: dict[type, type] = {}
        self._making = threading.Lock()

    def record(self, connection: BaseCache) -> None:
        """Have `connection`, one to this cache, record what it is asked for."""
        former = type(connection)
        if hasattr(former, RECORDED):
            return
        with self._making:
            if former not in self._classes:
                self._classes[former] = recorded_class(former, _Tellings(self.recorder).by_name())
        connection.__class__ = self._classes[former]


_recorded: dict[str, DjangoCache] = {}  # by alias
_create_connection = caches.create_connection


def _connect_recorded(alias: str) -> BaseCache:
    connection: BaseCache = _create_connection(alias)
    if alias in _recorded:
        _recorded[alias].record(connection)
    return connection


def watch(
    cache: BaseCache | ConnectionProxy,
    *,
    name: str,
    log: CacheLog,
    load: LoadOf = None,
    priority: int = DEFAULT_PRIORITY,
) -> tuple[Any, DjangoCache]:
    """Record `cache`, in every thread if it is one of CACHES, and what the service is to warm; see `heat.watch`.

    Raises:
        InvalidSetting: It is recorded already.
    """
    alias = _alias_of(cache)
    if alias is None:
        made = DjangoCache(None, lambda: cache, name=name, log=log, load=load, priority=priority)
        if hasattr(type(cache), RECORDED):
            raise InvalidSetting(f"cache {name!r}: this {type(cache).__name__} is being watched already")
        made.record(cache)
        return cache, made
    if alias in _recorded:
        raise InvalidSetting(f"cache {name!r}: Django's cache {alias!r} is being watched already")
    made = _recorded[alias] = DjangoCache(
        alias, partial(caches.__getitem__, alias), name=name, log=log, load=load, priority=priority
    )
    caches.create_connection = _connect_recorded
    made.record(caches[alias])  # those of other threads were made before: they record from their next one on
    return cache, made


def _alias_of(cache: Any) -> str | None:
    """The alias of CACHES under which `cache` is connected; None if there is none."""
    if isinstance(cache, ConnectionProxy):
        return str(cache.__dict__["_alias"])
    connected = {alias: getattr(caches._connections, alias, None) for alias in caches}
    return next((alias for alias, connection in connected.items() if connection is cache), None)
