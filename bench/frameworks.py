"""What recording costs where frameworks read their caches, as ratios in one process: interleaved repeats, medians.

python bench/frameworks.py [--repeats N]       exits with 1 if a target is missed

Each line is one target: a hit of the recorded cache against the same hit of one that is not recorded.  In memory that
is process CPU; on a server it is all the time that a read takes, the loopback's included.
"""

import argparse
import asyncio
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress

import dogpile.cache
from aiocache import Cache as AioCache
from cashews import Cache as CashewsCache
from django.conf import settings
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from joblib import Memory
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.stores import InMemoryByteStore

from preheat._log import CacheLog
from preheat.adapters import aiocache, cashews, django, joblib, langchain
from preheat.adapters import dogpile as dogpile_adapter

Act = Callable[[], object]
missed: list[str] = []
loop = asyncio.new_event_loop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=101)
    repeats = parser.parse_args().repeats
    settings.configure()
    with tempfile.TemporaryDirectory() as folder, server(folder) as port:
        if port is not None:
            line(
                "Django over Redis, get",
                lambda: django_cache(redis_of(port)),
                django.watch,
                40,
                repeats,
                1.10,
                time.perf_counter,
            )
            line(
                "dogpile over Redis, get_or_create",
                lambda: region(port),
                dogpile_adapter.watch,
                40,
                repeats,
                1.10,
                time.perf_counter,
            )
        line(
            "Django in memory, get",
            lambda: django_cache(LocMemCache(str(time.time()), {})),
            django.watch,
            3000,
            repeats,
            2.2,
        )
        line("dogpile in memory, get_or_create", lambda: region(None), dogpile_adapter.watch, 400, repeats, 2.0)
        line("aiocache in memory, get", aio, aiocache.watch, 3, repeats, 1.5)
        line("cashews in memory, get", cashew, cashews.watch, 3, repeats, 2.0)
        line("joblib, a call", lambda: function(folder), joblib.watch, 30, repeats, 1.15)
        line("LangChain, 100 documents", documents, langchain.watch, 3, repeats, 1.5)
    loop.close()
    return bool(missed)


def line(
    what: str,
    make: Callable[[], tuple[object, Act]],
    watch: Callable[..., object],
    reads: int,
    repeats: int,
    target: float,
    clock: Callable[[], float] = time.process_time,
) -> None:
    """Print one ratio."""
    (_, plain), (cache, recorded) = make(), make()
    watch(cache, name="measured", log=CacheLog("measured"))
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for seconds, act in zip(spent, (plain, recorded), strict=True):
            started = clock()
            for _ in range(reads):
                act()
            seconds.append(clock() - started)
    ratio = statistics.median(spent[1]) / statistics.median(spent[0])
    met = ratio <= target
    if not met:
        missed.append(what)
    print(f"{what}: {ratio:.2f} x an unrecorded one; target: at most {target:.2f}; {'met' if met else 'NOT MET'}")


@contextmanager
def server(folder: str):
    """The port of a Redis server; None where there is none to start."""
    if shutil.which("redis-server") is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", folder, "--loglevel", "warning"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(500):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
            time.sleep(0.01)
        yield port
    finally:
        process.terminate()
        process.wait()


def in_memory() -> LocMemCache:
    return LocMemCache(str(time.time()), {})


def redis_of(port: int) -> RedisCache:
    return RedisCache(f"redis://127.0.0.1:{port}/0", {})


def django_cache(cache) -> tuple[object, Act]:
    cache.set("a", {"key": "a", "words": ["a"] * 10})
    return cache, lambda: cache.get("a")


def region(port: int | None) -> tuple[object, Act]:
    made = dogpile.cache.make_region()
    if port is None:
        made.configure("dogpile.cache.memory")
    else:
        made.configure("dogpile.cache.redis", arguments={"host": "127.0.0.1", "port": port, "db": 1})
    made.set("a", {"key": "a"})
    return made, lambda: made.get_or_create("a", dict)


def aio() -> tuple[object, Act]:
    cache = AioCache(AioCache.MEMORY)
    return cache, awaited(cache)


def cashew() -> tuple[object, Act]:
    cache = CashewsCache()
    cache.setup("mem://?check_interval=0")
    return cache, awaited(cache)


def awaited(cache) -> Act:
    async def read():
        for _ in range(100):
            await cache.get("a")

    loop.run_until_complete(cache.set("a", {"key": "a"}))
    return lambda: loop.run_until_complete(read())


def function(folder: str) -> tuple[object, Act]:
    made = Memory(folder, verbose=0).cache(words)
    made("a b c")
    return made, lambda: made("a b c")


def words(text):
    return text.split()


def documents() -> tuple[object, Act]:
    model = DeterministicFakeEmbedding(size=384)
    made = CacheBackedEmbeddings.from_bytes_store(model, InMemoryByteStore(), namespace="m", key_encoder="blake2b")
    texts = [f"text {n}" for n in range(100)]
    made.embed_documents(texts)
    return made, lambda: made.embed_documents(texts)


if __name__ == "__main__":
    sys.exit(main())
