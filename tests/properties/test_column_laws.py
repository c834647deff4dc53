"""Text columns behave as lists of strings do."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from preheat._columns import TextColumn
from preheat._model import CandidateTable, ItemRef, WarmupItem

texts = st.lists(st.text(max_size=8), max_size=20)  # text() makes no surrogates


@given(texts)
def test_a_round_trip_changes_nothing(strings):
    column = TextColumn.of(strings)
    assert strings == list(column)
    assert strings == [column[n] for n in range(len(strings))]
    assert sum(len(s.encode()) for s in strings) == column.lengths().sum()


@given(st.lists(texts, max_size=5))
def test_concatenating_columns_is_concatenating_lists(parts):
    together = TextColumn.concatenate([TextColumn.of(part) for part in parts])
    assert [s for part in parts for s in part] == list(together)
    assert TextColumn.of(list(together)) == together


@given(texts.filter(bool), st.data())
def test_taking_rows_is_indexing(strings, data):
    rows = data.draw(st.lists(st.integers(0, len(strings) - 1), max_size=20))
    assert [strings[row] for row in rows] == list(TextColumn.of(strings).take(np.array(rows, np.int64)))


@given(texts, st.slices(20))
def test_slicing_is_slicing(strings, cut):
    assert strings[cut] == list(TextColumn.of(strings)[cut])


@given(texts, st.data())
def test_what_is_kept_leaves_nothing_of_the_rest(strings, data):
    kept = data.draw(st.lists(st.booleans(), min_size=len(strings), max_size=len(strings)))
    left = [s for s, keep in zip(strings, kept, strict=True) if keep]
    column = TextColumn.of(strings).where(np.array(kept, np.bool_))
    assert TextColumn.of(left) == column


@given(texts, st.data())
def test_replacing_is_assigning(strings, data):
    length = data.draw(st.integers(len(strings), 25))
    rows = sorted(data.draw(st.sets(st.integers(0, length - 1)))) if length else []
    new = [data.draw(st.text(max_size=8)) for _ in rows]
    column = TextColumn.of(strings).replaced(np.array(rows, np.int64), TextColumn.of(new), length)
    strings = strings + [""] * (length - len(strings))
    for row, text in zip(rows, new, strict=True):
        strings[row] = text
    assert TextColumn.of(strings) == column


alike = st.text("ab", max_size=40) | st.just("a" * 300) | st.just("a" * 299 + "b")


@given(st.lists(alike, min_size=1, max_size=20), st.data())
def test_holding_is_being_equal(strings, data):
    rows = data.draw(st.lists(st.integers(0, len(strings) - 1), max_size=20))
    asked = [data.draw(st.sampled_from(strings)) for _ in rows]
    held = TextColumn.of(strings).holds(np.array(rows, np.int64), TextColumn.of(asked))
    assert [strings[row] == text for row, text in zip(rows, asked, strict=True)] == held.tolist()


refs = st.builds(ItemRef, st.sampled_from(["a", "b", "c"]), st.text(max_size=4))
items = st.builds(
    WarmupItem,
    refs,
    st.integers(1, 10),
    st.integers(0, 2**40),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.lists(refs, max_size=3).map(tuple),
    st.text(max_size=4),
    value_seconds=st.sampled_from([0.0, 0.5, 7.0]),
    covers=st.lists(refs, max_size=2).map(tuple),
)


@given(st.lists(st.lists(items, max_size=8), max_size=4), st.data())
def test_a_table_behaves_as_its_rows(parts, data):
    rows = [row for part in parts for row in part]
    table = CandidateTable.concatenate([CandidateTable.of(part) for part in parts])
    assert rows == list(table)
    assert [row.ref for row in rows] == list(table.refs())
    if rows:
        wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10))
        assert [rows[n] for n in wanted] == list(table.take(np.array(wanted, np.int64)))
