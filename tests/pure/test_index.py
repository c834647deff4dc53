"""Rows found by key, whatever their hashes."""

import numpy as np
import pytest

from preheat._columns import TextColumn
from preheat._history import index as _index
from preheat._history.growing import GrowingArray, GrowingText
from preheat._history.index import NOWHERE, RowIndex


def no_hashes(texts, codes):
    return np.zeros(len(texts), np.uint64)


def few_hashes(texts, codes):
    return texts.hashes(codes) >> np.uint64(62) << np.uint64(62)


class Table:
    """Rows of keys, the index over them, and a dict that says where each has to be."""

    def __init__(self, keys=(), hashes=TextColumn.hashes):
        self.keys, self.cache = GrowingText(TextColumn.of(keys)), GrowingArray(np.zeros(len(keys), np.int16))
        self.index = RowIndex(self.keys, self.cache, hashes)
        self.known = {(0, key): row for row, key in enumerate(keys)}

    def add(self, code, keys):
        first = len(self.keys)
        self.keys.add(TextColumn.of(keys))
        self.cache.add(len(keys), code)
        self.index.add(code, keys, first)
        self.known |= {(code, key): first + n for n, key in enumerate(keys)}

    def check(self, code, keys):
        assert [self.known.get((code, key), NOWHERE) for key in keys] == self.index.find(code, keys).tolist()


@pytest.mark.parametrize("hashes", [TextColumn.hashes, few_hashes, no_hashes])
@pytest.mark.parametrize("most_new", [0, 5, 2**16])
def test_each_key_is_found_in_its_row_and_no_other(monkeypatch, hashes, most_new):
    monkeypatch.setattr(_index, "MOST_NEW", most_new)
    table = Table([f"old {n}" for n in range(40)], hashes)
    for n in range(12):
        new = [f"{n}:{i}" for i in range(n)]
        table.check(0, ["old 3", *new, "nobody", "", "old 39"])
        table.add(n % 3, new)
        for code in range(4):
            table.check(code, [f"{m}:{i}" for m in range(12) for i in range(m)] + ["old 0", "old 39", "nobody"])


def test_an_index_of_nothing_finds_nothing_and_grows(monkeypatch):
    monkeypatch.setattr(_index, "MOST_NEW", 0)
    table = Table()
    table.check(0, ["a", ""])
    table.check(0, [])
    table.add(0, ["a", ""])
    table.check(0, ["", "a", "b"])


def test_more_rows_than_a_word_had_numbers_for(monkeypatch):
    monkeypatch.setattr(_index, "MOST_NEW", 3)
    table = Table(["first"])
    table.check(0, ["first"])
    for n in range(200):
        table.add(0, [f"{n}", f"{n}!"])
    table.check(0, ["first", *(f"{n}!" for n in range(200)), *(f"{n}" for n in range(200)), "200"])


def test_the_words_are_made_at_the_first_question():
    asked = []

    def hashes(texts, codes):
        asked.append(len(texts))
        return texts.hashes(codes)

    table = Table(["a", "b"], hashes)
    assert asked == []
    table.check(0, ["b"])
    assert sorted(asked) == [1, 2]
    table.check(0, ["a", "b"])
    assert sorted(asked) == [1, 2, 2]


def test_a_key_that_cannot_be_stored_is_refused():
    with pytest.raises(UnicodeEncodeError):
        Table(["a"]).index.find(0, ["\udc80"])
