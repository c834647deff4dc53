"""The adapter against a real memcached: the contract, every order of steps, several servers, what is full or frozen."""

import itertools
import random
import threading
import time

import pytest

pytest.importorskip("pymemcache", reason="the client library pymemcache is not installed")

from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.serde import pickle_serde

from memcached import WHOLE, control, leasing, memcached, reader, servers_in, warm_up, writer  # noqa: F401 - a fixture
from preheat import create_warmup_item
from preheat._memcached import Lines
from preheat._model import ItemStatus
from preheat._reach import Door
from preheat._sharing.leases import LEASE, Held
from preheat.adapters.memcached import MemcachedCache, connect
from preheat.errors import InvalidSetting
from shared_caches import BlockingCacheContract, value_of
from sharing import Origin, interleavings


def items_of(count):
    return [create_warmup_item("pages", f"{n:05}", size_bytes=1000) for n in range(count)]


class TestMemcachedCache(BlockingCacheContract):
    """Each cache has a server of its own, for statistics are those of the whole server."""

    @pytest.fixture(autouse=True)
    def _with_servers(self, memcached):
        self.start, self.clients = memcached, []
        yield
        for client in self.clients:
            client.close()

    def client(self):
        return self.start().client()

    def make_cache(self, load=value_of, **options):
        self.clients.append(self.client())
        return MemcachedCache(self.clients[-1], load, name="pages", **options)

    def left_seconds(self, cache, item):
        place = cache._sharing.rules.place(item.ref.key)
        client = self.clients[-1]
        lines = [each.raw_command(f"mg {place} t") for each in getattr(client, "clients", {"": client}).values()]
        return next(int(line.split()[1][1:]) for line in lines if line.startswith(b"HD"))


class TestMemcachedCacheOverAPlainClient(TestMemcachedCache):
    def client(self):
        return Client(self.start().address, timeout=2.0)


class TestMemcachedCacheOverSeveralServers(TestMemcachedCache):
    def client(self):
        return HashClient([self.start().address for _ in range(3)], timeout=2.0, use_pooling=True)


# --------------------------------------------------------------------------------------------- never stale


def stale_on(ask, make_actors):
    """How many of the 420 leave a stale value on a real server."""
    stale = 0
    for n, (order, resident) in enumerate(itertools.product(interleavings(WHOLE), (None, b"1 before"))):
        origin, key = Origin(), f"{n}"
        if resident is not None:
            ask([("set", f"s:{key}", resident, 0)])
        actors = make_actors(origin, key)
        for name in order:
            actors[name].turn()
        while waiting := [actor for actor in actors.values() if not actor.is_over]:
            for actor in waiting:  # a warm-up waits for a reader that has begun to load
                actor.turn()
        (held,) = ask([("gets", f"s:{key}")])
        value = held.data if isinstance(held, Held) else None
        stale += value is not None and not value.startswith(LEASE) and int(value.split()[0]) != origin.version
    return stale


def lines_to(client):
    return Lines(client, lambda: Door(random.Random(0)))


def test_none_of_all_420_interleavings_leaves_a_stale_value_on_a_real_server(memcached):
    client = memcached().client()
    ask = lines_to(client).ask

    def actors(origin, key):
        made = [leasing(None, clock=time.monotonic) for _ in range(3)]
        parts = (ask, origin, key)
        return {"w": warm_up(made[0], *parts), "u": writer(made[1], *parts), "r": reader(made[2], *parts)}

    assert stale_on(ask, actors) == 0
    client.close()


@pytest.mark.parametrize(("protocol", "expected"), [("set", 54), ("add", 43)])
def test_setting_and_bare_adding_leave_stale_values_on_a_real_server(memcached, protocol, expected):
    client = memcached().client()
    ask = lines_to(client).ask
    assert expected <= stale_on(ask, lambda origin, key: control(protocol, ask, origin, f"s:{key}"))
    client.close()


def test_two_processes_see_each_other_s_deletes_and_loads(memcached):
    client = memcached().client()
    one, other = (MemcachedCache(client, value_of, name="pages") for _ in range(2))
    one.get("a")
    assert other.warmup_item(create_warmup_item("pages", "a")).status is ItemStatus.RESIDENT
    other.delete("a")
    assert one.find_resident(["a"]) == [False]
    one.put("a", b"newer")
    assert other.get("a") == b"newer"
    client.close()


def test_what_is_deleted_while_a_warm_up_loads_it_is_not_put(memcached):
    client = memcached().client()
    cache = MemcachedCache(
        client, lambda key: (client.delete(f"preheat:pages:{key}", noreply=False), b"old")[1], name="pages"
    )
    assert cache.warmup_item(create_warmup_item("pages", "a")).status is ItemStatus.REJECTED
    assert cache.find_resident(["a"]) == [False]
    client.close()


# --------------------------------------------------------------------------------------- rules of the server


def test_lives_longer_than_a_month_are_lives_and_not_instants(memcached):
    client = memcached().client()
    days = 86_400
    for number, life in enumerate((100.0, 31.0 * days, 400.0 * days)):
        cache = MemcachedCache(client, value_of, name="pages", namespace=f"n{number}", ttl_seconds=life)
        cache.put("a", b"1")
        (left,) = [int(part[1:]) for part in client.raw_command(f"mg n{number}:a t").split() if part[:1] == b"t"]
        assert life - 3 <= left <= life
    client.close()


def test_lives_of_a_warm_up_are_staggered(memcached):
    client = memcached().client()
    cache = MemcachedCache(client, value_of, name="pages", namespace="p", ttl_seconds=1000.0)
    cache.warmup_items([create_warmup_item("pages", f"{n}") for n in range(64)])
    lives = [int(client.raw_command(f"mg p:{n} t").split()[1][1:]) for n in range(64)]
    assert 890 < min(lives) < 980
    assert 1020 < max(lives) <= 1100
    client.close()


@pytest.mark.parametrize("key", ["two words", "é", "x" * 400, "line\r\nflush_all\r\n", "\0"])
def test_keys_that_the_server_would_not_take_are_kept_all_the_same(memcached, key):
    client = memcached().client()
    cache = MemcachedCache(client, value_of, name="pages")
    assert cache.warmup_item(create_warmup_item("pages", key)).status is ItemStatus.LOADED
    assert cache.get(key) == value_of(key)
    assert cache.get_warmup_statistics()[3:5] == (1, 0)
    assert cache.delete(key)
    assert cache.find_resident([key]) == [False]
    client.close()


def test_values_that_look_like_the_protocol_are_values(memcached):
    client = memcached().client()
    cache = MemcachedCache(client, lambda key: b"END\r\nSTORED\r\n" + key.encode(), name="pages")
    assert {result.status for result in cache.warmup_items(items_of(5))} == {ItemStatus.LOADED}
    assert cache.get("00003") == b"END\r\nSTORED\r\n00003"
    client.close()


def test_what_is_larger_than_the_server_takes_says_so_and_harms_no_other(memcached):
    client = memcached().client()
    cache = MemcachedCache(client, lambda key: b"x" * (2_000_000 if key == "00000" else 10), name="pages")
    statuses = [result.status for result in cache.warmup_items(items_of(4))]
    assert statuses == [ItemStatus.TOO_LARGE] + [ItemStatus.LOADED] * 3
    cache.put("00001", b"old")
    assert cache.put("00001", b"x" * 2_000_000) is False
    assert cache.find_resident(["00000", "00001", "00002"]) == [False, False, True]
    client.close()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda address: PooledClient(address), "for ever"),
        (lambda address: PooledClient(address, timeout=60.0), "60 s"),
        (lambda address: PooledClient(address, timeout=1.0, serde=pickle_serde), "makes values"),
        (lambda address: PooledClient(address, timeout=1.0, key_prefix=b"x"), "namespace instead"),
        (lambda address: PooledClient(address, timeout=1.0, ignore_exc=True), "ignore_exc"),
        (lambda address: HashClient([address], timeout=1.0, ignore_exc=True), "ignore_exc"),
        (lambda address: object(), "PooledClient"),
    ],
)
def test_clients_that_wait_for_ever_unpickle_or_hide_failures_are_refused(make, why):
    with pytest.raises(InvalidSetting, match=why):
        MemcachedCache(make("unix:/nowhere"), value_of, name="pages")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"encode": bytes}, "belong together"),
        ({"ttl_seconds": 0.5}, "ttl_seconds"),
        ({"namespace": "two words"}, "namespace"),
        ({"load_deadline_seconds": 0.0}, "load_deadline"),
    ],
)
def test_settings_that_can_t_hold_are_refused(options, why):
    with pytest.raises(InvalidSetting, match=why):
        MemcachedCache(connect("unix:/nowhere"), value_of, name="pages", **options)


# ---------------------------------------------------------------------------------------------------- memory


def test_a_full_server_evicts_nothing_for_a_warm_up(memcached):
    server = memcached("-m", "8")
    client = server.client()
    sizes = [100, 1000, 9000]
    cache = MemcachedCache(client, lambda key: b"x" * sizes[int(key) % 3], name="pages")
    for n in range(200):
        cache.put(f"traffic {n}", b"x" * 1000)
    items = items_of(9000)
    results = [each for n in range(0, 9000, 64) for each in cache.warmup_items(items[n : n + 64])]
    told = server.statistics()
    assert told["evictions"] == 0
    assert sum(result.status is ItemStatus.LOADED for result in results) > 500
    assert {ItemStatus.LOADED, ItemStatus.REJECTED} == {result.status for result in results}
    assert all(cache.find_resident([f"traffic {n}" for n in range(200)]))
    client.close()


def test_setting_without_looking_fills_a_server_up(memcached):
    server = memcached("-m", "8")
    client = server.client()
    client.set_many({f"{n:05}": b"x" * [100, 1000, 9000][n % 3] for n in range(9000)})
    assert server.statistics()["evictions"] > 0
    client.close()


# ------------------------------------------------------------------------------------------ servers in trouble


def test_a_server_that_is_killed_costs_its_keys_only_and_is_asked_again(memcached):
    servers = [memcached() for _ in range(3)]
    client = connect(*(server.address for server in servers))
    cache = MemcachedCache(client, value_of, name="pages", patience_seconds=0.0)
    keys = [f"{n}" for n in range(60)]
    for key in keys:
        cache.get(key)
    servers[0].stop()
    before = cache.get_warmup_statistics().hits
    assert [cache.get(key) for key in keys] == [value_of(key) for key in keys]
    kept = cache.get_warmup_statistics().hits - before
    assert 20 < kept < 60
    assert cache.find_resident(keys) is None
    assert cache.warmup_item(create_warmup_item("pages", "0")).status in (ItemStatus.FAILED, ItemStatus.RESIDENT)
    gone = [key for key in keys if not cache.delete(key)]
    assert len(gone) == 60 - kept
    client.close()


def test_keys_stay_with_their_server_whatever_the_client_does_about_failures(memcached):
    client = connect(*(memcached().address for _ in range(3)))
    cache = MemcachedCache(client, value_of, name="pages")
    keys = [f"{n}" for n in range(60)]
    for key in keys:
        cache.get(key)
    client.hasher.remove_node(client.hasher.get_node("any"))  # as it does with one that fails
    assert [cache.get(key) for key in keys] == [value_of(key) for key in keys]
    assert cache.get_warmup_statistics().hits == 60
    client.close()


def test_a_frozen_server_holds_a_reader_up_once(memcached):
    server = memcached()
    client = connect(server.address, wait_seconds=0.2)
    loads = []
    cache = MemcachedCache(client, lambda key: (loads.append(key), value_of(key))[1], name="pages")
    cache.get("a")
    server.freeze()
    for _ in range(50):
        assert cache.get("a") == value_of("a")
    assert len(loads) == 51
    server.thaw()
    deadline = time.monotonic() + 10
    while cache.get_warmup_statistics().hits == 0 and time.monotonic() < deadline:
        cache.get("a")
        time.sleep(0.05)
    assert cache.get_warmup_statistics().hits > 0
    client.close()


def test_threads_may_share_a_cache_over_one_connection(memcached):
    client = Client(memcached().address, timeout=5.0)
    cache = MemcachedCache(client, value_of, name="pages")
    wrong = []

    def ask():
        wrong.extend(key for n in range(200) if cache.get(key := f"{n % 50}") != value_of(key))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.get_warmup_statistics().hits > 500
    client.close()


def test_many_values_go_out_in_one_piece(memcached, monkeypatch):
    client = memcached().client()
    pieces, send = [], Client._misc_cmd
    monkeypatch.setattr(Client, "_misc_cmd", lambda *parts: (pieces.append(len(parts[1])), send(*parts))[1])
    cache = MemcachedCache(client, value_of, name="pages")
    assert {result.status for result in cache.warmup_items(items_of(500))} == {ItemStatus.LOADED}
    assert pieces == [500, 500, 500]  # what is there, leases, values
    client.close()


def test_a_server_that_refuses_is_not_away(memcached):
    server = memcached("-m", "2", "-M")
    client = server.client()
    assert fill(client)
    cache = MemcachedCache(client, value_of, name="pages")
    assert cache.put("a", b"x" * 1000) is False
    assert cache.delete("a")
    client.close()


def fill(client):
    from pymemcache.exceptions import MemcacheServerError

    try:
        for n in range(10_000):
            client.set(f"{n}", b"x" * 1000, noreply=False)
    except MemcacheServerError:
        return True
    return False
