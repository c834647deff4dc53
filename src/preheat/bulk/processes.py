"""Workers in processes of their own on this machine."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import Process

from preheat.bulk import Bulk, BulkReport

MOST_RESTARTS = 8
"""How often dead workers are replaced, for each that was asked for."""

_COMMAND = ("-m", "preheat.cli", "bulk", "work")


async def run_workers(bulk: Bulk, workers: int | None = None) -> BulkReport:
    """Keep `workers` processes at work until nothing is left to do: by default one for each processor.

    One that dies of a signal is replaced; its shard is taken over once its lease has run out.  If this process dies,
    its workers go on by themselves.

    Raises:
        UsageError, BoardUnavailable: As for `Bulk.progress`.
    """
    await bulk.progress()
    count = workers or os.cpu_count() or 1
    await asyncio.gather(*(_keep_one(bulk) for _ in range(count)))
    return await bulk.report()


async def _keep_one(bulk: Bulk) -> None:
    for _ in range(1 + MOST_RESTARTS):
        process = await _start(bulk)
        try:
            if await process.wait() >= 0 or (await bulk.progress()).is_over:
                return
        finally:
            if process.returncode is None:
                process.terminate()


async def _start(bulk: Bulk) -> Process:
    """A worker; the address, which may be secret, is in its environment and not in its command."""
    environment = os.environ | {"CACHE_WARMUP_COORDINATOR_URL": bulk.url}
    return await asyncio.create_subprocess_exec(
        sys.executable, *_COMMAND, bulk.bulk_id, env=environment, stdout=asyncio.subprocess.DEVNULL
    )
