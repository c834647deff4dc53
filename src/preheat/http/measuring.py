"""`/metrics`, for Prometheus."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from preheat.errors import UsageError
from preheat.http.answers import Refused
from preheat.http.desk import Desk


async def metrics(desk: Desk, request: Request) -> Response:
    """All metrics, as text."""
    try:
        from preheat.metrics import expose

        text, media_type = await asyncio.to_thread(expose, desk.service, request.headers.get("accept", ""))
    except UsageError as error:
        raise Refused(501, str(error)) from None
    return Response(text, media_type=media_type)
