"""The same plan gives the same result, whatever keeps the workers alive."""

import asyncio
import importlib

import pytest

from bulk_running import KEYS, begun, celery_worker, origin, resident  # noqa: F401
from preheat.bulk import processes, work
from servers import server  # noqa: F401


async def one_process(bulk):
    await work(bulk.url, bulk.bulk_id)
    return await bulk.report()


async def many_processes(bulk):
    return await processes.run_workers(bulk, 2)


async def a_dask_cluster(bulk):
    pytest.importorskip("distributed", reason="the library distributed is not installed")
    from preheat.bulk import dask

    return await dask.run_workers(bulk, workers=2)


async def celery_workers(bulk):
    pytest.importorskip("celery", reason="the library celery is not installed")
    from preheat.bulk import celery

    application = importlib.import_module("bulk_celery").app
    one = celery_worker("solo")
    try:
        return await celery.run_workers(bulk, application, 2)
    finally:
        one.kill()
        one.wait()
        application.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("executor", [one_process, many_processes, a_dask_cluster, celery_workers])
def test_every_executor_gives_the_same_result(executor, server, origin, monkeypatch):
    monkeypatch.setenv("BULK_TEST_BROKER", server.url.replace("/0", "/1"))

    async def play():
        return await executor(await begun(server))

    report = asyncio.run(play())
    assert report.counts == {"loaded": KEYS}
    assert report.is_complete
    assert (resident(server), origin.loaded_twice()) == (KEYS, 0)
