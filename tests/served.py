"""A service behind its application, driven without a socket; and a real server in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import httpx

from preheat import CacheWarmupService
from preheat.adapters.mapping import MappingCache
from preheat.http import create_app
from preheat.http.serving import listen, server_of

TOKEN = "a token of some length"


def slow_load(key: str) -> str:
    """What takes long enough for a run to be met."""
    import time

    time.sleep(0.02)
    return key * 100


@asynccontextmanager
async def service_of(folder: Any, load: Any = slow_load, **settings: Any) -> AsyncIterator[CacheWarmupService]:
    """A service with a history of two caches, whose values are gone."""
    async with CacheWarmupService(state_dir=str(folder), **settings) as service:
        for name, priority in (("pages", 5), ("search", 9)):
            service.register(MappingCache({}, load, name=name, priority=priority))
            log = service.ledger.log(name)
            for n in range(100):
                log.miss(f"{name} {n % 40}", 1000, 0.01, "", "")
        yield service


@asynccontextmanager
async def client_of(service: CacheWarmupService, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application of `service`."""
    app = create_app(service, **options)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8077") as client:
        yield client
    await app.state.desk.close()


def server(folder: Any, load: Any = slow_load, settings: Any = None, **options: Any) -> Any:
    """A real server of `service_of`, in a thread of its own; gives its port."""
    return serving(partial(service_of, folder, load, **(settings or {})), **options)


@contextlib.contextmanager
def serving(make: Callable[[], AbstractAsyncContextManager[CacheWarmupService]], **options: Any) -> Iterator[int]:
    """A real server of the service that `make` makes, in a thread of its own; gives its port."""
    ready, ended = threading.Event(), threading.Event()
    place = listen("127.0.0.1", 0)
    thread = threading.Thread(target=asyncio.run, args=(_serve(make, options, place, ready, ended),))
    thread.start()
    try:
        assert ready.wait(20)
        yield place.getsockname()[1]
    finally:
        ended.set()
        thread.join(20)
        place.close()
    assert not thread.is_alive()


async def _serve(make: Any, options: Any, place: socket.socket, ready: Any, ended: Any) -> None:
    async with make() as service:
        made = server_of(create_app(service, **options))
        made.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]  # not in a thread
        serving = asyncio.create_task(made.serve(sockets=[place]))
        while not made.started:
            await asyncio.sleep(0.01)
        ready.set()
        while not ended.is_set():
            await asyncio.sleep(0.02)
        made.handle_exit(2, None)
        await serving
