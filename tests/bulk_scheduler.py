"""Whoever runs the workers of a bulk warm-up, as a process that can be killed: `bulk_scheduler.py KIND ID URL`."""

import asyncio
import multiprocessing
import sys

from preheat.bulk import Bulk


async def processes(bulk):
    """Two processes."""
    from preheat.bulk.processes import run_workers

    await run_workers(bulk, 2)


async def dask(bulk):
    """A local cluster of two."""
    from preheat.bulk.dask import run_workers

    await run_workers(bulk, workers=2)


async def celery(bulk):
    """Two tasks for the workers of `bulk_celery`."""
    import bulk_celery
    from preheat.bulk.celery import run_workers

    await run_workers(bulk, bulk_celery.app, 2)


async def from_memory(bulk):
    """The control: a pool that is handed the keys from this process' memory, and whose workers look nothing up."""
    from bulk_running import KEYS
    from bulk_target import load_many

    keys = [f"page {n}" for n in range(KEYS)]
    with multiprocessing.Pool(2) as pool:
        pool.map(load_many, [keys[start : start + 20] for start in range(0, KEYS, 20)], chunksize=1)


if __name__ == "__main__":
    kind, bulk_id, url = sys.argv[1:]
    asyncio.run({each.__name__: each for each in (processes, dask, celery, from_memory)}[kind](Bulk(url, bulk_id)))
