"""The limit that a warm-up gives to the loaders it calls, so that one giant can't kill the process.

A size is known for certain only when a value is there, and then it is too late.  Whoever makes the value often
knows earlier: a file by its status, a download by its header or by counting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from preheat.errors import ItemTooLarge

_CHUNK_BYTES = 1 << 20

Limit = Callable[[], int | None]
"""What the next value may occupy, worked out when somebody asks: few loaders do."""

_limit: ContextVar[Limit | None] = ContextVar("preheat_load_limit", default=None)


class Readable(Protocol):
    """What bytes can be read from, in pieces."""

    def read(self, size: int, /) -> bytes: ...


def load_limit_bytes() -> int | None:
    """What the value being loaded may occupy when it is done, in bytes; None if no warm-up asks for it.

    As much again is allowed for while it is being made.  For loaders: raise `preheat.errors.ItemTooLarge` as soon
    as the value turns out to be larger.  The item then ends as `too_large` and is not tried again.  Traffic is never
    limited.
    """
    limit = _limit.get()
    return limit() if limit is not None else None


@contextmanager
def limited_by(limit: Limit) -> Iterator[None]:
    """While this lasts, loaders called here are told what `limit` says when they ask."""
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def demand_within_limit(size_bytes: int, what: object) -> None:
    """Raise if a value of `size_bytes` is beyond the limit.

    Raises:
        ItemTooLarge: It is; names `what`.
    """
    limit_bytes = load_limit_bytes()
    if limit_bytes is not None and size_bytes > limit_bytes:
        raise ItemTooLarge(f"{what} has {size_bytes} bytes; a load may have {limit_bytes} now")


def read_within_limit(stream: Readable, what: object, expected_bytes: int = 0) -> bytes:
    """All of `stream`; reading stops where the limit is passed.

    Where `expected_bytes` is right, nothing is held twice.

    Raises:
        ItemTooLarge: It holds more than the limit.
    """
    limit_bytes = load_limit_bytes()
    chunks: list[bytes] = []
    size_bytes, next_bytes = 0, expected_bytes + 1 if expected_bytes else _CHUNK_BYTES
    while chunk := stream.read(next_bytes if limit_bytes is None else min(next_bytes, limit_bytes - size_bytes + 1)):
        chunks.append(chunk)
        size_bytes, next_bytes = size_bytes + len(chunk), _CHUNK_BYTES
        demand_within_limit(size_bytes, what)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
