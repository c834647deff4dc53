"""Forgetting: exactly what is named goes, from columns, trail and reports."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from builders import batch, history_of, trail_of
from preheat._history.forgetting import Forgotten, without_failures, without_items

KEYS = st.text("ab:é", max_size=3)


def forgotten(cache="c", keys=(), prefixes=()):
    return Forgotten(cache, frozenset(keys), tuple(prefixes))


@given(
    st.lists(st.tuples(st.sampled_from("cd"), KEYS), max_size=12), st.sets(KEYS, max_size=3), st.lists(KEYS, max_size=2)
)
def test_exactly_the_named_go(accesses, keys, prefixes):
    history = history_of(*(batch([key], 1000.0 + n, cache) for n, (cache, key) in enumerate(accesses)))
    after, gone = without_items(history, forgotten("c", keys, prefixes))
    goes = lambda cache, key: cache == "c" and (key in keys or any(key.startswith(p) for p in prefixes))  # noqa: E731
    assert set(gone) == {key for cache, key in accesses if goes(cache, key)}
    assert trail_of(after) == [each for each in trail_of(history) if not goes(*each[:2])]
    assert len(after) == len(history) - len(gone)
    assert np.array_equal(after.misses, history.misses)


def test_no_byte_of_a_forgotten_key_is_left_in_the_column():
    history = history_of(batch(["secret-1", "kept", "secret-2"], loads={"secret-1": (1, 1.0, "v", "secret recipe")}))
    after, gone = without_items(history, forgotten(prefixes=["secret"]))
    assert (list(after.keys), sorted(gone)) == (["kept"], ["secret-1", "secret-2"])
    assert b"secret" not in after.keys.blob.tobytes() + after.recipes.blob.tobytes()


def test_what_nobody_knows_changes_nothing():
    history = history_of(batch(["a"]))
    assert without_items(history, forgotten("other", ["a"])) == (history, [])


def test_a_report_says_nothing_of_the_failure_of_what_is_gone():
    rows = [{"item": "c:a", "reason": "x"}, {"item": "c:ab", "reason": "y"}, {"item": "d:a", "reason": "z"}, "damaged"]
    report = {"started": 1.0, "failures": rows}
    assert without_failures(report, forgotten(keys=["a"])) == {"started": 1.0, "failures": rows[1:]}
    assert without_failures(report, forgotten(prefixes=["a"]))["failures"] == rows[2:]
    assert without_failures({"started": 1.0, "failures": None}, forgotten(keys=["a"]))["failures"] == []
