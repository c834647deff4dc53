"""The steps that a shared cache's operations are made of, and their answers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

V = TypeVar("V")

WAIT_SECONDS = 0.1
"""Between two questions to a server that is away."""

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


def side_by_side(*all_steps: Steps[Any]) -> Steps[tuple[Any, ...]]:
    """What `all_steps`, which only ask, end with: what they ask at the same time goes out at once, in their order."""
    results: list[Any] = [None] * len(all_steps)
    answers: dict[int, Any] = dict.fromkeys(range(len(all_steps)))
    while answers:
        asked: dict[int, Sequence[Command]] = {}
        for n, replies in answers.items():
            try:
                asked[n] = all_steps[n].send(replies).commands  # type: ignore[union-attr]
            except StopIteration as end:
                results[n] = end.value
        told = (yield Ask([command for commands in asked.values() for command in commands])) if asked else None
        each = iter(told or ())
        answers = {n: None if told is None else list(islice(each, len(commands))) for n, commands in asked.items()}
    return tuple(results)


def patiently(ask: Callable[[], Steps[V | None]], clock: Callable[[], float], give_up_at: float) -> Steps[V | None]:
    """What `ask` ends with, begun again and again while that is None, until the instant `give_up_at`."""
    while True:
        found = yield from ask()
        if found is not None or clock() >= give_up_at:
            return found
        yield Wait(WAIT_SECONDS)


class _Nobody:
    """The answer that did not come."""


NOBODY = _Nobody()
