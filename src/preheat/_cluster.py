"""Connections to a cluster of Redis or Valkey servers: each is asked for its own keys, and one that is away is not.

The client knows which server has which key, and follows them when they move.  Waits are bounded and no error escapes,
as in `preheat._redis`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from preheat._reach import Door
from preheat._redis import AWAY, answer_of, errors, fill, reply_of
from preheat._sharing.steps import Command, Refused, Reply

_OF_SERVERS = frozenset({"INFO", "DBSIZE"})  # of each of them, not of a key
_DOWN = Refused("CLUSTERDOWN")


class ClusterLine:
    """Sends commands to the servers of a cluster, over a blocking client; thread-safe.

    Args:
        client: A `RedisCluster`, or Valkey's.
        door: Makes the door of a server.
    """

    def __init__(self, client: Any, door: Callable[[], Door]) -> None:
        self._client, self._make_door = client, door
        self._doors: dict[str, Door] = {}
        self._changing = threading.Lock()

    def ask(self, commands: Sequence[Command]) -> list[Reply] | None:
        """The replies, a `Refused` for each that was not carried out; None if no server answers."""
        if commands[0][0] in _OF_SERVERS:
            return self._asked("", lambda: [self._ask_all(command) for command in commands], commands)
        replies: list[Reply] = [_DOWN] * len(commands)
        for name, numbers in self._by_server(commands).items():
            some = [commands[n] for n in numbers]
            answers = self._asked(name, lambda some=some: self._send(some), some)  # type: ignore[misc]
            for n, answer in zip(numbers, answers or (), strict=False):
                replies[n] = answer
        return None if all(_is_away(reply) for reply in replies) else replies

    def _by_server(self, commands: Sequence[Command]) -> dict[str, list[int]]:
        numbers: dict[str, list[int]] = {}
        for n, command in enumerate(commands):
            place = command[3] if command[0] in ("EVALSHA", "EVAL") else command[1]
            numbers.setdefault(self._server_of(place), []).append(n)
        return numbers

    def _server_of(self, place: Any) -> str:
        nobody_has_it: tuple[type[Exception], ...] = (*errors(), AttributeError, KeyError, IndexError)
        try:
            return str(self._client.get_node_from_key(place).name)
        except nobody_has_it:
            return ""

    def _send(self, commands: Sequence[Command]) -> Sequence[Any]:
        if len(commands) == 1:
            return [self._client.execute_command(*commands[0])]
        replies: Sequence[Any] = fill(self._client.pipeline(), commands).execute(False)
        return replies

    def _ask_all(self, command: Command) -> list[Any]:
        """What each primary says."""
        told = self._client.execute_command(*command, target_nodes=self._client.PRIMARIES)
        is_by_server = isinstance(told, dict) and all(isinstance(name, str) and ":" in name for name in told)
        return list(told.values()) if is_by_server else [told]

    def _asked(self, name: str, ask: Callable[[], Sequence[Any]], commands: Sequence[Command]) -> list[Reply] | None:
        with self._changing:
            door = self._doors.setdefault(name, self._make_door())
            if not door.lets_in(time.monotonic()):
                return None
        try:
            replies: Sequence[Any] | None = ask()
        except errors() as error:
            replies = answer_of(error, commands)
        answers = None if replies is None else [reply_of(each) for each in replies]
        with self._changing:
            if answers is None or any(_is_away(each) for each in answers):
                door.failed(time.monotonic())
            else:
                door.answered()
        return answers


def _is_away(reply: Reply) -> bool:
    return isinstance(reply, Refused) and reply.code in AWAY
