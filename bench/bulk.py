"""A bulk warm-up of keys of 256 bytes into a local Redis, by every executor in one run.

The peer is the engine in one process, whose plan lies in its memory: no shards, no board.  What counts is processor
time per key, for the server and other processes share the machine's processors: `per core` is keys per second of it.
Overhead is what an executor's workers take per key beyond the peer; start-up, how long it is until the first load.
"""

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE.parent / "tests"), str(HERE)]

from replicas import plan_of  # noqa: E402 - of the tests
from servers import Server, some_name  # noqa: E402

LEAST_RATIO = 0.9
VALUE = b"v" * 256
CACHE_URL, BROKER, FIRST = "BULK_BENCH_CACHE", "BULK_BENCH_BROKER", "BULK_BENCH_FIRST"


class Figures(NamedTuple):
    """What one executor took: processor time per key while loading, until the first load, and beside the loading."""

    us_per_key: float
    start_seconds: float
    beside_seconds: float
    wall_seconds: float


def shared():
    """The cache "pages", whose values cost nothing to make; the first load of all processes is noted."""
    from preheat.adapters.redis import RedisCache, connect

    first = Path(os.environ[FIRST])

    def load_many(keys):
        if not first.exists():
            first.touch()
        return [VALUE] * len(keys)

    client = connect(os.environ[CACHE_URL], wait_seconds=5.0)
    return [RedisCache(client, lambda key: load_many([key])[0], name="pages", load_many=load_many)]


def celery_application():
    from celery import Celery

    from preheat.bulk.celery import register

    made = Celery("bulk", broker=os.environ[BROKER])
    made.conf.broker_connection_retry_on_startup = True
    register(made)
    return made


if BROKER in os.environ:
    app = celery_application()


async def engine(bulk, plan, workers):
    """The peer: returns its seconds of processor time and its loads."""
    from preheat._bulk.adding import Head
    from preheat._bulk.warming import Warming, caches_of

    caches, settings = await caches_of("bulk:shared")
    warming = Warming(caches, settings, bulk.url, Head("bulk:shared", (), 0, 1.0, {}, 0.0))
    begun = time.process_time()
    report = await warming.perform(await warming.prepare(plan, lambda progress: None))
    return time.process_time() - begun, report.counts["loaded"]


async def one_worker(bulk, plan, workers):
    from preheat.bulk import work

    await work(bulk.url, bulk.bulk_id)


async def processes(bulk, plan, workers):
    from preheat.bulk.processes import run_workers

    await run_workers(bulk, workers)


async def dask(bulk, plan, workers):
    from preheat.bulk.dask import run_workers

    await run_workers(bulk, workers=workers)


async def celery(bulk, plan, workers):
    from preheat.bulk.celery import run_workers

    command = [sys.executable, "-m", "celery", "-A", "bulk", "worker", "--pool", "prefork", "--loglevel", "ERROR"]
    quiet = ["--concurrency", str(workers), "--without-gossip", "--without-mingle", "--without-heartbeat"]
    consumer = subprocess.Popen([*command, *quiet], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await run_workers(bulk, app, workers)
    finally:
        consumer.terminate()
        consumer.wait()


def child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def measure(executor, plan, server, shards, workers):
    """The figures of `executor`."""
    from preheat.bulk import start_bulk

    server.client().flushdb()
    first = Path(os.environ[FIRST])
    first.unlink(missing_ok=True)
    bulk = await start_bulk(plan, "bulk:shared", server.url, bulk_id=some_name(), shards=shards)
    begun_at, begun, own, others = time.time(), time.perf_counter(), time.process_time(), child_seconds()
    direct = await executor(bulk, plan, workers)
    wall = time.perf_counter() - begun
    total = time.process_time() - own + child_seconds() - others
    report = await bulk.report()
    seconds, loaded = direct or (report.cpu_seconds, report.counts.get("loaded", 0))
    if loaded != len(plan):
        raise SystemExit(f"{executor.__name__} loaded {loaded} of {len(plan)} keys: {report}")
    return Figures(1e6 * seconds / len(plan), first.stat().st_mtime - begun_at, total - seconds, wall)


def run_all(options) -> dict[str, list[Figures]]:
    """The figures of all executors in turn, round by round."""
    plan, found = plan_of(options.keys), {}
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        os.environ |= {CACHE_URL: server.url, BROKER: server.url.replace("/0", "/1"), FIRST: f"{folder}/first"}
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:3])
        os.chdir(HERE)
        sys.modules["bulk"] = sys.modules["__main__"]
        globals()["app"] = celery_application()
        try:
            for executor in (engine, one_worker, processes, dask, celery) * options.rounds:
                figures = asyncio.run(measure(executor, plan, server, options.shards, options.workers))
                found.setdefault(executor.__name__, []).append(figures)
                print(
                    f"{executor.__name__:10}  {figures.us_per_key:5.1f} us per key; {figures.wall_seconds:4.1f} s",
                    flush=True,
                )
        finally:
            server.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument(
        "--workers", type=int, default=max(1, (os.cpu_count() or 1) - 1), help="the server needs one too"
    )
    parser.add_argument("--rounds", type=int, default=2, help="of each figure the best counts")
    parser.add_argument("--shards", type=int, default=None)
    found = run_all(parser.parse_args())
    best = {name: Figures(*map(min, zip(*rounds, strict=True))) for name, rounds in found.items()}
    for name, each in best.items():
        print(
            f"{name:10}  {1e6 / each.us_per_key:7,.0f} keys/s per core: {each.us_per_key:5.1f} us per key, "
            f"{each.us_per_key - best['engine'].us_per_key:+5.1f} us of overhead; first load after "
            f"{each.start_seconds:4.1f} s, {each.beside_seconds:4.1f} s of processor time beside the loading"
        )
    ratio = best["engine"].us_per_key / best["dask"].us_per_key
    met = "met" if ratio >= LEAST_RATIO else "not met"
    print(f"Dask, keys per core against the engine in one process: {ratio:.2f} (at least {LEAST_RATIO}): {met}")
    sys.exit(ratio < LEAST_RATIO)


if __name__ == "__main__":
    main()
