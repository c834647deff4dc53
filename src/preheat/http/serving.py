"""`preheat serve`: the application behind uvicorn, which slow clients can't occupy.

A connection that shows no whole head of a request in time is closed, and when there are too many, the one that has
been idle for longest, or else the oldest.  What a client may take to send a body or to accept an answer is bounded by
the application.
"""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FrameType

from starlette.applications import Starlette

from preheat.errors import InvalidSetting, UsageError
from preheat.http.guarding import ANY_HOST, LOOPBACK

try:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ModuleNotFoundError:
    raise UsageError("serving takes starlette and uvicorn: pip install 'preheat[http]'") from None

HEAD_SECONDS = 10.0
"""What a client may take to send the head of a request."""

MOST_CONNECTIONS = 256
MOST_HEAD_BYTES = 2**14
KEEP_ALIVE_SECONDS = 5
END_SECONDS = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 for clients that are quick enough."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come; if there are too many, another goes."""
        super().connection_made(transport)
        self._expect_head()
        if len(self.connections) > MOST_CONNECTIONS:
            others = [c for c in self.connections if isinstance(c, BoundedProtocol) and c is not self]
            min(others, key=lambda c: (not c.is_idle, c.since)).transport.abort()

    def data_received(self, data: bytes) -> None:
        """More of a request has come."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._stop_waiting()
        elif self.is_idle and self._deadline is None:
            self._expect_head()  # of the next request on this connection

    def on_response_complete(self) -> None:
        """The connection waits for another request."""
        super().on_response_complete()
        self.since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered: also where the client does not take what is left of an answer."""
        return self.cycle is None or self.cycle.response_complete or self.transport.is_closing()

    def _expect_head(self) -> None:
        self.since = self.loop.time()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if self.is_idle:
            self.transport.abort()

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def hosts_of(host: str, allowed: Collection[str], token: str | None) -> tuple[str, ...]:
    """The hosts under which a server that listens on `host` is asked.

    Raises:
        InvalidSetting: Others reach it, and there is no token, or nothing says how it is called.
    """
    if is_loopback(host):
        return (*LOOPBACK, *allowed)
    if token is None:
        raise InvalidSetting(
            f"others than this machine reach {host}, so a token is needed: --token-file FILE; "
            "or listen on 127.0.0.1, where none is"
        )
    is_every_address = host in {"0.0.0.0", "::", ""}  # noqa: S104 - compared with, not listened on
    if is_every_address and not allowed:
        raise InvalidSetting(
            f"{host} is every address of this machine, so say by which name it is asked: --allow-host NAME; "
            f"{ANY_HOST} for any"
        )
    return (*LOOPBACK, *allowed) if is_every_address else (*LOOPBACK, _bracketed(host), *allowed)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


class _Server(uvicorn.Server):
    """Ends at a signal without ending the process: the service has to be closed after it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End when the process is asked to."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End, the streams first: they would go on for ever."""
        self.config.app.state.desk.is_closing = True  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any that is free.

    Raises:
        UsageError: It can't.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=MOST_CONNECTIONS)
    except OSError as error:
        raise UsageError(f"port {port} of {host} can't be listened on: {error.strerror or error}") from None


def server_of(app: Starlette) -> uvicorn.Server:
    """A server of `app`, not started; hand it what it is to listen on."""
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=END_SECONDS,
    )
    return _Server(config)
