"""The steps that a shared cache's operations are made of, and their answers."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeVar

V = TypeVar("V")

Command = tuple[str | bytes | int, ...]
Reply = Any


class Ask(NamedTuple):
    """Send these commands at once; answered by their replies, a `Refused` among them, or None if nobody answers."""

    commands: Sequence[Command]


class Make(NamedTuple):
    """Load these keys; answered by a value or an exception for each."""

    keys: Sequence[str]
    is_warm_up: bool


class Wait(NamedTuple):
    """Let time pass."""

    seconds: float


class Refused(NamedTuple):
    """A server's answer to a command that it did not carry out: the first word of its message, such as OOM."""

    code: str


Steps = Generator[Ask | Make | Wait, Any, V]


def answer(command: Command) -> Steps[Reply]:
    """The reply of one command; `NOBODY` if there is none."""
    replies = yield Ask([command])
    return NOBODY if replies is None else replies[0]


class _Nobody:
    """The answer that did not come."""


NOBODY = _Nobody()
