"""The adapter against a real server: the contract, every order of steps, what may be forbidden, what is full."""

import asyncio
import hashlib
import itertools
import random
import threading
import time

import pytest

from preheat import CacheWarmupService, create_warmup_item
from preheat._model import ItemStatus
from preheat._reach import Door
from preheat._redis import Line, connect
from preheat._sharing.protocol import AWAY
from preheat._sharing.putting import PUT
from preheat.adapters.redis import AsyncRedisCache, RedisCache
from preheat.errors import InvalidSetting
from preheat.testing import WarmableCacheContract
from running import perform, reasons, run_of
from servers import find_binary, free_port, redis, server, shared_server, some_name  # noqa: F401 - two are fixtures
from shared_caches import BlockingCacheContract, value_of
from sharing import WHOLE, Origin, control, interleavings, is_stale, reader, sharing, warm_up, writer

databases = itertools.count(1)


def a_client(server, **options):
    """A client of the next database, emptied."""
    client = server.client(db=next(databases) % 15 + 1, **options)
    client.flushdb()
    return client


class SharedCacheContract(WarmableCacheContract):
    def make_item(self, n):
        return create_warmup_item("pages", f"page {n}")

    @pytest.fixture(autouse=True)
    def _with_server(self, shared_server):
        self.server, self.clients = shared_server, []
        yield
        for client in self.clients:
            client.close()

    def client(self):
        self.clients.append(a_client(self.server))
        return self.clients[-1]


class TestRedisCache(BlockingCacheContract, SharedCacheContract):
    def make_cache(self, load=value_of, **options):
        return RedisCache(self.client(), load, name="pages", **options)

    def left_seconds(self, cache, item):
        return self.clients[-1].pttl(f"preheat:pages:{item.ref.key}") / 1000


class TestAsyncRedisCache(SharedCacheContract):
    """Over a loop in a thread, as a service's is."""

    @pytest.fixture(autouse=True)
    def _with_loop(self, _with_server):
        self.loop, self.made = asyncio.new_event_loop(), []
        thread = threading.Thread(target=self.loop.run_forever)
        thread.start()
        yield
        for cache in self.made:
            self.do(cache._line._client.aclose())
            cache._blocking._client.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        thread.join()
        self.loop.close()

    def do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def make_cache(self):
        options = self.client().connection_pool.connection_kwargs
        client = redis.asyncio.Redis(port=options["port"], db=options["db"], socket_timeout=2.0)

        async def load(key):
            return value_of(key)

        self.made.append(AsyncRedisCache(client, load, name="pages"))
        return self.made[-1]

    def read(self, cache, item):
        return self.do(cache.get(item.ref.key))

    def _warm(self, cache, item):
        return self.do(cache.warmup_item(item))

    def test_warming_in_bulk_gives_each_item_its_result(self):
        cache = self.make_cache()
        self._warm(cache, self.make_item(0))
        results = self.do(cache.warmup_items([self.make_item(n) for n in range(self.ITEMS)]))
        assert [result.status for result in results] == [ItemStatus.RESIDENT] + [ItemStatus.LOADED] * 7


# --------------------------------------------------------------------------------------------- never stale


def stale_on(client, make_actors):
    """How many of the 420 leave a stale value on a real server."""
    stale = []
    for n, (order, resident) in enumerate(itertools.product(interleavings(WHOLE), (None, b"1 before"))):
        origin, key = Origin(), f"{n}"
        if resident is not None:
            client.set(f"s:{key}", resident)
        actors = make_actors(origin, key)
        for name in order:
            actors[name].turn()
        while waiting := [actor for actor in actors.values() if not actor.is_over]:
            waiting[0].turn()
        stale += [key] * is_stale(client.get(f"s:{key}"), origin)
    return len(stale)


def test_none_of_all_420_interleavings_leaves_a_stale_value_on_a_real_server(shared_server):
    client = a_client(shared_server)
    line = Line(client, Door(random.Random(0)))

    def actors(origin, key):
        made = [sharing(time.monotonic, digest=hashlib.sha1(PUT).hexdigest()) for _ in range(3)]
        parts = (line.ask, origin, key)
        return {"w": warm_up(made[0], *parts), "u": writer(made[1], *parts), "r": reader(made[2], *parts)}

    assert stale_on(client, actors) == 0
    client.close()


@pytest.mark.parametrize(("protocol", "expected"), [("set", 54), ("add", 43)])
def test_setting_and_bare_adding_leave_stale_values_on_a_real_server(shared_server, protocol, expected):
    client = a_client(shared_server)
    line = Line(client, Door(random.Random(0)))
    assert expected <= stale_on(client, lambda origin, key: control(protocol, line, origin, f"s:{key}"))
    client.close()


def test_two_processes_see_each_other_s_deletes_and_loads(shared_server):
    client = a_client(shared_server)
    one, other = (RedisCache(client, value_of, name="pages") for _ in range(2))
    one.get("a")
    assert other.warmup_item(create_warmup_item("pages", "a")).status is ItemStatus.RESIDENT
    other.delete("a")
    assert one.warmup_item(create_warmup_item("pages", "a")).status is ItemStatus.REJECTED
    client.close()


# ----------------------------------------------------------------------------------------- what is refused


def test_a_client_that_would_wait_for_ever_or_decode_is_refused(shared_server):
    for options, why in [({"socket_timeout": None}, "for ever"), ({"decode_responses": True}, "into text")]:
        with pytest.raises(InvalidSetting, match=why):
            RedisCache(shared_server.client(**options), value_of, name="pages")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"hold_off_seconds": 5.0, "load_deadline_seconds": 5.0}, "longer than load_deadline_seconds"),
        ({"encode": bytes}, "belong together"),
        ({"ttl_seconds": 0.0}, "ttl_seconds"),
        ({"namespace": "two words"}, "namespace"),
    ],
)
def test_settings_that_can_t_hold_are_refused(shared_server, options, why):
    with pytest.raises(InvalidSetting, match=why):
        RedisCache(shared_server.client(), value_of, name="pages", **options)


def test_an_address_that_is_none_is_refused_without_its_password():
    with pytest.raises(InvalidSetting, match="is no address of a server") as refusal:
        connect("http://me:secret@host:1/0")
    assert "secret" not in str(refusal.value)


def test_without_a_codec_only_bytes_and_text_are_values(shared_server):
    client = a_client(shared_server)
    cache = RedisCache(client, lambda key: {"text": "é", "bytes": b"\xff"}.get(key, 7), name="pages")
    cache.get("text")
    assert ["é".encode(), b"\xff"] == [cache.get("text"), cache.get("bytes")]
    result = cache.warmup_item(create_warmup_item("pages", "number"))
    assert (result.status, "give the cache encode and decode" in result.reason) == (ItemStatus.FAILED, True)
    client.close()


# --------------------------------------------------------------------------------------- rights and limits


def test_a_user_without_scripts_warms_and_invalidates_all_the_same(server):
    admin = server.client()
    admin.acl_setuser("app", enabled=True, nopass=True, categories=["+@all", "-@scripting"], keys=["pages*"])
    client = server.client(username="app", password="x")
    cache = RedisCache(client, value_of, name="pages", namespace="pages")
    items = [create_warmup_item("pages", f"{n}") for n in range(8)]
    assert {ItemStatus.LOADED} == {result.status for result in cache.warmup_items(items)}
    cache.delete("3")
    assert ItemStatus.REJECTED is cache.warmup_item(items[3]).status
    assert value_of("3") == cache.get("3")
    for each in (admin, client):
        each.close()


def test_the_least_rights_that_the_documents_name_are_enough(server):
    admin = server.client()
    commands = [
        "+get",
        "+set",
        "+exists",
        "+getrange",
        "+xadd",
        "+xrevrange",
        "+xrange",
        "+info",
        "+dbsize",
        "+evalsha",
        "+eval",
    ]
    admin.acl_setuser("app", enabled=True, nopass=True, commands=commands, keys=["pages*"])
    client = server.client(username="app", password="x")
    cache = RedisCache(client, value_of, name="pages", namespace="pages")
    items = [create_warmup_item("pages", f"{n}") for n in range(4)]
    assert {ItemStatus.LOADED} == {result.status for result in cache.warmup_items(items)}
    assert cache.delete("1")
    assert value_of("1") == cache.get("1") == cache.get("1")
    assert cache.get_warmup_statistics()[3:5] == (1, 1)
    for each in (admin, client):
        each.close()


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_a_full_server_evicts_nothing_for_a_warm_up(server, policy):
    client = server.client()
    limit_bytes = client.info("memory")["used_memory"] + 4_000_000
    client.config_set("maxmemory", limit_bytes)
    client.config_set("maxmemory-policy", policy)
    cache = RedisCache(client, lambda key: key.encode() * 200, name="pages")
    items = [create_warmup_item("pages", f"{n:05}") for n in range(6000)]
    results = [each for n in range(0, 6000, 32) for each in cache.warmup_items(items[n : n + 32])]
    memory = client.info("memory")
    assert client.info("stats")["evicted_keys"] == 0
    assert memory["used_memory"] - memory["mem_not_counted_for_evict"] <= 0.92 * limit_bytes
    assert 1500 < sum(result.status is ItemStatus.LOADED for result in results) < 6000
    assert {ItemStatus.LOADED, ItemStatus.REJECTED} == {result.status for result in results}
    client.close()


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_setting_without_looking_fills_a_server_up(server, policy):
    client = server.client()
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 4_000_000)
    client.config_set("maxmemory-policy", policy)
    pipeline = client.pipeline(transaction=False)
    for n in range(6000):
        pipeline.set(f"{n:05}", f"{n:05}" * 200)
    refused = sum(isinstance(reply, Exception) for reply in pipeline.execute(raise_on_error=False))
    assert refused + client.info("stats")["evicted_keys"] > 0
    client.close()


def test_lives_are_those_that_were_asked_for(shared_server):
    client = a_client(shared_server)
    cache = RedisCache(client, value_of, name="pages", namespace="p", ttl_seconds=100.0)
    cache.warmup_items([create_warmup_item("pages", f"{n}") for n in range(64)])
    lives = [client.pttl(f"p:{n}") for n in range(64)]
    assert 89_000 < min(lives) < 98_000
    assert 102_000 < max(lives) <= 110_000
    client.close()


# ------------------------------------------------------------------------------------------ the whole path


def test_a_service_records_plans_and_warms_a_shared_cache(server, tmp_path):
    async def live(cache):
        async with CacheWarmupService(state_dir=str(tmp_path / "state"), holdout_ratio=0.0) as service:
            service.register(cache)
            before = cache.get_warmup_statistics().items
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            for n in range(20):
                cache.get(f"{n}")
            return before, report.counts

    client = server.client()
    asyncio.run(live(RedisCache(client, value_of, name="pages")))
    client.flushall()
    name = some_name()
    before, counts = asyncio.run(live(RedisCache(client, value_of, name="pages", namespace=name)))
    assert (before, counts["loaded"]) == (0, 20)
    client.close()


def test_there_is_a_server_to_test_with():
    assert find_binary() is not None


@pytest.mark.parametrize("kind", [RedisCache, AsyncRedisCache])
def test_patience_with_a_server_that_is_away_is_none_of_a_loader_s_time(kind):
    client = connect(f"redis://127.0.0.1:{free_port()}/0", is_async=kind is AsyncRedisCache)
    cache = kind(client, value_of, name="pages", patience_seconds=0.4)
    items = [create_warmup_item("pages", f"page {n}", usage_frequency=1.0, warmup_cost=0.1) for n in range(2)]
    report = perform(run_of(cache, items, batch_size=2, item_timeout_seconds=0.1))
    assert set(reasons(report).values()) == {AWAY}
