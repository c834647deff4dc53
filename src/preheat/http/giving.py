"""The route over which peers get values."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from preheat._peering import Asked, Busy, OtherVersion, UnknownValues
from preheat._peering.wire import MEDIA_TYPE
from preheat.http.answers import Refused
from preheat.http.bodies import read_body
from preheat.http.desk import Desk


async def give(desk: Desk, request: Request) -> Response:
    """What the caches hold of what is asked for."""
    asked = await read_body(request, Asked)
    peering = desk.service.peering
    if peering is None:
        raise Refused(404, "this replica gives no values; it would if it had peers: set CACHE_WARMUP_PEERS")
    try:
        raw = await asyncio.to_thread(peering.giver.answer, asked)
    except UnknownValues as why:
        raise Refused(404, str(why)) from None
    except OtherVersion as why:
        raise Refused(409, str(why)) from None
    except Busy as why:
        raise Refused(503, str(why), {"retry-after": "1"}) from None
    return Response(raw, media_type=MEDIA_TYPE)
