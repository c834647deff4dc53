"""Accesses of a log: sizes, costs and texts of its items."""

import numpy as np

from preheat._history.accesses import UNKNOWN, Accesses, history_of_accesses


def log(sizes, costs):
    n = len(sizes)
    at = np.arange(n, dtype=np.float64)[::-1]  # the newest first
    size_bytes, seconds = np.array(sizes, np.int64), np.array(costs, np.float64)
    return Accesses(
        "c", ["é"], ["v"], ["r"], np.zeros(n, np.int64), at, size_bytes, seconds, np.full(n, UNKNOWN, np.int8)
    )


def test_the_size_is_the_last_one_told_whatever_the_order_of_the_lines():
    history = history_of_accesses(log([UNKNOWN, 30, 20, UNKNOWN], [np.nan] * 4))
    assert history.size_bytes.tolist() == [30]
    assert np.isnan(history.load_seconds).all()


def test_the_cost_is_the_mean_of_what_was_told():
    history = history_of_accesses(log([0, 0, 0], [1.0, np.nan, 2.0]))
    assert history.load_seconds.tolist() == [1.5]
    assert (list(history.keys), list(history.versions), list(history.recipes)) == (["é"], ["v"], ["r"])


def test_no_accesses_are_an_empty_history():
    history = history_of_accesses(Accesses("c", [], [], [], *(np.empty(0, kind) for kind in "ldqdb")))
    assert (len(history), history.at, len(history.trail)) == (0, 0.0, 0)
