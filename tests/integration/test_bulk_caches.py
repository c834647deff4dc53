"""Bulk warm-ups of a cluster and of memcached: as complete, as careful and as easily ended as on one Redis."""

import asyncio
import signal

import pytest

from bulk_running import KEYS, adds_up, begun, origin, until, worker  # noqa: F401
from bulk_target import CACHE, PAUSE, VALUE_BYTES
from memcached import memcached  # noqa: F401
from preheat._bulk.board import Board
from preheat._sharing.leases import LEASE, LeaseRules
from preheat.adapters.memcached import connect
from preheat.adapters.redis import RedisCache
from preheat.bulk.processes import run_workers
from preheat.errors import BoardUnavailable
from servers import cluster, server  # noqa: F401

LARGE_BYTES = 20_000
ROOM_BYTES = 8 << 20  # of each server: a third of what is to be loaded, or less


class OnCluster:
    """Three servers of a cluster, each of which may hold so much more than it does."""

    target = "bulk_target:on_cluster"

    def __init__(self, cluster) -> None:
        self.address = f"redis://127.0.0.1:{cluster.servers[0].port}/0"
        self._client, self._servers = cluster.client(), [each.client() for each in cluster.servers]
        self._client.flushall(target_nodes=self._client.PRIMARIES)
        for each in self._servers:
            each.config_set("maxmemory", each.info("memory")["used_memory"] + ROOM_BYTES)
            each.config_set("maxmemory-policy", "allkeys-lru")
        self._evicted_before = self._evicted()

    def values(self, keys):
        """How many keys have a value."""
        cache = RedisCache(self._client, lambda key: b"", name="pages")
        return sum(cache.find_resident([f"page {n}" for n in range(keys)]))

    def evicted(self):
        """How many values have been evicted."""
        return self._evicted() - self._evicted_before

    def _evicted(self):
        return sum(each.info("stats")["evicted_keys"] for each in self._servers)

    def put_all(self, values):
        """The control: what is usually written, which does not ask how full the servers are."""
        for key, value in values.items():
            self._client.set(key, value)

    def close(self):
        for each in self._servers:
            each.config_set("maxmemory", 0)
            each.close()
        self._client.close()


class OnMemcached:
    """Two servers of memcached."""

    target = "bulk_target:on_memcached"

    def __init__(self, start) -> None:
        self._servers = [start("-m", str(ROOM_BYTES >> 20)) for _ in range(2)]
        self.address = " ".join(each.address for each in self._servers)
        self._client = connect(*self.address.split(), wait_seconds=2.0)

    def values(self, keys):
        """How many keys have a value, and not only the token of a load."""
        place = LeaseRules("preheat:pages", 30.0, 5.0).place
        found = self._client.get_many([place(f"page {n}") for n in range(keys)])
        return sum(not value.startswith(LEASE) for value in found.values())

    def evicted(self):
        """How many values have been evicted."""
        return sum(each.statistics()["evictions"] for each in self._servers)

    def put_all(self, values):
        """The control: what is usually written, which does not ask how full the servers are."""
        for key, value in values.items():
            self._client.set(key.replace(" ", "-"), value, noreply=False)

    def close(self):
        self._client.close()


@pytest.fixture(params=["cluster", "memcached"])
def place(request, origin, monkeypatch):
    kind = OnCluster if request.param == "cluster" else OnMemcached
    made = kind(request.getfixturevalue(request.param))
    monkeypatch.setenv(CACHE, made.address)
    yield made
    made.close()


def test_processes_load_every_key_once(place, server, origin):
    async def play():
        return await run_workers(await begun(server, target=place.target), 2)

    report = asyncio.run(play())
    assert report.counts == {"loaded": KEYS}
    assert report.is_complete
    assert (place.values(KEYS), origin.loaded_twice(), place.evicted()) == (KEYS, 0, 0)


def test_what_is_resident_is_not_loaded_again(place, server, origin):
    async def play():
        for _ in range(2):
            bulk = await begun(server, target=place.target)
            await run_workers(bulk, 1)
        return await bulk.report()

    report = asyncio.run(play())
    assert report.counts == {"resident": KEYS}
    assert origin.loaded_twice() == 0


def test_workers_are_killed_one_after_the_other_and_nothing_is_lost(place, server, origin, monkeypatch):
    """What is loaded twice is what the two had in flight: sixteen batches of five each."""
    keys = 2 * 16 * 5 * 100
    monkeypatch.setenv("CACHE_WARMUP_BATCH_SIZE", "5")
    monkeypatch.setenv(PAUSE, "0.002")

    async def play():
        bulk = await begun(server, keys=keys, target=place.target, lease_seconds=0.5)
        for ratio in (0.2, 0.5):
            one = worker(bulk)
            await until(lambda ratio=ratio: len(origin.asked()) > keys * ratio)
            one.send_signal(signal.SIGKILL)
            one.wait()
        before = await bulk.report()
        await bulk.resume()
        return before, await run_workers(bulk, 2)

    before, report = asyncio.run(play())
    assert adds_up(before, keys)
    assert not before.is_complete
    assert adds_up(report, keys)
    assert report.is_complete
    assert place.values(keys) == len(set(origin.asked())) == keys
    assert origin.loaded_twice() <= keys / 100


def test_what_does_not_fit_is_left_out_and_nothing_is_evicted(place, server, origin, monkeypatch):
    monkeypatch.setenv(VALUE_BYTES, str(LARGE_BYTES))

    async def play():
        bulk = await begun(server, target=place.target, size_bytes=LARGE_BYTES)
        return await run_workers(bulk, 2)

    report = asyncio.run(play())
    assert adds_up(report)
    assert not report.is_complete
    assert place.evicted() == 0
    assert 0 < report.counts["loaded"] == place.values(KEYS) < KEYS
    assert report.counts["loaded"] * LARGE_BYTES >= ROOM_BYTES


def test_what_does_not_ask_how_full_the_servers_are_evicts(place):
    """The control."""
    place.put_all({f"page {n}": b"v" * LARGE_BYTES for n in range(KEYS)})
    assert place.evicted() > 0


def test_it_is_cancelled_midway_and_resumed(place, server, origin, monkeypatch):
    monkeypatch.setenv(PAUSE, "0.005")

    async def play():
        bulk = await begun(server, target=place.target)
        working = asyncio.ensure_future(run_workers(bulk, 1))
        await until(lambda: len(origin.asked()) > KEYS / 10)
        await bulk.cancel()
        cancelled = await working
        await bulk.resume()
        return cancelled, await run_workers(bulk, 1)

    cancelled, after = asyncio.run(play())
    assert adds_up(cancelled)
    assert (cancelled.is_cancelled, cancelled.is_complete) == (True, False)
    assert adds_up(after)
    assert (after.is_complete, after.is_cancelled) == (True, False)
    assert (place.values(KEYS), origin.loaded_twice()) == (KEYS, 0)


def test_a_board_on_a_cluster_is_refused_in_one_sentence(cluster):
    """Unless its slot happens to be on the server that is named."""

    async def play(number):
        async with Board(cluster.servers[number].url, "nightly") as board:
            return await board.read()

    told = []
    for number in range(len(cluster.servers)):
        try:
            asyncio.run(play(number))
        except BoardUnavailable as error:
            told.append(str(error))
    assert len(told) == len(cluster.servers) - 1
    assert all("it is one of a cluster, where no board can be" in each for each in told)
