"""Laws of the history: bounded, never negative, indifferent to how a drain was cut into batches."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import batch, history_of, same_history, same_hours, trail_of
from preheat._history import HistoryBuilder, with_changes
from preheat._history import growing as _growing
from preheat._history import index as _index
from preheat._history.rows import highest
from preheat._model import ItemRef
from preheat._predict.decayed_frequency import predict as decayed_frequency
from preheat._predict.horizon import refill_seconds

KEYS = st.sampled_from(["a", "b", "c", "日本", "", "k\0"])
INSTANTS = st.floats(1.0, 1e6)  # in seconds


@st.composite
def batches(draw: st.DrawFn, at: float | None = None):
    accesses = draw(st.lists(st.tuples(KEYS, st.booleans()), min_size=1, max_size=12))
    missed = {key for key, hit in accesses if not hit}
    loads = {
        key: (
            draw(st.integers(0, 2**40)),
            draw(st.floats(0.0, 1e3)),
            draw(st.text(max_size=3)),
            draw(st.text(max_size=3)),
        )
        for key in missed
        if draw(st.booleans())
    }
    return batch(
        [key for key, _ in accesses],
        draw(INSTANTS) if at is None else at,
        draw(st.sampled_from(["x", "y"])),
        hits=[hit for _, hit in accesses],
        loads=loads,
    )


histories = st.lists(batches(), max_size=8).map(lambda many: history_of(*many))
ordered = st.lists(batches(), max_size=8).map(lambda many: sorted(many, key=lambda each: each.at))


@given(ordered)
def test_counts_are_finite_never_negative_and_never_more_than_the_accesses(many):
    history = history_of(*many)
    accesses = sum(len(each.row) for each in many)
    for at in (history.at, history.at + 1e5, history.at + 1e12):
        decayed = history.decayed_counts(at)
        assert np.isfinite(decayed).all()
        assert (decayed >= 0).all()
        assert decayed.sum(axis=0).max(initial=0.0) <= accesses * (1 + 1e-6)
    assert accesses == history.hits.sum() + history.misses.sum()


@given(ordered, st.floats(0.0, 1e7))
def test_waiting_never_raises_a_count(many, seconds):
    history = history_of(*many)
    assert (history.decayed_counts(history.at + seconds) <= history.decayed_counts(history.at)).all()


@given(st.lists(st.tuples(KEYS, st.booleans()), min_size=1, max_size=30), st.data())
def test_folding_in_batches_of_one_instant_is_folding_at_once(accesses, data):
    keys, hits = [key for key, _ in accesses], [hit for _, hit in accesses]
    cuts = sorted({0, len(keys), *data.draw(st.lists(st.integers(0, len(keys)), max_size=4))})
    before = batch(["a", "z"], at=50.0)
    parts = [batch(keys[i:j], at=90.0, hits=hits[i:j]) for i, j in pairwise(cuts)]
    at_once, in_parts = history_of(before, batch(keys, at=90.0, hits=hits)), history_of(before, *parts)
    assert list(at_once.keys) == list(in_parts.keys)
    assert np.allclose(at_once.counts, in_parts.counts, rtol=1e-5)
    for name in ("last_at", "gaps", "size_bytes", "hits", "misses", "trail", "trail_at"):
        assert np.array_equal(getattr(at_once, name), getattr(in_parts, name), equal_nan=name == "gaps")


@given(ordered, st.integers(1, 5))
def test_a_history_is_bounded(many, limit):
    builder = HistoryBuilder(max_items=limit)
    for each in many:
        builder.fold(each)
        assert len(builder) <= 1.25 * limit
        assert len(builder) == len(builder.history())


@given(ordered, ordered)
def test_going_on_from_a_saved_history_is_going_on(first, second):
    builder = HistoryBuilder(history_of(*first))
    for each in second:
        builder.fold(each)
    assert same_history(history_of(*first, *second), builder.history())


@given(ordered, st.sets(st.builds(ItemRef, st.sampled_from(["x", "y", "z"]), KEYS)))
def test_forgetting_drops_exactly_the_named(many, refs):
    builder = HistoryBuilder(history_of(*many))
    before = builder.history()
    known = [ItemRef(before.caches[code], key) for code, key in zip(before.cache.tolist(), before.keys, strict=True)]
    gone = builder.forget(refs)
    after = builder.history()
    left = [ItemRef(after.caches[code], key) for code, key in zip(after.cache.tolist(), after.keys, strict=True)]
    assert [ref for ref in known if ref not in refs] == left
    assert len(known) - len(left) == gone


@given(ordered, st.lists(ordered, max_size=4), st.booleans())
def test_a_history_with_all_that_happened_to_it_is_the_history_now(first, later, shown):
    builder = HistoryBuilder(history_of(*first))
    before = step = builder.history()
    happened = []
    for batches_ in later:
        for each in batches_:
            builder.fold(each)
        if shown:
            builder.history()
        happened.append(builder.changes())
        step = with_changes(step, happened[-1])
        assert same_history(builder.history(), step)
    assert same_history(builder.history(), with_changes(before, *happened))
    assert same_hours(builder.history(), with_changes(before, *happened))


@given(ordered, st.lists(batches(), min_size=1, max_size=4), st.data())
def test_forged_changes_are_refused_or_usable_but_never_a_crash(first, later, data):
    builder = HistoryBuilder(history_of(*first))
    before = builder.history()
    for each in later:
        builder.fold(each)
    changes = builder.changes()
    numbers = st.integers(-2, 12)
    rows = replace(
        changes.rows,
        cache=changes.rows.cache + data.draw(numbers),
        trail=changes.rows.trail + data.draw(numbers),
        at=changes.rows.at + data.draw(numbers),
    )
    forged = changes._replace(rows=rows, row=changes.row + data.draw(numbers), size=changes.size + data.draw(numbers))
    try:
        now = with_changes(before, forged)
    except ValueError:
        return
    assert len(now) == forged.size == len(now.keys) == len(now.counts)
    assert len(trail_of(now)) == len(now.trail)


@pytest.mark.parametrize("bits", [0, 1, 64])
@given(first=ordered, second=ordered)
def test_keys_of_equal_hashes_are_told_apart(bits, first, second):
    def hashes(texts, codes):
        return texts.hashes(codes) & np.uint64(2**64 - 2 ** (64 - bits))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_index, "MOST_NEW", 1)
        builder = HistoryBuilder(history_of(*first), hashes=hashes)
        for each in second:
            builder.fold(each)
    assert same_history(history_of(*first, *second), builder.history())


SECRET = "who-asked-for-this"


@given(ordered, ordered)
def test_nothing_is_left_of_a_key_that_was_forgotten(before, after):
    builder = HistoryBuilder(history_of(*before))
    load = {SECRET: (1, 1.0, f"version of {SECRET}", f"recipe of {SECRET}")}
    builder.fold(batch(["a", SECRET], 1e6, "x", loads=load))
    assert SECRET in bytes_of(builder.history())
    assert builder.forget([ItemRef("x", SECRET)]) == 1
    assert SECRET not in bytes_of(builder.history())
    builder.changes()
    for each in after:
        builder.fold(each)
    assert SECRET not in bytes_of(builder.history())
    assert SECRET not in bytes_of(builder.changes().rows)


def bytes_of(history):
    columns = (history.keys, history.versions, history.recipes)
    return b"\0".join(column.blob.tobytes() for column in columns).decode()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20), st.integers(0, 22))
def test_the_highest_are_the_first_of_all_sorted(pairs, most):
    first, then = (np.array(column, np.float64) for column in (zip(*pairs, strict=True) if pairs else ([], [])))
    assert np.lexsort((-then, -first))[:most].tolist() == highest_in_order(most, first, then)


def highest_in_order(most, first, then):
    rows = highest(most, first, then)
    return rows[np.lexsort((rows, -then[rows], -first[rows]))].tolist()


def accesses_of(many):
    return [(each.cache, each.keys[row], each.at) for each in many for row in each.row.tolist()]


def times(each, n):
    """`each`, asked for `n` times in a row: long enough that the trail has to move."""
    return each._replace(row=np.tile(each.row, n), hit=np.tile(each.hit, n))


@given(ordered, st.lists(st.integers(1, 100), min_size=8, max_size=8), st.integers(0, 500), st.integers(20, 1000))
def test_the_trail_is_the_newest_accesses_and_what_was_shown_of_it_stays(many, repeated, limit, chunk):
    long = [times(each, n) for each, n in zip(many, repeated, strict=False)]
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_growing, "CHUNK", chunk)
        builder = HistoryBuilder(max_trail=limit)
        for each in long:
            builder.fold(each)
            shown.append(builder.history())
    for n, history in enumerate(shown, 1):
        newest = accesses_of(long[:n])[-limit:] if limit else []
        assert trail_of(history) == newest


@given(ordered, ordered, st.sets(st.builds(ItemRef, st.sampled_from(["x", "y"]), KEYS)), st.integers(1, 40))
def test_forgetting_drops_exactly_the_accesses_of_the_named(before, after, refs, limit):
    builder = HistoryBuilder(max_trail=limit)
    for each in before:
        builder.fold(each)
    builder.forget(refs)
    left = [each for each in accesses_of(before)[-limit:] if ItemRef(*each[:2]) not in refs]
    assert trail_of(builder.history()) == left
    for each in after:
        builder.fold(each._replace(at=each.at + 1e6))
    later = [(cache, key, at + 1e6) for cache, key, at in accesses_of(after)]
    assert trail_of(builder.history()) == [*left, *later][-limit:]


@given(ordered, st.integers(1, 5))
def test_a_trail_speaks_of_remembered_items_only(many, limit):
    builder = HistoryBuilder(max_items=limit)
    for each in many:
        builder.fold(each)
    left = trail_of(builder.history())
    known = {(cache, key) for cache, key, _ in left}
    assert known == {(cache, key) for cache, key, _ in accesses_of(many)} & known
    asked = iter(accesses_of(many))
    assert all(each in asked for each in left)  # in their order


@given(ordered, st.floats(0.0, 1e9))
def test_rates_are_finite_and_not_negative(many, horizon):
    history = history_of(*many)
    rates = decayed_frequency(history, np.full(len(history), horizon))
    assert len(history) == len(rates)
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()


@given(ordered, st.integers(1, 2**41), st.integers(0, 2**41))
def test_a_larger_cache_never_refills_sooner(many, capacity, more):
    history = history_of(*many)
    assert 1.0 <= refill_seconds(history, "x", capacity) <= refill_seconds(history, "x", capacity + more)
    assert refill_seconds(history, "x", capacity + more) <= refill_seconds(history, "x", None)
