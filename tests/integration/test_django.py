"""Django's cache framework: real backends and real servers, used as before, recorded and warmed."""

import asyncio
import threading
import time
import uuid

import pytest

from memcached import servers_in
from servers import running_server, shared_server  # noqa: F401

django = pytest.importorskip("django", reason="Django is not installed")

from django.conf import settings  # noqa: E402

if not settings.configured:
    settings.configure(
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        USE_TZ=True,
    )
    django.setup()

from django.core.cache.backends.db import DatabaseCache  # noqa: E402
from django.core.cache.backends.filebased import FileBasedCache  # noqa: E402
from django.core.cache.backends.locmem import LocMemCache  # noqa: E402
from django.core.cache.backends.memcached import PyMemcacheCache  # noqa: E402
from django.core.cache.backends.redis import RedisCache  # noqa: E402
from django.db import connection  # noqa: E402

from preheat import create_warmup_item  # noqa: E402
from preheat._log import CacheLog  # noqa: E402
from preheat.abc import ItemStatus  # noqa: E402
from preheat.adapters.django import key_and_version, key_text, watch  # noqa: E402
from preheat.errors import InvalidSetting  # noqa: E402
from preheat.testing import WarmableCacheContract, record_history  # noqa: E402


def locmem(**params):
    return LocMemCache(uuid.uuid4().hex, params)


def load(key):
    return {"key": key, "words": key.split()}


class DjangoContract(WarmableCacheContract):
    @pytest.fixture(autouse=True)
    def close(self):
        self.backends = []
        yield
        for backend in self.backends:
            backend.close()

    def make_backend(self):
        raise NotImplementedError

    def make_cache(self):
        backend, cache = watch(self.make_backend(), name="shop", log=CacheLog("shop"), load=load)
        self.backends.append(backend)
        return cache

    def make_item(self, n):
        return create_warmup_item("shop", f"product:{n}")

    def read(self, cache, item):
        backend = cache._library._connect()
        return backend.get_or_set(item.ref.key, lambda: load(item.ref.key))


class TestLocMem(DjangoContract):
    def make_backend(self):
        return locmem()


class TestRedis(DjangoContract):
    @pytest.fixture(autouse=True)
    def use(self, shared_server):
        self.server, self.dbs = shared_server, iter(range(16))
        shared_server.client().flushall()

    def make_backend(self):
        return RedisCache(f"redis://127.0.0.1:{self.server.port}/{next(self.dbs)}", {})


class TestFiles(DjangoContract):
    @pytest.fixture(autouse=True)
    def use(self, tmp_path):
        self.folder = tmp_path

    def make_backend(self):
        return FileBasedCache(str(self.folder / uuid.uuid4().hex), {})


class TestDatabase(DjangoContract):
    @pytest.fixture(autouse=True)
    def use(self, close):
        yield
        connection.close()

    def make_backend(self):
        table = f"t{uuid.uuid4().hex}"
        columns = "cache_key varchar(255) PRIMARY KEY, value text NOT NULL, expires datetime NOT NULL"
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {table} ({columns})")
        return DatabaseCache(table, {})


class TestMemcached(DjangoContract):
    @pytest.fixture(autouse=True)
    def use(self, close, tmp_path):
        with servers_in(tmp_path) as start:
            self.address = start().address
            yield

    def make_backend(self):
        return PyMemcacheCache(self.address, {"KEY_PREFIX": uuid.uuid4().hex})


# ---------------------------------------------------------------------------------------------- used as before


@pytest.fixture
def backend():
    return locmem()


def watched(backend, load=load):
    return watch(backend, name="shop", log=CacheLog("shop"), load=load)[1]


@pytest.fixture
def cache(backend):
    return watched(backend)


def recorded(cache, traffic):
    """What was recorded of `traffic`: hits, misses, and the recipe of each key."""
    history = record_history(cache, traffic)
    return int(history.hits.sum()), int(history.misses.sum()), dict(zip(history.keys, history.recipes, strict=True))


def test_a_get_or_set_is_one_access_whatever_it_calls_itself(backend, cache):
    hits, misses, _ = recorded(cache, lambda: [backend.get_or_set("a", lambda: 1), backend.get_or_set("a", 2)])
    assert (hits, misses) == (1, 1)


def test_what_a_default_reads_on_its_way_is_traffic_too(backend, cache):
    backend.set("part", 2)
    hits, misses, keys = recorded(cache, lambda: backend.get_or_set("whole", lambda: backend.get("part") * 2))
    assert (hits, misses, sorted(keys)) == (1, 1, ["part", "whole"])


def test_a_default_that_fails_is_a_miss_and_reaches_the_caller(backend, cache):
    def fail():
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        backend.get_or_set("a", fail)
    assert cache.get_warmup_statistics().misses == 1


def test_methods_return_what_they_returned_before(backend, cache):
    plain = locmem()
    for each in (backend, plain):
        each.set_many({"a": 1, "b": 2, "n": None}, timeout=60)
    for name, *arguments in CALLS:
        assert outcome(backend, name, arguments) == outcome(plain, name, arguments), name


CALLS = [
    ("get", "a"),
    ("get", "n", "default"),
    ("get", "absent", "default"),
    ("get_many", ["a", "absent", "b"]),
    ("get_or_set", "c", 3),
    ("has_key", "a"),
    ("add", "a", 9),
    ("incr", "a"),
    ("decr", "b", 2),
    ("incr", "absent"),
    ("touch", "a", 60),
    ("incr_version", "a"),
    ("get", "a"),
    ("get", "a", None, 2),
    ("decr_version", "a", 1, 2),
    ("delete_many", ["b", "absent"]),
    ("delete", "a"),
    ("delete", "a"),
    ("set_many", {"x": 1}),
    ("clear",),
    ("get", "x"),
]


def outcome(backend, name, arguments):
    try:
        return getattr(backend, name)(*arguments)
    except ValueError as error:
        return str(error)


def test_methods_that_are_awaited_record_the_same(backend, cache):
    async def use():
        await backend.aget("a")
        await backend.aset("a", 1, timeout=70)
        await backend.aget_or_set("b", lambda: 2)
        await backend.aget_many(["a", "b"])
        await backend.adelete("a")

    hits, misses, recipes = recorded(cache, lambda: asyncio.run(use()))
    assert (hits, misses) == (2, 2)
    assert "70" in recipes["a"]


def test_versions_of_a_key_are_items_of_their_own(backend, cache):
    _, _, keys = recorded(cache, lambda: [backend.get_or_set("a", 1), backend.get_or_set("a", 2, version=2)])
    assert sorted(keys) == ["#2#a", "a"]
    backend.clear()
    assert cache.warmup_item(create_warmup_item("shop", "#2#a")).status is ItemStatus.LOADED
    assert (backend.get("a"), backend.get("a", version=2)) == (None, load("#2#a"))


@pytest.mark.parametrize("key", ["a", "#", "#2#a", "##", "a#b"])
@pytest.mark.parametrize("version", [None, 1, 2, "blue"])
def test_a_name_in_history_leads_back_to_key_and_version(key, version):
    name, known = key_and_version(key_text(key, version, 1))
    assert (name, known or 1) == (key, version or 1)


def test_a_warmed_value_lives_as_long_as_it_did_when_it_was_last_put_in(backend, cache):
    def traffic():
        backend.get("a")
        backend.set("a", 1, timeout=40)
        backend.get_or_set("b", 1)

    _, _, recipes = recorded(cache, traffic)
    backend.clear()
    for key, recipe in recipes.items():
        assert cache.warmup_item(create_warmup_item("shop", key, recipe=recipe)).status is ItemStatus.LOADED
    lives = {key: backend._expire_info[f":1:{key}"] - time.time() for key in "ab"}
    assert 39 < lives["a"] <= 40
    assert 299 < lives["b"] <= 300


def test_a_warm_up_never_evicts(backend):
    backend = locmem(max_entries=2)
    cache = watched(backend)
    backend.set_many({"a": 1, "b": 2})
    assert cache.warmup_item(create_warmup_item("shop", "c")).status is ItemStatus.REJECTED
    assert backend.get_many(["a", "b", "c"]) == {"a": 1, "b": 2}


def test_a_server_with_little_memory_left_is_not_filled_until_it_evicts(tmp_path):
    with running_server(tmp_path, "--maxmemory", "12mb", "--maxmemory-policy", "allkeys-lru") as server:
        backend = RedisCache(server.url, {})
        cache = watched(backend)
        assert cache.warmup_item(create_warmup_item("shop", "a")).status is ItemStatus.LOADED
        cache._library._looked_at = float("-inf")  # as if a second had passed
        server.fill(0.92)
        result = cache.warmup_item(create_warmup_item("shop", "b"))
        assert (result.status, result.reason) == (ItemStatus.REJECTED, "its server has filled 90% of its memory")
        assert server.client().info("stats")["evicted_keys"] == 0


# ------------------------------------------------------------------------------------------------ never stale


@pytest.mark.parametrize(("act", "left"), [
    (lambda backend: backend.set("a", "new"), "new"),
    (lambda backend: backend.delete("a"), None),
    (lambda backend: [backend.set("a", "new"), backend.delete("a")], None),
    (lambda backend: backend.clear(), None),
    (lambda backend: backend.delete_many(["b", "a"]), None),
    (lambda backend: [backend.set("a", 1), backend.incr("a")], 2),
])  # fmt: skip
def test_what_changes_while_it_is_loaded_is_not_overwritten_and_does_not_come_back(backend, act, left):
    def load_and_be_overtaken(key):
        in_another_thread(lambda: act(backend))
        return "old"

    cache = watched(backend, load_and_be_overtaken)
    assert cache.warmup_item(create_warmup_item("shop", "a")).status is not ItemStatus.LOADED
    assert backend.get("a") == left


def test_without_the_mark_of_a_delete_the_old_value_comes_back(backend):
    def load_and_be_overtaken(key):
        in_another_thread(lambda: LocMemCache.delete(backend, "a"))  # past what records
        return "old"

    assert (
        watched(backend, load_and_be_overtaken).warmup_item(create_warmup_item("shop", "a")).status is ItemStatus.LOADED
    )
    assert backend.get("a") == "old"


def test_a_delete_between_the_last_look_and_the_add_is_seen_after_it(backend):
    cache = watched(backend)
    add = cache._library.add
    cache._library.add = lambda *given: [in_another_thread(lambda: backend.delete("a")), add(*given)][1]
    assert cache.warmup_item(create_warmup_item("shop", "a")).status is ItemStatus.REJECTED
    assert backend.get("a") is None


def in_another_thread(act):
    thread = threading.Thread(target=act)  # with a context of its own: an application's, not a warm-up's
    thread.start()
    thread.join()


def test_what_is_watched_is_not_watched_twice(backend, cache):
    with pytest.raises(InvalidSetting, match="being watched already"):
        watched(backend)
