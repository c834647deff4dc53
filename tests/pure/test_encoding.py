"""What is kept of a history, and what is refused."""

from __future__ import annotations

import struct
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import xxhash

from builders import batch, history_of, same_history, trail_of
from older_schemas import encode_older
from preheat._columns import TextColumn
from preheat._history import TRAIL_LIMIT, HistoryBuilder, empty_history
from preheat._store import encoding as _encoding
from preheat._store.compact import decode_floats, decode_integers, encode_floats, encode_integers
from preheat._store.encoding import as_kept, decode_changes, decode_history, encode_changes, encode_history
from preheat._store.older import decode_older_history
from preheat.errors import StoreCorrupt

TRAIL = history_of(batch(["a", "b", "a"], at=1000.0), batch(["b"], at=2000.0))
HOURS = replace(TRAIL, hours=np.array([3, 5]), hourly=np.array([[[1, 2]], [[3, 4]]]))
FORGET = "forget"


def column(*values, width=1, base=0):
    return (base, width), b"".join(value.to_bytes(width, "little") for value in values)


def forged(history, sections=None, **about):
    """What is read of `history` where other sections, or other words about them, stand in place of its own."""
    written = {name: bytes(body) for name, body in encode_history(history).items()}
    told = msgspec.msgpack.decode(written["about"])
    for name, value in (sections or {}).items():
        if value is FORGET:
            written.pop(name), told["integers"].pop(name, None)
        elif isinstance(value, bytes):
            written[name] = value
        else:
            told["integers"][name], written[name] = value
    written["about"] = msgspec.msgpack.encode(told | about)
    return decode_history(written)


# ----------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("exact", [0.0, 1.0, 2.0, 3.0, 999.0, 1023.0, 1024.0, 0.5, 2.0**-64 * (1 + 2**-9), 2.0**63])
def test_these_numbers_are_exact(exact):
    assert decode_floats(encode_floats(np.array([exact], np.float32))).tolist() == [exact]


def test_what_is_out_of_range_becomes_the_nearest_that_is_not():
    values = np.array([-1.0, -np.inf, 1e-30, np.inf, 3e38], np.float32)
    assert decode_floats(encode_floats(values)).tolist() == pytest.approx(
        [0.0, 0.0, 2.0**-64, 2.0**64, 2.0**64], rel=0.003
    )


def test_every_code_stands_for_a_number_of_its_own():
    codes = np.arange(2**16).astype(np.uint16)
    assert np.array_equal(codes, encode_floats(decode_floats(codes)))


@pytest.mark.parametrize(
    ("values", "width"),
    [
        ([], 1),
        ([7, 7], 0),
        ([0, 255], 1),
        ([0, 256], 2),
        ([-1, 2**16 - 2], 2),
        ([5, 2**32], 4),
        ([0, 2**40 - 1], 5),
        ([0, 2**60], 8),
    ],
)
def test_integers_are_as_wide_as_they_have_to_be(values, width):
    encoded = encode_integers(np.array(values, np.int64))
    assert (encoded.width, len(encoded.raw)) == (width, width * len(values))


@pytest.mark.parametrize(
    ("base", "width", "raw", "length", "why"),
    [
        (0, 9, b"123456789", 1, "integers of 9 bytes"),
        (0, -1, b"", 1, "integers of -1 bytes"),
        (2**62, 1, b"a", 1, "integers of 1 bytes from"),
        (0, 1, b"ab", 3, "3 integers were expected"),
        (0, 2, b"abc", 1, "1 integers were expected"),
        (0, 2, b"abc", None, "nothing says how many"),
        (0, 0, b"a", 1, "1 integers were expected"),
        (0, 0, b"", None, "nothing says how many"),
        (0, 8, b"\xff" * 8, 1, "out of range"),
    ],
)
def test_integers_that_cannot_be_are_refused(base, width, raw, length, why):
    with pytest.raises(ValueError, match=why):
        decode_integers(base, width, raw, length)


# -------------------------------------------------------------------------------------------------------------- texts


def noted(notes):
    """A history whose versions are `notes`."""
    keys = [f"k{n}" for n in range(len(notes))]
    loads = {key: (1, 1.0, note, "") for key, note in zip(keys, notes, strict=True)}
    return history_of(batch(keys, loads=loads))


def test_texts_that_repeat_are_kept_once():
    same, different = (noted([f"a version {n % k:04}" for n in range(1000)]) for k in (3, 1000))
    assert len(encode_history(same)["versions"]) == 3 * len("a version 0001")
    assert len(encode_history(different)["versions"]) == 1000 * len("a version 0001")
    for history in (same, different):
        assert same_history(as_kept(history), decode_history(encode_history(history)))


def test_texts_of_equal_bits_are_told_apart(monkeypatch):
    monkeypatch.setattr(TextColumn, "hashes", lambda self, codes: np.zeros(len(self), np.uint64))
    history = noted([f"version {n % 2}" for n in range(100)])
    assert same_history(as_kept(history), decode_history(encode_history(history)))


def test_a_few_bytes_do_not_become_many(monkeypatch):
    """A text of a mebibyte and a thousand rows of it."""
    history = noted([f"version {n % 2:020}" for n in range(1000)])
    bomb = {
        "versions": b"x" * 2**20,
        "version_lengths": column(2**20, width=4),
        "version_codes": column(*[0] * 1000),
    }
    with pytest.raises(StoreCorrupt, match="versions are too long"):
        forged(history, bomb)


def test_an_item_takes_at_most_32_bytes_beside_its_key():
    """The trail included, at its fullest; instants spread over months."""
    draw = np.random.default_rng(1)
    n = 2**17
    full = replace(
        empty_history(),
        at=2e9,
        caches=("a", "b"),
        cache=draw.integers(0, 2, n).astype(np.int16),
        keys=TextColumn.of([f"{k:0{5 + k % 60}}" for k in range(n)]),
        counts=draw.exponential(9.0, (n, 3)).astype(np.float32),
        last_at=2e9 - draw.exponential(30 * 86400.0, n),
        gaps=draw.exponential(900.0, (n, 4)).astype(np.float32),
        size_bytes=draw.integers(0, 2**31, n),
        load_seconds=draw.exponential(0.1, n).astype(np.float32),
        versions=TextColumn.of([""] * n),
        recipes=TextColumn.of([""] * n),
        hits=np.array([1, 2]),
        misses=np.array([1, 2]),
        hourly=np.empty((0, 2, 2), np.int64),
        trail=draw.integers(0, n, n).astype(np.int32),
        trail_at=np.sort(1.9e9 + draw.integers(0, 86400, n) / 4),
    )
    sections = encode_history(full)
    assert sum(map(len, sections.values())) <= 32 * n + len(full.keys.blob)
    assert same_history(as_kept(full), decode_history(sections))


# -------------------------------------------------------------------------------------------------------------- trail


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"trail": column(0, 1, 2, 1)}, "names a row that is not there"),
        ({"trail": column(0, 1, 0, 1, base=-1)}, "names a row that is not there"),
        ({"trail": column(0, 1, 0)}, "counts don't add up"),
        ({"trail": column(2**31, 0, 0, 0, width=4)}, "names a row that is not there"),
        ({"trail_times": column(2**31, 2**31, width=4)}, "counts don't add up"),
        ({"trail_times": column(6, 0, base=-1)}, "counts don't add up"),
        ({"trail_times": column(4)}, "other instants than counts"),
        ({"trail_times": column(4, 0)}, "counts don't add up"),
        ({"trail_times": FORGET}, "trail_times"),
        ({"trail_waits": column(0)}, "don't rise"),
        ({"trail_waits": column(5, base=-9)}, "don't rise"),
        ({"trail_start": column(2**40, width=8)}, "after the history's end"),
        ({"trail": column(*[0] * (TRAIL_LIMIT + 1))}, "longer than"),
    ],
)
def test_a_trail_that_does_not_fit_is_damage(sections, why):
    with pytest.raises(StoreCorrupt, match=why):
        forged(TRAIL, sections)


def test_a_long_trail_takes_little_more_than_its_rows():
    """A million accesses at a thousand a second, drained four times a second."""
    keys = [f"k{n}" for n in range(250)]
    builder = HistoryBuilder()
    for n in range(4000):
        builder.fold(batch(keys, at=1000.0 + n / 4))
    history = builder.history()
    assert len(history.trail) == 1_000_000
    without = replace(history, trail=history.trail[:0], trail_at=history.trail_at[:0])
    more = sum(map(len, encode_history(history).values())) - sum(map(len, encode_history(without).values()))
    assert more < 1.1 * len(history.trail)


# ------------------------------------------------------------------------------------------------------------ forgery

NAN = b"\xff\xff"


@pytest.mark.parametrize(
    ("sections", "about", "why"),
    [
        ({"counts": NAN * 6}, {}, "a count is none"),
        ({"counts": b"abc"}, {}, "multiple of element size"),
        ({"counts": b"abcd"}, {}, "counts has another length"),
        ({"load_seconds": bytes(6)}, {}, "integers were expected|another length"),
        ({"cache": column(1, 0)}, {}, "a cache number is unknown"),
        ({"cache": column(0, 0, base=-1)}, {}, "a cache number is unknown"),
        ({"keys": b"\xff\xff"}, {}, "can't decode byte 0xff"),
        ({"keys": "é".encode()}, {}, "keys are cut inside of a character"),
        ({"keys": b"\xc3"}, {}, "miss their text"),
        ({"key_lengths": column(2, 1)}, {}, "miss their text"),
        ({"key_lengths": column(255, 1)}, {}, "can't be"),
        ({"key_lengths": column(0, 5, base=-2)}, {}, "can't be"),
        ({"version_codes": column(0, 9), "version_lengths": column(0)}, {}, "number of versions is unknown"),
        ({"version_codes": column(0), "version_lengths": column(0)}, {}, "another length"),
        ({"size_bytes": column(0, 1, base=-1)}, {}, "less than none"),
        ({"hits": column(1, base=-5)}, {}, "less than none"),
        ({"misses": column(1, 1)}, {}, "1 integers were expected"),
        ({"hours": column(5, 3)}, {}, "hours don't rise"),
        ({"hourly": column(1, 2, 3)}, {}, "4 integers were expected"),
        ({"hourly": column(1, 2, 3, 0, base=-1)}, {}, "less than none"),
        ({}, {"at": float("nan")}, "instants are none"),
        ({}, {"half_lives": (1.0, -1.0, 2.0)}, "a half-life is none"),
        ({}, {"half_lives": (1.0,) * 17}, "too many half-lives"),
        ({}, {"caches": [str(n) for n in range(2**15 + 1)]}, "too many caches"),
        ({}, {"caches": ["c", "c"]}, "one name"),
        ({}, {"more": 1}, "unknown field"),
        ({}, {"caches": [[[1]]]}, "Expected"),
        ({"gaps": FORGET}, {}, "gaps"),
    ],
)
def test_a_forged_history_is_refused(sections, about, why):
    with pytest.raises(StoreCorrupt, match=why):
        forged(HOURS, sections, **about)


@pytest.mark.parametrize("text", [b"\xff\xff", "é".encode(), b"\xed\xa0\x80"[:2]])
@pytest.mark.parametrize("name", ["keys", "versions", "recipes"])
def test_text_that_is_none_is_refused_in_what_older_versions_wrote_too(name, text):
    history = history_of(batch(["a", "b"], loads=dict.fromkeys("ab", (1, 1.0, "1", "2"))))
    offsets = np.array([0, 1, 2]).tobytes()
    encoded = msgspec.msgpack.encode(encode_older(history) | {name: (text, offsets)})
    with pytest.raises(StoreCorrupt, match=r"decode|inside of a character|data"):
        decode_older_history(encoded, xxhash.xxh3_128_digest(encoded))


def test_text_of_many_characters_is_whole_wherever_it_is_cut_to_look_at(monkeypatch):
    monkeypatch.setattr(_encoding, "_AT_ONCE", 5)
    history = history_of(batch(["日本語", "é" * 9, "", "plain"]))
    assert same_history(as_kept(history), decode_history(encode_history(history)))
    with pytest.raises(StoreCorrupt, match="unexpected end of data"):
        forged(history_of(batch(["日"])), {"keys": "日".encode()[:2], "key_lengths": column(2)})


HOSTILE = [
    b"\xdd\xff\xff\xff\xff",  # a list of 2**32 - 1
    b"\xdf\xff\xff\xff\xff",  # a map of as many
    b"\xc6\xff\xff\xff\xff",  # as many bytes
    b"\x91" * 100_000,  # lists in lists
    b"",
]


@pytest.mark.parametrize("body", HOSTILE)
def test_hostile_lengths_are_refused_without_believing_them(body):
    digest = xxhash.xxh3_128_digest(body)
    with pytest.raises(StoreCorrupt):
        decode_older_history(body, digest)
    with pytest.raises(StoreCorrupt):
        decode_changes(body)
    with pytest.raises(StoreCorrupt):
        decode_history({"load_seconds": b"", "about": body})


# ------------------------------------------------------------------------------------------------------------ changes


def changes():
    builder = HistoryBuilder(TRAIL)
    builder.fold(batch(["b", "c"], at=3000.0))
    return builder.changes()


def test_changes_come_back():
    back = decode_changes(encode_changes(changes()))
    assert (back.row.tolist(), back.size, list(back.rows.keys)) == ([1, 2], 3, ["b", "c"])
    assert back.rows.trail.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("row", "size", "why"),
    [
        ([2, 1], 3, "rows don't rise"),
        ([1, 1], 3, "rows don't rise"),
        ([-1, 2], 3, "rows don't rise"),
        ([1, 3], 3, "rows don't rise"),
        ([1, 2], 2**31, "don't say of how many rows"),
        ([1, 2], None, "don't say of how many rows"),
    ],
)
def test_changes_of_rows_that_cannot_be_are_refused(row, size, why):
    encoded = encode_changes(changes()._replace(row=np.array(row), size=size))
    with pytest.raises(StoreCorrupt, match=why):
        decode_changes(encoded)


# -------------------------------------------------------------------------------------------------------------- older


def older(history, **fields):
    written = encode_older(history) | fields
    encoded = msgspec.msgpack.encode({name: value for name, value in written.items() if value is not None})
    return decode_older_history(encoded, xxhash.xxh3_128_digest(encoded))


def raw_column(kind, *values):
    return struct.pack(f"<{len(values)}{kind}", *values)


def test_what_was_written_before_there_was_a_trail_loads_with_an_empty_one():
    first = older(TRAIL, trail=None, trail_instants=None, trail_times=None)
    assert (list(first.keys), trail_of(first)) == (["a", "b"], [])
    builder = HistoryBuilder(first)
    builder.fold(batch(["b"], at=3000.0))
    assert trail_of(builder.history()) == [("c", "b", 3000.0)]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"trail": raw_column("i", 0, 1, 2, 1)}, "names a row that is not there"),
        ({"trail": raw_column("i", 0, 1, 0)}, "counts don't add up"),
        ({"trail": b"odd"}, "don't fit"),
        ({"trail": 7}, "don't fit"),
        ({"trail_times": raw_column("i", 2**31 - 1, 2**31 - 1)}, "counts don't add up"),
        ({"trail_times": raw_column("i", 5, -1)}, "counts don't add up"),
        ({"trail_times": raw_column("i", 4)}, "other instants than counts"),
        ({"trail_instants": raw_column("d", 2000.0, 1000.0)}, "don't rise"),
        ({"trail_instants": raw_column("d", 1000.0, np.nan)}, "don't rise"),
        ({"trail_instants": raw_column("d", 1000.0, 2000.5)}, "after the history's end"),
        ({"trail": bytes(4 * (TRAIL_LIMIT + 1))}, "longer than"),
        ({"last_at": raw_column("d", 1.0)}, "last_at has another length"),
        ({"hits": raw_column("q", 1, 2)}, "hits has another length"),
        ({"counts": raw_column("f", 1.0, 2.0)}, "counts has another width"),
        ({"gaps": raw_column("f", 1.0, 2.0)}, "gaps has another width"),
        ({"cache": raw_column("h", 0, 7)}, "a cache number is unknown"),
        ({"keys": (b"ab", raw_column("q", 0, 2))}, "another length than cache"),
        ({"keys": (b"ab", raw_column("q", 0, 1, 3))}, "miss their text"),
        ({"keys": (b"ab", raw_column("q", 0, 3, 2))}, "offsets fall"),
    ],
)
def test_what_an_older_version_wrote_is_not_believed_either(fields, why):
    with pytest.raises(StoreCorrupt, match=why):
        older(TRAIL, **fields)
