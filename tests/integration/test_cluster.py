"""The adapter against a real cluster of three servers, and with both client libraries."""

import hashlib
import itertools
import random
import time

import pytest

from preheat import create_warmup_item
from preheat._cluster import ClusterLine
from preheat._model import ItemStatus
from preheat._reach import Door
from preheat._redis import connect
from preheat._sharing.putting import PUT
from preheat._sharing.slots import CLUSTER_SHARDS, Shards, cluster_tags
from preheat.adapters.redis import AsyncRedisCache, RedisCache
from preheat.errors import InvalidSetting
from preheat.testing import WarmableCacheContract
from servers import Cluster, cluster, redis, server, shared_server, some_name  # noqa: F401 - some are fixtures
from shared_caches import BlockingCacheContract, value_of
from sharing import WHOLE, Origin, interleavings, is_stale, reader, sharing, warm_up, writer

valkey = pytest.importorskip("valkey", reason="the client library valkey is not installed")
import valkey.asyncio  # noqa: E402
import valkey.cluster  # noqa: E402

LIBRARIES = [redis, valkey]


def items_of(count):
    return [create_warmup_item("pages", f"page {n}", size_bytes=20) for n in range(count)]


class ClusterContract(BlockingCacheContract):
    library = redis

    @pytest.fixture(autouse=True)
    def _with_cluster(self, cluster):
        self.cluster, self.clients = cluster, []
        yield
        for client in self.clients:
            client.close()

    def make_cache(self, load=value_of, **options):
        client = self.cluster.client(self.library)
        self.clients.append(client)
        client.flushall(target_nodes=client.PRIMARIES)
        return RedisCache(client, load, name="pages", namespace=some_name(), **options)

    def left_seconds(self, cache, item):
        return self.clients[-1].pttl(cache._sharing.places.place(item.ref.key)) / 1000


class TestRedisCluster(ClusterContract):
    pass


class TestValkeyCluster(TestRedisCluster):
    library = valkey


class TestValkeyClient(WarmableCacheContract):
    """The real package, on one server."""

    @pytest.fixture(autouse=True)
    def _with_server(self, shared_server):
        self.server, self.clients = shared_server, []
        yield
        for client in self.clients:
            client.close()

    def make_cache(self):
        self.clients.append(valkey.Valkey(port=self.server.port, db=len(self.clients) + 1, socket_timeout=2.0))
        self.clients[-1].flushdb()
        return RedisCache(self.clients[-1], value_of, name="pages")

    def make_item(self, n):
        return create_warmup_item("pages", f"page {n}")

    def read(self, cache, item):
        return cache.get(item.ref.key)


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.__name__)
def client(cluster, request):
    made = cluster.client(request.param)
    yield made
    made.close()


def test_a_batch_is_spread_over_all_servers_and_found_again(client, cluster):
    cache = RedisCache(client, value_of, name="pages", namespace=some_name())
    items = items_of(1500)
    before = [each.client().dbsize() for each in cluster.servers]
    assert {result.status for result in cache.warmup_items(items)} == {ItemStatus.LOADED}
    after = [each.client().dbsize() for each in cluster.servers]
    gained = [new - old for old, new in zip(before, after, strict=True)]
    assert sum(gained) == 1500 + CLUSTER_SHARDS
    assert min(gained) > 400
    assert cache.find_resident([item.ref.key for item in items[:50]] + ["absent"]) == [True] * 50 + [False]
    assert cache.get("page 7") == value_of("page 7")
    assert cache.delete(*(item.ref.key for item in items[:50]))
    assert {result.status for result in cache.warmup_items(items[:50])} == {ItemStatus.REJECTED}


def test_none_of_all_420_interleavings_leaves_a_stale_value_on_a_real_cluster(cluster):
    client = cluster.client()
    ask, shards = ClusterLine(client, lambda: Door(random.Random(0))).ask, Shards(cluster_tags())
    stale = 0
    for n, (order, resident) in enumerate(itertools.product(interleavings(WHOLE), (None, b"1 before"))):
        origin, key = Origin(), f"{n}"
        made = [sharing(time.monotonic, digest=hashlib.sha1(PUT).hexdigest(), shards=shards) for _ in range(3)]
        place = made[0].places.place(key)
        if resident is not None:
            client.set(place, resident)
        parts = (ask, origin, key)
        actors = {"w": warm_up(made[0], *parts), "u": writer(made[1], *parts), "r": reader(made[2], *parts)}
        for name in order:
            actors[name].turn()
        while waiting := [actor for actor in actors.values() if not actor.is_over]:
            waiting[0].turn()
        stale += is_stale(client.get(place), origin)
    assert stale == 0
    client.close()


def test_a_script_over_keys_without_shards_is_refused_by_a_real_cluster(cluster):
    client = cluster.client()
    with pytest.raises(redis.exceptions.RedisClusterException):
        client.eval("return 1", 2, "s:a", "s:b")
    client.close()


def test_a_full_server_of_a_cluster_evicts_nothing_for_a_warm_up(cluster):
    client = cluster.client()
    admin = cluster.servers[1].client()
    admin.config_set("maxmemory", admin.info("memory")["used_memory"] + 2_000_000)
    admin.config_set("maxmemory-policy", "allkeys-lru")
    before = admin.info("stats")["evicted_keys"]
    cache = RedisCache(client, lambda key: key.encode() * 200, name="pages", namespace=some_name())
    results = [each for n in range(0, 4000, 64) for each in cache.warmup_items(items_of(4000)[n : n + 64])]
    assert admin.info("stats")["evicted_keys"] == before
    assert {ItemStatus.LOADED, ItemStatus.REJECTED} == {result.status for result in results}
    assert cache.get_warmup_statistics().capacity_bytes is not None
    admin.config_set("maxmemory", 0)
    admin.close()
    client.close()


def test_what_can_t_be_on_a_cluster_is_refused(cluster):
    client = cluster.client()
    with pytest.raises(InvalidSetting, match="braces"):
        RedisCache(client, value_of, name="pages", namespace="a{b}")
    with pytest.raises(InvalidSetting, match="blocking client"):
        AsyncRedisCache(client, value_of, name="pages")
    unbounded = cluster.client(socket_timeout=None)
    with pytest.raises(InvalidSetting, match="for ever"):
        RedisCache(unbounded, value_of, name="pages")
    for each in (client, unbounded):
        each.close()


def test_a_server_that_is_killed_costs_its_keys_only(tmp_path_factory):
    started = Cluster([tmp_path_factory.mktemp(f"killed{n}") for n in range(3)])
    try:
        client = started.client(socket_connect_timeout=0.2)
        cache = RedisCache(client, value_of, name="pages", patience_seconds=0.0)
        keys = [f"page {n}" for n in range(60)]
        for key in keys:
            cache.get(key)
        started.servers[2].kill()
        assert [cache.get(key) for key in keys] == [value_of(key) for key in keys]
        before = cache.get_warmup_statistics().hits
        assert [cache.get(key) for key in keys] == [value_of(key) for key in keys]
        assert 20 < cache.get_warmup_statistics().hits - before < 60
        assert cache.find_resident(keys) is None
        client.close()
    finally:
        started.stop()


def test_an_asyncio_client_of_valkey_is_as_good(server):
    import asyncio

    async def warm():
        made = valkey.asyncio.Valkey(port=server.port, socket_timeout=2.0)
        cache = AsyncRedisCache(made, value_of, name="pages", namespace=some_name())
        results = await cache.warmup_items(items_of(20))
        value = await cache.get("page 3")
        items = cache.get_warmup_statistics().items
        cache._blocking._client.close()
        await made.aclose()
        return {result.status for result in results}, value, items

    assert asyncio.run(warm()) == ({ItemStatus.LOADED}, value_of("page 3"), 20)


def test_connect_uses_valkey_where_only_that_is_installed(monkeypatch, server):
    import sys

    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    client = connect(f"valkey://127.0.0.1:{server.port}/0")
    assert type(client).__module__.startswith("valkey")
    client.set("a", b"1")
    assert client.get("a") == b"1"
    client.close()
