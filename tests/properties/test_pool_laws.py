"""Laws of pooling: joining is commutative, associative and idempotent, and what is added up is all that was told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import batch, history_of, same_history, trail_of
from drawn_histories import by_item, close, ordered, traffic
from preheat._columns import TextColumn
from preheat._pool import Contribution, Folded, contribute, fold
from preheat._pool.contributions import keep_best, not_after, shifted
from preheat._pool.encoding import decode_contribution, encode_contribution
from preheat._pool.files import fold_pool, join_told, told
from preheat._pool.rows import TOGETHER

NOW = 1e9
MANY = 2 * TOGETHER + 3  # histories: what waits to be brought together is, more than once


@st.composite
def contributions(draw: st.DrawFn) -> Contribution:
    name, version = draw(st.sampled_from(["a", "b", "c", "日本"])), draw(st.integers(0, 3))
    return contribute(name, version, history_of(*draw(ordered)))


pools = st.lists(contributions(), max_size=5).map(lambda many: join_told([[told(each) for each in many]]))


def heads(pool):
    return [each.head for each in pool]


@given(pools, pools, pools)
def test_joining_pools_is_commutative_associative_and_idempotent(a, b, c):
    assert heads(join_told([a, b])) == heads(join_told([b, a]))
    assert heads(join_told([a, join_told([b, c])])) == heads(join_told([join_told([a, b]), c]))
    assert heads(join_told([a, a])) == heads(a)
    assert heads(join_told([join_told([a, b]), b, a])) == heads(join_told([a, b]))


@given(st.lists(contributions(), max_size=8), st.data())
def test_any_order_and_any_repetition_give_the_same_history_to_the_last_bit(many, data):
    shuffled = data.draw(st.permutations(many)) + data.draw(
        st.lists(st.sampled_from(many), max_size=4) if many else st.just([])
    )
    one = fold_pool(join_told([[told(each) for each in many]]), NOW, max_items=1000)
    other = fold_pool(join_told([[told(each)] for each in shuffled]), NOW, max_items=1000)
    assert (one is None) == (other is None) == (not many)
    if one is not None and other is not None:
        assert same_history(one.history, other.history)
        assert one.missed == other.missed


@given(ordered, st.data())
def test_what_replicas_recorded_apart_adds_up_to_what_one_would_have_recorded(many, data):
    whose = data.draw(st.lists(st.integers(0, MANY - 1), min_size=len(many), max_size=len(many)))
    parts = [history_of(*(each for each, n in zip(many, whose, strict=True) if n == mine)) for mine in range(MANY)]
    folded, whole = fold((Folded(part, 0.0) for part in parts), max_items=1000), history_of(*many)
    assert folded is not None
    found, wanted = by_item(folded.history), by_item(whole)
    assert found.keys() == wanted.keys()
    for item, (last_at, counts, *_) in found.items():
        assert wanted[item][0] == last_at
        assert close(counts, wanted[item][1])
    assert traffic(folded.history) == traffic(whole)
    assert sorted(trail_of(folded.history)) == sorted(trail_of(whole))
    assert (folded.history.at, folded.history.since, folded.missed) == (whole.at, whole.since, 0.0)


@given(st.lists(ordered, max_size=2 * TOGETHER))
def test_of_loads_the_last_one_told_counts_and_the_cost_is_the_mean(many):
    parts = [history_of(*each) for each in many]
    folded = fold((Folded(part, 0.0) for part in parts), max_items=1000)
    told: dict[tuple[str, str], list[tuple]] = {}
    for part in parts:
        for item, (last_at, _, gaps, size, cost, version, recipe) in by_item(part).items():
            told.setdefault(item, []).append((last_at, cost == cost or size > 0, gaps, cost, (size, version, recipe)))
    assert (folded is not None) == bool(many)
    if folded is None:
        return
    for item, (_, _, gaps, size, cost, version, recipe) in by_item(folded.history).items():
        last = max(reversed(told[item]), key=lambda each: each[0])
        load = max(reversed(told[item]), key=lambda each: (each[1], each[0]))
        costs = [each[3] for each in told[item] if each[3] == each[3]]
        assert close(gaps, last[2])
        assert (size, version, recipe) == load[-1]
        assert close(cost, sum(costs) / len(costs) if costs else np.nan)


@given(st.lists(ordered, min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 4))
def test_no_count_is_too_low_by_more_than_is_said(many, told_items, kept_items):
    histories = [history_of(*each) for each in many]
    parts = [contribute(str(n), n, history, max_items=told_items) for n, history in enumerate(histories)]
    bounded = fold((Folded(each.history, each.missed) for each in parts), max_items=kept_items)
    whole = fold((Folded(each, 0.0) for each in histories), max_items=1000)
    assert bounded is not None
    assert whole is not None
    assert len(bounded.history) <= kept_items
    kept = counts_now(bounded.history, whole.history.at)
    for item, count in counts_now(whole.history, whole.history.at).items():
        assert kept.get(item, 0.0) >= count - bounded.missed * 1.001 - 1e-6
        assert kept.get(item, 0.0) <= count * 1.001 + 1e-6


def counts_now(history, at):
    counts = history.decayed_counts(at)[:, -1].tolist()
    named = zip(history.cache.tolist(), history.keys, counts, strict=True)
    return {(history.caches[code], key): count for code, key, count in named}


@given(contributions())
def test_a_contribution_is_read_as_it_was_written(contribution):
    head, body = encode_contribution(contribution)
    read = decode_contribution(head, body)
    assert (read.replica, read.version, read.missed) == (
        contribution.replica,
        contribution.version,
        contribution.missed,
    )
    assert encode_contribution(read) == (head, body)


@given(ordered, st.floats(-1e5, 1e5))
def test_a_clock_that_is_ahead_moves_instants_and_nothing_else(many, seconds):
    history = shifted(history_of(*many), 2e5)
    moved = shifted(history, seconds)
    assert moved.last_at == pytest.approx(history.last_at + seconds)
    assert moved.trail_at == pytest.approx(history.trail_at + seconds)
    assert np.array_equal(moved.counts, history.counts)
    assert moved.keys == history.keys
    assert not_after(history, history.at - 5.0).at == pytest.approx(history.at - 5.0)
    assert not_after(history, history.at) is history


def test_items_that_only_share_their_bits_stay_apart(monkeypatch):
    monkeypatch.setattr(TextColumn, "hashes", lambda self, codes: np.zeros(len(self), np.uint64))
    many = [told_by("a", {"k1": 1.0, "k2": 5.0}), told_by("b", {"k2": 6.0, "k3": 7.0}), told_by("c", {"k1": 9.0})]
    folded = fold((Folded(each, 0.0) for each in many), max_items=10)
    assert folded is not None
    last_at = dict(zip(folded.history.keys, folded.history.last_at.tolist(), strict=True))
    assert last_at == {"k1": 9.0, "k2": 6.0, "k3": 7.0}


def told_by(_, keys):
    return history_of(*(batch([key], at) for key, at in sorted(keys.items(), key=lambda each: each[1])))


def test_histories_of_other_half_lives_are_refused():
    one = told_by("a", {"k": 1.0})
    with pytest.raises(ValueError, match="half-lives"):
        fold([Folded(one, 0.0), Folded(replace(one, half_lives=(1.0, 2.0, 3.0)), 0.0)])


def test_the_best_items_are_kept_and_the_best_of_the_others_is_told():
    history = told_by("a", {"k1": 1.0, "k2": 2.0, "k3": 3.0})
    kept, missed = keep_best(history, 2)
    assert set(kept.keys) == {"k2", "k3"}
    assert missed == pytest.approx(history.decayed_counts(history.at)[0, -1])
    assert keep_best(history, 3) == (history, 0.0)
