"""The law of accesses with instants of their own: they count as if each had been folded when it happened."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from builders import batch, history_of, trail_of
from preheat._history.accesses import UNKNOWN, Accesses, history_of_accesses

LOGS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 10**7).map(float), st.booleans()), min_size=1, max_size=40
)


def accesses_of(log, hit=None):
    keys = list(dict.fromkeys(key for key, _, _ in log))
    return Accesses(
        cache="c",
        keys=keys,
        versions=[""] * len(keys),
        recipes=[""] * len(keys),
        row=np.array([keys.index(key) for key, _, _ in log]),
        at=np.array([at for _, at, _ in log]),
        size_bytes=np.full(len(log), UNKNOWN),
        load_seconds=np.full(len(log), np.nan),
        hit=np.array([hit if hit is not None else was for _, _, was in log], np.int8),
    )


@given(LOGS)
def test_a_log_counts_like_accesses_folded_one_by_one(log):
    found = history_of_accesses(accesses_of(log))
    in_order = sorted(log, key=lambda access: access[1])
    wanted = history_of(*(batch([key], at + 1.0, hits=[was]) for key, at, was in in_order))
    rows = [list(wanted.keys).index(key) for key in found.keys]
    assert np.allclose(wanted.counts[rows], found.counts, rtol=1e-4)
    assert np.allclose(wanted.gaps[rows], found.gaps, rtol=1e-6, equal_nan=True)
    assert np.array_equal(wanted.last_at[rows] - 1.0, found.last_at)
    assert [(*item, at - 1.0) for *item, at in trail_of(wanted)] == trail_of(found)
    assert (wanted.hits.tolist(), wanted.misses.tolist()) == (found.hits.tolist(), found.misses.tolist())
    assert (in_order[0][1], in_order[-1][1]) == (found.since, found.at)


@given(LOGS)
def test_hours_add_up_to_the_whole(log):
    history = history_of_accesses(accesses_of(log))
    assert np.array_equal(history.hourly.sum(axis=0), np.stack([history.hits, history.misses], axis=1))
    assert history.hours.tolist() == sorted({int(at // 3600) for _, at, _ in log})


@given(LOGS)
def test_what_tells_neither_hit_nor_miss_counts_as_neither(log):
    history = history_of_accesses(accesses_of(log, UNKNOWN))
    assert (history.hits.tolist(), history.misses.tolist(), len(history.hours)) == ([0], [0], 0)
    assert len(history.trail) == len(log)
