"""Vectors in a slab: what is read is what was put, whatever was put and removed between; digests are found or not."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from preheat.caches._digests import Digests
from preheat.caches._slab import Slab
from preheat.caches._vectors import Vectors, hex_of

WORDS = st.integers(0, 2**64 - 1)
# few homes, so that most share one and many are wrapped around the end of the table
DIGESTS = st.tuples(st.sampled_from([0, 1, 2, 14, 15, 16, 31, 2**64 - 1]), st.integers(0, 3))


@given(acts=st.lists(st.tuples(st.sampled_from(["add", "add", "remove"]), DIGESTS), max_size=200))
def test_a_digest_is_found_in_its_slot_and_nowhere_else(acts):
    table, slots, free = Digests(), {}, []
    for act, digest in acts:
        if act == "add" and digest not in slots:
            slots[digest] = free.pop() if free else len(slots)
            table.add(slots[digest], *digest)
        elif act == "remove" and digest in slots:
            free.append(slots.pop(digest))
            table.remove(free[-1])
    everything = [(first, second) for first in (0, 1, 2, 14, 15, 16, 31, 2**64 - 1) for second in range(4)]
    expected = [slots.get(digest, -1) for digest in everything]
    assert [table.find(*digest) for digest in everything] == expected
    assert table.find_many(np.array(everything, np.uint64)).tolist() == expected
    assert len(table) == len(slots)
    assert all(table.digest_of(slot) == digest for digest, slot in slots.items())


@given(digests=st.lists(st.tuples(WORDS, WORDS), unique=True, max_size=300))
def test_all_digests_are_found_after_the_table_has_grown(digests):
    table = Digests()
    for slot, digest in enumerate(digests):
        table.add(slot, *digest)
    words = np.array(digests, np.uint64).reshape(-1, 2)
    assert table.find_many(words).tolist() == list(range(len(digests)))
    assert table.find_many(words + np.uint64(1)).tolist() == [
        table.find(*map(int, each)) for each in words + np.uint64(1)
    ]


def key(n: int) -> str:
    return hex_of((n, n * n))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@given(acts=st.lists(st.tuples(st.sampled_from(["put", "put", "remove"]), st.integers(0, 30)), max_size=150))
def test_what_is_read_is_what_was_put(dtype, acts):
    vectors, slots, free = Vectors(10**5, dtype, "m"), {}, []
    for act, n in acts:
        if act == "put" and n not in slots:
            slots[n] = free.pop() if free else len(slots)
            value = vectors.rounded(np.array([[n, -n / 3, 0.5, 0.0]], np.float32))[0]
            vectors.put(slots[n], key(n), value, "m")
        elif act == "remove" and n in slots:
            free.append(slots.pop(n))
            vectors.remove(free[-1])
    assert len(vectors) == len(slots)
    assert sorted(vectors.keys()) == sorted(map(key, slots))
    for n, slot in slots.items():
        expected = vectors.rounded(np.array([[n, -n / 3, 0.5, 0.0]], np.float32))[0]
        assert vectors.value_of(slot).tobytes() == expected.tobytes()
        assert (vectors.find(key(n)), vectors.key_of(slot)) == (slot, key(n))
    if slots:
        taken = vectors.take(np.array(list(slots.values())))
        assert [row.tobytes() for row in taken] == [vectors.value_of(slot).tobytes() for slot in slots.values()]


NUMBERS = st.floats(-1000, 1000, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)


@pytest.mark.parametrize(("dtype", "share"), [("float16", 2.0**-11), ("int8", 1 / 253)])
@given(matrix=arrays(np.float32, (3, 5), elements=NUMBERS))
def test_rounding_is_bounded_and_what_was_rounded_stays_as_it_is(dtype, share, matrix):
    vectors = Vectors(1000, dtype, "m")
    rounded = vectors.rounded(matrix)
    assert rounded.dtype == np.float32
    assert rounded.tobytes() == vectors.rounded(rounded).tobytes()
    assert (np.abs(rounded - matrix) <= share * np.abs(matrix).max(axis=1, keepdims=True) + 1e-12).all()


@pytest.mark.parametrize("dtype", ["float16", "int8"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_the_dtype_has_not_is_refused(dtype, number):
    vectors = Vectors(1000, dtype, "m")
    with pytest.raises(ValueError, match=f"a vector has numbers that {dtype} has not; keep such vectors as float32"):
        vectors.rounded(np.array([[1.0, number]], np.float32))


def test_float16_has_no_number_as_large_as_a_hundred_thousand():
    with pytest.raises(ValueError, match="float16 has not"):
        Vectors(1000, "float16", "m").rounded(np.array([[1e5]], np.float32))


def test_the_memory_of_rows_is_given_back_once_much_of_it_is_free():
    slab = Slab(2**24, np.dtype(np.float32))
    slab.clear(256)
    for n in range(8000):
        slab.append(np.full(256, n, np.float32))
    assert slab.touched_bytes == 8000 * 1024
    for _ in range(6000):
        slab.remove(0)
    assert slab.touched_bytes < 3200 * 1024
    assert not slab.rows[4000:8000].any()  # the system has taken these pages, and gives them empty
    assert slab.rows[: len(slab)].any(axis=1).all()
    slab.clear(128)
    assert (len(slab), slab.touched_bytes, slab.rows.shape[1]) == (0, 0, 128)
