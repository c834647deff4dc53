"""A pool in a file: contributions one after another, each with its head, by name of replica.

A file is read as a stream, and merged with others by copying bodies: whatever there is of it, no more than one
contribution stands in memory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from preheat._history.forgetting import Forgotten, without_items
from preheat._pool.contributions import MOST_REPLICAS, Contribution, Head, newest, not_after
from preheat._pool.encoding import (
    HEAD_BYTES,
    decode_contribution,
    decode_head,
    demand_intact,
    encode_contribution,
    encode_head,
    name_bytes,
)
from preheat._pool.folding import Folded, fold
from preheat._whole_file import write_whole
from preheat.errors import StoreCorrupt, StoreError

MAGIC = b"preheat-pool/1\n"

Body = Callable[[], bytes]
"""Reads the body of a contribution when it is needed."""


class Told(NamedTuple):
    """A contribution that has not been read yet."""

    head: Head
    body: Body

    def contribution(self) -> Contribution:
        """The contribution.

        Raises:
            StoreCorrupt: It is damaged.
            OSError: It can't be read.
        """
        return decode_contribution(self.head, self.body())


def told(contribution: Contribution) -> Told:
    """`contribution`, as if it stood in a file."""
    head, body = encode_contribution(contribution)
    return Told(head, lambda: body)


def read_pool(path: str) -> list[Told]:
    """What stands in the file at `path`; bodies are read when they are asked for.

    Raises:
        StoreCorrupt: It is no pool, or was cut.
        OSError: It can't be read.
    """
    with _opened(path) as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise StoreCorrupt(f"{path} is no file of pooled histories")
        size_bytes = os.fstat(file.fileno()).st_size
        return list(_entries(path, file, size_bytes))


def _entries(path: str, file: BinaryIO, size_bytes: int) -> Iterator[Told]:
    for _ in range(MOST_REPLICAS + 1):
        packed = file.read(HEAD_BYTES)
        if not packed:
            return
        head = decode_head(packed, file.read(name_bytes(packed)))
        start = file.tell()
        if start + head.size_bytes > size_bytes:
            raise StoreCorrupt(f"{path} was cut")
        file.seek(head.size_bytes, os.SEEK_CUR)
        yield Told(head, _body_at(path, start, head.size_bytes))
    raise StoreCorrupt(f"{path} has more than {MOST_REPLICAS} replicas")


def _body_at(path: str, start: int, size_bytes: int) -> Body:
    def read() -> bytes:
        with _opened(path) as file:
            file.seek(start)
            return file.read(size_bytes)

    return read


def _opened(path: str) -> BinaryIO:
    """The file at `path`, which has to be a regular one: reading from a pipe might never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StoreCorrupt(f"{path} is no regular file")
    return open(descriptor, "rb")


def join_told(pools: Iterable[Iterable[Told]]) -> list[Told]:
    """The newest of each replica in any of `pools`, by name."""
    bodies = {each.head: each.body for pool in pools for each in pool}
    return [Told(head, bodies[head]) for head in newest(bodies)]


def write_pool(path: str, pool: Sequence[Told]) -> list[StoreCorrupt]:
    """Write `pool` to `path`, for its owner only: whole, or not at all; what is damaged is left out, and returned.

    Raises:
        OSError: It can't be written, or what is to be written can't be read; what was at `path` is still there.
    """
    damaged: list[StoreCorrupt] = []
    write_whole(path, _lines(pool, damaged), mode=0o600)
    return damaged


def _lines(pool: Sequence[Told], damaged: list[StoreCorrupt]) -> Iterator[bytes]:
    yield MAGIC
    for head, body in pool:
        read = body()
        try:
            demand_intact(head, read)
        except StoreCorrupt as error:
            damaged.append(error)
            continue
        yield encode_head(head)
        yield read


def fold_pool(pool: Iterable[Told], now: float, *, max_items: int, besides: str = "") -> Folded | None:
    """The traffic of all replicas in `pool` but the one named `besides`; None of none.  What is damaged is left out.

    Raises:
        StoreError: The histories don't fit each other.
        OSError: A file can't be read.
    """

    def parts() -> Iterator[Folded]:
        for each in pool:
            if each.head.replica != besides:
                try:
                    contribution = each.contribution()
                except StoreCorrupt:
                    continue
                yield Folded(not_after(contribution.history, now), contribution.missed)

    try:
        return fold(parts(), max_items=max_items)
    except ValueError as error:
        raise StoreError(f"the histories of the replicas can't be added up: {error}") from None


def forget_told(pool: Iterable[Told], gone: Forgotten) -> tuple[list[Told], int]:
    """`pool` without the items that are `gone`, and in how many contributions there were any.

    What is damaged is left out: what it may still say of them can't be known.
    """
    kept, changed = [], 0
    for each in pool:
        try:
            contribution = each.contribution()
        except StoreCorrupt:
            changed += 1
            continue
        history, keys = without_items(contribution.history, gone)
        kept.append(told(contribution._replace(history=history)) if keys else each)
        changed += bool(keys)
    return kept, changed
