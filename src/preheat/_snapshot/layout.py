"""How a snapshot file is laid out: pure functions between its parts and bytes.

    lead      magic, format, length of the header
    header    MessagePack: whose values these are and how they are encoded; then the checksum of all so far
    values    blocks of at most 256 KiB, or one larger value; an item's value lies whole in one block
    index     blocks of up to 1024 records in the order of their key's hash, with their keys and versions
    tables    where each block is, and its checksum
    footer    where the tables are, their checksum; written last

Opening reads lead, header, tables and footer; a block is verified when it is first needed.  Every number that is read
is checked before it is used, and nothing is allocated by one.  Numbers are little-endian, checksums XXH3 of 64 bits.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import xxhash

from preheat._snapshot.refusal import DAMAGED, NO_SNAPSHOT, OTHER_FORMAT, Refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Buffer = bytes | bytearray | memoryview

MAGIC, SEAL = b"PREHEATv", b"SEALEDv\n"
FORMAT = 1
ALIGNMENT = 64
BLOCK_BYTES = 256 * 1024
RECORDS_PER_BLOCK = 1024
MOST_VALUE_BYTES = 32 * 2**20
MOST_KEY_BYTES = 64 * 1024
MOST_INDEX_BYTES = 2 * 2**20
MOST_HEADER_BYTES = 64 * 1024
MOST_BLOCKS = 2**20  # of each kind: 256 GiB of values

LEAD = struct.Struct("<8sII")
SUM = struct.Struct("<Q")
FOOTER = struct.Struct("<8sQIIQQQ")
SMALLEST_BYTES = LEAD.size + SUM.size + FOOTER.size

VALUE_BLOCK = np.dtype([("at", "<u8"), ("size", "<u4"), ("sum", "<u8")])
INDEX_BLOCK = np.dtype([("at", "<u8"), ("size", "<u4"), ("records", "<u4"), ("first", "<u8"), ("sum", "<u8")])
RECORD = np.dtype(
    [
        ("made_at", "<f8"),
        ("expires_at", "<f8"),
        ("accounted", "<u8"),
        ("block", "<u4"),  # the value block, and where in it
        ("at", "<u4"),
        ("size", "<u4"),
        ("key_at", "<u4"),  # in the text of the index block
        ("key_size", "<u4"),
        ("version_at", "<u4"),
        ("version_size", "<u4"),
        ("spare", "<u4"),  # so that all are aligned
    ]
)
ROW = struct.Struct("<ddQ7I4x")
HASH_BYTES = 8


class Header(msgspec.Struct, frozen=True):
    """Whose values a file holds; `boot` and `since_boot` are the second clock at `created_at`."""

    number: int
    cache: str
    codec: str
    codec_version: str
    application_version: str
    created_at: float
    boot: str
    since_boot: float


class Row(NamedTuple):
    """A record of the index, as plain numbers."""

    made_at: float
    expires_at: float
    accounted: int
    block: int
    at: int
    size: int
    key_at: int
    key_size: int
    version_at: int
    version_size: int


class Tables(NamedTuple):
    """Where the blocks of a file are: rows of `VALUE_BLOCK` and `INDEX_BLOCK`, and how many items there are."""

    values: NDArray[Any]
    parts: NDArray[Any]
    items: int


class IndexPart(NamedTuple):
    """An index block taken apart: `hashes` ascend, `records` are theirs, `text` has their keys and versions."""

    hashes: NDArray[np.uint64]
    records: NDArray[Any]
    text: memoryview
    hash_view: memoryview
    record_view: memoryview

    def find(self, key_hash: int) -> Row | None:
        """The record of the item with that hash; None if there is none."""
        row = bisect_left(self.hash_view, key_hash)
        if row == len(self.hash_view) or self.hash_view[row] != key_hash:
            return None
        return Row(*ROW.unpack_from(self.record_view, row * ROW.size))

    def iter_keys(self) -> Iterator[bytes]:
        """The items' keys, in the order of their hashes."""
        for at, size in zip(self.records["key_at"].tolist(), self.records["key_size"].tolist(), strict=True):
            yield bytes(self.text[at : at + size])


checksum = xxhash.xxh3_64_intdigest


def hash_key(key: bytes) -> int:
    """The 64 bits by which the index finds `key`."""
    return xxhash.xxh3_64_intdigest(key)


def padding(size: int) -> int:
    """Bytes from `size` to where a block may begin."""
    return -size % ALIGNMENT


# ---------------------------------------------------------------------------------------------------- lead, header


def pack_header(header: Header) -> bytes:
    """Lead, header and their checksum."""
    body = msgspec.msgpack.encode(header)
    framed = LEAD.pack(MAGIC, FORMAT, len(body)) + body
    return framed + SUM.pack(checksum(framed))


def unpack_header(data: memoryview) -> tuple[Header, int]:
    """The header at the beginning of `data`, and where the blocks may begin.

    Raises:
        Refused: It is none, or not of this format.
    """
    if len(data) < SMALLEST_BYTES:
        raise Refused(DAMAGED)
    magic, number, size = LEAD.unpack_from(data)
    if magic != MAGIC:
        raise Refused(NO_SNAPSHOT)
    if number != FORMAT:
        raise Refused(OTHER_FORMAT)
    end = LEAD.size + size
    if size > MOST_HEADER_BYTES or end + SUM.size + FOOTER.size > len(data):
        raise Refused(DAMAGED)
    if SUM.unpack_from(data, end)[0] != checksum(data[:end]):
        raise Refused(DAMAGED)
    try:
        return msgspec.msgpack.decode(data[LEAD.size : end], type=Header), end + SUM.size
    except (ValueError, OverflowError, RecursionError):
        raise Refused(DAMAGED) from None


# -------------------------------------------------------------------------------------------------- tables, footer


def pack_tables(values: NDArray[Any], index: NDArray[Any], items: int, at: int) -> bytes:
    """Tables and footer, to be written at `at`, the end of the file."""
    tables = values.tobytes() + index.tobytes()
    footer = FOOTER.pack(SEAL, at, len(values), len(index), items, checksum(tables), 0)[: -SUM.size]
    return tables + footer + SUM.pack(checksum(footer))


def unpack_tables(data: memoryview, begin: int) -> Tables:
    """The tables of the file `data`, whose blocks begin at `begin` at the earliest.

    Raises:
        Refused: They are not what was written, or say what can't be.
    """
    end = len(data) - FOOTER.size
    seal, at, n_values, n_index, items, tables_sum, footer_sum = FOOTER.unpack_from(data, end)
    if seal != SEAL or footer_sum != checksum(data[end : len(data) - SUM.size]):
        raise Refused(DAMAGED)
    middle = at + n_values * VALUE_BLOCK.itemsize
    if max(n_values, n_index) > MOST_BLOCKS or at < begin or middle + n_index * INDEX_BLOCK.itemsize != end:
        raise Refused(DAMAGED)
    if tables_sum != checksum(data[at:end]):
        raise Refused(DAMAGED)
    values = np.frombuffer(data[at:middle], VALUE_BLOCK)
    index = np.frombuffer(data[middle:end], INDEX_BLOCK)
    if not (_are_in_order(values, begin, at) and _are_in_order(index, begin, at) and _is_index(index, items)):
        raise Refused(DAMAGED)
    return Tables(values, index, items)


def _are_in_order(blocks: NDArray[Any], begin: int, end: int) -> bool:
    """Whether the blocks lie one behind the other from `begin` to `end`, none of them empty or too large."""
    if not len(blocks):
        return True
    at, size = blocks["at"], blocks["size"]
    if (at > end).any() or (size == 0).any() or (size > max(MOST_VALUE_BYTES, MOST_INDEX_BYTES)).any():
        return False
    ends = at + size
    return bool(at[0] >= begin and ends[-1] <= end and (ends[:-1] <= at[1:]).all() and (at % ALIGNMENT == 0).all())


def _is_index(index: NDArray[Any], items: int) -> bool:
    records, size, first = index["records"], index["size"], index["first"]
    fits = (records >= 1) & (records <= RECORDS_PER_BLOCK) & (size >= records * (HASH_BYTES + RECORD.itemsize))
    return bool(fits.all() and (first[:-1] < first[1:]).all() and int(records.sum()) == items)


# ----------------------------------------------------------------------------------------------------- index blocks


def pack_index_part(hashes: NDArray[np.uint64], records: NDArray[Any], text: bytes) -> bytes:
    """An index block."""
    return hashes.astype("<u8").tobytes() + records.tobytes() + text


def unpack_index_part(data: memoryview, records: int, expected_sum: int) -> IndexPart:
    """The index block `data` of so many records; what those say is checked when one is used.

    Raises:
        Refused: It is not what was written.
    """
    if checksum(data) != expected_sum:
        raise Refused(DAMAGED)
    middle = records * HASH_BYTES
    end = middle + records * RECORD.itemsize
    hashes, rows = np.frombuffer(data[:middle], "<u8"), np.frombuffer(data[middle:end], RECORD)
    return IndexPart(hashes, rows, data[end:], hashes.data, data[middle:end])
