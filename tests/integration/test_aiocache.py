"""Caches of aiocache: the real package, in memory and on a real server."""

import asyncio
import time

import numpy as np
import pytest

from servers import running_server, shared_server  # noqa: F401

pytest.importorskip("aiocache", reason="aiocache is not installed")

from aiocache import Cache, cached, cached_stampede
from aiocache.plugins import HitMissRatioPlugin

from preheat import create_warmup_item, heat
from preheat._log import CacheLog, quietly
from preheat.abc import ItemStatus
from preheat.adapters.aiocache import watch
from preheat.errors import InvalidSetting
from preheat.testing import WarmableCacheContract, record_history


def load(key):
    return {"key": key, "words": key.split()}


def watched(cache, load=load):
    return watch(cache, name="shop", log=CacheLog("shop"), load=load)[1]


async def read(cache, key):
    """As an application does it."""
    value = await cache.get(key)
    if value is None:
        value = load(key)
        await cache.set(key, value)
    return value


class TestInMemory(WarmableCacheContract):
    def make_cache(self):
        return watched(Cache(Cache.MEMORY))

    def make_item(self, n):
        return create_warmup_item("shop", f"product {n}")

    def read(self, cache, item):
        return asyncio.run(read(cache._library.cache, item.ref.key))


class TestInMemoryWithANamespace(TestInMemory):
    def make_cache(self):
        return watched(Cache(Cache.MEMORY, namespace="shop:"))


class TestOnRedis(TestInMemory):
    """Each call has a loop of its own, and so each a connection of its own."""

    @pytest.fixture(autouse=True)
    def use(self, shared_server):
        self.server, self.dbs, self.made = shared_server, iter(range(16)), []
        shared_server.client().flushall()
        yield
        for cache in self.made:
            cache._library._blocking.close()

    def make_cache(self):
        cache = watched(Cache(Cache.REDIS, endpoint="127.0.0.1", port=self.server.port, db=next(self.dbs)))
        self.made.append(cache)
        return cache

    def read(self, cache, item):
        async def once():
            value = await read(cache._library.cache, item.ref.key)
            await cache._library.cache.client.connection_pool.disconnect()
            return value

        return asyncio.run(once())

    def _warm(self, cache, item):
        async def once():
            result = await cache.warmup_item(item)
            await cache._library.cache.client.connection_pool.disconnect()
            return result

        return asyncio.run(once())


# ---------------------------------------------------------------------------------------------- used as before


def counted(cache, traffic):
    history = record_history(cache, lambda: asyncio.run(traffic()))
    return int(history.hits.sum()), int(history.misses.sum()), history


def test_a_decorated_function_is_warmed_by_the_arguments_it_was_called_with():
    calls = []

    @cached(ttl=60)
    @heat.loader
    async def product(number, language="en"):
        calls.append((number, language))
        return {"number": number, "language": language}

    cache = watched(product.cache, None)

    async def traffic():
        for _ in range(2):
            await product(1)
            await product(2, language="de")

    hits, misses, history = counted(cache, traffic)
    assert (hits, misses, len(calls)) == (2, 2, 2)

    async def warm_and_read():
        await product.cache.clear()
        candidates = cache.get_warmup_candidates(history, np.ones(len(history)))
        assert [(await cache.warmup_item(item)).status for item in candidates] == [ItemStatus.LOADED] * 2
        assert await product(1) == {"number": 1, "language": "en"}
        assert await product(2, language="de") == {"number": 2, "language": "de"}
        return [handle.when() - asyncio.get_running_loop().time() for handle in product.cache._handlers.values()]

    lives = asyncio.run(warm_and_read())
    assert len(calls) == 4
    assert [59 < life <= 60 for life in lives] == [True, True]


def test_protection_from_stampedes_looks_twice_and_counts_once():
    @cached_stampede(lease=1)
    @heat.loader
    async def product(number):
        return {"number": number}

    cache = watched(product.cache, None)

    async def traffic():
        await product(1)
        await product(1)

    assert counted(cache, traffic)[:2] == (1, 1)


def test_many_tasks_that_ask_at_the_same_time_are_as_many_accesses():
    @cached()
    @heat.loader
    async def product(number):
        await asyncio.sleep(0.01)
        return {"number": number}

    cache = watched(product.cache, None)

    async def traffic():
        await asyncio.gather(*(product(n % 3) for n in range(9)))

    hits, misses, history = counted(cache, traffic)
    assert hits + misses == 9
    assert all("product" in recipe for recipe in history.recipes)


def test_a_loader_is_not_taken_for_what_another_value_was_made_by():
    @heat.loader
    async def other():
        return "other"

    memory = Cache(Cache.MEMORY)
    cache = watched(memory, None)

    async def traffic():
        await memory.get("a")
        await other()  # which is not what is put in
        await memory.set("a", "made by hand")

    assert list(counted(cache, traffic)[2].recipes) == [""]


def test_plugins_see_what_they_saw_before():
    memory = Cache(Cache.MEMORY, plugins=[HitMissRatioPlugin()])
    watched(memory)

    async def traffic():
        await memory.get("a")
        await memory.set("a", 1)
        await memory.get("a")

    asyncio.run(traffic())
    assert memory.hit_miss_ratio["hit_ratio"] == 0.5


def test_methods_return_what_they_returned_before():
    async def use(cache):
        return [
            await cache.set("a", 1),
            await cache.get("a"),
            await cache.get("absent", default=7),
            await cache.multi_set([("b", 2), ("c", 3)]),
            await cache.multi_get(["a", "b", "absent"]),
            await cache.exists("a"),
            await cache.increment("a"),
            await cache.delete("a"),
            await cache.delete("a"),
            await cache.expire("b", 5),
            await cache.clear(),
            await cache.get("b"),
        ]

    recorded, plain = Cache(Cache.MEMORY), Cache(Cache.MEMORY)
    watched(recorded)
    assert asyncio.run(use(recorded)) == asyncio.run(use(plain))


# ------------------------------------------------------------------------------------------------ never stale


@pytest.mark.parametrize(("act", "left"), [
    (lambda cache: cache.set("a", "new"), "new"),
    (lambda cache: cache.delete("a"), None),
    (lambda cache: cache.multi_set([("a", "new")]), "new"),
    (lambda cache: cache.clear(), None),
])  # fmt: skip
def test_what_changes_while_it_is_loaded_is_not_overwritten_and_does_not_come_back(act, left):
    async def scene():
        memory, is_loading, go_on = Cache(Cache.MEMORY), asyncio.Event(), asyncio.Event()

        async def load_slowly(key):
            is_loading.set()
            await go_on.wait()
            return "old"

        cache = watched(memory, load_slowly)
        warming = asyncio.create_task(cache.warmup_item(create_warmup_item("shop", "a")))
        await is_loading.wait()
        await act(memory)
        go_on.set()
        assert (await warming).status is not ItemStatus.LOADED
        assert await memory.get("a") == left

    asyncio.run(scene())


def test_a_server_with_little_memory_left_is_not_filled_until_it_evicts(tmp_path):
    async def scene(server):
        redis = Cache(Cache.REDIS, endpoint="127.0.0.1", port=server.port)
        cache = watched(redis)
        server.fill(0.92)
        result = await cache.warmup_item(create_warmup_item("shop", "b"))
        await redis.client.aclose()
        cache._library._blocking.close()
        return result.status, result.reason

    with running_server(tmp_path, "--maxmemory", "12mb", "--maxmemory-policy", "allkeys-lru") as server:
        rejected = ItemStatus.REJECTED, "its server has filled 90% of its memory"
        assert asyncio.run(scene(server)) == rejected
        assert server.client().info("stats")["evicted_keys"] == 0


def test_none_is_not_put_in_and_said_to_be_loaded():
    cache = watched(Cache(Cache.MEMORY), lambda key: None)
    result = asyncio.run(cache.warmup_item(create_warmup_item("shop", "a")))
    assert (result.status, result.reason) == (ItemStatus.REJECTED, "aiocache keeps no None")


def test_a_plain_loader_does_not_hold_up_the_loop():
    async def scene():
        cache, turns = watched(Cache(Cache.MEMORY), lambda key: time.sleep(0.05) or "a"), []

        async def turn():
            while True:
                turns.append(1)
                await asyncio.sleep(0)

        turning = asyncio.create_task(turn())
        await cache.warmup_item(create_warmup_item("shop", "a"))
        turning.cancel()
        return len(turns)

    assert asyncio.run(scene()) > 5


def test_what_is_watched_is_not_watched_twice():
    memory = Cache(Cache.MEMORY)
    watched(memory)
    with quietly(), pytest.raises(InvalidSetting, match="being watched already"):
        watched(memory)
