"""Workers as tasks of a Celery application: each takes shards from the board until none is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from preheat.bulk import Bulk, BulkReport, work_until_done

if TYPE_CHECKING:
    from celery import Celery

TASK = "preheat.bulk.work"


def register(app: Celery, **options: Any) -> Any:
    """Add the task to `app`, in the module that its workers load; returns it.

    It is acknowledged late, so that the broker gives it to another worker if one dies; `options` are Celery's own,
    such as `queue` and `time_limit`.  It takes the name of a bulk warm-up and the address of its server; without one,
    that in `CACHE_WARMUP_COORDINATOR_URL` where the worker runs, so that no password has to go through the broker.
    """
    settings = {"name": TASK, "acks_late": True, "reject_on_worker_lost": True, "ignore_result": True} | options
    return app.task(**settings)(_work)


def _work(bulk_id: str, url: str | None = None) -> None:
    import os

    from preheat._settings import resolve_settings
    from preheat.errors import InvalidSetting

    address = url or resolve_settings(os.environ).coordinator_url
    if address is None:
        raise InvalidSetting("nothing says where the board is; set CACHE_WARMUP_COORDINATOR_URL for this worker")
    work_until_done(address, bulk_id)


async def run_workers(bulk: Bulk, app: Celery, workers: int, *, sends_url: bool = True) -> BulkReport:
    """Send so many tasks to the workers of `app`, and wait until nothing is left to do.

    Without `sends_url` they go by the `CACHE_WARMUP_COORDINATOR_URL` of where they run.

    Raises:
        UsageError, BoardUnavailable: As for `Bulk.progress`.
    """
    import asyncio

    await bulk.progress()
    arguments = [bulk.bulk_id, bulk.url] if sends_url else [bulk.bulk_id]
    for _ in range(workers):
        await asyncio.to_thread(app.send_task, TASK, arguments)
    await bulk.wait()
    return await bulk.report()
