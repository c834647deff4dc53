"""Laws of merging: traffic adds up, the order of the two makes no difference, and nothing known is lost."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from builders import history_of, same_history, trail_of
from drawn_histories import by_item, close, ordered, traffic
from preheat._columns import TextColumn
from preheat._history import empty_history, merge_histories


@given(ordered, st.data())
def test_merging_what_was_folded_apart_is_folding_all(many, data):
    mine = data.draw(st.lists(st.booleans(), min_size=len(many), max_size=len(many)))
    parts = [
        history_of(*(each for each, here in zip(many, mine, strict=True) if here is side)) for side in (True, False)
    ]
    merged, whole = merge_histories(*parts), history_of(*many)
    found, wanted = by_item(merged), by_item(whole)
    assert found.keys() == wanted.keys()
    for item, (last_at, counts, *_) in found.items():
        assert wanted[item][0] == last_at
        assert close(wanted[item][1], counts)
    assert traffic(whole) == traffic(merged)
    assert (whole.at, whole.since) == (merged.at, merged.since)
    at = [each[2] for each in trail_of(merged)]
    assert at == sorted(at)
    assert sorted(trail_of(whole)) == sorted(trail_of(merged))


@given(ordered, ordered)
def test_which_comes_first_makes_no_difference(left, right):
    a, b = history_of(*left), history_of(*right)
    one, other = merge_histories(a, b), merge_histories(b, a)
    found, wanted = by_item(one), by_item(other)
    assert found.keys() == wanted.keys()
    for item, (last_at, counts, gaps, size, cost, *texts) in found.items():
        assert wanted[item][0] == last_at
        assert close(wanted[item][1], counts)
        assert close(wanted[item][2], gaps)
        assert wanted[item][3] == size
        assert close(wanted[item][4], cost)
        assert list(wanted[item][5:]) == texts
    assert traffic(one) == traffic(other)
    assert trail_of(one) == trail_of(other)


@given(ordered)
def test_an_empty_history_is_neutral(many):
    history = history_of(*many)
    assert same_history(history, merge_histories(history, empty_history()))
    assert same_history(history, merge_histories(empty_history(), history))


@given(ordered, ordered, ordered)
def test_of_three_it_makes_no_difference_which_two_are_merged_first(first, second, third):
    a, b, c = (history_of(*many) for many in (first, second, third))
    one, other = merge_histories(merge_histories(a, b), c), merge_histories(a, merge_histories(b, c))
    found, wanted = by_item(one), by_item(other)
    assert found.keys() == wanted.keys()
    assert all(close(wanted[item][1], row[1]) and wanted[item][0] == row[0] for item, row in found.items())
    assert traffic(one) == traffic(other)


@given(ordered, ordered)
def test_what_either_knows_of_loads_stays_known(left, right):
    a, b = by_item(history_of(*left)), by_item(history_of(*right))
    for item, row in by_item(merge_histories(history_of(*left), history_of(*right))).items():
        facts = [part[item][3:] for part in (a, b) if item in part]
        assert (row[3], *row[5:]) in [(size, version, recipe) for size, _, version, recipe in facts]
        assert any(np.isnan(row[4]) <= np.isnan(cost) for _, cost, _, _ in facts)
        assert row[3] or not any(size for size, *_ in facts) or not np.isnan(row[4])


@given(ordered, ordered, st.integers(1, 5))
def test_what_is_kept_beyond_the_limit_is_the_best(left, right, limit):
    a, b = history_of(*left), history_of(*right)
    everything, kept = merge_histories(a, b), merge_histories(a, b, max_items=limit)
    if len(everything) <= 1.25 * limit:
        assert same_history(everything, kept)
        return
    assert limit == len(kept)
    rank = list(zip(everything.decayed_counts(everything.at)[:, -1].tolist(), everything.last_at.tolist(), strict=True))
    worth = dict(zip(by_item(everything), rank, strict=True))
    assert sorted(worth.values())[-limit:] == sorted(worth[item] for item in by_item(kept))
    assert traffic(everything) == traffic(kept)
    assert [each for each in trail_of(everything) if each[:2] in by_item(kept)] == trail_of(kept)


@given(ordered, ordered)
def test_equal_bits_are_not_taken_for_equal_items(left, right):
    class Alike(TextColumn):
        __slots__ = ()

        def hashes(self, codes):
            return np.zeros(len(self), np.uint64)

    def alike(history):
        from dataclasses import replace

        return replace(history, keys=Alike(history.keys.blob, history.keys.offsets))

    a, b = history_of(*left), history_of(*right)
    found, wanted = by_item(merge_histories(alike(a), alike(b))), by_item(merge_histories(a, b))
    assert repr(wanted) == repr(found)


@given(ordered)
def test_a_trail_stays_in_the_order_in_which_each_saw_it(many):
    instants = [next(group) for _, group in groupby(many, key=lambda each: each.at)]
    merged = merge_histories(history_of(*instants[::2]), history_of(*instants[1::2]))
    assert trail_of(history_of(*instants)) == trail_of(merged)


@given(ordered, st.data())
def test_parts_that_follow_each_other_have_the_gaps_of_the_whole(many, data):
    cut = data.draw(st.integers(0, len(many)))
    found = by_item(merge_histories(history_of(*many[:cut]), history_of(*many[cut:])))
    assert all(close(row[2], found[item][2]) for item, row in by_item(history_of(*many)).items())
