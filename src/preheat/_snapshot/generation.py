"""One snapshot file, opened to read: mapped, and verified block by block as it is needed.

Verifying when first touched costs 256 KiB at the speed of memory, once; verifying all at the start would read the whole
file from the disk before the first request.  Thread-safe: two threads may verify the same block, with the same result.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preheat._snapshot.instant import Instant, at_least
from preheat._snapshot.layout import (
    SMALLEST_BYTES,
    Header,
    IndexPart,
    Row,
    Tables,
    checksum,
    unpack_header,
    unpack_index_part,
    unpack_tables,
)
from preheat._snapshot.refusal import (
    DAMAGED,
    FROM_THE_FUTURE,
    OTHER_APPLICATION,
    OTHER_CACHE,
    OTHER_CODEC,
    TOO_LARGE,
    TOO_OLD,
    Refused,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_FILE_BYTES = 2**40
_UNKNOWN, _WHOLE, _BROKEN = 0, 1, 2


class Expected(NamedTuple):
    """Whose values are wanted."""

    cache: str
    codec: str
    codec_version: str
    application_version: str


class Generation:
    """The file behind `descriptor`, which is closed; the mapping lives as long as this or a view of it does.

    Raises:
        Refused: The file can't be trusted, or is not the generation `number` of what is `expected` at `now`.
        OSError: It can't be mapped.
    """

    def __init__(
        self, descriptor: int, number: int, expected: Expected, *, now: Instant, max_age_seconds: float
    ) -> None:
        self.number = number
        try:
            self._data = _map(descriptor)
        finally:
            os.close(descriptor)
        self.header, begin = unpack_header(self._data)
        _demand(self.header, number, expected)
        _demand_age(self.created, now, max_age_seconds)
        self._tables: Tables = unpack_tables(self._data, begin)
        self._firsts: list[int] = self._tables.parts["first"].tolist()
        self._starts = self._tables.values["at"].astype(np.uint64).data
        self._sizes = self._tables.values["size"].astype(np.uint64).data
        self._parts: dict[int, IndexPart] = {}
        self._states = bytearray(len(self._tables.values))

    def __len__(self) -> int:
        return self._tables.items

    @property
    def size_bytes(self) -> int:
        """Bytes of the file."""
        return len(self._data)

    @property
    def created(self) -> Instant:
        """When it was written."""
        return Instant(self.header.created_at, self.header.boot, self.header.since_boot)

    def locate(self, key_hash: int, key: bytes) -> tuple[Row, memoryview] | None:
        """The record of `key` and the version in it; None if it is not there.

        Raises:
            Refused: The part of the index where it would be is damaged.
        """
        at = bisect_right(self._firsts, key_hash) - 1
        if at < 0:
            return None
        part = self._parts.get(at) or self._part(at)
        record = part.find(key_hash)
        if record is None or part.text[record.key_at : record.key_at + record.key_size] != key:
            return None
        return record, part.text[record.version_at : record.version_at + record.version_size]

    def value(self, record: Row) -> memoryview:
        """The bytes of the value that `record` is of, where they lie in the file.

        Raises:
            Refused: Its block is damaged, or it is in none.
        """
        if record.block >= len(self._states) or record.at + record.size > self._sizes[record.block]:
            raise Refused(DAMAGED)
        start = self._verified(record.block) + record.at
        return self._data[start : start + record.size]

    def are_broken(self, part: IndexPart) -> NDArray[np.bool_]:
        """Of which items of `part` the block of values has been found damaged, or there is none."""
        states = np.append(np.array(self._states, np.uint8), np.uint8(_BROKEN))
        are_broken: NDArray[np.bool_] = states[np.minimum(part.records["block"], len(self._states))] == _BROKEN
        return are_broken

    def parts(self) -> Iterator[IndexPart]:
        """The whole index, block by block; without what is damaged."""
        for at in range(len(self._firsts)):
            try:
                yield self._part(at)
            except Refused:
                continue

    def verify(self) -> int:
        """Verify every block that was not yet, in the order of the file; how many are damaged."""
        damaged = 0
        for at in range(len(self._states)):
            try:
                self._verified(at)
            except Refused:
                damaged += 1
        return damaged + len(self._firsts) - sum(1 for _ in self.parts())

    def _part(self, at: int) -> IndexPart:
        part = self._parts.get(at)
        if part is None:
            start, size, records, _, expected = self._tables.parts[at].item()
            part = self._parts[at] = unpack_index_part(self._data[start : start + size], records, expected)
        return part

    def _verified(self, at: int) -> int:
        """Where the block of values number `at` begins, once it is known to be whole."""
        if self._states[at] == _UNKNOWN:
            start, size, expected = self._tables.values[at].item()
            is_whole = checksum(self._data[start : start + size]) == expected
            self._states[at] = _WHOLE if is_whole else _BROKEN
        if self._states[at] == _BROKEN:
            raise Refused(DAMAGED)
        return self._starts[at]


def read_header(descriptor: int) -> Header:
    """The header of the file behind `descriptor`, which is closed.

    Raises:
        Refused: It is no snapshot, or damaged.
        OSError: It can't be mapped.
    """
    try:
        return unpack_header(_map(descriptor))[0]
    finally:
        os.close(descriptor)


def _map(descriptor: int) -> memoryview:
    size = os.fstat(descriptor).st_size
    if size < SMALLEST_BYTES:
        raise Refused(DAMAGED)
    if size > MOST_FILE_BYTES:
        raise Refused(TOO_LARGE)
    return memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ))


def _demand(header: Header, number: int, expected: Expected) -> None:
    if header.number != number or not np.isfinite([header.created_at, header.since_boot]).all():
        raise Refused(DAMAGED)
    if header.cache != expected.cache:
        raise Refused(OTHER_CACHE)
    if (header.codec, header.codec_version) != (expected.codec, expected.codec_version):
        raise Refused(OTHER_CODEC)
    if header.application_version != expected.application_version:
        raise Refused(OTHER_APPLICATION)


def _demand_age(created: Instant, now: Instant, max_age_seconds: float) -> None:
    if created.at > now.at:  # the clock was put back, and by how much nobody can be sure
        raise Refused(FROM_THE_FUTURE)
    if created.at + max_age_seconds <= at_least(now, created):
        raise Refused(TOO_OLD)
