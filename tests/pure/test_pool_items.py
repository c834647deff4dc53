"""Items of many histories are told apart, and found again, whatever their hashes."""

from __future__ import annotations

import numpy as np
import pytest

from preheat._columns import TextColumn
from preheat._pool.items import LEAST_SLOTS, MOST_STEPS, Items


def numbers(items, names):
    codes = np.array([code for code, _ in names], np.int16)
    return items.numbers(codes, TextColumn.of(key for _, key in names)).tolist()


def test_new_items_get_the_next_numbers_and_known_ones_keep_theirs():
    items = Items()
    assert numbers(items, []) == []
    assert numbers(items, [(0, "a"), (0, "b")]) == [0, 1]
    assert numbers(items, [(0, "c"), (0, "b")]) == [2, 1]
    assert (list(items.keys.current), len(items)) == (["a", "b", "c"], 3)


def test_one_key_in_two_caches_is_two_items():
    items = Items()
    assert numbers(items, [(0, "a"), (1, "a")]) == [0, 1]
    assert items.cache.current.tolist() == [0, 1]


def test_numbers_stay_while_the_table_grows():
    items, names = Items(), [(n % 3, f"key {n}") for n in range(4 * LEAST_SLOTS)]
    for start in range(0, len(names), 100):
        assert numbers(items, names[start : start + 100]) == list(range(start, min(start + 100, len(names))))
    assert numbers(items, names[::-1]) == list(range(len(names)))[::-1]


@pytest.mark.parametrize("bits", [0, 2**64 - 2**32, 2**32 - 1], ids=["none", "one row of slots", "one mark"])
def test_items_of_alike_hashes_are_told_apart(monkeypatch, bits):
    whole = TextColumn.hashes
    monkeypatch.setattr(TextColumn, "hashes", lambda self, codes: whole(self, codes) & np.uint64(bits))
    items, names = Items(), [(0, f"key {n}") for n in range(5 * MOST_STEPS)]
    assert numbers(items, names[:100]) == list(range(100))
    assert numbers(items, names[50:]) == list(range(50, len(names)))
    assert numbers(items, names) == list(range(len(names)))
    assert numbers(items, [(1, "key 7"), (0, "key 7")]) == [len(names), 7]


def test_many_items_of_alike_hashes_keep_their_numbers_while_the_table_grows(monkeypatch):
    monkeypatch.setattr(TextColumn, "hashes", lambda self, codes: np.zeros(len(self), np.uint64))
    items, names = Items(), [(0, f"key {n}") for n in range(LEAST_SLOTS)]
    assert numbers(items, names) == list(range(LEAST_SLOTS))
    assert numbers(items, names) == list(range(LEAST_SLOTS))
