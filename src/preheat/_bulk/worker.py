"""A worker: takes shard after shard from a board and runs it, until none is left or it is cancelled.

What it tells of itself keeps the shard its own.  Who has lost a shard, because it told nothing for too long, drops it;
whoever has taken it over finds resident what was loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

from preheat._bulk.adding import Head, ShardResult, failed_result, result_of_run
from preheat._bulk.board import Board
from preheat._bulk.packing import unpack_plan
from preheat._bulk.steps import Claim
from preheat._bulk.warming import Warming, caches_of
from preheat._model import WarmupProgress
from preheat._record import log_failure
from preheat._run import Run
from preheat.errors import UsageError

LOOK_SECONDS = 1.0  # how soon at the latest a worker that waits for a lease to run out looks again
BEATS_OF_A_LEASE = 5


class WorkerTally(NamedTuple):
    """What one worker did: the shards that it ended, those it lost to others, and the items of the former."""

    shards: int
    lost: int
    items: int


async def work(url: str, bulk_id: str, stop: asyncio.Event | None = None) -> WorkerTally:
    """Be a worker of the bulk warm-up `bulk_id` on the server at `url`, until nothing is left to do.

    Once `stop` is set, the shard that it has is ended as far as it has come.

    Raises:
        UsageError: There is no such bulk warm-up, or its target can't be warmed here.
        BoardUnavailable: The server does not answer, or refuses.
    """
    async with Board(url, bulk_id) as board:
        head = (await board.standing()).head
        caches, settings = await caches_of(head.target)
        warming = Warming(caches, settings, url, head)
        return await _Worker(board, head, warming, stop or asyncio.Event()).work()


def work_until_done(url: str, bulk_id: str) -> WorkerTally:
    """As `work`, for a thread in which no loop runs."""
    return asyncio.run(work(url, bulk_id))


class _Worker:
    def __init__(self, board: Board, head: Head, warming: Warming, stop: asyncio.Event) -> None:
        self._board, self._head, self._warming, self._stop = board, head, warming, stop
        self._me = f"{socket.gethostname()}:{os.getpid()}:{random.getrandbits(32):08x}"
        self._progress: WarmupProgress | None = None
        self._is_lost = False

    async def work(self) -> WorkerTally:
        tally = WorkerTally(0, 0, 0)
        while not self._stop.is_set():
            claim = await self._board.claim(self._me, self._head.lease_seconds)
            if claim.state == "wait":
                await asyncio.sleep(min(LOOK_SECONDS, claim.wait_seconds + 0.01))
            elif claim.state != "shard":
                break
            elif (result := await self._run_shard(claim)) is not None:
                items = tally.items + sum(result.counts.values())
                tally = tally._replace(shards=tally.shards + 1, items=items)
            else:
                tally = tally._replace(lost=tally.lost + 1)
        return tally

    async def _run_shard(self, claim: Claim) -> ShardResult | None:
        """How the shard ended; None if it was lost to another worker."""
        items = self._head.items[claim.shard]
        async with self._keeping(claim.shard) as running:
            try:
                result = await self._warm(claim, items, running)
            except UsageError:
                raise
            except Exception:
                log_failure("shard %d of bulk warm-up %s could not be run", claim.shard, self._board.bulk_id)
                result = failed_result(items)
        is_ours = not self._is_lost and await self._board.finish(claim.shard, self._me, result)
        return result if is_ours else None

    async def _warm(self, claim: Claim, items: int, running: list[Run]) -> ShardResult:
        begun = time.process_time()
        plan = await asyncio.to_thread(unpack_plan, claim.data)
        run = await self._warming.prepare(plan, self._note)
        running.append(run)
        report = await self._warming.perform(run)
        return result_of_run(report, items, time.process_time() - begun)

    def _note(self, progress: WarmupProgress) -> None:
        self._progress = progress

    @contextlib.asynccontextmanager
    async def _keeping(self, shard: int) -> AsyncIterator[list[Run]]:
        """Keep `shard` meanwhile, and end the run that is put in the list once it is cancelled or lost."""
        self._is_lost, self._progress = False, None
        running: list[Run] = []
        heart = asyncio.ensure_future(self._beat(shard, running))
        try:
            yield running
        finally:
            heart.cancel()
            await asyncio.wait([heart])

    async def _beat(self, shard: int, running: list[Run]) -> None:
        lease_seconds = self._head.lease_seconds
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop.wait(), lease_seconds / BEATS_OF_A_LEASE)
            done, size = (self._progress.done, self._progress.loaded_bytes) if self._progress else (0, 0)
            state = await self._board.renew(shard, self._me, lease_seconds, done, size)
            self._is_lost = self._is_lost or state == "lost"
            if state in {"lost", "cancelled"} or self._stop.is_set():
                for run in running:
                    run.cancel(abandon=state == "lost")
            if self._stop.is_set():
                await asyncio.sleep(lease_seconds / BEATS_OF_A_LEASE)
