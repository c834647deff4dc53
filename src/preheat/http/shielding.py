"""Around the application: refuses what the guard refuses, bounds how long a client may take, sets headers, and sees
that a fault ends in one sentence, without a traceback and without what the application's exception says.
"""

from __future__ import annotations

import asyncio
import logging
import traceback

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from preheat.http.answers import Refused, page_answer
from preheat.http.guarding import Guard, Head
from preheat.http.signing_in import sign_in_page

logger = logging.getLogger("preheat")

SEND_SECONDS = 20.0
"""What a client may take to accept a part of an answer."""

HEADERS = {
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with less, a browser's forms have no Origin
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Shield:
    """The application `app`, behind `guard`."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sending = _Sending(send)
        try:
            await self._serve(scope, receive, sending)
        except TimeoutError:
            if not sending.has_given_up:
                raise

    async def _serve(self, scope: Scope, receive: Receive, send: _Sending) -> None:
        head = head_of(scope)
        refused = self._guard.judge(head)
        if refused is not None:
            await _refusal_of(refused, head)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except Refused as error:
            await _tell(error, scope, receive, send)
        except Exception as error:
            if send.has_given_up:
                return
            logger.error(
                "%s %s failed: %s in %s", head.method, _shown(head.path), type(error).__name__, _place_of(error),
                extra={"event": "http_failed", "method": head.method},
            )  # fmt: skip
            await _tell(Refused(500, "this failed here; the log of the process says where"), scope, receive, send)


class _Sending:
    """Sends, with our headers; gives up on a client that does not accept."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = self.has_given_up = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._send(message)
        except TimeoutError:
            self.has_given_up = True
            raise


async def _tell(error: Refused, scope: Scope, receive: Receive, send: _Sending) -> None:
    if not send.has_begun:
        await error.answer()(scope, receive, send)


def head_of(scope: Scope) -> Head:
    """The head of the request, its path below the place where we are mounted."""
    path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
    return Head(scope["method"], path, Headers(scope=scope).items())


def _refusal_of(refused: Refused, head: Head) -> Response:
    """The page to sign in for a person who comes without a token, the sentence for everybody else."""
    is_person = head.path in {"", "/"} and "text/html" in ",".join(head.all("accept"))
    if refused.status != 401 or not is_person:
        return refused.answer()
    answer = page_answer(sign_in_page(), 401)
    answer.headers.update(refused.headers)
    return answer


def _place_of(error: Exception) -> str:
    """Where it was raised; not what it says, which may be anybody's secret."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"


def _shown(path: str) -> str:
    return path if path.isascii() and path.isprintable() and len(path) <= 60 else "a path"
