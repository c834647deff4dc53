"""The board of one bulk warm-up on a Redis or Valkey server, from which workers take shards.

Every answer that matters is awaited: while the server is away, it is asked again about once a second, and after
`PATIENCE_SECONDS` in vain that is an error, for there is no work without it.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from preheat._bulk import steps
from preheat._bulk.adding import ABANDONED, Head, ShardResult, Standing, encode
from preheat._bulk.packing import pack_plan
from preheat._bulk.steps import Claim
from preheat._model import WarmupPlan
from preheat._reach import Door
from preheat._redis import Line, connect, shown_url
from preheat._sharing.steps import Command, Refused, Reply
from preheat.errors import BoardUnavailable, UsageError

PATIENCE_SECONDS = 60.0
WAIT_SECONDS = 2.0  # for one answer: that to a claim may hold megabytes
ASK_AGAIN_SECONDS = 0.2
OF_CLUSTERS = frozenset({"MOVED", "CROSSSLOT", "ASK"})


class Board:
    """What all workers of one bulk warm-up go by; a context that closes its connection.

    Args:
        url: Of the server.
        bulk_id: What the bulk warm-up is called.

    Raises:
        InvalidSetting: One of them can't be used, or the client library is missing.
    """

    def __init__(self, url: str, bulk_id: str) -> None:
        self.bulk_id = steps.demand_id(bulk_id)
        self._url, self._places = url, steps.places(bulk_id)
        self._client = connect(url, is_async=True, wait_seconds=WAIT_SECONDS)
        self._line = Line(self._client, Door(random.Random()))

    async def __aenter__(self) -> Board:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    # ------------------------------------------------------------------------------- whoever begins and watches

    async def begin(self, head: Head, plans: Iterable[WarmupPlan]) -> None:
        """Put it up: first the plans of the shards, and what it is at last, so that no worker sees half of it.

        Raises:
            UsageError: There is one of that name.
        """
        if await self.read() is not None:
            raise UsageError(
                f"there is a bulk warm-up {self.bulk_id} already; go on with it, or call this one otherwise"
            )
        at = dict(zip(steps.PARTS, self._places, strict=True))
        await self._ask([("DEL", *self._places)])
        shard = -1
        for shard, plan in enumerate(plans):
            keep = ("EXPIRE", at["plans"], steps.KEEP_SECONDS)
            await self._ask([("HSET", at["plans"], shard, pack_plan(plan)), keep])
        await self._ask([("ZADD", at["free"], n, n) for n in range(shard + 1)])
        await self._ask([("HSET", at["head"], "head", encode(head), "cancelled", "0")])
        await self._ask([("EXPIRE", place, steps.KEEP_SECONDS) for place in self._places])

    async def now(self) -> float:
        """Unix seconds by the server's clock."""
        (clock,) = await self._ask([("TIME",)])
        return int(clock[0]) + int(clock[1]) / 1e6

    async def read(self) -> Standing | None:
        """What stands on it; None if nothing does."""
        head, _, free, leased, _, attempts, progress, results = self._places
        scored = ("ZRANGE", leased, 0, -1, "WITHSCORES")
        hashes = [("HGETALL", place) for place in (attempts, progress, results)]
        return steps.standing_of(
            await self._ask([("HGETALL", head), ("ZRANGE", free, 0, -1), scored, *hashes, ("TIME",)])
        )

    async def standing(self) -> Standing:
        """What stands on it.

        Raises:
            UsageError: There is no such bulk warm-up.
        """
        found = await self.read()
        if found is None:
            raise self._missing()
        return found

    def _missing(self) -> UsageError:
        return UsageError(
            f"there is no bulk warm-up {self.bulk_id} on {shown_url(self._url)}: it was never begun to the end, is "
            "forgotten after seven days, or the server has lost it; begin it again, which loads only what is absent"
        )

    async def cancel(self) -> None:
        """Have no shard given to anybody any more, and those that are run be ended."""
        await self.standing()
        await self._ask([("HSET", self._places[0], "cancelled", "1")])

    async def resume(self, shards: Sequence[int]) -> None:
        """Nothing is cancelled any more, and `shards`, which have ended, may be run again."""
        await self._call(steps.RESUME, *shards)

    # ----------------------------------------------------------------------------------------------- workers

    async def claim(self, me: str, lease_seconds: float) -> Claim:
        """A shard for the worker `me`, if there is one.

        Raises:
            UsageError: There is no such bulk warm-up, or not any more.
        """
        abandoned = encode(ShardResult({}, stopped=ABANDONED))
        limits = int(lease_seconds * 1e6), steps.MOST_ATTEMPTS
        claim = steps.claim_of(await self._call(steps.CLAIM, me, *limits, abandoned, steps.KEEP_SECONDS))
        if claim.state == "gone":
            raise self._missing()
        return claim

    async def renew(self, shard: int, me: str, lease_seconds: float, done: int, loaded_bytes: int) -> str | None:
        """Tell how far `shard` has come: `yours`, `cancelled` or `lost`; None if nobody answers just now."""
        told = json.dumps([done, loaded_bytes])
        reply = await self._try(steps.RENEW, shard, me, int(lease_seconds * 1e6), told)
        return reply.decode() if isinstance(reply, bytes) else None

    async def finish(self, shard: int, me: str, result: ShardResult) -> bool:
        """Tell how `shard` ended; False if it was somebody else's meanwhile."""
        return bytes(await self._call(steps.FINISH, shard, me, encode(result), steps.KEEP_SECONDS)) == b"yours"

    async def _call(self, script: bytes, *arguments: Any) -> Any:
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while (reply := await self._try(script, *arguments)) is None:
            await self._wait(give_up_at)
        return reply

    async def _try(self, script: bytes, *arguments: Any) -> Any:
        replies = await self._line.run_async(script, self._places, *arguments)
        return None if replies is None else self._accepted(replies)[0]

    async def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        if not commands:
            return ()
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while (replies := await self._line.ask_async(commands)) is None:
            await self._wait(give_up_at)
        return self._accepted(replies)

    async def _wait(self, give_up_at: float) -> None:
        if time.monotonic() > give_up_at:
            raise BoardUnavailable(f"the server at {shown_url(self._url)} has not answered for {PATIENCE_SECONDS:g} s")
        await asyncio.sleep(ASK_AGAIN_SECONDS)

    def _accepted(self, replies: Sequence[Reply]) -> Sequence[Any]:
        for reply in replies:
            if isinstance(reply, Refused):
                why = "it is one of a cluster, where no board can be" if reply.code in OF_CLUSTERS else reply.code
                raise BoardUnavailable(f"the server at {shown_url(self._url)} refuses what a board takes: {why}")
        return replies
