"""The parts of a snapshot file: what is packed is unpacked, and what can't be is refused."""

import struct

import numpy as np
import pytest

from preheat._snapshot.layout import (
    ALIGNMENT,
    FOOTER,
    INDEX_BLOCK,
    LEAD,
    MOST_BLOCKS,
    MOST_HEADER_BYTES,
    MOST_VALUE_BYTES,
    RECORD,
    ROW,
    SUM,
    VALUE_BLOCK,
    Header,
    Row,
    checksum,
    hash_key,
    pack_header,
    pack_index_part,
    pack_tables,
    padding,
    unpack_header,
    unpack_index_part,
    unpack_tables,
)
from preheat._snapshot.refusal import DAMAGED, NO_SNAPSHOT, OTHER_FORMAT, Refused

HEADER = Header(1, "cache", "text", "1", "2026.11", 1.5, "boot", 2.5)
BEGIN = 1024


def framed(body, magic=b"PREHEATv", number=1, size=None):
    lead = LEAD.pack(magic, number, len(body) if size is None else size) + body
    return memoryview(lead + SUM.pack(checksum(lead)) + bytes(100))


def test_a_header_is_read_as_it_was_written():
    packed = pack_header(HEADER)
    assert (HEADER, len(packed)) == unpack_header(memoryview(packed + bytes(100)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (memoryview(b""), DAMAGED),
        (memoryview(pack_header(HEADER)[:50]), DAMAGED),
        (framed(b"", magic=b"PREHEATx"), NO_SNAPSHOT),
        (framed(b"", number=2), OTHER_FORMAT),
        (framed(b"", size=MOST_HEADER_BYTES + 1), DAMAGED),
        (framed(b"", size=2**32 - 1), DAMAGED),
        (framed(b"", size=99), DAMAGED),
        (framed(b"\xc1"), DAMAGED),
        (framed(b"\x98" + b"\x01" * 8), DAMAGED),
        (framed(b"\x81\xa6number\xff"), DAMAGED),
        (framed(b"\x81\xa5cache\xa2\xff\xff"), DAMAGED),
        (framed(b"\x91" * 60_000), DAMAGED),
    ],
)
def test_what_is_no_header_is_refused(data, reason):
    with pytest.raises(Refused, match=reason):
        unpack_header(data)


VALUES = [(BEGIN, 100, 7), (BEGIN + 128, 64, 8)]
INDEX = [(BEGIN + 192, 64 * 3 + 5, 3, 11, 9), (BEGIN + 448, 64, 1, 12, 10)]
END = BEGIN + 512


def file_of(values=VALUES, index=INDEX, items=4, at=END):
    tables = np.array(values, VALUE_BLOCK), np.array(index, INDEX_BLOCK)
    return memoryview(bytes(END) + pack_tables(*tables, items, at))


def test_tables_are_read_as_they_were_written():
    tables = unpack_tables(file_of(), BEGIN)
    assert tables.values.tolist() == VALUES
    assert tables.parts.tolist() == INDEX
    assert tables.items == 4


def test_a_file_may_hold_nothing():
    assert unpack_tables(file_of([], [], 0), BEGIN).items == 0


def changed(rows, nth, **fields):
    names = ("at", "size", "sum") if rows is VALUES else ("at", "size", "records", "first", "sum")
    row = dict(zip(names, rows[nth], strict=True)) | fields
    return [tuple(row.values()) if n == nth else each for n, each in enumerate(rows)]


@pytest.mark.parametrize(
    "file",
    [
        file_of(items=5),
        file_of(at=END - 1),
        file_of(at=0),
        file_of(at=2**63),
        file_of(changed(VALUES, 0, at=BEGIN - ALIGNMENT)),
        file_of(changed(VALUES, 0, at=BEGIN + 1)),
        file_of(changed(VALUES, 0, at=2**64 - ALIGNMENT)),
        file_of(changed(VALUES, 0, size=0)),
        file_of(changed(VALUES, 0, size=129)),
        file_of(changed(VALUES, 1, size=MOST_VALUE_BYTES + 1)),
        file_of(changed(VALUES, 1, size=2**32 - 1)),
        file_of(list(reversed(VALUES))),
        file_of(index=changed(INDEX, 1, at=END)),
        file_of(index=changed(INDEX, 1, records=2)),
        file_of(index=changed(INDEX, 0, records=0), items=1),
        file_of(index=changed(INDEX, 0, records=2**32 - 1)),
        file_of(index=changed(INDEX, 1, first=11)),
    ],
)
def test_tables_that_say_what_can_t_be_are_refused(file):
    with pytest.raises(Refused, match=DAMAGED):
        unpack_tables(file, BEGIN)


@pytest.mark.parametrize("at", [0, 8, 16, 20, 24, 32, 40, 47])
def test_a_footer_with_a_byte_changed_is_refused(at):
    file = bytearray(file_of())
    file[len(file) - FOOTER.size + at] ^= 1
    with pytest.raises(Refused, match=DAMAGED):
        unpack_tables(memoryview(file), BEGIN)


@pytest.mark.parametrize("counts", [(MOST_BLOCKS + 1, 0), (0, 2**32 - 1)])
def test_a_number_of_blocks_allocates_nothing(counts):
    footer = FOOTER.pack(b"SEALEDv\n", END, *counts, 0, 0, 0)[: -SUM.size]
    with pytest.raises(Refused, match=DAMAGED):
        unpack_tables(memoryview(bytes(END) + footer + SUM.pack(checksum(footer))), BEGIN)


def test_tables_with_a_byte_changed_are_refused():
    file = bytearray(file_of())
    file[END + 3] ^= 1
    with pytest.raises(Refused, match=DAMAGED):
        unpack_tables(memoryview(file), BEGIN)


ROWS = [Row(1.0, float("inf"), 5, 0, 10 * n, 10, n, 1, 0, 1) for n in range(3)]
HASHES = [5, 2**63, 2**64 - 1]


def part_of():
    data = pack_index_part(np.array(HASHES, np.uint64), np.array([(*row, 0) for row in ROWS], RECORD), b"abc")
    return data, unpack_index_part(memoryview(data), 3, checksum(data))


def test_an_index_block_finds_each_of_its_hashes_and_no_other():
    _, part = part_of()
    assert [part.find(key_hash) for key_hash in HASHES] == ROWS
    assert [part.find(key_hash) for key_hash in (0, 6, 2**63 - 1, 2**64 - 2)] == [None] * 4
    assert bytes(part.text) == b"abc"


def test_an_index_block_with_a_byte_changed_is_refused():
    data, _ = part_of()
    for at in range(0, len(data), 7):
        bad = bytearray(data)
        bad[at] ^= 1
        with pytest.raises(Refused, match=DAMAGED):
            unpack_index_part(memoryview(bad), 3, checksum(data))


def test_a_record_is_as_long_as_its_row_is_packed():
    assert RECORD.itemsize == ROW.size == struct.calcsize("<ddQ7I4x")
    assert all(offset % dtype.itemsize == 0 for dtype, offset in RECORD.fields.values())


def test_blocks_begin_where_numbers_are_aligned():
    assert [(size + padding(size)) % ALIGNMENT for size in range(200)] == [0] * 200
    assert hash_key(b"a") != hash_key(b"b")
