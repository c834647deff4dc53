"""Server-sent events: what goes on, as it goes on.

Each client is told at most so often, and so many clients at a time; who does not keep up is told what is newest, for
nothing is queued.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from preheat._summary import live_summary
from preheat.http.answers import Refused
from preheat.http.desk import Desk

MOST_STREAMS = 16
INTERVAL_SECONDS = 0.25
IDLE_SECONDS = 1.0
"""How often those are told who would hear nothing new."""


async def events(desk: Desk, request: Request) -> Response:
    """The run and the memory, as they change."""
    if desk.streams >= MOST_STREAMS:
        raise Refused(503, f"{MOST_STREAMS} are listening already", {"retry-after": "10"})
    return StreamingResponse(_told(desk), media_type="text/event-stream")


async def _told(desk: Desk) -> AsyncIterator[bytes]:
    desk.streams += 1
    try:
        yield b"retry: 2000\n\n"
        before, told_at = False, -IDLE_SECONDS
        while not desk.is_closing:
            now, is_active = time.monotonic(), desk.service.standing.is_active
            if is_active or before or now - told_at >= IDLE_SECONDS:
                told_at, before = now, is_active
                yield _event("live", live(desk))
            await asyncio.sleep(INTERVAL_SECONDS)
    finally:
        desk.streams -= 1


def live(desk: Desk) -> dict[str, Any]:
    """What goes on just now."""
    service = desk.service
    return live_summary(time.time(), service.standing.is_active, service.progress, *service.read_memory())


def _event(name: str, tree: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(tree))
