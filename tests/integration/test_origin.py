"""A warm-up from a real HTTP server that fails, hangs, asks for rest and cuts connections, over httpx."""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from builders import HeldCache, item, plan_of, reading
from preheat._model import ItemResult, ItemStatus, MemoryPressureLevel, WarmupItem
from preheat._origin import Limits, Origin
from preheat._run import Run

pytestmark = pytest.mark.usefixtures("no_leaked_threads")

Answer = Callable[[int], str]


class Server:
    """Answers each request as `answer(number)` says: ok, error, busy, busy until, hang, cut or drip."""

    def __init__(self, answer: Answer) -> None:
        self._answer, self.requests, self.open, self.most_open = answer, [], 0, 0

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (await reader.readline()).startswith(b"GET"):
                while (await reader.readline()).strip():
                    pass
                self.requests.append(time.monotonic())
                self.open += 1
                self.most_open = max(self.most_open, self.open)
                try:
                    if not await self._respond(self._answer(len(self.requests)), writer):
                        return
                finally:
                    self.open -= 1
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _respond(self, how: str, writer: asyncio.StreamWriter) -> bool:
        if how == "cut":  # RST, not FIN
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return False
        if how == "hang":
            await asyncio.sleep(60)
        await asyncio.sleep(0.002)
        status, headers = {
            "ok": ("200 OK", ""),
            "error": ("500 Internal Server Error", ""),
            "busy": ("503 Service Unavailable", "Retry-After: 1\r\n"),
            "drip": ("200 OK", ""),
        }[how]
        body = b"x" * (60 if how == "drip" else 5)
        writer.write(f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode())
        for byte in body if how == "drip" else ():
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(1.0)
        if how != "drip":
            writer.write(body)
        await writer.drain()
        return True


class Pages(HeldCache):
    """A cache of pages, each an HTTP request away."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        super().__init__("c")
        self._client = client

    async def warmup_item(self, item: WarmupItem) -> ItemResult:
        response = await self._client.get(f"/{item.ref.key}")
        response.raise_for_status()
        self.held[item.ref.key] = len(response.content)
        return ItemResult(ItemStatus.LOADED, len(response.content))


class Calm:
    def read(self) -> Any:
        return MemoryPressureLevel.LOW, reading()

    def subscribe(self, tell: Any, *, interval_seconds: float) -> Callable[[], None]:
        return lambda: None


async def warm(answer: Answer, items: int, **changes: Any):
    """The report of warming `items` pages, the server and the cache."""
    before = asyncio.all_tasks()
    async with Server(answer) as server, httpx.AsyncClient(base_url=server.url, timeout=30.0) as client:
        pages = Pages(client)
        given: dict[str, Any] = {"concurrency_limit": 8, "batch_size": 8} | changes
        run = Run(
            plan_of([item(f"c:{n}", size=10) for n in range(items)]),
            {"c": pages},
            watch=Calm(),
            gates={"c": Origin("c", Limits(8), seed=1)},
            **given,
        )
        report = await run.perform()
        assert all(each.is_idle() or each.is_closed() for each in client._transport._pool.connections)
    await asyncio.sleep(0.05)
    assert {task for task in asyncio.all_tasks() - before if "_serve" not in repr(task)} == set()
    return report, server, pages


def test_a_server_in_good_health_is_asked_once_for_each_page():
    report, server, pages = asyncio.run(warm(lambda n: "ok", 200))
    assert report.count(ItemStatus.LOADED) == 200 == len(pages.held)
    assert len(server.requests) == 200
    (record,) = report.origins
    assert (record.origin, record.requests, record.failures, record.opened) == ("c", 200, 0, 0)
    assert server.most_open <= math.ceil(record.highest_limit)  # one more for that part of the time


def test_errors_and_cut_connections_are_retried_within_the_budget_and_then_put_off():
    report, server, _ = asyncio.run(
        warm(lambda n: ("error" if n % 2 else "cut") if n <= 40 and n % 4 < 2 else "ok", 100)
    )
    assert report.count(ItemStatus.LOADED) == 100
    (record,) = report.origins
    assert record.requests == len(server.requests) == 100 + record.failures
    assert record.failures == 20
    assert record.retries + record.deferred >= 20


def test_a_server_that_asks_for_rest_gets_it():
    report, server, _ = asyncio.run(warm(lambda n: "busy" if n == 20 else "ok", 60))
    assert report.count(ItemStatus.LOADED) == 60
    told_at = server.requests[19]
    assert not [at for at in server.requests if told_at < at < told_at + 0.95]


def test_a_dead_server_is_left_alone_and_the_run_ends_by_itself():
    report, server, _ = asyncio.run(warm(lambda n: "cut", 2_000, deadline_seconds=30.0))
    assert report.count(ItemStatus.LOADED) == 0
    assert report.stopped is None
    assert len(server.requests) <= 100
    assert report.origins[0].opened >= 1


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_server_that_hangs_holds_nobody_up_beyond_the_deadline(how):
    report, server, _ = asyncio.run(warm(lambda n: how, 100, item_timeout_seconds=0.2, deadline_seconds=3.0))
    assert len(server.requests) <= 40
    assert report.count(ItemStatus.LOADED) == 0
    assert report.stopped in {None, "deadline"}
    assert report.count(ItemStatus.FAILED) >= 1
