"""Connections to memcached servers: waits are bounded, nothing is retried behind our back, no error escapes.

`pymemcache` (the client library) is imported when a connection is made.  What is stored goes out in one piece for many
keys, as lines of the protocol [1], through the method in which the client does so for deletes; it has no public one
for stores.  Each key has its one server, by the client's hasher; a server that is away is replaced by none, for what it
held would be served again when it is back, whatever was deleted elsewhere meanwhile.  Servers have to be 1.6 or newer.

[1] memcached, "protocol.txt", distributed with the server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from itertools import groupby
from typing import Any

from preheat._reach import Door
from preheat._sharing.leases import AT_ONCE, AWAY, REFUSED, TOO_LARGE, Held
from preheat._sharing.steps import Command, Refused, Reply
from preheat.errors import InvalidSetting

MOST_WAIT_SECONDS = 5.0  # of a client's own timeout: so long may a frozen server hold a caller up, once
LONGEST_LIFE_SECONDS = 30 * 86_400  # beyond it a server takes a life for an instant
_ANSWERS = {b"STORED": 1, b"DELETED": 1, b"NOT_STORED": 0, b"EXISTS": 0, b"NOT_FOUND": 0, b"EN": None}


def connect(*servers: str, wait_seconds: float = 0.5, max_connections: int = 8) -> Any:
    """A client of `servers`, `host:port` or `unix:/path` each, which waits no longer than `wait_seconds` for an answer.

    Raises:
        InvalidSetting: An address can't be used, or the client library is missing.
    """
    try:
        from pymemcache.client.base import PooledClient
        from pymemcache.client.hash import HashClient
    except ImportError:
        raise InvalidSetting("memcached needs the client library; pip install 'preheat[memcached]'") from None
    options = {"timeout": wait_seconds, "connect_timeout": wait_seconds, "no_delay": True}
    try:
        if len(servers) == 1:
            return PooledClient(servers[0], max_pool_size=max_connections, **options)
        return HashClient(list(servers), use_pooling=True, max_pool_size=max_connections, **options)
    except ValueError:
        raise InvalidSetting("an address of memcached looks like host:11211 or unix:/path") from None


def demand_usable(client: Any) -> None:
    """Raise unless `client` gives up on a server that does not answer, tells of it, and leaves values as bytes.

    Raises:
        InvalidSetting: It does not.
    """
    clients = list(getattr(client, "clients", {"": client}).values())
    if not clients or not all(_has_lines(each) for each in clients):
        raise InvalidSetting("the client of a cache on memcached has to be a Client, PooledClient or HashClient")
    for each in clients:
        if each.timeout is None or each.timeout > MOST_WAIT_SECONDS:
            waits = "for ever" if each.timeout is None else f"{each.timeout:g} s"
            raise InvalidSetting(
                f"the client waits {waits} for a frozen server; give it a timeout of at most 5 s, "
                "or make it with preheat.adapters.memcached.connect(address)"
            )
        if each.key_prefix:
            raise InvalidSetting("the client puts a prefix before keys; give the cache a namespace instead")
        if getattr(each.serde, "deserialize", None) != getattr(each.serde, "_default_deserialize", ""):
            raise InvalidSetting("the client makes values of what it reads; give the cache encode and decode instead")
    if getattr(client, "ignore_exc", False):
        raise InvalidSetting("the client takes a server that is away for an empty one; make it with ignore_exc=False")


def _has_lines(client: Any) -> bool:
    kind = getattr(client, "client_class", type(client))
    return hasattr(client, "gets_many") and hasattr(kind, "_misc_cmd")


class Lines:
    """Sends commands to the servers of a client, and does not ask one that is away; thread-safe.

    Args:
        client: Of pymemcache, usable as `demand_usable` says.
        door: Makes the door of a server.
    """

    def __init__(self, client: Any, door: Callable[[], Door]) -> None:
        several = getattr(client, "clients", None)
        self._lines = {name: _Line(each, door()) for name, each in (several or {"": client}).items()}
        self._hasher = deepcopy(client.hasher) if several else None  # the client takes servers that fail out of its own
        self._names = frozenset(self._lines)

    def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies, a `Refused` for each that was not carried out."""
        if commands[0][0] == "room":
            return [self._tell_room()]
        replies: list[Reply] = [Refused(AWAY)] * len(commands)
        for line, numbers in self._by_line(commands):
            for n, reply in zip(numbers, line.ask([commands[n] for n in numbers]), strict=True):
                replies[n] = reply
        return replies

    def statistics(self) -> list[dict[str, Any]]:
        """What each server that answers says of itself."""
        told = [line.tell("") for line in self._lines.values()]
        return [each for each in told if each is not None]

    def _by_line(self, commands: Sequence[Command]) -> Iterable[tuple[_Line, Sequence[int]]]:
        if self._hasher is None:
            return [(self._lines[""], range(len(commands)))]
        numbers: dict[str, list[int]] = {}
        for n, command in enumerate(commands):
            name = self._hasher.get_node(command[1])
            if name in self._names:
                numbers.setdefault(name, []).append(n)
        return [(self._lines[name], some) for name, some in numbers.items()]

    def _tell_room(self) -> Reply:
        told = [tuple(line.tell(of) for of in ("", "slabs", "settings")) for line in self._lines.values()]
        return Refused(AWAY) if any(part is None for each in told for part in each) else told


class _Line:
    """To one server."""

    def __init__(self, client: Any, door: Door) -> None:
        self._client, self._door = client, door
        self._changing = threading.Lock()
        # a plain client has one connection, and no two threads may use it at once
        is_pool = hasattr(client, "client_pool")
        self._alone: AbstractContextManager[Any] = nullcontext() if is_pool else threading.Lock()

    def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies of `commands`, in their order."""
        replies: list[Reply] = []
        for is_read, some in groupby(commands, lambda command: command[0] == "gets"):
            part = list(some)
            answers = self._asked(self._read if is_read else self._do, part)
            replies += [Refused(AWAY)] * len(part) if answers is None else answers
        return replies

    def tell(self, of: str) -> dict[str, Any] | None:
        """The server's statistics `of` something; None if it does not answer."""
        told = self._asked(self._client.stats, *([of] if of else []))
        return None if told is None else {name.decode(errors="replace"): value for name, value in told.items()}

    def _asked(self, do: Callable[..., Any], *arguments: Any) -> Any:
        with self._changing:
            if not self._door.lets_in(time.monotonic()):
                return None
        try:
            with self._alone:
                answers = do(*arguments)
        except _errors():
            answers = None
        with self._changing:
            if answers is None:
                self._door.failed(time.monotonic())
            else:
                self._door.answered()
        return answers

    def _read(self, commands: Sequence[Command]) -> list[Reply]:
        places = [command[1] for command in commands]
        if len(places) == 1:
            data, number = self._client.gets(places[0])
            return [None if number is None else Held(data, number)]
        found = self._client.gets_many(places)
        return [Held(*found[place]) if place in found else None for place in places]

    def _do(self, commands: Sequence[Command]) -> list[Reply]:
        """Stores, deletes and looks, all in one piece, and a line for each."""
        from pymemcache.exceptions import MemcacheServerError

        try:
            with self._connection() as client:
                lines = client._misc_cmd([_said(command) for command in commands], b"", False)
        except MemcacheServerError as error:  # it is there; which of many it refused can't be told
            return [Refused(TOO_LARGE if "too large" in str(error) else REFUSED)] * len(commands)
        return [_answer(line) for line in lines]

    def _connection(self) -> AbstractContextManager[Any]:
        pool = getattr(self._client, "client_pool", None)
        return nullcontext(self._client) if pool is None else pool.get_and_release(destroy_on_fail=True)


def _said(command: Command) -> bytes:
    """One command as it goes over the line."""
    name, place = str(command[0]), str(command[1]).encode()
    if name == "delete":
        return b"delete %s\r\n" % place
    if name == "size":
        return b"mg %s s\r\n" % place
    data, seconds, *number = command[2:]
    value = data if isinstance(data, bytes) else str(data).encode()
    tail = b"".join(b" %s" % each for each in number if isinstance(each, bytes))
    return b"%s %s 0 %d %d%s\r\n%s\r\n" % (name.encode(), place, _expiry(int(seconds)), len(value), tail, value)


def _answer(line: bytes) -> Reply:
    """What one line says; that to a size is a number."""
    if line.startswith(b"HD s"):
        return int(line[4:])
    return _ANSWERS.get(line, Refused(REFUSED))


def _expiry(seconds: int) -> int:
    """As the protocol has it: an instant, for what lives longer than a month."""
    return seconds if seconds <= LONGEST_LIFE_SECONDS or seconds == AT_ONCE else int(time.time()) + seconds


def _errors() -> tuple[type[Exception], ...]:
    """What a client raises where a server is away, refuses or answers nonsense."""
    from pymemcache.exceptions import MemcacheError

    return (MemcacheError, OSError, EOFError, RuntimeError, ValueError)
