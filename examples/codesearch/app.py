"""The service over HTTP: `uvicorn codesearch.app:app`.  The listener opens first; the warm-up runs behind it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any

import psutil
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from codesearch.loads import watch_loads
from codesearch.service import FULL_TEXT_HITS, CodeSearch, NotFound
from codesearch.settings import Settings
from preheat import CacheWarmupService, get_cache_warmup_service
from preheat.abc import WarmableCache

MOST_RESULTS = FULL_TEXT_HITS
logger = logging.getLogger("codesearch")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open the service, warm it in the background, and keep what was learnt when it ends."""
    settings = Settings.from_environment(os.environ)
    search = await asyncio.to_thread(CodeSearch, settings)
    service = await get_cache_warmup_service()
    for cache in search.caches:
        service.register(cache)
    app.state.search, app.state.service, app.state.ready = search, service, not settings.warmup
    warming = asyncio.create_task(warm_up(app)) if settings.warmup else None
    try:
        yield
    finally:
        if warming is not None and not warming.done():
            await service.cancel_warmup()
            with suppress(asyncio.CancelledError):
                await warming
        await service.close()


async def warm_up(app: Starlette) -> None:
    """Fill the caches; whatever comes of it, the service is ready afterwards."""
    service: CacheWarmupService = app.state.service
    try:
        plan = await service.create_warmup_plan()
        await service.execute_warmup_plan(plan)
    except Exception:
        logger.exception("The warm-up failed; the caches will fill by themselves.")
    finally:
        app.state.ready = True


def caches() -> tuple[WarmableCache, ...]:
    """What the command line plans for: `preheat plan codesearch.app:caches --explain`."""
    return CodeSearch(Settings.from_environment(os.environ)).caches


# ------------------------------------------------------------------------------------------------------------- routes


def answer(request: Request, ask: Callable[[CodeSearch], Any]) -> Response:
    """What `ask` returns as JSON, with the number of loads it took in a header."""
    try:
        with watch_loads() as loads:
            value = ask(request.app.state.search)
    except NotFound as error:
        return JSONResponse({"error": str(error)}, 404)
    return JSONResponse(value, headers={"x-loads": str(loads.total())})


def search(request: Request) -> Response:
    """GET /search?q=words&project=name&k=10."""
    query, project = request.query_params.get("q", "").strip(), request.query_params.get("project", "")
    k = request.query_params.get("k", "10")
    if not query:
        return JSONResponse({"error": "The parameter q is missing: what should be searched for?"}, 400)
    if not (k.isascii() and k.isdigit() and 1 <= int(k) <= MOST_RESULTS):
        return JSONResponse({"error": f"The parameter k must be from 1 to {MOST_RESULTS}, not {k!r}."}, 400)
    return answer(request, lambda s: {"results": [asdict(hit) for hit in s.search(query, project, int(k))]})


def file(request: Request) -> Response:
    """GET /file?path=folder/file.py."""

    def ask(service: CodeSearch) -> dict[str, Any]:
        parsed = service.file(request.query_params.get("path", ""))
        return {
            "language": parsed.language,
            "lines": parsed.lines,
            "symbols": [asdict(symbol) for symbol in parsed.symbols],
            "source": parsed.source.decode("utf-8", "replace"),
        }

    return answer(request, ask)


def project(request: Request) -> Response:
    """GET /project?name=folder."""
    return answer(request, lambda s: asdict(s.project(request.query_params.get("name", "."))))


async def status(request: Request) -> Response:
    """GET /status: the warm-up, the caches, and the memory of the process."""
    state = request.app.state
    caches = {cache.name: cache.get_warmup_statistics() for cache in state.search.caches}
    return JSONResponse({
        "warmup": await state.service.get_warmup_status(),
        "caches": {name: statistics._asdict() for name, statistics in caches.items()},
        "process_bytes": psutil.Process().memory_info().rss,
    })  # fmt: skip


async def ready(request: Request) -> Response:
    """GET /ready: 503 until the warm-up is over."""
    is_ready = request.app.state.ready
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)


app = Starlette(
    routes=[Route(f"/{route.__name__}", route) for route in (search, file, project, status, ready)],
    lifespan=lifespan,
)
