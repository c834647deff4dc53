"""Which of the known items a cache lacks."""

import numpy as np

from preheat._columns import TextColumn
from preheat._plan.candidates import find_absent


def absent(keys, resident, holds=None):
    found = find_absent(TextColumn.of(keys), resident, holds or set(resident).__contains__)
    return [key for key, is_absent in zip(keys, found.tolist(), strict=True) if is_absent]


def test_what_is_resident_is_not_absent():
    assert absent(["a", "b", "", "日本"], ["b", "日本", "else"]) == ["a", ""]
    assert absent(["a"], []) == ["a"]
    assert absent([], ["a"]) == []


def test_a_resident_key_that_no_column_holds_is_passed_over():
    assert absent(["a", "b"], ["\udc80", "b", "日"]) == ["a"]


def test_only_what_may_be_resident_is_asked_about():
    asked = []

    def holds(key):
        asked.append(key)
        return key == "old 7"

    keys = [f"old {n}" for n in range(1000)]
    assert len(absent(keys, ["old 7", "old 8", "new"], holds)) == 999
    assert asked == ["old 7", "old 8"]


def test_the_answer_has_one_entry_per_key():
    assert find_absent(TextColumn.of(["a", "a"]), ["a"], bool).dtype == np.bool_
