"""Caches of cashews: the real package."""

import asyncio
import time

import numpy as np
import pytest

pytest.importorskip("cashews", reason="cashews is not installed")

from cashews import Cache

from preheat import create_warmup_item, heat
from preheat._log import CacheLog
from preheat.abc import ItemStatus
from preheat.adapters.cashews import watch
from preheat.errors import InvalidSetting
from preheat.testing import WarmableCacheContract, record_history


def load(key):
    return {"key": key, "words": key.split()}


def in_memory(size=1000, **options):
    cache = Cache()
    cache.setup(f"mem://?size={size}&check_interval=0", **options)
    return cache


def watched(cache, load=load):
    return watch(cache, name="shop", log=CacheLog("shop"), load=load)[1]


class TestInMemory(WarmableCacheContract):
    def make_cache(self):
        return watched(in_memory())

    def make_item(self, n):
        return create_warmup_item("shop", f"product {n}")

    def read(self, cache, item):
        return asyncio.run(cache._library.cache.get_or_set(item.ref.key, lambda: load(item.ref.key)))


def counted(cache, traffic):
    history = record_history(cache, lambda: asyncio.run(traffic()))
    return int(history.hits.sum()), int(history.misses.sum()), history


async def warm(cache, history):
    candidates = cache.get_warmup_candidates(history, np.ones(len(history)))
    return [(await cache.warmup_item(item)).status for item in candidates]


# ---------------------------------------------------------------------------------------------- used as before


def test_a_decorated_function_is_warmed_by_the_arguments_it_was_called_with():
    memory, calls = in_memory(), []
    cache = watched(memory, None)

    @memory(ttl="1m", key="product:{number}:{language}")
    @heat.loader
    async def product(number, language="en"):
        calls.append((number, language))
        return {"number": number, "language": language}

    async def traffic():
        for _ in range(2):
            await product(1)
            await product(2, language="de")

    hits, misses, history = counted(cache, traffic)
    assert (hits, misses, sorted(history.keys)) == (2, 2, ["product:1:en", "product:2:de"])

    async def warm_and_read():
        await memory.clear()
        assert await warm(cache, history) == [ItemStatus.LOADED] * 2
        assert await product(1) == {"number": 1, "language": "en"}
        assert await product(2, language="de") == {"number": 2, "language": "de"}
        return [await memory.get_expire(key) for key in history.keys]

    assert all(59 <= life <= 60 for life in asyncio.run(warm_and_read()))
    assert len(calls) == 4


def test_a_key_of_its_template_is_made_by_a_loader_with_that_pattern():
    memory = in_memory()
    cache = watched(memory, {"product:{number:int}": lambda number: {"number": number}})
    history = counted(cache, lambda: memory.get_or_set("product:7", dict))[2]
    asyncio.run(memory.clear())
    assert asyncio.run(warm(cache, history)) == [ItemStatus.LOADED]
    assert asyncio.run(memory.get("product:7")) == {"number": 7}


def test_a_strategy_that_keeps_more_than_the_value_is_not_warmed():
    memory = in_memory()
    cache = watched(memory, None)

    @memory.early(ttl="1m", key="product:{number}")
    @heat.loader
    async def product(number):
        return {"number": number}

    history = counted(cache, lambda: product(1))[2]
    asyncio.run(memory.clear())
    assert asyncio.run(warm(cache, history)) == []


def test_methods_return_what_they_returned_before():
    async def use(cache):
        return [
            await cache.set("a", 1),
            await cache.set("a", 2, exist=False),
            await cache.get("a"),
            await cache.get("absent", default=7),
            await cache.set_many({"b": 2, "c": 3}, expire=60),
            await cache.get_many("a", "b", "absent"),
            await cache.exists("a"),
            await cache.incr("a"),
            await cache.delete("a"),
            await cache.delete_match("b*"),
            await cache.get("b"),
            await cache.clear(),
        ]

    recorded, plain = in_memory(), in_memory()
    watched(recorded)
    assert asyncio.run(use(recorded)) == asyncio.run(use(plain))


# ------------------------------------------------------------------------------------------------ never stale


@pytest.mark.parametrize(("act", "left"), [
    (lambda cache: cache.set("a", "new"), "new"),
    (lambda cache: cache.delete("a"), None),
    (lambda cache: cache.delete_many("a", "b"), None),
    (lambda cache: cache.delete_match("a*"), None),
    (lambda cache: cache.delete_tags("letters"), None),
    (lambda cache: cache.set_many({"a": "new"}), "new"),
    (lambda cache: cache.clear(), None),
])  # fmt: skip
def test_what_changes_while_it_is_loaded_is_not_overwritten_and_does_not_come_back(act, left):
    async def scene():
        memory, is_loading, go_on = in_memory(), asyncio.Event(), asyncio.Event()
        memory.register_tag("letters", "a")

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


def test_what_was_warmed_goes_with_its_tags():
    async def scene():
        memory = in_memory()
        memory.register_tag("shop:{shop}", "product:{shop}:{number}")
        cache = watched(memory)
        await cache.warmup_item(create_warmup_item("shop", "product:north:1"))
        await memory.delete_tags("shop:north")
        return await memory.get("product:north:1")

    assert asyncio.run(scene()) is None


def test_a_warm_up_never_evicts_and_what_it_put_in_goes_first():
    async def scene():
        memory = in_memory(size=3)
        cache = watched(memory)
        await memory.set("a", 1)
        await memory.set("b", 2)
        statuses = [(await cache.warmup_item(create_warmup_item("shop", key))).status for key in "xy"]
        await memory.set("c", 3)
        return statuses, sorted(memory._get_backend("a").store)

    assert asyncio.run(scene()) == ([ItemStatus.LOADED, ItemStatus.REJECTED], ["a", "b", "c"])


def test_what_has_expired_is_absent():
    memory = in_memory()
    cache = watched(memory)
    history = counted(cache, lambda: memory.get_or_set("a", dict, expire=60))[2]
    store = memory._get_backend("a").store
    store["a"] = (time.time() - 1, "old")
    assert [item.ref.key for item in cache.get_warmup_candidates(history, np.ones(1))] == ["a"]


def test_what_is_watched_is_not_watched_twice():
    memory = in_memory()
    watched(memory)
    with pytest.raises(InvalidSetting, match="being watched already"):
        watched(memory)
