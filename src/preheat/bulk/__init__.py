"""Bulk warm-up of a cache that processes share: millions of keys, by workers wherever they run.

`start_bulk` cuts a plan into shards and puts them on a board, on a Redis or Valkey server; workers take them there.
What keeps workers alive is a choice that changes nothing else: `preheat.bulk.processes`, `preheat.bulk.dask`,
`preheat.bulk.celery`, or `preheat bulk work` started by whatever starts your processes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping

from preheat._bulk import adding
from preheat._bulk.adding import BulkProgress, BulkReport, Head
from preheat._bulk.board import Board
from preheat._bulk.sharding import MOST_SHARDS, shard_count, shard_plan, split_plan
from preheat._bulk.steps import LEASE_SECONDS
from preheat._bulk.worker import WorkerTally, work, work_until_done
from preheat._model import WarmupPlan
from preheat.errors import InvalidSetting

__all__ = [
    "Bulk",
    "BulkProgress",
    "BulkReport",
    "WorkerTally",
    "shard_plan",
    "start_bulk",
    "work",
    "work_until_done",
]

LOOK_SECONDS = 0.5


class Bulk:
    """A bulk warm-up that has been begun, here or elsewhere: any number of processes may hold one of the same.

    Args:
        url: Of the server that its board is on; may hold a password, so it is not shown.
        bulk_id: What it is called.
    """

    def __init__(self, url: str, bulk_id: str) -> None:
        self.url, self.bulk_id = url, bulk_id

    def __repr__(self) -> str:
        return f"Bulk({self.bulk_id!r})"

    async def progress(self) -> BulkProgress:
        """How far it has come.

        Raises:
            UsageError: There is none of that name.
            BoardUnavailable: The server does not answer.
        """
        async with Board(self.url, self.bulk_id) as board:
            return adding.progress_of(await board.standing())

    async def report(self) -> BulkReport:
        """One report over all shards, as they are now; it adds up at any time.  Raises as `progress` does."""
        async with Board(self.url, self.bulk_id) as board:
            return adding.add_up(await board.standing())

    async def cancel(self) -> None:
        """Have all workers, wherever they are, end what they do, report it, and leave.  Raises as `progress` does."""
        async with Board(self.url, self.bulk_id) as board:
            await board.cancel()

    async def resume(self) -> int:
        """Free the shards that have ended with something left, for workers that are started after this; how many.

        Nothing that is resident is loaded again.  After a worker, or whoever began it all, has died there is no need
        for this: its shards are taken over by themselves.  Raises as `progress` does.
        """
        async with Board(self.url, self.bulk_id) as board:
            again = adding.unfinished((await board.standing()).results)
            await board.resume(again)
            return len(again)

    async def wait(self, timeout_seconds: float | None = None) -> BulkProgress:
        """How far it has come once no worker has anything to do, or after `timeout_seconds`.  Raises as `progress`."""
        give_up_at = float("inf") if timeout_seconds is None else time.monotonic() + timeout_seconds
        async with Board(self.url, self.bulk_id) as board:
            while True:
                progress = adding.progress_of(await board.standing())
                if progress.is_over or time.monotonic() > give_up_at:
                    return progress
                await asyncio.sleep(LOOK_SECONDS)


async def start_bulk(
    plan: WarmupPlan,
    target: str,
    url: str,
    *,
    bulk_id: str | None = None,
    shards: int | None = None,
    rates: Mapping[str, float] | None = None,
    bandwidths_mb: Mapping[str, float] | None = None,
    lease_seconds: float = LEASE_SECONDS,
) -> Bulk:
    """Put `plan` up in shards; nothing is loaded before there are workers.

    Args:
        plan: What to load.  What it holds out is held out.
        target: What the workers warm, as `module:attribute`, where they can import it.
        url: Of the Redis or Valkey server that the board is on: it, the name and the code are all that a worker needs.
        bulk_id: What to call it; by default drawn at random.
        shards: Into how many parts to cut it; by default of up to 50,000 items and 64 MiB.
        rates: By cache or origin, the loads per second of all workers together.
        bandwidths_mb: By cache or origin, the MiB per second of all workers together, by the sizes that are expected.
        lease_seconds: After so long without a word, a worker counts as dead, and its shard is another's.

    Raises:
        InvalidSetting: An argument can't be used, or the client library is missing.
        UsageError: There is a bulk warm-up of that name.
        BoardUnavailable: The server does not answer, or refuses.
    """
    count = shard_count(len(plan), plan.size_bytes) if shards is None else shards
    if not 1 <= count <= MOST_SHARDS:
        raise InvalidSetting(f"a plan can be cut into 1 to {MOST_SHARDS} shards, not {count}")
    if not 0.5 <= lease_seconds <= 3600:
        raise InvalidSetting(f"lease_seconds is {lease_seconds!r}; it has to be from 0.5 to 3600")
    parts = list(split_plan(plan, count))
    bulk = Bulk(url, bulk_id or f"{random.getrandbits(48):012x}")
    async with Board(url, bulk.bulk_id) as board:
        items = tuple(len(part) for part in parts)
        head = Head(
            target=target,
            items=items,
            size_bytes=plan.size_bytes,
            lease_seconds=lease_seconds,
            rates=dict(rates or {}),
            begun_at=await board.now(),
            bandwidths_mb=dict(bandwidths_mb or {}),
        )
        await board.begin(head, parts)
    return bulk
