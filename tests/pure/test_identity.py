"""Finding items by 64 bits, and never taking one for another."""

from __future__ import annotations

import numpy as np

from builders import item, ref
from preheat._columns import _HALF, _MIX, LONG_BYTES, TextColumn
from preheat._model import CandidateTable
from preheat._plan.filling import VECTOR_ROUNDS, first_fit
from preheat._plan.identity import ItemIndex


def index_of(*names):
    return ItemIndex(CandidateTable.of(map(item, names)))


def test_an_item_is_where_it_is_and_others_are_nowhere():
    index = index_of("a", "x:a", "b", "x:")
    wanted = [ref("x:a"), ref("b"), ref("y:a"), ref("c"), ref("x:"), ref("a")]
    assert index.find(wanted).tolist() == [1, 2, -1, -1, 3, 0]


def test_nothing_is_found_in_nothing():
    assert index_of().find([ref("a")]).tolist() == [-1]
    assert index_of().first_rows() is None


def test_rows_whose_item_came_before_are_told():
    assert index_of("a", "b", "a", "x:a", "b", "a").first_rows().tolist() == [0, 1, 3]
    assert index_of("a", "b").first_rows() is None


def test_many_items_are_found_though_they_share_slots():
    names = [f"{'k' * (n % 30)}{n}" for n in range(5000)]
    index = index_of(*names)
    assert index.find([ref(name) for name in names]).tolist() == list(range(5000))
    assert index.first_rows() is None


def word(text):
    return np.frombuffer(text.encode(), "<u8").astype(np.uint64)


def twins():
    """Two different keys of 16 characters with the same hash: what the second half has to be, given the first."""
    length = np.array([16], np.uint64) * _MIX

    def after(first):
        mixed = (length ^ word(first)) * _MIX
        return mixed ^ (mixed >> _HALF)

    for n in range(10**6):
        first = f"{n:08}"[::-1]
        other = (after("aaaaaaaa") ^ word("bbbbbbbb") ^ after(first)).view(np.uint8)
        if (other < 128).all():
            return "aaaaaaaabbbbbbbb", f"{first}{other.tobytes().decode()}"
    raise AssertionError("there is one in 256")


def test_items_with_the_same_bits_are_told_apart_by_their_text():
    one, other = twins()
    hashes = TextColumn.of([one, other]).hashes(np.zeros(2, np.int16))
    assert one != other
    assert hashes[0] == hashes[1]  # the attack works, and does no harm:
    for names in ([one, other], [other, one, "more"]):
        index = index_of(*names)
        assert index.first_rows() is None
        assert index.find([ref(one), ref(other)]).tolist() == [names.index(one), names.index(other)]
    assert index_of(one).find([ref(other)]).tolist() == [-1]
    assert index_of(one, other, one).first_rows().tolist() == [0, 1]


def test_long_keys_are_found_too():
    names = ["é" * LONG_BYTES, "é" * LONG_BYTES + "x", "short"]
    index = index_of(*names, names[0])
    assert index.first_rows().tolist() == [0, 1, 2]
    assert index.find([ref(name) for name in reversed(names)]).tolist() == [2, 1, 0]


def test_first_fit_is_the_same_row_by_row_where_many_do_not_fit():
    sizes = np.array([n for k in range(3 * VECTOR_ROUNDS) for n in (1, 3 * VECTOR_ROUNDS - k)])
    room, expected = 3 * VECTOR_ROUNDS, []
    for size in sizes.tolist():
        expected.append(size <= room)
        room -= size if expected[-1] else 0
    assert first_fit(sizes, 3 * VECTOR_ROUNDS).tolist() == expected
