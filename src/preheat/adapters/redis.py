"""A cache on a Redis or Valkey server, shared by processes: it loads what is missing and is warmed without harm.

`RedisCache` takes a blocking client, `AsyncRedisCache` an asyncio client; all that they do is in `preheat._sharing`,
whose rules say why no value is ever stale.  While the server is away they load and keep nothing, and ask it again
about once a second; nothing that the server does raises an error in the application.

A server with a memory limit is filled to nine tenths by a warm-up, and nothing is evicted for it.  It may be one with
its replicas, or a cluster: there keys and log are split into shards (`preheat._sharing.slots`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from hashlib import sha1
from typing import Any, TypeVar

from preheat._cluster import ClusterLine
from preheat._model import DEFAULT_PRIORITY, CacheStatistics, ItemRef, ItemResult, WarmupItem
from preheat._reach import Door
from preheat._redis import Line, client_kind, connect, demand_bounded, is_cluster, library_of
from preheat._sharing.protocol import Sharing
from preheat._sharing.putting import PUT
from preheat._sharing.rules import FULL_RATIO, Life, Rules
from preheat._sharing.slots import Shards, cluster_tags
from preheat._sharing.steps import Ask, Command, Make
from preheat._turns import apart
from preheat.adapters.shared import BlockingCache, SharedCache, codec_of, failed_load, of_many
from preheat.errors import InvalidSetting

__all__ = ["AsyncRedisCache", "RedisCache", "connect"]

V = TypeVar("V")
T = TypeVar("T")


class _RedisCache(SharedCache[V]):
    """What both have in common: the protocol and what its server says of itself."""

    _is_async: bool

    def __init__(
        self,
        client: Any,
        load: Callable[[str], Any],
        *,
        name: str,
        namespace: str | None = None,
        load_many: Callable[[Sequence[str]], Any] | None = None,
        encode: Callable[[V], bytes] | None = None,
        decode: Callable[[bytes], V] | None = None,
        ttl_seconds: float | None = None,
        remaining_seconds: Callable[[str, V], float | None] | None = None,
        load_deadline_seconds: float = 30.0,
        hold_off_seconds: float | None = None,
        patience_seconds: float = 5.0,
        priority: int = DEFAULT_PRIORITY,
        needs: Callable[[str], Iterable[ItemRef]] | None = None,
    ) -> None:
        demand_bounded(client)
        if self._is_async and is_cluster(client):
            raise InvalidSetting("a cluster needs a blocking client, RedisCluster, and a RedisCache")
        codec = codec_of(encode, decode)
        if ttl_seconds is not None and not 0.001 <= ttl_seconds <= 2**31:
            raise InvalidSetting(f"ttl_seconds is {ttl_seconds!r}; it has to be from 0.001 to {2**31}")
        self.shared_as = namespace or f"preheat:{name}"
        rules = Rules(
            self.shared_as,
            load_deadline_seconds * 1.5 if hold_off_seconds is None else hold_off_seconds,
            load_deadline_seconds,
            patience_seconds,
        )
        rng = random.Random()
        sharing: Sharing[V] = Sharing(
            rules,
            codec,
            Life(ttl_seconds, remaining_seconds),
            put_digest=sha1(PUT, usedforsecurity=False).hexdigest(),
            clock=time.monotonic,
            rng=rng,
            failed=failed_load,
            shards=_shards_on(client, self.shared_as),
        )
        self._logs: list[Command] = [("EXISTS", place) for place in sharing.places.log_places()]
        door = Door(rng)
        self._line = Line(client, door)
        blocking: Line | ClusterLine = self._line
        if self._is_async:
            blocking = Line(_blocking(client), door)
        elif is_cluster(client):
            blocking = ClusterLine(client, lambda: Door(rng))
        super().__init__(sharing, blocking, load, load_many, name=name, priority=priority, needs=needs)

    def get_warmup_statistics(self) -> CacheStatistics:
        """Items and bytes are those of the whole server, all else of this process; 0 of both while it is away.

        The capacity is nine tenths of the server's limit, for no warm-up goes beyond.
        """
        replies: Sequence[Any] = self._blocking.ask([("DBSIZE",), ("INFO", "memory")]) or (0, {})
        items, memories = ([each] if not isinstance(each, list) else each for each in replies)
        logs = sum(each == 1 for each in self._blocking.ask(self._logs) or ())
        used_bytes, limit_bytes = (
            sum(int(told.get(name, 0)) for told in memories if isinstance(told, dict))
            for name in ("used_memory", "maxmemory")
        )
        count = sum(each for each in items if isinstance(each, int))
        return self._statistics(max(0, count - logs), used_bytes, int(limit_bytes * FULL_RATIO) or None)


def _shards_on(client: Any, namespace: str) -> Shards:
    if not is_cluster(client):
        return Shards()
    if "{" in namespace:
        raise InvalidSetting(f"namespace is {namespace!r}; on a cluster it can't have braces, which say where keys are")
    return Shards(cluster_tags())


class RedisCache(_RedisCache[V], BlockingCache[V]):
    """A cache over a blocking client; thread-safe.

    Args:
        client: `redis.Redis` (or valkey's, or one of a cluster) with a `socket_timeout`; `connect(url)` makes one.
        load: Makes the value of a key; what it raises passes to the reader.
        name: Name of the cache in history and reports.
        namespace: What its keys on the server begin with; all processes that share it give the same.
        load_many: Makes the values of many keys at once, in their order: what a warm-up uses where there is one.
        encode: Makes bytes of a value; by default values have to be bytes or text, and come back as bytes.
        decode: Makes a value of those bytes.
        ttl_seconds: How long values live; a warm-up's by up to a tenth more or less, so that they don't end together.
        remaining_seconds: What is left of a value's own life, instead; None for ever.
        load_deadline_seconds: What took longer to load is not put.
        hold_off_seconds: How long after a delete nothing older takes the value's place; by default half as long again
            as the load deadline, which it has to exceed.
        patience_seconds: How long a warm-up waits for a server that is away, before an item fails and is tried later.
        priority: The operator's word for its items, 1 to 10.
        needs: For a key, what has to be resident before its value is loaded.

    Raises:
        InvalidSetting: A value can't be used, or the client would wait for ever.
    """

    _is_async = False


class AsyncRedisCache(_RedisCache[V]):
    """The same over an asyncio client, `redis.asyncio.Redis`; `load` and `load_many` may be coroutine functions.

    What a plan needs to know beforehand is asked over a blocking client of the same server, from a thread.
    """

    _is_async = True

    async def get(self, key: str) -> V:
        """The value of `key`, loaded if the server has none, or is away."""
        return await self._drive_async(self._reading(key))

    async def put(self, key: str, value: V) -> bool:
        """Keep a newer `value`; False if the server did not take it: then `key` is deleted, as soon as it can be."""
        return await self._drive_async(self._sharing.write(key, value))

    async def delete(self, *keys: str) -> bool:
        """Delete `keys`, also for loads under way in any process; False while the server has yet to be told."""
        return await self._drive_async(self._sharing.delete(keys))

    async def warmup_item(self, item: WarmupItem) -> ItemResult:
        """Load `item` as a miss would; see `preheat.abc.WarmableCache`."""
        return (await self._drive_async(self._warming([item])))[0]

    async def warmup_items(self, items: Sequence[WarmupItem]) -> Sequence[ItemResult]:
        """As `warmup_item` for each of `items`, in few round trips."""
        return await self._drive_async(self._warming(items))

    async def find_resident(self, keys: Sequence[str]) -> list[bool] | None:
        """Whether each of `keys` is there; None while the server is away."""
        return await self._drive_async(self._sharing.find(keys))

    async def _drive_async(self, steps: Generator[Any, Any, T]) -> T:
        import asyncio

        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                done: T = end.value
                return done
            if isinstance(step, Ask):
                answer = await self._line.ask_async(step.commands)
            elif isinstance(step, Make):
                answer = await self._make_async(step)
            else:
                answer = None
                with apart():
                    await asyncio.sleep(step.seconds)

    async def _make_async(self, step: Make) -> list[Any]:
        import asyncio

        if step.is_warm_up and self._load_many is not None and len(step.keys) > 1:
            return of_many(step.keys, await _tried_async(self._load_many, step.keys))
        if len(step.keys) == 1:
            return [await _tried_async(self._load, step.keys[0])]
        return list(await asyncio.gather(*(_tried_async(self._load, key) for key in step.keys)))


async def _tried_async(load: Callable[[Any], Any], what: Any) -> Any:
    try:
        made = load(what)
        return await made if isinstance(made, Awaitable | Coroutine) else made
    except Exception as error:
        return error


def _blocking(client: Any) -> Any:
    """A blocking client of the server that the asyncio `client` is for."""
    library: Any = library_of(client)
    options = dict(client.connection_pool.connection_kwargs)
    kept = ("host", "port", "db", "username", "password", "socket_timeout", "socket_connect_timeout", "path")
    connection = library.UnixDomainSocketConnection if "path" in options else library.Connection
    if any(name.startswith("ssl") for name in options):
        connection = library.SSLConnection
        kept += tuple(name for name in options if name.startswith("ssl_") and name != "ssl_context")
    given = {name: options[name] for name in kept if name in options}
    pool = library.ConnectionPool(connection_class=connection, **given)
    return client_kind(library)(connection_pool=pool)
