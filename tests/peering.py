"""Replicas that give values to one another: a warm one behind a real server, and a cold one that warms up."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from preheat import CacheWarmupService, WarmupReport
from preheat.adapters.mapping import MappingCache
from preheat.codecs import TextCodec
from served import serving

KEYS = [f"page {n}" for n in range(60)]
NOBODY = ("http://127.0.0.1:9",)
GIVING = {"peers": NOBODY, "application_version": "1", "holdout_ratio": 0.0, "seed": 1}


class Pages(MappingCache[str]):
    """A cache of texts that counts what it loads."""

    def __init__(self, made_by: str = "origin", **options: Any) -> None:
        self.loads: Counter[str] = Counter()
        self.made_by = made_by
        super().__init__({}, self.load, **{"name": "pages", "codec": TextCodec(), **options})

    def load(self, key: str) -> str:
        self.loads[key] += 1
        return f"{key} by the {self.made_by}"


@asynccontextmanager
async def warm_service(folder: Any, cache: Any, keys: Any = KEYS, **settings: Any) -> AsyncIterator[CacheWarmupService]:
    """A service whose cache has been asked for `keys`."""
    async with CacheWarmupService(state_dir=str(folder), **{**GIVING, **settings}) as service:
        service.register(cache)
        for key in keys:
            cache.get(key)
        yield service


def giving(folder: Any, cache: Any, keys: Any = KEYS, settings: Any = None, **options: Any) -> Any:
    """A real server of a warm replica; gives its port."""
    return serving(partial(warm_service, folder, cache, keys, **(settings or {})), **options)


async def warm_up(
    folder: Any, cache: Any, *urls: str, keys: Any = KEYS, recipes: Any = None, meanwhile: Any = None, **settings: Any
) -> WarmupReport:
    """The report of a cold replica, whose history knows `keys`, with recipes or none, and which asks at `urls`."""
    options = {**GIVING, "peers": urls, **settings}
    async with CacheWarmupService(state_dir=str(folder), **options) as service:
        service.register(cache)
        log = service.ledger.log(cache.name)
        for key in keys:
            log.miss(key, 100, 0.01, "", (recipes or {}).get(key, ""))
        plan = await service.create_warmup_plan("aggressive")
        return await service.execute_warmup_plan(plan, meanwhile)


@contextlib.contextmanager
def answering(
    answer: Callable[[http.server.BaseHTTPRequestHandler, bytes], None], certificate: Any = None
) -> Iterator[str]:
    """A server that answers each question as `answer` does, under https with a `certificate`; gives its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with contextlib.suppress(OSError):
                answer(self, self.rfile.read(int(self.headers["content-length"])))

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http{'s' if certificate is not None else ''}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
