"""Connections to a Redis or Valkey server: waits are bounded, nothing is retried behind our back, no error escapes.

`redis` (the client library, or `valkey`, its fork) is imported when a connection is made.  For clusters there is
`preheat._cluster`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from hashlib import sha1
from importlib import import_module
from typing import Any, TypeVar
from urllib.parse import urlsplit

from preheat._reach import Door
from preheat._sharing.steps import Command, Refused, Reply
from preheat.errors import InvalidSetting

T = TypeVar("T")

MOST_WAIT_SECONDS = 5.0  # of a client's own timeout: so long may a frozen server hold a caller up, once
AWAY = frozenset({"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY"})
"""Refusals of a server that is there and will not answer for a while."""


def connect(url: str, *, is_async: bool = False, wait_seconds: float = 0.5) -> Any:
    """A client of the server at `url`, blocking or for asyncio, which waits for no answer longer than `wait_seconds`.

    Raises:
        InvalidSetting: The URL can't be used, or the client library is missing.
    """
    redis = _library()
    retry = redis.asyncio.retry.Retry if is_async else redis.retry.Retry
    client = client_kind(redis.asyncio if is_async else redis)
    try:
        return client.from_url(
            url.replace("valkey", "redis", 1) if url.startswith("valkey") else url,  # which both take
            socket_timeout=wait_seconds,
            socket_connect_timeout=wait_seconds,
            retry=retry(redis.backoff.NoBackoff(), 0),
        )
    except ValueError:
        raise InvalidSetting(
            f"{shown_url(url)} is no address of a server; it looks like redis://host:6379/0 or unix:///path"
        ) from None


def _library() -> Any:
    """`redis`, or `valkey` where only that is installed."""
    for name in ("redis", "valkey"):
        with suppress(ImportError):
            for part in ("asyncio", "backoff", "retry"):
                import_module(f"{name}.{part}")
            return import_module(name)
    raise InvalidSetting("a Redis server needs the client library; pip install 'preheat[redis]' or 'preheat[valkey]'")


def library_of(client: Any) -> Any:
    """The library that `client` is of."""
    roots = [kind.__module__.partition(".")[0] for kind in type(client).__mro__]
    return import_module(next((root for root in roots if root in ("redis", "valkey")), "redis"))


def client_kind(library: Any) -> Any:
    """The class of its clients."""
    return getattr(library, "Redis", None) or library.Valkey


def is_cluster(client: Any) -> bool:
    """Whether `client` is of a cluster."""
    return hasattr(client, "keyslot") and hasattr(client, "get_connection_kwargs")


def shown_url(url: str) -> str:
    """`url` as people may see it: only scheme, host, port and path, for the rest may be secret."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "the URL"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def demand_bounded(client: Any) -> None:
    """Raise unless `client` gives up on a server that does not answer, and leaves replies as bytes.

    Raises:
        InvalidSetting: It does not.
    """
    options = getattr(getattr(client, "connection_pool", None), "connection_kwargs", None)
    if is_cluster(client):
        options = client.get_connection_kwargs()
    if options is None:
        raise InvalidSetting("the client of a shared cache has to be a Redis, a RedisCluster or an asyncio Redis")
    wait_seconds = options.get("socket_timeout")
    if wait_seconds is None or wait_seconds > MOST_WAIT_SECONDS:
        raise InvalidSetting(
            f"the client waits {'for ever' if wait_seconds is None else f'{wait_seconds:g} s'} for a frozen server; "
            "give it a socket_timeout of at most 5 s, or make it with preheat.adapters.redis.connect(url)"
        )
    if options.get("decode_responses"):
        raise InvalidSetting("the client decodes replies into text; make it with decode_responses=False")


class Line:
    """Sends commands over a blocking or an asyncio client, and does not ask a server that is away; thread-safe.

    Both ways share one door, so that after a failure there is one attempt a second, whoever makes it.
    """

    def __init__(self, client: Any, door: Door) -> None:
        self._client, self._door = client, door
        self._lock = threading.Lock()

    def ask(self, commands: Sequence[Command]) -> list[Reply] | None:
        """The replies of `commands`, a `Refused` for each that was not carried out; None if nobody answers."""
        if not self._may_ask():
            return None
        try:
            if len(commands) == 1:  # most reads: a pipeline would take half as long again
                return self._note([self._client.execute_command(*commands[0])])
            return self._note(fill(self._client.pipeline(transaction=False), commands).execute(False))
        except errors() as error:
            return self._note(answer_of(error, commands))

    async def ask_async(self, commands: Sequence[Command]) -> list[Reply] | None:
        """As `ask`, over an asyncio client.  If it is cancelled, the client closes its connection: `redis` from 5.0 on.

        Its predecessors gave it back with the reply unread, which the next command then took for its own.
        """
        if not self._may_ask():
            return None
        try:
            replies = await _unless_cancelled(self._send(commands))
        except errors() as error:
            return self._note(answer_of(error, commands))
        return self._note(replies)

    async def run_async(
        self, script: bytes, places: Sequence[str], *arguments: str | bytes | int
    ) -> list[Reply] | None:
        """As `ask_async` for one `script`, known by its digest and sent whole to a server that doesn't know it yet."""
        rest: Command = (len(places), *places, *arguments)
        digest = sha1(script, usedforsecurity=False).hexdigest()
        replies = await self.ask_async([("EVALSHA", digest, *rest)])
        if replies is not None and isinstance(replies[0], Refused) and replies[0].code == "NOSCRIPT":
            replies = await self.ask_async([("EVAL", script, *rest)])
        return replies

    async def _send(self, commands: Sequence[Command]) -> Sequence[Any]:
        if len(commands) == 1:
            return [await self._client.execute_command(*commands[0])]
        replies: Sequence[Any] = await fill(self._client.pipeline(transaction=False), commands).execute(False)
        return replies

    def _may_ask(self) -> bool:
        with self._lock:
            return self._door.lets_in(time.monotonic())

    def _note(self, replies: Sequence[Any] | None) -> list[Reply] | None:
        answers = None if replies is None else [reply_of(each) for each in replies]
        if answers is not None and any(isinstance(each, Refused) and each.code in AWAY for each in answers):
            answers = None
        with self._lock:
            if answers is None:
                self._door.failed(time.monotonic())
            else:
                self._door.answered()
        return answers


async def _unless_cancelled(work: Awaitable[T]) -> T:
    """What `work` gives; a cancellation passes even where the client has swallowed it, as redis-py may."""
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        return await work
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


def fill(pipeline: Any, commands: Sequence[Command]) -> Any:
    """`pipeline` with `commands` in it."""
    for command in commands:
        pipeline.execute_command(*command)
    return pipeline


def answer_of(error: Exception, commands: Sequence[Command]) -> list[Any] | None:
    """What an exception of a client stands for: an answer to each of `commands`, or None, which is nobody's."""
    is_response = any(kind.__name__ == "ResponseError" for kind in type(error).__mro__)
    return [error] * len(commands) if is_response else None


def errors() -> tuple[type[Exception], ...]:
    """What clients of the libraries in use raise where a server is away or refuses."""
    kinds: list[type[Exception]] = [OSError, EOFError]
    for name, prefix in (("redis", "Redis"), ("valkey", "Valkey")):
        if name in sys.modules:
            exceptions = sys.modules[f"{name}.exceptions"]
            kinds += [getattr(exceptions, f"{prefix}Error"), getattr(exceptions, f"{prefix}ClusterException")]
    return tuple(kinds)


def reply_of(reply: Any) -> Reply:
    """What a client gave, its exceptions as `Refused`."""
    if not isinstance(reply, Exception):
        return reply
    code = getattr(reply, "status_code", None) or _CODES.get(type(reply).__name__)
    return Refused(code or str(reply).partition(" ")[0])


_CODES = {
    "BusyLoadingError": "LOADING",
    "ReadOnlyError": "READONLY",
    "OutOfMemoryError": "OOM",
    "NoPermissionError": "NOPERM",
    "NoScriptError": "NOSCRIPT",
    "MasterDownError": "MASTERDOWN",
    "ConnectionError": "LOADING",
    "TimeoutError": "LOADING",
}
"""Client errors whose text has lost the code that the server's answer began with."""
