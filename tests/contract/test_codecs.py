"""The codecs that ship keep the contract that authors of others are offered."""

import dataclasses
import datetime
import decimal
import math
import uuid

import msgspec
import numpy as np

from preheat.codecs import BytesCodec, DocumentCodec, TextCodec, VectorCodec, is_identical
from preheat.testing import SnapshotCodecContract


def vector(*numbers, dtype=np.float32):
    made = np.array(numbers, dtype)
    made.flags.writeable = False
    return made


class TestVectors(SnapshotCodecContract):
    def make_codec(self):
        return VectorCodec(np.float32)

    def make_values(self):
        return [vector(1, 2, 3), vector(math.nan, -0.0, math.inf), vector(*range(384))]

    def make_strangers(self):
        writable = np.zeros(3, np.float32)
        matrix = np.zeros((2, 2), np.float32)
        matrix.flags.writeable = False
        return [writable, matrix, vector(1, dtype=np.float64), vector(1, dtype=">f4"), [1.0], vector(1).view(Odd), None]


class Odd(np.ndarray):
    pass


class TestText(SnapshotCodecContract):
    def make_codec(self):
        return TextCodec()

    def make_values(self):
        return ["a", "grüße", "\ud800", "x" * 1000, "\0"]

    def make_strangers(self):
        return [b"a", 1, None, type("Text", (str,), {})("a")]


class TestBytes(SnapshotCodecContract):
    def make_codec(self):
        return BytesCodec()

    def make_values(self):
        return [b"a", bytes(range(256))]

    def make_strangers(self):
        return ["a", bytearray(b"a"), memoryview(b"a"), None]


class TestDocuments(SnapshotCodecContract):
    def make_codec(self):
        return DocumentCodec()

    def make_values(self):
        return [
            None,
            True,
            1,
            -(2**63),
            2**64 - 1,
            1.5,
            -0.0,
            "text",
            b"bytes",
            [1, [2.0, None]],
            {"a": {"b": []}, 3: 1},
        ]

    def make_strangers(self):
        cycle = []
        cycle.append(cycle)
        deep = []
        for _ in range(100_000):
            deep = [deep]
        return [
            (1, 2), {"a": (1,)}, {1, 2}, 2**64, "\ud800", object(), cycle, deep, Page("x", [], ()), bytearray(b"x"),
            uuid.uuid4(), decimal.Decimal(1), datetime.date(2026, 1, 1), datetime.timedelta(1),
            type("L", (list,), {})(),
        ]  # fmt: skip

    def same(self, value, other):
        return is_identical(value, other)


@dataclasses.dataclass
class Page:
    title: str
    links: list[str]
    tags: tuple[str, ...]
    at: datetime.datetime | None = None


class Node(msgspec.Struct):
    name: str
    price: decimal.Decimal
    under: frozenset[str] = frozenset()


class TestDocumentsOfAType(TestDocuments):
    def make_codec(self):
        return DocumentCodec(Page)

    def make_values(self):
        at = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.UTC)
        return [Page("a", ["b"], ("c", "d")), Page("", [], (), at)]

    def make_strangers(self):
        marked = Page("a", [], ())
        marked.extra = 1
        return [
            Page("a", ("b",), ()),
            Page(1, [], ()),
            {"title": "a"},
            marked,
            dataclasses.make_dataclass("Page", [])(),
        ]


class TestStructs(TestDocuments):
    def make_codec(self):
        return DocumentCodec(list[Node])

    def make_values(self):
        return [[], [Node("a", decimal.Decimal("1.50"), frozenset({"x", "y"}))]]

    def make_strangers(self):
        return [(Node("a", decimal.Decimal(1)),), [Node("a", 1)], [None]]
