"""Regions of dogpile.cache: the real package, in memory and on a real server."""

import threading
import time

import numpy as np
import pytest

from servers import shared_server  # noqa: F401

pytest.importorskip("dogpile.cache", reason="dogpile.cache is not installed")

from dogpile.cache import make_region
from dogpile.cache.api import NO_VALUE

from preheat import create_warmup_item, heat
from preheat._log import CacheLog
from preheat.abc import ItemStatus
from preheat.adapters.dogpile import watch
from preheat.errors import InvalidSetting
from preheat.testing import WarmableCacheContract, record_history


def load(key):
    return {"key": key, "words": key.split()}


def in_memory(**options):
    return make_region().configure("dogpile.cache.memory", **options)


def watched(region, load=load):
    return watch(region, name="shop", log=CacheLog("shop"), load=load)[1]


class TestInMemory(WarmableCacheContract):
    def make_region(self):
        return in_memory()

    def make_cache(self):
        return watched(self.make_region())

    def make_item(self, n):
        return create_warmup_item("shop", f"product {n}")

    def read(self, cache, item):
        return cache._library.region.get_or_create(item.ref.key, lambda: load(item.ref.key))


class TestOnRedis(TestInMemory):
    @pytest.fixture(autouse=True)
    def use(self, shared_server):
        self.server, self.dbs = shared_server, iter(range(16))
        shared_server.client().flushall()

    def make_region(self):
        arguments = {"host": "127.0.0.1", "port": self.server.port, "db": next(self.dbs)}
        arguments |= {"distributed_lock": True, "thread_local_lock": False}
        return make_region().configure("dogpile.cache.redis", arguments=arguments, expiration_time=60)


# ---------------------------------------------------------------------------------------------- used as before


def test_a_miss_is_counted_once_though_dogpile_looks_twice():
    region = in_memory()
    cache = watched(region)
    looks = []
    get = region.backend.get
    region.backend.get = lambda key: [looks.append(key), get(key)][1]
    history = record_history(
        cache, lambda: [region.get_or_create("a", lambda: 1), region.get_or_create("a", lambda: 2)]
    )
    assert len(looks) >= 3
    assert (int(history.hits.sum()), int(history.misses.sum())) == (1, 1)


def test_a_creator_that_fails_is_one_miss_and_reaches_the_caller():
    region = in_memory()
    cache = watched(region)

    def fail():
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        region.get_or_create("a", fail)
    assert (cache.get_warmup_statistics().hits, cache.get_warmup_statistics().misses) == (0, 1)


def test_many_at_once_are_an_access_each():
    region = in_memory()
    cache = watched(region)

    def traffic():
        region.set("a", 1)
        assert region.get_or_create_multi(["a", "b", "c"], lambda *keys: [key.upper() for key in keys]) == [1, "B", "C"]
        assert region.get_multi(["c", "d"]) == ["C", NO_VALUE]

    history = record_history(cache, traffic)
    assert (int(history.hits.sum()), sorted(history.keys)) == (2, ["a", "b", "c"])  # d has yet to be put in, or not


def test_a_decorated_function_is_warmed_by_the_arguments_it_was_called_with():
    calls = []
    region = in_memory(expiration_time=60)
    cache = watched(region, None)

    @region.cache_on_arguments(expiration_time=30)
    @heat.loader
    def product(number, language):
        calls.append((number, language))
        return {"number": number, "language": language}

    history = record_history(cache, lambda: [product(1, "en"), product(1, "en"), product(2, "de")])
    assert calls == [(1, "en"), (2, "de")]
    region.delete_multi(list(history.keys))
    candidates = cache.get_warmup_candidates(history, np.ones(len(history)))
    assert [cache.warmup_item(item).status for item in candidates] == [ItemStatus.LOADED] * 2
    assert len(calls) == 4
    assert (product(1, "en"), product(2, "de")) == ({"number": 1, "language": "en"}, {"number": 2, "language": "de"})
    assert len(calls) == 4


def test_what_cannot_be_made_is_no_candidate():
    region = in_memory()
    cache = watched(region, {"product:{number:int}": lambda number: number})
    traffic = record_history(cache, lambda: [region.get_or_create(key, dict) for key in ("product:1", "user:1")])
    region.delete_multi(["product:1", "user:1"])
    assert [item.ref.key for item in cache.get_warmup_candidates(traffic, np.ones(2))] == ["product:1"]


# ------------------------------------------------------------------------------------------------ never stale


def test_creators_and_warm_ups_never_make_a_key_at_the_same_time():
    region, under_way, most = in_memory(), [], []
    begun, go_on = threading.Event(), threading.Event()

    def make(key="a"):
        under_way.append(key)
        most.append(len(under_way))
        begun.set()
        go_on.wait(5)
        under_way.remove(key)
        return len(most)

    cache = watched(region, make)
    warming = threading.Thread(target=lambda: cache.warmup_item(create_warmup_item("shop", "a")))
    warming.start()
    begun.wait(5)
    readers = [threading.Thread(target=lambda: region.get_or_create("a", make)) for _ in range(4)]
    for reader in readers:
        reader.start()
    go_on.set()
    for thread in (warming, *readers):
        thread.join()
    assert most == [1]
    assert region.get("a") == 1


@pytest.mark.parametrize(("act", "left"), [
    (lambda region: region.set("a", "new"), "new"),
    (lambda region: region.delete("a"), NO_VALUE),
    (lambda region: region.set_multi({"a": "new"}), "new"),
    (lambda region: region.invalidate(), NO_VALUE),
    (lambda region: [region.set("a", "new"), region.delete_multi(["a"])], NO_VALUE),
])  # fmt: skip
def test_what_changes_while_it_is_loaded_is_not_overwritten_and_does_not_come_back(act, left):
    region = in_memory()

    def load_and_be_overtaken(key):
        in_another_thread(lambda: act(region))
        return "old"

    cache = watched(region, load_and_be_overtaken)
    assert cache.warmup_item(create_warmup_item("shop", "a")).status is not ItemStatus.LOADED
    assert region.get("a") == left


def test_a_newer_value_that_came_past_the_record_is_kept():
    region = in_memory()

    def load_and_be_overtaken(key):
        region.backend.set(key, region._value("new"))  # as another process would
        return "old"

    assert (
        watched(region, load_and_be_overtaken).warmup_item(create_warmup_item("shop", "a")).status
        is ItemStatus.RESIDENT
    )
    assert region.get("a") == "new"


def test_what_has_expired_or_was_invalidated_is_made_anew():
    region = in_memory(expiration_time=60)
    cache = watched(region, lambda key: "new")
    region.backend.set("a", region._value("old", {"ct": time.time() - 61, "v": 1}))
    region.set("b", "old")
    region.invalidate(hard=False)
    time.sleep(0.001)
    for key in "ab":
        assert cache.warmup_item(create_warmup_item("shop", key)).status is ItemStatus.LOADED
    assert region.get_multi(["a", "b"]) == ["new", "new"]


def test_the_life_that_a_reader_gives_decides_what_is_stale():
    region = in_memory(expiration_time=600)
    cache = watched(region, lambda key: "new")
    history = record_history(cache, lambda: region.get_or_create("a", lambda: "old", expiration_time=10))
    region.backend.set("a", region._value("old", {"ct": time.time() - 11, "v": 1}))
    item = create_warmup_item("shop", "a", recipe=history.recipes[0])
    assert cache.warmup_item(item).status is ItemStatus.LOADED
    assert cache.warmup_item(item).status is ItemStatus.RESIDENT


def in_another_thread(act):
    thread = threading.Thread(target=act)  # with a context of its own: an application's, not a warm-up's
    thread.start()
    thread.join()


def test_a_region_without_a_backend_is_refused_in_a_sentence():
    with pytest.raises(InvalidSetting, match="no backend yet"):
        watched(make_region())
