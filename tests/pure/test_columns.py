"""Text as columns."""

import numpy as np
import pytest

from preheat._columns import TextColumn
from preheat._model import CandidateTable, ItemRef, WarmupItem

WORDS = ["", "a", "grün", "日本", "\N{GRINNING FACE}", "a b\n\0"]


def test_strings_come_back_as_they_were():
    assert list(TextColumn.of(WORDS)) == WORDS


def test_rows_are_read_from_both_ends():
    column = TextColumn.of(WORDS)
    assert [column[n] for n in range(len(WORDS))] == WORDS
    assert [column[n - len(WORDS)] for n in range(len(WORDS))] == WORDS


@pytest.mark.parametrize("row", [6, -7, 100])
def test_a_row_beyond_the_ends_is_an_error(row):
    with pytest.raises(IndexError, match=f"row {row} of a column of 6"):
        TextColumn.of(WORDS)[row]


def test_a_slice_is_a_column():
    assert TextColumn.of(WORDS[1:5:2]) == TextColumn.of(WORDS)[1:5:2]
    assert list(reversed(WORDS)) == list(TextColumn.of(WORDS)[::-1])


def test_take_repeats_and_reorders():
    assert list(TextColumn.of(WORDS).take(np.array([3, 0, 3]))) == ["日本", "", "日本"]


def test_concatenate_keeps_order_and_takes_nothing():
    parts = [TextColumn.of(part) for part in (["a", ""], [], ["日本"])]
    assert list(TextColumn.concatenate(parts)) == ["a", "", "日本"]
    assert list(TextColumn.concatenate([])) == []


def test_lengths_are_bytes_of_utf8():
    assert TextColumn.of(WORDS).lengths().tolist() == [0, 1, 5, 6, 4, 5]


def test_nbytes_counts_text_and_offsets():
    assert TextColumn.of(["ab", "c"]).nbytes == 3 + 3 * 8


def test_equal_columns_are_equal_and_others_are_not():
    assert TextColumn.of(["ab", "c"]) == TextColumn.of(["ab", "c"])
    assert TextColumn.of(["ab", "c"]) != TextColumn.of(["a", "bc"])  # same text, other offsets
    assert TextColumn.of(["ab"]) != ["ab"]


def test_a_lone_surrogate_is_refused():
    with pytest.raises(UnicodeEncodeError):
        TextColumn.of(["\udc80"])


def test_repr_does_not_show_the_text():
    assert repr(TextColumn.of(["secret"])) == "TextColumn(1 strings, 22 bytes)"


# ------------------------------------------------------------------------------------------------ candidate tables

ROWS = [
    WarmupItem(ItemRef("a", "x"), 1, 10, 0.5, 2.0),
    WarmupItem(ItemRef("b", "y"), 9, 20, 1.5, 3.0, (ItemRef("a", "x"),), "recipe"),
    WarmupItem(ItemRef("a", "z"), 5, 0),
]


def test_a_table_gives_its_rows_back():
    assert list(CandidateTable.of(ROWS)) == ROWS
    assert ROWS[-1] == CandidateTable.of(ROWS)[-1]
    assert ROWS[1:] == list(CandidateTable.of(ROWS)[1:])


@pytest.mark.parametrize("row", [3, -4])
def test_a_table_has_no_row_beyond_its_ends(row):
    with pytest.raises(IndexError):
        CandidateTable.of(ROWS)[row]


def test_taken_rows_keep_their_own_dependencies():
    taken = CandidateTable.of(ROWS).take(np.array([2, 1]))
    assert [ROWS[2], ROWS[1]] == list(taken)
    assert {1: (ItemRef("a", "x"),)} == dict(taken.needs)


def test_concatenated_tables_renumber_caches_and_rows():
    tables = [CandidateTable.of(ROWS[1:2]), CandidateTable.of([]), CandidateTable.of(ROWS)]
    both = CandidateTable.concatenate(tables)
    assert [ROWS[1], *ROWS] == list(both)
    assert both.caches == ("b", "a")
    assert {0, 2} == set(both.needs)


def test_nothing_concatenated_is_nothing():
    assert list(CandidateTable.concatenate([])) == []
    assert repr(CandidateTable.concatenate([])) == "CandidateTable(0 items of no cache)"
