"""What recording costs, as ratios in one process: process CPU, interleaved repeats, medians.

python bench/recording.py [--repeats N] [--reads N]       exits with 1 if a target is missed

Each line is one target.  "Folded" includes the CPU of the thread that folds into history.  The reads of Redis,
diskcache and theine are measured where they can be imported; a Redis server is started where there is one.
"""

import argparse
import functools
import gc
import importlib.util
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cachetools
import numpy as np

from preheat import CacheWarmupService, heat
from preheat._ledger import DRAIN_SECONDS
from preheat._log import HAS_GIL, STRIDE, CacheLog
from preheat.adapters.ear import Ear
from preheat.adapters.in_place import record_in_place

ITEMS, THREADS, WAITING = 1000, 4, 1_000_000
TURN = 200  # reads of a server or a disk, or of what recorded ones are compared with, before the other's turn
ALWAYS, NEVER = -1, None  # when a drain samples

Act = Callable[[], object]
missed: list[str] = []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--reads", type=int, default=400_000, help="of one repeat")
    options = parser.parse_args()
    keys = traffic(ITEMS, options.reads)
    hot_path(keys, options.repeats)
    for what, sample_above, target in (("sampled", ALWAYS, 1.10), ("every one counted", NEVER, 1.35)):
        folded_lru(keys, options.repeats, what, sample_above, target)
    function(keys, options.repeats)
    decorator(keys, options.repeats)
    threads(keys, options.repeats)
    pending()
    drained(options.repeats)
    others(options.repeats)
    return bool(missed)


def traffic(items: int, requests: int) -> list[str]:
    drawn = (np.random.default_rng(1).zipf(1.1, requests) - 1) % items
    keys = [f"project/module_{n}.py" for n in range(items)]
    return [keys[n] for n in drawn.tolist()]


def full(cache: cachetools.Cache) -> cachetools.Cache:
    for n in range(ITEMS):
        cache[f"project/module_{n}.py"] = n
    return cache


def cpu_seconds(act: Act) -> float:
    started = time.process_time()
    act()
    return time.process_time() - started


def ratio(act: Act, peer: Act, repeats: int, before: Act = lambda: None) -> float:
    """How many times the CPU of `peer` does `act` take: the median of pairs, one first and then the other."""
    before(), act(), peer()
    ratios = []
    for n in range(repeats):
        before()
        theirs = cpu_seconds(peer) if n % 2 else 0.0
        ours = cpu_seconds(act)
        ratios.append(ours / (theirs or cpu_seconds(peer)))
    return statistics.median(ratios)


def ratio_in_turns(
    act: Callable[[list[str]], None],
    peer: Callable[[list[str]], None],
    keys: list[str],
    repeats: int,
    settle: Act = lambda: None,
) -> float:
    """As `ratio` of two that go through `keys`, but `TURN` of them at a time each, so that both meet the same noise.

    `settle` folds what `act` has recorded, as often as the folding thread would if nobody else had a turn.
    """
    parts = [keys[n : n + TURN] for n in range(0, len(keys), TURN)]
    act(keys), peer(keys), settle()
    ratios = []
    for _ in range(repeats):
        taken, settled_at = {act: 0.0, peer: 0.0}, 0.0
        for n, part in enumerate(parts):
            for one in (act, peer) if n % 2 else (peer, act):
                taken[one] += cpu_seconds(functools.partial(one, part))
            if taken[act] > settled_at + DRAIN_SECONDS or part is parts[-1]:
                taken[act] += cpu_seconds(settle)
                settled_at = taken[act]
        ratios.append(taken[act] / taken[peer])
    return statistics.median(ratios)


def tell(what: str, value: float, target: float, form: str = ".2f") -> None:
    met = value <= target
    print(f"{what}: {value:{form}} (target: at most {target}) {'met' if met else 'NOT MET'}", flush=True)
    if not met:
        missed.append(what)


@contextmanager
def service(sample_above: int | None) -> Iterator[CacheWarmupService]:
    """A service whose folding thread runs and whose drains sample as told."""
    import asyncio

    folder = tempfile.mkdtemp()
    made = CacheWarmupService(state_dir=folder, flush_seconds=3600)
    made.ledger._recorder.sample_above = sample_above
    try:
        yield made
    finally:
        asyncio.run(made.close())
        shutil.rmtree(folder)


def reads(cache: cachetools.Cache, keys: list[str]) -> Act:
    def act() -> None:
        for key in keys:
            cache[key]

    return act


def reads_by_several(cache: cachetools.Cache, keys: list[str]) -> Act:
    """As threads may read it: without the interpreter's lock under one of the application, as cachetools demands."""
    if HAS_GIL:
        return reads(cache, keys)
    lock = threading.Lock()

    def act() -> None:
        for key in keys:
            with lock:
                cache[key]

    return act


def calls(function: Callable[[str], object], keys: list[str]) -> Act:
    def act() -> None:
        for key in keys:
            function(key)

    return act


def settled(act: Act, made: CacheWarmupService) -> Act:
    """`act`, and whatever of it has not been folded when it ends."""
    return lambda: (act(), made.ledger._recorder.drain())


# ---------------------------------------------------------------------------------------------------------- the lines


def hot_path(keys: list[str], repeats: int) -> None:
    """R1: without a folding thread, the log emptied between repeats."""
    for make, what, target in (
        (cachetools.LRUCache, "LRUCache, written out", 1.05),
        (cachetools.LFUCache, "LFUCache, by a subclass", 1.35),
        (lambda maxsize: cachetools.TTLCache(maxsize, 3600), "TTLCache, by a subclass", 1.35),
    ):
        plain, cache, log = full(make(ITEMS)), full(make(ITEMS)), CacheLog("hot")
        record_in_place(cache, Ear("hot", log))
        again = functools.partial(lambda log: list(log.drain(0.0)), log)
        tell(f"R1 a recorded read of {what}", ratio(reads(cache, keys), reads(plain, keys), repeats, again), target)


def folded_lru(keys: list[str], repeats: int, what: str, sample_above: int | None, target: float) -> None:
    plain, cache = full(cachetools.LRUCache(ITEMS)), full(cachetools.LRUCache(ITEMS))
    with service(sample_above) as made:
        heat.watch(cache, name="lru", service=made)
        times = ratio(settled(reads(cache, keys), made), reads(plain, keys), repeats)
        tell(f"R2 recorded LRUCache[k], folded, {what}", times, target)


def function(keys: list[str], repeats: int) -> None:
    @functools.lru_cache(maxsize=ITEMS)
    def plain(key: str) -> str:
        return key

    with service(ALWAYS) as made:

        @heat.cached(name="function", max_items=ITEMS, service=made)
        def recorded(key: str) -> str:
            return key

        calls(plain, keys)(), calls(recorded, keys)()
        times = ratio(settled(calls(recorded, keys), made), calls(plain, keys), repeats)
        tell("@heat.cached hit against functools.lru_cache, folded, sampled", times, 1.7)


def decorator(keys: list[str], repeats: int) -> None:
    """R5: what `cachetools.cached` keeps its results in is watched."""
    plain = cachetools.cached(cachetools.LRUCache(ITEMS), key=lambda key: key)(lambda key: key)
    calls(plain, keys)()
    for what, sample_above, target in (("sampled", ALWAYS, 1.15), ("every one counted", NEVER, 1.30)):
        with service(sample_above) as made:
            watched = heat.watch(cachetools.LRUCache(ITEMS), name="results", service=made)
            recorded = cachetools.cached(watched, key=lambda key: key)(lambda key: key)
            calls(recorded, keys)()
            times = ratio(settled(calls(recorded, keys), made), calls(plain, keys), repeats)
            tell(f"R5 @cachetools.cached over a watched cache, folded, {what}", times, target)


def threads(keys: list[str], repeats: int) -> None:
    part = keys[: len(keys) // THREADS]
    plain, cache = full(cachetools.LRUCache(ITEMS)), full(cachetools.LRUCache(ITEMS))
    with service(NEVER) as made:
        heat.watch(cache, name="lru", service=made)
        for _ in range(repeats):
            settled(in_threads(reads_by_several(cache, part)), made)()
        recorded, dropped = made.ledger.accesses()["lru"], made.ledger.dropped
        tell("R6 accesses lost by 4 threads", repeats * THREADS * len(part) - recorded - dropped, 0, "d")
        tell("R6 accesses dropped for want of room", dropped, 0, "d")
    with service(ALWAYS) as made:
        cache = heat.watch(full(cachetools.LRUCache(ITEMS)), name="lru", service=made)
        ours, theirs = in_threads(reads_by_several(cache, part)), in_threads(reads_by_several(plain, part))
        times = ratio(settled(ours, made), theirs, repeats)
        tell("R6 CPU of 4 threads, folded, sampled", times, 1.25)


def in_threads(act: Act) -> Act:
    def together() -> None:
        team = [threading.Thread(target=act) for _ in range(THREADS)]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()

    return together


def pending() -> None:
    log, keys = CacheLog("c"), traffic(ITEMS, WAITING)
    gc.collect()
    before = sum(generation["collections"] for generation in gc.get_stats())
    tracemalloc.start()
    for key in keys:
        log.hit(key)
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    collections = sum(generation["collections"] for generation in gc.get_stats()) - before
    tell("R7 bytes held per access that waits", held_bytes / WAITING, 10)
    tell("R7 garbage collections while a million accesses were recorded", collections, 0, "d")


def drained(repeats: int) -> None:
    keys = traffic(100_000, WAITING)
    for what, sample_above, target in (("sampled", ALWAYS, 0.10), ("every one counted", NEVER, 1.0)):
        log = CacheLog("c", sample_above=sample_above)

        def fill(log: CacheLog = log) -> None:
            for key in keys:
                log.hit(key)

        def drain(log: CacheLog = log) -> None:
            for _ in log.drain(0.0):
                pass

        times = ratio(drain, lambda: Counter[str]().update(keys), repeats, fill)
        tell(f"R8 drain per access against Counter.update, {what}", times, target)
    waiting, sample = deque[str](), keys[::STRIDE]

    def least() -> None:
        waiting.clear()
        Counter[str]().update(sample)

    times = ratio(least, lambda: Counter[str]().update(keys), repeats, lambda: waiting.extend(keys))
    print(f"  letting go of all and Counter.update of one in {STRIDE}, which is the least: {times:.2f}", flush=True)


def others(repeats: int) -> None:
    for name, open_cache in (("theine", theine_get), ("diskcache", diskcache_get), ("redis", redis_get)):
        if importlib.util.find_spec(name) is None:
            print(f"a recorded get of {name}: not measured, {name} can't be imported")
            continue
        with open_cache() as (get, reads):
            compare(name, get, reads, repeats)


def compare(name: str, get: Callable[[str], object], reads: int, repeats: int) -> None:
    with service(ALWAYS) as made:
        recorder, keys = made.ledger._recorder, traffic(ITEMS, reads)

        def plain(keys: list[str]) -> None:
            for key in keys:
                get(key)

        def and_then(told: Callable[[str], None]) -> Callable[[list[str]], None]:
            def act(keys: list[str]) -> None:
                for key in keys:
                    get(key)
                    told(key)

            return act

        recorded = and_then(heat.log(name, service=made).hit)
        recorder.stop()  # it would go on through the other's turns
        times = ratio_in_turns(recorded, plain, keys, 2 * repeats, recorder.drain)
        tell(f"a recorded get of {name}, folded, sampled", times, 1.02, ".3f")
        least = ratio_in_turns(and_then(deque[str](maxlen=0).append), plain, keys, 2 * repeats)
        print(f"  a get of {name} and a call that keeps nothing, which is the least: {least:.3f}", flush=True)


@contextmanager
def theine_get() -> Iterator[tuple[Callable[[str], object], int]]:
    from theine import Cache

    cache = Cache(ITEMS)
    for n in range(ITEMS):
        cache.set(f"project/module_{n}.py", n)
    yield cache.get, 200_000
    cache.close()


@contextmanager
def diskcache_get() -> Iterator[tuple[Callable[[str], object], int]]:
    import diskcache

    with tempfile.TemporaryDirectory() as folder, diskcache.Cache(folder) as cache:
        for n in range(ITEMS):
            cache[f"project/module_{n}.py"] = n
        yield cache.get, 20_000


@contextmanager
def redis_get() -> Iterator[tuple[Callable[[str], object], int]]:
    import redis

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port)
    try:
        for _ in range(100):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        for n in range(ITEMS):
            client.set(f"project/module_{n}.py", n)
        yield client.get, 5_000
    finally:
        client.close()
        server.terminate()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
