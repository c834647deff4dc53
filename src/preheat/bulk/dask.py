"""Workers on a Dask cluster: tasks that take shards from the board until none is left.

Dask only keeps them alive, and puts them on other machines if some are lost: what is done by whom stands on the board.
So there is a task for each thread of the cluster, and none for each key.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from preheat.bulk import Bulk, BulkReport, work_until_done
from preheat.errors import InvalidSetting, WorkersLost

if TYPE_CHECKING:
    from distributed import Client

_OWN_CLUSTER = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 2**26,
}
"""What Dask would look at a hundred times a second in each worker, and nobody asks for here; and after how many free
bytes each of its allocations may give some back: 64 KiB there, for values that stay, while a run gives back at its end
what it has freed.
"""

_NO_DASHBOARD: Any = {"dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
"""Without one its scheduler still listens for HTTP, by default at a port that another cluster may have."""


async def run_workers(bulk: Bulk, client: Client | None = None, workers: int | None = None) -> BulkReport:
    """Have the cluster of `client` work until nothing is left to do.

    Args:
        bulk: What to do; each of the cluster's machines has to reach its server and to be able to import its target.
        client: One that is not asynchronous; by default a local cluster of processes with a thread each, for as long
            as this takes, in which memory is left to the runs to watch.
        workers: How many tasks; by default one for each thread of the cluster.

    Raises:
        InvalidSetting: Dask is not installed.
        WorkersLost: The cluster's scheduler went away, or worker after worker died.
        UsageError, BoardUnavailable: As for `Bulk.progress`.
    """
    await bulk.progress()
    await asyncio.to_thread(_run, bulk, client, workers)
    return await bulk.report()


def _run(bulk: Bulk, client: Client | None, workers: int | None) -> None:
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError:
        raise InvalidSetting("workers on Dask need its library; pip install 'preheat[dask]'") from None
    if client is not None:
        _work(bulk, client, workers)
        return
    with (
        dask.config.set(_OWN_CLUSTER),
        LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=None, **_NO_DASHBOARD) as cluster,
        Client(cluster) as own,
    ):
        _work(bulk, own, workers)


def _work(bulk: Bulk, client: Client, workers: int | None) -> None:
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    count = workers or sum(client.nthreads().values())
    tasks = [client.submit(work_until_done, bulk.url, bulk.bulk_id, pure=False) for _ in range(count)]
    try:
        client.gather(tasks, errors="raise")
    except (CancelledError, KilledWorker):  # of its tasks: the scheduler went away, or worker after worker died
        raise WorkersLost(
            f"the Dask cluster has lost the workers of bulk warm-up {bulk.bulk_id}; what they did stands: have a "
            "cluster that is up go on with it"
        ) from None
