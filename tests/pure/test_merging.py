"""Merging: which of two rows says what, hours, and what can't be merged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from builders import batch, history_of
from preheat._columns import TextColumn
from preheat._history import empty_history, merge_histories
from preheat._history.traffic import MOST_HOURS


def hourly(history, hours, table):
    return replace(history, hours=np.array(hours, np.int64), hourly=np.array(table, np.int64))


def test_counts_are_added_as_of_the_later_access():
    older, newer = history_of(batch(["a", "a"], at=1000.0)), history_of(batch(["a"], at=1600.0))
    merged = merge_histories(older, newer)
    assert merged.last_at.tolist() == [1600.0]
    assert np.isclose(2.0, merged.counts[0, 0])  # two, a half-life ago, and one
    assert (merged.at, merged.since) == (1600.0, 1000.0)


def test_the_row_seen_last_says_size_version_and_recipe():
    older = history_of(batch(["a"], at=1000.0, loads={"a": (100, 1.0, "v1", "old")}))
    newer = history_of(batch(["a"], at=2000.0, loads={"a": (200, 3.0, "v2", "new")}))
    merged = merge_histories(newer, older)
    assert (merged.size_bytes[0], merged.versions[0], merged.recipes[0]) == (200, "v2", "new")
    assert merged.load_seconds[0] == 2.0


def test_a_row_seen_later_that_knows_no_load_takes_nothing_away():
    older = history_of(batch(["a"], at=1000.0, loads={"a": (100, 1.0, "v1", "old")}))
    newer = history_of(batch(["a"], at=2000.0, hits=[True]))
    merged = merge_histories(older, newer)
    assert (
        *(merged.size_bytes[0], merged.load_seconds[0]),
        *(merged.versions[0], merged.recipes[0], merged.last_at[0]),
    ) == (100, 1.0, "v1", "old", 2000.0)


def test_the_same_key_of_two_caches_is_two_items():
    merged = merge_histories(history_of(batch(["a"], cache="x")), history_of(batch(["a"], cache="y")))
    assert (merged.caches, merged.cache.tolist(), list(merged.keys)) == (("x", "y"), [0, 1], ["a", "a"])


def test_rows_of_the_older_keep_their_numbers():
    older, newer = history_of(batch(["a", "b"])), history_of(batch(["c", "b"], at=2000.0))
    assert list(merge_histories(older, newer).keys) == ["a", "b", "c"]


def test_hours_are_added_by_cache_and_hour():
    older = hourly(history_of(batch(["a"], cache="x")), [10, 12], [[[1, 2]], [[3, 4]]])
    newer = hourly(
        history_of(batch(["a"], cache="y"), batch(["a"], cache="x")), [11, 12], [[[5, 5], [0, 1]], [[0, 0], [7, 8]]]
    )
    merged = merge_histories(older, newer)
    assert merged.hours.tolist() == [10, 11, 12]
    assert merged.hourly.tolist() == [[[1, 2], [0, 0]], [[0, 1], [5, 5]], [[10, 12], [0, 0]]]


def test_the_newest_hours_are_kept():
    n = MOST_HOURS + 5
    older = hourly(history_of(batch(["a"])), range(n), np.ones((n, 1, 2)))
    merged = merge_histories(older, empty_history())
    assert list(range(5, n)) == merged.hours.tolist()


def test_histories_of_other_half_lives_are_refused():
    with pytest.raises(ValueError, match=r"\(600.0, .*\(5.0,\)"):
        merge_histories(empty_history(), empty_history((5.0,)))


def test_more_caches_than_can_be_numbered_are_refused():
    many = replace(
        empty_history(), caches=tuple(map(str, range(40_000))), hits=np.zeros(40_000, int), misses=np.zeros(40_000, int)
    )
    with pytest.raises(ValueError, match="40001 caches"):
        merge_histories(many, history_of(batch(["a"])))


def test_long_and_short_keys_with_a_common_start_are_told_apart():
    keys = ["k" * n for n in range(200)] + ["é" * 100, "é" * 99 + "è"]
    older, newer = history_of(batch(keys)), history_of(batch([*keys[::-1], "z"], at=2000.0))
    merged = merge_histories(older, newer)
    assert [*keys, "z"] == list(merged.keys)
    assert [2000.0] * len(merged) == merged.last_at.tolist()


def test_two_keys_of_equal_bits_and_other_lengths_are_two_items():
    class Alike(TextColumn):
        __slots__ = ()

        def hashes(self, codes):
            return np.zeros(len(self), np.uint64)

    def of(key):
        history = history_of(batch([key]))
        return replace(history, keys=Alike(history.keys.blob, history.keys.offsets))

    assert list(merge_histories(of("a"), of("bb")).keys) == ["a", "bb"]
    assert list(merge_histories(of("a"), of("b")).keys) == ["a", "b"]
    assert list(merge_histories(of("a"), of("a")).keys) == ["a"]
