"""Histories are added to a sum whatever its bounds are, and what it has shown stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

from builders import batch, history_of, same_history
from preheat._pool.adding import Sum
from preheat._pool.rows import TOGETHER


def loaded(n):
    """A history in which `shared` and an item of its own were loaded, both of version n."""
    keys = ["shared", f"own {n}"]
    return history_of(batch(keys, 1000.0 + n, loads={key: (n + 1, 0.5, f"v{n}", f"{key} again") for key in keys}))


def texts(history):
    return {key: told for key, *told in zip(history.keys, history.versions, history.recipes, strict=True)}


@pytest.mark.parametrize("together_bytes", [1, 2**20], ids=["one by one", "many together"])
def test_texts_are_those_told_last_however_many_wait(monkeypatch, together_bytes):
    monkeypatch.setattr("preheat._pool.rows.TOGETHER_BYTES", together_bytes)
    last = 3 * TOGETHER + 1
    added = Sum(loaded(0))
    for n in range(1, last + 1):
        added.add(loaded(n))
    expected = {f"own {n}": [f"v{n}", f"own {n} again"] for n in range(last + 1)}
    assert texts(added.history()) == expected | {"shared": [f"v{last}", "shared again"]}


def test_of_a_load_that_says_nothing_any_more_nothing_is_left():
    added = Sum(loaded(0))
    added.add(history_of(batch(["shared"], 2000.0, loads={"shared": (7, 0.5, "", "")})))
    assert texts(added.history()) == {"shared": ["", ""], "own 0": ["v0", "own 0 again"]}


def test_what_was_shown_stays_as_it_was():
    added = Sum(loaded(0))
    shown, alike = added.history(), Sum(loaded(0)).history()
    added.add(loaded(1))
    assert same_history(shown, alike)
    assert len(added.history()) == 3


def test_trails_are_interleaved_by_time():
    added = Sum(history_of(batch(["a", "b"], 1.0), batch(["a"], 3.0)))
    added.add(history_of(batch(["c"], 2.0)))
    history = added.history()
    assert [history.keys[row] for row in history.trail.tolist()] == ["a", "b", "c", "a"]
    assert np.array_equal(history.trail_at, [1.0, 1.0, 2.0, 3.0])


def test_more_caches_than_can_be_told_apart_are_refused(monkeypatch):
    monkeypatch.setattr("preheat._pool.adding.MOST_CACHES", 2)
    added = Sum(history_of(batch(["k"], cache="a")))
    added.add(history_of(batch(["k"], cache="b")))
    with pytest.raises(ValueError, match="3 caches"):
        added.add(history_of(batch(["k"], cache="c")))
