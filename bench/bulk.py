"""A bulk warm-up of keys of 256 bytes into a local Redis, by every executor in one run.

The peer is the engine in one process, whose plan lies in its memory: no shards, no board.  What counts is processor
time per key, for the server and other processes share the machine's processors: `per core` is keys per second of it.
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

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE.parent / "tests"), str(HERE)]

from replicas import plan_of  # noqa: E402 - of the tests
from servers import Server, some_name  # noqa: E402

LEAST_RATIO = 0.9
VALUE = b"v" * 256
CACHE_URL, BROKER = "BULK_BENCH_CACHE", "BULK_BENCH_BROKER"


def shared():
    """The cache "pages", whose values cost nothing to make."""
    from preheat.adapters.redis import RedisCache, connect

    client = connect(os.environ[CACHE_URL], wait_seconds=5.0)
    return [RedisCache(client, lambda key: VALUE, name="pages", load_many=lambda keys: [VALUE] * len(keys))]


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
    """Keys per second of processor time while loading, wall seconds, and processor seconds beside the loading."""
    from preheat.bulk import start_bulk

    server.client().flushdb()
    bulk = await start_bulk(plan, "bulk:shared", server.url, bulk_id=some_name(), shards=shards)
    begun, own, others = time.perf_counter(), time.process_time(), child_seconds()
    direct = await executor(bulk, plan, workers)
    wall = time.perf_counter() - begun
    total = time.process_time() - own + child_seconds() - others
    report = await bulk.report()
    seconds, loaded = direct or (report.cpu_seconds, report.counts.get("loaded", 0))
    if loaded != len(plan):
        raise SystemExit(f"{executor.__name__} loaded {loaded} of {len(plan)} keys: {report}")
    return len(plan) / seconds, wall, total - seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument(
        "--workers", type=int, default=max(1, (os.cpu_count() or 1) - 1), help="the server needs one too"
    )
    parser.add_argument("--rounds", type=int, default=2, help="of each executor the best counts")
    parser.add_argument("--shards", type=int, default=None)
    options = parser.parse_args()
    plan, rates = plan_of(options.keys), {}
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        os.environ |= {CACHE_URL: server.url, BROKER: server.url.replace("/0", "/1")}
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:3])
        os.chdir(HERE)
        sys.modules["bulk"] = sys.modules["__main__"]
        globals()["app"] = celery_application()
        try:
            for executor in (engine, one_worker, processes, dask, celery) * options.rounds:
                rate, wall, beside = asyncio.run(measure(executor, plan, server, options.shards, options.workers))
                rates[executor] = max(rate, rates.get(executor, 0.0))
                print(
                    f"{executor.__name__:10}  {rate:7,.0f} keys/s per core, {1e6 / rate:5.1f} us per key; "
                    f"{wall:5.1f} s in all, {beside:4.1f} s of processor time beside the loading",
                    flush=True,
                )
        finally:
            server.stop()
    ratio = rates[dask] / rates[engine]
    met = "met" if ratio >= LEAST_RATIO else "not met"
    print(f"Dask, keys per core against the engine in one process: {ratio:.2f} (at least {LEAST_RATIO}): {met}")
    sys.exit(ratio < LEAST_RATIO)


if __name__ == "__main__":
    main()
