"""What is identical, and by what a codec of a type is known."""

import dataclasses
import datetime
import decimal
import math
from typing import NamedTuple

import msgspec
import numpy as np
import pytest

from preheat.codecs import MOST_PARTS, DocumentCodec, VectorCodec, is_identical
from preheat.errors import InvalidSetting


class Point(NamedTuple):
    x: float
    y: float


@dataclasses.dataclass
class Box:
    content: object


class Crate(msgspec.Struct):
    content: object


NOON = datetime.datetime(2026, 10, 25, 2, 30)
DIFFERENT = [
    (1, True), (1, 1.0), (0.0, -0.0), (1, 2), ("a", b"a"), ([1], (1,)), ([1], [1, 2]), ([1], [True]), ({1}, {True}),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({1: 0}, {True: 0}), ({1}, frozenset({1})), (Point(1, 2), (1, 2)),
    (Point(1.0, 2), Point(1, 2)), (Box(1), Crate(1)), (Box([1]), Box((1,))), (Crate(None), Crate(0)),
    (decimal.Decimal("1.0"), decimal.Decimal("1.00")), (NOON, NOON.replace(fold=1)),
    (NOON, NOON.replace(tzinfo=datetime.UTC)), (object, object), (bytearray(b""), bytearray(b"")), ({(1,)}, {(1,)}),
]  # fmt: skip
SAME = [
    None, True, 2**70, math.nan, -0.0, "a", b"a", [1, [2]], (1, (2,)), {"a": [1], 2: {}}, {1, "a"}, frozenset({2.5}),
    Point(1.0, 2.0), Box([Box(None)]), Crate({"a": Crate(1)}), decimal.Decimal("1.00"), NOON, NOON.date(),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=repr)
def test_values_that_differ_in_a_type_or_a_part_are_not_identical(one, other):
    assert not is_identical(one, other)
    assert not is_identical([one], [other])


@pytest.mark.parametrize("value", SAME, ids=repr)
def test_a_value_is_identical_to_itself(value):
    assert is_identical(value, value)
    assert is_identical([value], [value])


def test_an_object_with_more_than_its_fields_is_identical_to_none():
    marked = Box(1)
    marked.more = 2
    assert not is_identical(marked, marked)


def test_what_is_too_large_to_be_compared_is_not_identical():
    assert not is_identical([0] * MOST_PARTS, [0] * MOST_PARTS)
    assert is_identical([0] * 1000, [0] * 1000)


def test_a_cycle_ends():
    cycle = []
    cycle.append(cycle)
    assert not is_identical(cycle, cycle)


def fields(*names, **defaults):
    kinds = [(name, int) for name in names] + [(n, int, dataclasses.field(default=d)) for n, d in defaults.items()]
    return dataclasses.make_dataclass("Thing", kinds)


def test_the_version_of_a_typed_codec_changes_with_fields_types_and_defaults():
    kinds = [fields("a"), fields("a", "b"), fields("b"), fields("a", b=1), fields("a", b=2), list[fields("a")]]
    assert len({DocumentCodec(kind).version for kind in kinds}) == len(kinds)
    assert DocumentCodec(fields("a")).version == DocumentCodec(fields("a")).version


def test_the_version_of_vectors_changes_with_the_dtype():
    versions = {VectorCodec(dtype).version for dtype in (np.float32, np.float64, np.int8, ">f4", np.float16)}
    assert len(versions) == 5


@pytest.mark.parametrize("dtype", [object, "U3", "S3", "no dtype", "datetime64[s]", [("a", "f4")]])
def test_a_dtype_that_is_not_of_numbers_is_refused(dtype):
    with pytest.raises(InvalidSetting, match="of numbers"):
        VectorCodec(dtype)


def test_a_type_that_can_t_be_kept_is_refused():
    with pytest.raises(InvalidSetting, match="can't be kept"):
        DocumentCodec(type("Opaque", (), {}))


def test_vectors_are_views_of_what_they_are_read_from():
    data = memoryview(np.arange(4, dtype=np.float32).tobytes())
    decoded = VectorCodec().decode(data)
    assert np.shares_memory(decoded, np.frombuffer(data, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        decoded[0] = 1


def test_an_empty_vector_is_kept():
    empty = np.empty(0, np.float32)
    empty.flags.writeable = False
    codec = VectorCodec()
    assert codec.encode(empty) == b""
    assert codec.decode(memoryview(b"")).shape == (0,)


@pytest.mark.parametrize(
    "data", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 10**6]
)
def test_a_document_that_says_it_is_long_is_refused_before_anything_is_allocated(data):
    with pytest.raises((ValueError, RecursionError)):
        DocumentCodec().decode(memoryview(data))
