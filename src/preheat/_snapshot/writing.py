"""Writes one snapshot file, block by block, at no more than a given speed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from preheat._snapshot.layout import (
    BLOCK_BYTES,
    HASH_BYTES,
    INDEX_BLOCK,
    MOST_BLOCKS,
    RECORD,
    RECORDS_PER_BLOCK,
    VALUE_BLOCK,
    Header,
    checksum,
    pack_header,
    pack_index_part,
    pack_tables,
    padding,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pace = Callable[[int], None]
"""Called with the bytes that were just written; takes its time if that is too fast."""


class Written(NamedTuple):
    """An item as it goes into a file."""

    key_hash: int
    key: bytes
    version: bytes
    data: bytes | memoryview
    made_at: float
    expires_at: float
    accounted: int


class GenerationWriter:
    """Writes to `descriptor`, which stays its opener's to make durable and to close.

    Raises:
        OSError: Here or in the methods: it could not be written.
    """

    def __init__(self, descriptor: int, header: Header, pace: Pace) -> None:
        self._to, self._pace = descriptor, pace
        self._size_bytes = self._text_bytes = 0
        self._block = bytearray()
        self._values: list[tuple[int, int, int]] = []
        self._rows: list[tuple[Any, ...]] = []
        self._hashes: list[int] = []
        self._names: list[tuple[bytes, bytes]] = []
        self._write(pack_header(header))

    @property
    def item_bytes(self) -> int:
        """Bytes so far, as nearly as can be told before the end."""
        return self._size_bytes + len(self._block) + self._text_bytes + len(self._rows) * (RECORD.itemsize + HASH_BYTES)

    @property
    def is_full(self) -> bool:
        """Whether no further item has a place."""
        return len(self._values) >= MOST_BLOCKS - 1 or len(self._rows) >= MOST_BLOCKS * RECORDS_PER_BLOCK

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, item: Written) -> None:
        """Append `item`; its data go into the current block, or begin the next one."""
        if self._block and len(self._block) + len(item.data) > BLOCK_BYTES:
            self._end_block()
        place = len(self._values), len(self._block), len(item.data)
        self._block += item.data
        self._rows.append((item.made_at, item.expires_at, item.accounted, *place))
        self._hashes.append(item.key_hash)
        self._names.append((item.key, item.version))
        self._text_bytes += len(item.key) + len(item.version)

    def seal(self) -> None:
        """Write index, tables and footer."""
        if not self._block:
            self._block += b"\0"  # a block has at least a byte, and an item at least a block
        self._end_block()
        index = [self._write_part(rows) for rows in self._by_hash()]
        tables = np.array(self._values, VALUE_BLOCK), np.array(index, INDEX_BLOCK)
        self._write(pack_tables(*tables, len(self._rows), self._size_bytes))

    def _by_hash(self) -> list[NDArray[np.int64]]:
        order = np.argsort(np.array(self._hashes, np.uint64), kind="stable")
        return [order[at : at + RECORDS_PER_BLOCK] for at in range(0, len(order), RECORDS_PER_BLOCK)]

    def _write_part(self, rows: NDArray[np.int64]) -> tuple[int, int, int, int, int]:
        text, places = _Text(), []
        for row in rows.tolist():
            key, version = self._names[row]
            places.append((*self._rows[row], *text.add(key), *text.add_shared(version), 0))
        hashes = np.array([self._hashes[row] for row in rows.tolist()], np.uint64)
        data = pack_index_part(hashes, np.array(places, RECORD), bytes(text.bytes))
        at = self._begin_block()
        self._write(data)
        return at, len(data), len(rows), int(hashes[0]), checksum(data)

    def _end_block(self) -> None:
        at = self._begin_block()
        self._write(self._block)
        self._values.append((at, len(self._block), checksum(self._block)))
        self._block = bytearray()

    def _begin_block(self) -> int:
        self._write(bytes(padding(self._size_bytes)))
        return self._size_bytes

    def _write(self, data: bytes | bytearray) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._to, left) :]
        self._size_bytes += len(data)
        self._pace(len(data))


class _Text:
    """The keys and versions of an index block; versions that are alike are kept once."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self._shared: dict[bytes, tuple[int, int]] = {}

    def add(self, text: bytes) -> tuple[int, int]:
        place = len(self.bytes), len(text)
        self.bytes += text
        return place

    def add_shared(self, text: bytes) -> tuple[int, int]:
        place = self._shared.get(text)
        if place is None:
            place = self._shared[text] = self.add(text)
        return place
