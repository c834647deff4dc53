"""What happened to a history, and the history after it."""

from dataclasses import replace

import numpy as np
import pytest

from builders import batch, same_history, same_hours
from preheat._columns import TextColumn
from preheat._history import HistoryBuilder, with_changes
from preheat._model import ItemRef

LOAD = {"b": (7, 0.5, "v2", "again b")}


def changed():
    """A history, changes that follow it, and the history after them."""
    builder = HistoryBuilder()
    builder.fold(batch(["a", "b", "c"], at=3600.0, cache="x"))
    builder.changes()
    before = builder.history()
    builder.fold(batch(["b", "new"], at=7300.0, cache="x", loads=LOAD))
    builder.fold(batch(["b"], at=7301.0, cache="y", hits=[True]))
    return before, builder.changes(), builder.history()


def test_changes_name_the_rows_that_were_asked_for_and_the_new_ones():
    _, changes, _ = changed()
    assert (changes.row.tolist(), changes.size) == ([1, 3, 4], 5)
    assert (list(changes.rows.keys), list(changes.rows.versions)) == (["b", "new", "b"], ["v2", "", ""])
    assert changes.rows.trail.tolist() == [1, 3, 4]
    assert (changes.rows.caches, changes.rows.hits.tolist(), changes.rows.hours.tolist()) == (
        ("x", "y"),
        [0, 1],
        [1, 2],
    )


def test_a_history_with_its_changes_is_the_history_after_them():
    before, changes, after = changed()
    now = with_changes(before, changes)
    assert same_history(after, now)
    assert same_hours(after, now)


def test_nothing_changes_where_nothing_happened():
    builder = HistoryBuilder(changed()[0])
    changes = builder.changes()
    assert (len(changes.row), len(changes.rows.trail), changes.size) == (0, 0, 3)
    assert same_history(builder.history(), with_changes(builder.history(), changes))


def test_a_history_stays_as_it_is_when_changes_are_added():
    before, changes, _ = changed()
    kept = [before.counts.copy(), list(before.keys), list(before.versions)]
    with_changes(before, changes)
    assert np.array_equal(kept[0], before.counts)
    assert kept[1:] == [list(before.keys), list(before.versions)]


def test_there_are_no_changes_where_rows_were_renumbered():
    builder = HistoryBuilder()
    builder.fold(batch(["a", "b"]))
    builder.forget([ItemRef("c", "a")])
    builder.fold(batch(["n"]))
    assert builder.changes() is None
    before = builder.history()
    builder.fold(batch(["b"]))
    assert same_history(builder.history(), with_changes(before, builder.changes()))


def test_there_are_no_changes_where_the_least_valuable_were_dropped():
    builder = HistoryBuilder(max_items=2)
    builder.fold(batch(["a", "b", "c"]))
    assert builder.changes() is None
    assert builder.changes() is not None


def test_a_trail_of_another_length_is_kept_to_it():
    builder = HistoryBuilder(max_trail=3)
    builder.fold(batch(["a", "b"]))
    before = builder.history()
    builder.changes()
    builder.fold(batch(["b", "a", "b", "c"]))
    assert same_history(builder.history(), with_changes(before, builder.changes(), max_trail=3))


def forged(**fields):
    return lambda changes: changes._replace(rows=replace(changes.rows, **fields))


def text(*strings):
    return TextColumn.of(strings)


@pytest.mark.parametrize(
    ("forge", "why"),
    [
        (lambda c: c._replace(row=np.array([1, 3, 3])), "rows don't rise"),
        (lambda c: c._replace(row=np.array([-1, 3, 4])), "below the first"),
        (lambda c: c._replace(row=np.array([0, 3, 4])), "another key"),
        (lambda c: c._replace(row=np.array([1, 3, 5])), "new rows are not the next ones"),
        (lambda c: c._replace(size=2**60), "new rows are not the next ones"),
        (lambda c: c._replace(size=4), "new rows are not the next ones"),
        (lambda c: c._replace(row=c.row[:2], size=4), "not as long as its rows"),
        (forged(half_lives=(1.0, 2.0, 3.0)), "half-lives"),
        (forged(caches=("y", "x")), "caches are others"),
        (forged(caches=("x", "x")), "caches are others"),
        (forged(caches=("x",)), "not those of its caches"),
        (forged(hits=np.zeros(3, np.int64)), "not those of its caches"),
        (forged(at=np.nan), "ends before"),
        (forged(at=0.0), "ends before"),
        (forged(hours=np.array([1, 2, 3])), "hours are not"),
        (forged(hours=np.array([2, 1])), "hours don't rise"),
        (forged(cache=np.array([0, 0, 2], np.int16)), "cache that is not there"),
        (forged(cache=np.array([1, 0, 1], np.int16)), "another key"),
        (forged(keys=text("b", "new", "b", "b")), "not as long"),
        (forged(keys=text("c", "new", "b")), "another key"),
        (forged(counts=np.zeros((3, 2), np.float32)), "another width"),
        (forged(gaps=np.zeros((3, 9), np.float32)), "another width"),
        (forged(recipes=text("b")), "not as long"),
        (forged(trail=np.array([1, 3, 5], np.int32)), "row that is not there"),
        (forged(trail=np.array([-1, 3, 4], np.int32)), "row that is not there"),
        (forged(trail=np.array([1, 3], np.int32)), "other instants than rows"),
        (forged(trail_at=np.array([1.0, 7300.0, 7301.0])), "instants of its trail fall"),
        (forged(trail_at=np.array([7300.0, 7300.0, np.nan])), "instants of its trail fall"),
        (forged(trail_at=np.array([7300.0, 7300.0, 9999.0])), "after its end"),
    ],
)
def test_changes_that_do_not_fit_are_refused(forge, why):
    before, changes, _ = changed()
    with pytest.raises(ValueError, match=why):
        with_changes(before, forge(changes))


def test_changes_do_not_fit_twice():
    before, changes, _ = changed()
    with pytest.raises(ValueError, match="don't fit the history"):
        with_changes(before, changes, changes)
