"""One request to one peer, over HTTP; whatever happens to it, it is over in bounded time and bounded bytes.

It goes to an address and not to a name, since a name may stand for all replicas of a service; the name is what the peer
is told it was asked under, and what its certificate has to have.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from preheat._peering.wire import MEDIA_TYPE, MOST_RAW_BYTES, OTHER_VERSION

MOST_PEERS = 64
WAIT_SECONDS = 1.0
"""How long a peer may be silent."""

NO_ANSWER, REFUSED, TOO_LARGE, BUSY, UNKNOWN = "no answer", "refused", "too large", "busy", "no such values"
PATH = "/peers/values"

_BY_STATUS = {503: BUSY, 404: UNKNOWN, 409: OTHER_VERSION}
_CHUNK_BYTES = 2**16


class Unanswered(Exception):
    """A peer has given nothing; the message is the reason, one of those above."""


class Address(NamedTuple):
    """Where a peer is: the URL that it is asked under, in parts, and the address that this stands for."""

    is_encrypted: bool
    name: str
    port: int
    root_path: str
    at: str


def resolve(urls: Iterable[str]) -> list[Address]:
    """The addresses that `urls` stand for, each once; asks the resolver, and leaves out what that doesn't know."""
    found = dict.fromkeys(address for url in urls for address in _addresses(url))
    return list(found)[:MOST_PEERS]


def _addresses(url: str) -> Iterator[Address]:
    parts = urlsplit(url)
    is_encrypted, name = parts.scheme == "https", parts.hostname or ""
    port = parts.port or (443 if is_encrypted else 80)
    with suppress(OSError, UnicodeError):
        for *_, place in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM):
            yield Address(is_encrypted, name, port, parts.path.rstrip("/"), str(place[0]))


class Ask:
    """One request, which can be given up from another thread.

    Args:
        address: Of whom.
        token: What to show; None for nothing.
    """

    def __init__(self, address: Address, token: str | None) -> None:
        self._address, self._token = address, token
        self._socket: socket.socket | None = None
        self._is_given_up = False

    def __call__(self, body: bytes) -> bytes:
        """What the peer answers.

        Raises:
            Unanswered: It gives nothing.
        """
        try:
            with closing(self._connect()) as connection:
                connection.request("POST", self._address.root_path + PATH, body, self._headers())
                with closing(connection.getresponse()) as response:
                    return _read(response)
        except (OSError, http.client.HTTPException, ValueError):
            raise Unanswered(NO_ANSWER) from None

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._is_given_up = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> http.client.HTTPConnection:
        address = self._address
        connection = http.client.HTTPConnection(address.name, address.port, timeout=WAIT_SECONDS)
        self._socket = socket.create_connection((address.at, address.port), WAIT_SECONDS)
        if address.is_encrypted:
            import ssl  # only where peers are asked under https

            self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=address.name)
        connection.sock = self._socket
        if self._is_given_up:  # before there was anything to shut
            connection.close()
            raise Unanswered(NO_ANSWER)
        return connection

    def _headers(self) -> dict[str, str]:
        shown = {"authorization": f"Bearer {self._token}"} if self._token is not None else {}
        return {"content-type": "application/json", "accept": MEDIA_TYPE} | shown


def _read(response: http.client.HTTPResponse) -> bytes:
    if response.status != 200 or response.headers.get_content_type() != MEDIA_TYPE:
        raise Unanswered(_BY_STATUS.get(response.status, REFUSED))
    raw = bytearray()
    while part := response.read1(_CHUNK_BYTES):
        raw += part
        if len(raw) > MOST_RAW_BYTES:
            raise Unanswered(TOO_LARGE)
    return bytes(raw)
