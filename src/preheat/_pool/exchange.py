"""Contributions handed round over a Redis or Valkey server: each replica puts its own there, and takes the others'.

`preheat:pool` has the version of each replica, `preheat:pool:NAME` its contribution, which is gone a while after the
replica has told its last.  Nothing here waits for long, and a server that is away costs the exchange and nothing else.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from preheat._model import History
from preheat._pool.contributions import MOST_REPLICAS, contribute
from preheat._pool.encoding import HEAD_BYTES, decode_head, encode_contribution, encode_head, name_bytes
from preheat._pool.files import Told
from preheat._reach import Door
from preheat._redis import Line, connect
from preheat._sharing.steps import Refused, Reply
from preheat.errors import StoreCorrupt, StoreError

KEPT_SECONDS = 14 * 86400
"""How long what a replica told last is handed round: two of the longest half-lives."""

TAKE_SECONDS = 10.0
"""What taking the others' contributions may take before the rest of them is left for the next time."""

INDEX = "preheat:pool"


class Clock(NamedTuple):
    """The server's time, and by how much this machine's clock is ahead of it."""

    at: float
    ahead_seconds: float


class Exchange:
    """One replica's end of the exchange.

    Args:
        url: Of the server.
        wait_seconds: After so long without an answer, the server counts as away.

    Raises:
        InvalidSetting: The URL can't be used, or the client library is missing.
    """

    def __init__(self, url: str, *, wait_seconds: float = 1.0) -> None:
        self._line = Line(connect(url, wait_seconds=wait_seconds), Door(random.Random()))

    def put(self, replica: str, history: History) -> None:
        """Hand round what `replica` has recorded.

        Raises:
            StoreError: The server is away, or refuses.
        """
        clock = self._clock()
        contribution = contribute(replica, round(clock.at * 1000), history, ahead_seconds=clock.ahead_seconds)
        head, body = encode_contribution(contribution)
        self._ask(("SET", f"{INDEX}:{replica}", encode_head(head) + body, "PX", KEPT_SECONDS * 1000))
        self._ask(("HSET", INDEX, replica, head.version))

    def take(self, known: Mapping[str, int], besides: str) -> list[Told]:
        """What others than `besides` told, unless `known` has that version or a newer one; what is damaged is left out.

        Raises:
            StoreError: The server is away, or refuses.
        """
        until = time.monotonic() + TAKE_SECONDS
        found = []
        for replica in self._told_since(known, besides):
            if time.monotonic() > until:
                break
            value = self._ask(("GET", f"{INDEX}:{replica}"))
            if value is None:
                self._ask(("HDEL", INDEX, replica))
            elif (told := _read(value, replica)) is not None:
                found.append(told)
        return found

    def _told_since(self, known: Mapping[str, int], besides: str) -> Iterable[str]:
        flat = self._ask(("HGETALL", INDEX)) or []
        pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=False)
        for name, version in list(pairs)[:MOST_REPLICAS]:
            replica = name.decode(errors="replace")
            if replica != besides and version.isdigit() and int(version) > known.get(replica, -1):
                yield replica

    def _clock(self) -> Clock:
        before = time.time()
        seconds, microseconds = self._ask(("TIME",))
        at = int(seconds) + int(microseconds) / 1e6
        return Clock(at, (before + time.time()) / 2 - at)

    def _ask(self, command: tuple[str | bytes | int, ...]) -> Reply:
        replies = self._line.ask([command])
        if replies is None:
            raise StoreError("the server that hands round histories does not answer")
        if isinstance(replies[0], Refused):
            raise StoreError(f"the server that hands round histories refuses: {replies[0].code}")
        return replies[0]


def _read(value: Reply, replica: str) -> Told | None:
    """What stands in `value`, unless that is damaged or somebody else's."""
    if not isinstance(value, bytes):
        return None
    try:
        start = HEAD_BYTES + name_bytes(value[:HEAD_BYTES])
        head = decode_head(value[:HEAD_BYTES], value[HEAD_BYTES:start])
        told = Told(head, lambda: value[start:])
        told.contribution()
    except StoreCorrupt:
        return None
    return told if head.replica == replica else None
