"""A shared cache whose server is killed, frozen, filled, made read-only, slow to load, or reset, while it is in use."""

import asyncio
import contextlib
import os
import random
import threading
import time
from collections import Counter
from typing import ClassVar

import pytest

from preheat._run import Run
from preheat.adapters.redis import AsyncRedisCache, RedisCache, connect
from proxies import Proxy
from replicas import CountingOrigin, EnoughMemory, Replicas, plan_of
from servers import redis, running_server, server  # noqa: F401 - one is a fixture

RUNS = int(os.environ.get("PREHEAT_FAULT_RUNS", "40"))
KEYS = 600
AWAY_SECONDS = 1.0
FLEET_KEYS = 240


class Application:
    """Reads a cache all the time, in a thread; remembers what went wrong and how long a read took at the most."""

    def __init__(self, read) -> None:
        self.read, self.errors, self.wrong, self.longest_seconds = read, [], 0, 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        rng = random.Random(0)
        while not self._is_over.wait(0.001):
            key, begun = f"other {rng.randrange(50)}", time.perf_counter()
            try:
                self.wrong += self.read(key) != f"value of {key}".encode()
            except Exception as error:
                self.errors.append(error)
            self.longest_seconds = max(self.longest_seconds, time.perf_counter() - begun)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()


class Scene:
    """A cache on a server behind a proxy, a warm-up of it, and an application that uses it."""

    def __init__(self, server, keys=KEYS) -> None:
        self.server, self.keys, self.proxy = server, keys, Proxy(server.port)
        self.loads: Counter[str] = Counter()
        self.half = threading.Event()
        self.client = connect(f"redis://127.0.0.1:{self.proxy.port}/0", wait_seconds=0.3)
        self.cache = RedisCache(self.client, self._load, name="pages")

    def _load(self, key):
        if key.startswith("page"):
            self.loads[key] += 1
            if len(self.loads) > self.keys // 2:
                self.half.set()
            time.sleep(0.001)
        return f"value of {key}".encode()

    def play(self, fault):
        """Warm up, with `fault()` when half of it is loaded; the report and what the application met."""
        run = Run(plan_of(self.keys), {"pages": self.cache}, watch=EnoughMemory(), concurrency_limit=2, batch_size=8)
        troubling = threading.Thread(target=lambda: (self.half.wait(30), fault()))
        with Application(self.cache.get) as application:
            troubling.start()
            report = asyncio.run(run.perform())
            troubling.join()
        return report, application

    def close(self):
        self.client.close()
        self.proxy.close()


@pytest.fixture
def scene(server):
    made = Scene(server)
    yield made
    made.close()


def kill(scene):
    scene.server.kill()
    time.sleep(AWAY_SECONDS)
    scene.server.start()


def freeze(scene):
    scene.server.freeze()
    time.sleep(AWAY_SECONDS)
    scene.server.thaw()


def reset(scene):
    scene.proxy.delay_seconds = 0.02  # so that answers are on their way when it happens
    for _ in range(5):
        time.sleep(0.1)
        scene.proxy.reset_all()


def make_read_only(scene):
    with contextlib.closing(scene.server.client()) as client:
        client.replicaof("127.0.0.1", 1)
        time.sleep(AWAY_SECONDS)
        client.replicaof("NO", "ONE")


def load_slowly(scene):
    with contextlib.closing(scene.server.client()) as client:
        client.save()
        scene.server.kill()
        scene.server.options = ("--key-load-delay", "3000")
        scene.server.start(until="loading")


def fill(scene):
    with contextlib.closing(scene.server.client()) as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
        client.config_set("maxmemory-policy", "noeviction")


FAULTS = [kill, freeze, reset, make_read_only, load_slowly]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_application_meets_no_error_and_the_warm_up_goes_on_without_loading_twice(scene, fault):
    report, application = scene.play(lambda: fault(scene))
    assert application.errors == []
    assert application.wrong == 0
    assert report.counts["loaded"] + report.counts["resident"] == KEYS
    assert sum(scene.loads.values()) <= 1.05 * KEYS  # 8 keys of a batch, of 600, twice; bench/replicas.py has 1 %


def test_a_server_that_is_suddenly_full_ends_the_warm_up_and_nothing_is_evicted(scene):
    report, application = scene.play(lambda: fill(scene))
    assert application.errors == []
    assert report.counts["rejected"] > 0
    assert report.counts["loaded"] + report.counts["rejected"] == KEYS
    assert max(scene.loads.values()) == 1
    assert len(scene.loads) - report.counts["loaded"] <= 2 * 8  # the batches in flight
    with contextlib.closing(scene.server.client()) as client:
        assert client.info("stats")["evicted_keys"] == 0


@pytest.mark.parametrize("fault", [kill, freeze, reset])
def test_an_application_that_asks_the_server_itself_meets_errors(scene, fault):
    client = connect(f"redis://127.0.0.1:{scene.proxy.port}/0", wait_seconds=0.3)
    with Application(lambda key: client.get(key) or f"value of {key}".encode()) as application:
        time.sleep(0.1)
        fault(scene)
    client.close()
    assert application.errors


def test_a_server_that_is_away_is_asked_once_a_second_however_many_threads_read(scene):
    scene.cache.get("other 1")
    scene.server.kill()
    scene.proxy.connections, begun = 0, time.monotonic()
    with contextlib.ExitStack() as stack:
        applications = [stack.enter_context(Application(scene.cache.get)) for _ in range(8)]
        time.sleep(2.5)
    passed = time.monotonic() - begun
    assert [error for each in applications for error in each.errors] == []
    assert scene.proxy.connections <= passed + 8 + 1  # those that were asking when it went, then one a second


# ------------------------------------------------------------------------------------------------- cancels


class Careful(redis.asyncio.Connection):
    """As the library has it; all are remembered, to be closed before their loop ends."""

    made: ClassVar[list] = []

    async def _connect(self):
        await super()._connect()
        self.made.append((self, self._writer))


class Careless(Careful):
    """As connections were before redis-py 4.5.4: not closed when what they wait for is cancelled."""

    async def disconnect(self, *args, **options):
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            await super().disconnect(*args, **options)


async def values_under_wrong_keys(server, proxy, connection_class, cancels):
    """How many reads gave another key's value while others were cancelled at random moments."""
    with contextlib.closing(server.client()) as filling:
        filling.mset({f"pages:{n}": f"value of {n}" for n in range(200)})
    pool = redis.asyncio.ConnectionPool(
        connection_class=connection_class, host="127.0.0.1", port=proxy.port, socket_timeout=2.0, max_connections=100
    )
    client = redis.asyncio.Redis(connection_pool=pool)
    cache = AsyncRedisCache(client, lambda key: f"value of {key}", name="pages", namespace="pages")
    rng, wrong, done = random.Random(0), 0, 0
    while done < cancels:
        reads = {n: asyncio.ensure_future(cache.get(f"{n}")) for n in rng.sample(range(200), 40)}
        victims = rng.sample(list(reads), 20)
        for n in victims:
            await asyncio.sleep(rng.uniform(0.0, 0.012))
            reads[n].cancel()
        found = await asyncio.gather(*reads.values(), return_exceptions=True)
        done += sum(isinstance(value, asyncio.CancelledError) for value in found)
        pairs = zip(reads, found, strict=True)
        wrong += sum(
            value not in (f"value of {n}".encode(), f"value of {n}")
            for n, value in pairs
            if not isinstance(value, BaseException)
        )
    await client.aclose()
    for connection, writer in connection_class.made:
        writer.transport.abort()
        await connection.disconnect(nowait=True)
    connection_class.made.clear()
    await asyncio.sleep(0.05)
    return wrong


@pytest.mark.parametrize(("connection_class", "cancels"), [(Careful, RUNS), (Careless, 40)])
def test_no_value_comes_under_a_wrong_key_however_many_reads_are_cancelled(server, connection_class, cancels):
    proxy = Proxy(server.port, delay_seconds=0.1)
    wrong = asyncio.run(values_under_wrong_keys(server, proxy, connection_class, cancels))
    proxy.close()
    assert (wrong == 0) is (connection_class is Careful)


# ------------------------------------------------------------------------------------------------ replicas


async def play_replicas(tmp_path, *, fault=None, **options):
    with running_server(tmp_path / "cache") as cache, running_server(tmp_path / "together") as together:
        origin = CountingOrigin()
        replicas = Replicas(4, cache.url, together.url, await origin.start(), keys=FLEET_KEYS, rate=400.0, **options)
        try:
            await replicas.begin()
            if fault is not None:
                await asyncio.sleep(0.3)
                fault(together, replicas)
            return origin, await replicas.reports()
        finally:
            replicas.stop()
            origin.stop()


FLEET_FAULTS = {
    "none": None,
    "killed": lambda together, _: together.kill(),
    "frozen": lambda together, _: together.freeze(),
    "holder killed": lambda _, replicas: replicas.kill(0),
}


@pytest.mark.parametrize("name", FLEET_FAULTS)
def test_replicas_load_each_key_once_whatever_happens_to_their_coordinator(tmp_path, name):
    for folder in ("cache", "together"):
        (tmp_path / folder).mkdir()
    origin, reports = asyncio.run(play_replicas(tmp_path, fault=FLEET_FAULTS[name]))
    assert {key for _, key in origin.asked} == {f"page {n}" for n in range(FLEET_KEYS)}
    assert origin.per_key() <= 1.1
    assert len(reports) == 4 - (name == "holder killed")
    assert all(report["loaded"] + report["resident"] == FLEET_KEYS for report in reports)


def test_replicas_that_know_nothing_of_each_other_load_keys_more_than_once(tmp_path):
    for folder in ("cache", "together"):
        (tmp_path / folder).mkdir()
    origin, _ = asyncio.run(play_replicas(tmp_path, apart=True))
    assert origin.per_key() == 4.0
