"""Columns grow and change; what was shown of them does not."""

import numpy as np
import pytest

from preheat._columns import TextColumn
from preheat._history import growing as _growing
from preheat._history.growing import ChangingText, GrowingArray, GrowingText


def test_what_was_shown_of_an_array_stays():
    given = np.arange(3)
    array = GrowingArray(given)
    shown = array.shown()
    array.add(2, np.array([8, 9]))
    array.changeable()[0] = 7
    later = array.shown()
    array.changeable()[1] = 6
    array.add(1, 5)
    assert (given.tolist(), shown.tolist(), later.tolist()) == ([0, 1, 2], [0, 1, 2], [7, 1, 2, 8, 9])
    assert array.current.tolist() == [7, 6, 2, 8, 9, 5]
    with pytest.raises(ValueError, match="read-only"):
        later[0] = 1


def test_an_array_that_is_only_shown_or_added_to_is_not_copied_again():
    array = GrowingArray(np.arange(3))
    assert np.shares_memory(array.shown(), array.shown())
    array.add(1, 0)
    before = array.shown()
    array.add(1, 0)
    assert np.shares_memory(before, array.shown())
    assert not np.shares_memory(before, array.changeable())
    assert np.shares_memory(array.changeable(), array.changeable())


def test_text_grows_behind_what_was_shown():
    text = GrowingText(TextColumn.of(["a", "ß"]))
    shown = text.shown()
    text.add(TextColumn.of(["", "日本"]))
    text.add(TextColumn.of(()))
    assert (list(shown), list(text.current), len(text)) == (["a", "ß"], ["a", "ß", "", "日本"], 4)


@pytest.mark.parametrize("most_waiting", [0, 3, 100])
def test_changed_text_reads_as_a_list_does(monkeypatch, most_waiting):
    monkeypatch.setattr(_growing, "MOST_WAITING", most_waiting)
    random = np.random.default_rng(1)
    texts = ["a", "bb", "", "dd"]
    column = ChangingText(TextColumn.of(texts))
    for n in range(60):
        if n % 4 == 0:
            column.add(2)
            texts += ["", ""]
        rows = random.permutation(len(texts))[: random.integers(0, 4)]
        new = [f"{n}" * random.integers(0, 3) for _ in rows]
        column.put(rows, TextColumn.of(new))
        for row, text in zip(rows.tolist(), new, strict=True):
            texts[row] = text
        asked = random.integers(0, len(texts), 6)
        assert [texts[row] for row in asked.tolist()] == list(column.take(asked))
        if n % 7 == 0:
            shown, then = column.shown(), list(texts)
            column.put(np.array([0]), TextColumn.of(["later"]))
            texts[0] = "later"
            assert then == list(shown)
    assert texts == list(column.shown())
    assert len(texts) == len(column)
