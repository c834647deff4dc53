"""The application: routes from the table of operations, behind the shield."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from preheat._readiness import Gate
from preheat._service import CacheWarmupService
from preheat.errors import (
    DependencyCycle,
    InvalidSetting,
    PreheatError,
    StoreError,
    UsageError,
    WarmupInProgress,
    nearest,
)
from preheat.http import running
from preheat.http.answers import Refused, json_answer
from preheat.http.bodies import NoQuery, SignIn, read_form, read_query
from preheat.http.desk import Desk
from preheat.http.guarding import LOOPBACK, SIGN_IN_PATH, Guard
from preheat.http.openapi import openapi_document
from preheat.http.operations import HTML, OPERATIONS, Operation
from preheat.http.shielding import Shield

Handler = Callable[[Request], Awaitable[Response]]


def create_app(
    service: CacheWarmupService,
    *,
    token: str | None = None,
    allowed_hosts: Collection[str] = LOOPBACK,
    root_path: str = "",
    gate: Gate | str = Gate.CRITICAL,
    ready_deadline_seconds: float | None = 300.0,
    show_keys: bool = False,
) -> Starlette:
    """An ASGI application that shows and steers the warm-ups of `service`; it does not close it.

    Args:
        service: Whose caches are warmed.
        token: What clients have to show, as `Authorization: Bearer ...` or on the page; None to ask for none, where
            only this machine can reach it, or something else keeps others out.
        allowed_hosts: Names and addresses, without ports, under which it is asked; with a token `"*"` for any.
        root_path: Where a proxy has it, if not at `/`; one that mounts it need not say.
        gate: What has to have ended before `/ready` says yes.
        ready_deadline_seconds: Seconds from now after which it says yes all the same; None if never.
        show_keys: Whether items are named.  Keys may hold what is nobody else's business.

    Raises:
        InvalidSetting: The token can be guessed, any host would be let in without one, or there is no such gate.
    """
    desk = Desk(service, gate=parse_gate(gate), ready_deadline_seconds=ready_deadline_seconds, shows_keys=show_keys)
    session = secrets.token_urlsafe(32)
    guard = Guard(allowed_hosts, token, session)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await desk.close()

    app = Starlette(
        routes=_routes(desk, _operations(guard, session, service, has_token=token is not None)),
        middleware=[Middleware(_RootPath, root_path=root_path), Middleware(Shield, guard=guard)],
        exception_handlers={HTTPException: _http_fault, PreheatError: _fault, Refused: _refusal},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.desk = desk
    return app


def parse_gate(gate: Gate | str) -> Gate:
    """The gate of that name.

    Raises:
        InvalidSetting: There is none.
    """
    if gate not in set(Gate):
        raise InvalidSetting(f"{gate!r} is no gate; {nearest(str(gate), Gate)}there are: {', '.join(Gate)}")
    return Gate(gate)


class _RootPath:
    """Says where a proxy has us, to what is inside."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app, self._root_path = app, root_path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._root_path and scope["type"] == "http" and not scope.get("root_path"):
            path = scope["path"]
            path = path if path.startswith(f"{self._root_path}/") else self._root_path + path
            scope = {**scope, "root_path": self._root_path, "path": path}
        await self._app(scope, receive, send)


def _operations(guard: Guard, session: str, service: CacheWarmupService, *, has_token: bool) -> tuple[Operation, ...]:
    """All operations: those of the table, and those that know of the others."""

    async def document(desk: Desk, request: Request) -> Response:
        return json_answer(openapi_document(operations, service.strategies, has_token=has_token))

    async def sign_in(desk: Desk, request: Request) -> Response:
        return running.begins_session(guard, session, request, await read_form(request, SignIn))

    operations = (
        *OPERATIONS,
        Operation("GET", "/openapi.json", "openapi", "This document.", document, answers={200: dict}),
        Operation("POST", SIGN_IN_PATH, "sign-in", "Show the token once, and get a cookie for the page.", sign_in,
                  body=SignIn, answers={303: None, 401: HTML}, is_open=True),
    )  # fmt: skip
    return operations


def _routes(desk: Desk, operations: tuple[Operation, ...]) -> list[Route]:
    by_path: dict[str, dict[str, Handler]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = partial(_act, operation, desk)
    return [Route(path, _Methods(handlers)) for path, handlers in by_path.items()]


async def _act(operation: Operation, desk: Desk, request: Request) -> Response:
    if operation.query is NoQuery:
        read_query(request, NoQuery)
    return await operation.act(desk, request)


class _Methods:
    """What is at one path, by method."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        heads = {"HEAD": handlers["GET"]} if "GET" in handlers else {}
        self._handlers = {**handlers, **heads}
        self._allow = {"allow": ", ".join(sorted({*self._handlers, "OPTIONS"}))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; to `HEAD`, the server sends the head alone."""
        request = Request(scope, receive, send)
        handler = self._handlers.get(request.method)
        if handler is not None:
            answer = await handler(request)
            if request.method == "HEAD" and isinstance(answer, StreamingResponse):  # which would never end
                answer = Response(status_code=answer.status_code, headers=answer.headers)
        elif request.method == "OPTIONS":
            answer = Response(status_code=204, headers=self._allow)
        else:
            raise Refused(405, f"{scope['path']} takes {self._allow['allow']}", self._allow)
        await answer(scope, receive, send)


async def _http_fault(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return json_answer({"error": "there is nothing here; GET /openapi.json says what there is"}, status)


async def _refusal(request: Request, error: Exception) -> Response:
    return error.answer() if isinstance(error, Refused) else json_answer({"error": "refused"}, 400)


async def _fault(request: Request, error: Exception) -> Response:
    """A fault that preheat names itself; what it says of keys stays here."""
    if isinstance(error, DependencyCycle):
        return json_answer({"error": "some candidates need each other, so none of them can be loaded first"}, 409)
    status = 409 if isinstance(error, WarmupInProgress) else 400 if isinstance(error, UsageError) else 503
    sentence = "the state folder can't be used; /status says why" if isinstance(error, StoreError) else str(error)
    return json_answer({"error": sentence}, status)
