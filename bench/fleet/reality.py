"""Fleets of real processes with a real origin and real servers, and what the operations of a real server take."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path

from model import BATCH, Costs, Fleet

from preheat import create_warmup_item
from preheat._coordination import Coordination
from preheat.adapters.redis import AsyncRedisCache, connect
from replicas import CountingOrigin, Replicas
from servers import Server, running_server

ROUNDS = 500
UNBOUNDED = 1e6


@dataclass(frozen=True)
class Found:
    """What a real fleet did: until the last replica was through, and fetches per distinct key."""

    seconds: float
    fetches_per_key: float


def warm(fleet: Fleet, coordinator_lost_at: float | None = None) -> Found:
    """What comes of `fleet` in so many processes, whose coordinator is killed after that share of the keys."""
    with ExitStack() as stack:
        cache, together = (stack.enter_context(_server(stack)) for _ in range(2))
        return asyncio.run(_warm(fleet, cache, together, coordinator_lost_at))


async def _warm(fleet: Fleet, cache: Server, together: Server, lost_at: float | None) -> Found:
    origin = CountingOrigin(fleet.latency_seconds)
    port = await origin.start()
    rate = min(fleet.rate, UNBOUNDED)
    replicas = Replicas(fleet.replicas, cache.url, together.url, port, keys=fleet.keys, rate=rate)
    try:
        await replicas.begin()
        while lost_at is not None and len({key for _, key in origin.asked}) < lost_at * fleet.keys:
            await asyncio.sleep(0.02)
        if lost_at is not None:
            together.kill()
        reports = await replicas.reports()
        return Found(max(report["seconds"] for report in reports), origin.per_key())
    finally:
        replicas.stop()
        origin.stop()


def measure_costs() -> Costs:
    """What the operations take of a server of this machine."""
    with ExitStack() as stack:
        return asyncio.run(_measure(stack.enter_context(_server(stack))))


async def _measure(server: Server) -> Costs:
    client, together = connect(server.url, is_async=True), Coordination(server.url, replicas=1, rates={"pages": 1e9})
    keys = [f"page {n}" for n in range(2 * ROUNDS * (BATCH + 1))]
    cache = AsyncRedisCache(client, _value, name="pages")
    batches = [keys[start : start + BATCH] for start in range(0, ROUNDS * BATCH, BATCH)]
    rest = iter(create_warmup_item("pages", key, size_bytes=100) for key in keys[ROUNDS * BATCH :])
    await together.begin()

    async def take(what: Callable[[int], Awaitable[object]]) -> float:
        before = _busy_seconds(server)
        for n in range(ROUNDS):
            await what(n)
        return (_busy_seconds(server) - before) / ROUNDS

    try:
        look_one, look = (
            await take(lambda n: cache.find_resident(keys[n : n + 1])),
            await take(lambda n: cache.find_resident(batches[n])),
        )
        put_one = await take(lambda n: cache.warmup_items([next(rest)]))
        put = await take(lambda n: cache.warmup_items([next(rest) for _ in range(BATCH)]))
        how_full = await take(lambda n: client.pipeline(transaction=False).info("memory").info("stats").execute())
        await cache.warmup_items([create_warmup_item("pages", batch[0], size_bytes=100) for batch in batches])
        mixed = await take(lambda n: cache.find_resident(batches[n]))
        lease = await take(lambda n: together.take("pages", batches[n]))
        book = await take(lambda n: together.wait_for_turn("pages", 1))
    finally:
        await together.end()
        await client.aclose()
    each = (look - look_one) / (BATCH - 1), (put - put_one) / (BATCH - 1)
    return Costs(
        look=look_one - each[0],
        look_key=each[0],
        mixed_key=(mixed - look) / BATCH,
        lease=lease / BATCH,
        book=book,
        put=put_one - each[1] + how_full,  # which is asked every 20 ms, and so for each turn of loads that take as long
        put_key=each[1],
    )


def describe(assumed: Costs, measured: Costs) -> str:
    """Both, a line each, in microseconds of processor time."""
    names = [field.name for field in fields(Costs) if field.name != "round_trip"]
    rows = [(name, getattr(assumed, name) * 1e6, getattr(measured, name) * 1e6) for name in names]
    return "\n".join(f"  {name:10} {one:7.1f} us assumed {other:7.1f} us here" for name, one, other in rows)


async def _value(key: str) -> bytes:
    return b"v" * 100


def _busy_seconds(server: Server) -> float:
    with server.client() as client:
        used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def _server(stack: ExitStack):
    return running_server(Path(stack.enter_context(tempfile.TemporaryDirectory())))
