"""Accesses in, history out."""

import math

import numpy as np
import pytest

from builders import batch, history_of, same_history, trail_of
from preheat._history import GAPS, HALF_LIVES, HistoryBuilder, empty_history
from preheat._model import History, ItemRef


def column(history, name):
    return dict(zip(history.keys, getattr(history, name).tolist(), strict=True))


def test_a_history_of_nothing_is_empty():
    assert len(history_of()) == 0
    assert same_history(empty_history(), history_of(batch([])))


def test_accesses_are_counted_by_key():
    history = history_of(batch(["a", "b", "a", "a"]))
    assert column(history, "counts") == {"a": [3.0] * 3, "b": [1.0] * 3}


@pytest.mark.parametrize("half_life", HALF_LIVES)
def test_a_count_halves_with_each_half_life(half_life):
    history = history_of(batch(["a"] * 8, at=1000.0))
    counts = history.decayed_counts(1000.0 + 3 * half_life)[0]
    assert math.isclose(1.0, counts[HALF_LIVES.index(half_life)])


def test_older_accesses_have_decayed_when_new_ones_come():
    history = history_of(batch(["a"] * 4, at=0.0), batch(["a"], at=HALF_LIVES[0]))
    assert math.isclose(3.0, history.counts[0, 0])


def test_counts_do_not_grow_by_looking_back():
    history = history_of(batch(["a"], at=1000.0))
    assert history.decayed_counts(0.0).tolist() == [[1.0] * 3]


def test_hits_and_misses_are_summed_by_cache():
    history = history_of(
        batch(["a", "b", "a"], cache="x", hits=[True, False, True]), batch(["a"], cache="y", hits=[False])
    )
    assert (history.caches, history.hits.tolist(), history.misses.tolist()) == (("x", "y"), [2, 0], [1, 1])


def test_the_same_key_of_two_caches_is_two_items():
    history = history_of(batch(["a"], cache="x"), batch(["a"], cache="y"))
    assert list(history.keys) == ["a", "a"]
    assert tuple(history.rows_of(name).tolist() for name in ("x", "y", "z")) == ([0], [1], [])


def test_gaps_are_kept_newest_first_and_bounded():
    history = history_of(*(batch(["a"], at=float(at)) for at in (0, 1, 3, 7, 15, 31)))
    assert history.gaps[0].tolist() == [16.0, 8.0, 4.0, 2.0]
    assert history.gaps.shape[1] == GAPS


def test_accesses_of_one_instant_make_no_gap():
    history = history_of(batch(["a"], at=5.0), batch(["a"], at=5.0))
    assert np.isnan(history.gaps[0]).all()


def test_a_clock_that_goes_back_neither_grows_nor_breaks_anything():
    history = history_of(batch(["a"], at=100.0), batch(["a"], at=40.0))
    assert (history.at, history.last_at.tolist(), history.counts.tolist()) == (100.0, [100.0], [[2.0] * 3])


def test_the_first_load_is_taken_and_later_ones_are_smoothed():
    first = batch(["a"], at=1.0, loads={"a": (100, 1.0, "v1", "r1")})
    second = batch(["a"], at=2.0, loads={"a": (300, 2.0, "v2", "r2")})
    history = history_of(first, second)
    assert math.isclose(1.3, history.load_seconds[0], rel_tol=1e-6)
    assert (history.size_bytes[0], history.versions[0], history.recipes[0]) == (300, "v2", "r2")


def test_a_hit_leaves_what_is_known_of_the_load():
    history = history_of(batch(["a"], loads={"a": (100, 1.0, "v", "r")}), batch(["a"], at=2000.0, hits=[True]))
    assert (history.size_bytes[0], history.load_seconds[0], history.versions[0]) == (100, 1.0, "v")


def test_a_load_never_seen_is_not_a_load_of_no_time():
    history = history_of(batch(["a"]))
    assert (history.size_bytes[0], bool(np.isnan(history.load_seconds[0]))) == (0, True)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, 1e300, -1.0])
def test_a_load_time_that_nothing_takes_is_not_believed(seconds):
    history = history_of(batch(["a"], loads={"a": (100, seconds, "v", "r")}))
    assert np.isnan(history.load_seconds[0])


def test_at_most_a_quarter_more_than_the_limit_is_kept():
    builder = HistoryBuilder(max_items=100)
    for n in range(30):
        builder.fold(batch([f"{n}-{i}" for i in range(20)], at=float(n)))
        assert len(builder) <= 125
    assert len(builder.history()) >= 100


def test_what_is_forgotten_is_what_was_asked_for_least_and_longest_ago():
    builder = HistoryBuilder(max_items=4)
    builder.fold(batch(["often"] * 5, at=0.0))
    builder.fold(batch(["old"], at=1.0))
    builder.fold(batch(["b", "c", "d", "e"], at=2.0))
    assert sorted(builder.history().keys, key=["often", "b", "c", "d", "e"].index) == ["often", "b", "c", "d"]


def test_a_key_comes_back_after_it_was_forgotten():
    builder = HistoryBuilder(max_items=2)
    builder.fold(batch(["a", "b", "c"], at=0.0))
    builder.fold(batch(["c", "c"], at=1.0))
    assert {"c", "a"} == set(builder.history().keys)
    assert round(column(builder.history(), "counts")["c"][-1], 3) == 2.0


def test_forget_drops_the_named_and_says_how_many_it_knew():
    builder = HistoryBuilder()
    builder.fold(batch(["a", "b", "c"], cache="x"))
    assert builder.forget({ItemRef("x", "a"), ItemRef("x", "c"), ItemRef("x", "no"), ItemRef("y", "a")}) == 2
    assert list(builder.history().keys) == ["b"]
    assert builder.forget([]) == 0


def test_what_comes_after_forgetting_lands_in_the_right_row():
    builder = HistoryBuilder()
    builder.fold(batch(["a", "b"]))
    builder.forget([ItemRef("c", "a")])
    builder.fold(batch(["b", "n"], at=1000.0))
    assert {key: counts[0] for key, counts in column(builder.history(), "counts").items()} == {"b": 2.0, "n": 1.0}


def test_a_history_taken_is_not_changed_by_later_folds():
    builder = HistoryBuilder()
    builder.fold(batch(["a"]))
    taken = builder.history()
    builder.fold(batch(["a", "b"], loads={"a": (9, 9.0, "v", "r")}))
    assert same_history(taken, history_of(batch(["a"])))


def test_a_key_that_utf8_cannot_hold_is_counted_and_not_remembered():
    history = history_of(
        batch(
            ["a", "\udc80", "b", "\udc80"],
            hits=[True, True, False, False],
            loads={"\udc80": (9, 9.0, "v", "r"), "b": (7, 1.0, "w", "s")},
        )
    )
    assert (list(history.keys), history.hits.tolist(), history.misses.tolist()) == (["a", "b"], [2], [2])
    assert (history.size_bytes.tolist(), list(history.versions)) == ([0, 7], ["", "w"])


def test_keys_of_which_none_can_be_held_are_counted_all_the_same():
    builder = HistoryBuilder(history_of(batch(["a"])))
    builder.fold(batch(["\udc80", "\udc81"], hits=[True, False]))
    history = builder.history()
    assert (list(history.keys), history.hits.tolist(), history.misses.tolist()) == (["a"], [1], [2])
    assert history_of(batch(["\udc80"])).misses.tolist() == [1]


def test_starting_and_showing_copy_nothing():
    past = history_of(batch(["a", "b"], loads={"a": (1, 1.0, "v", "r")}))
    shown = HistoryBuilder(past).history()
    for name in ("cache", "counts", "last_at", "gaps", "size_bytes", "load_seconds"):
        assert np.shares_memory(getattr(past, name), getattr(shown, name))
    for name in ("keys", "versions", "recipes"):
        assert np.shares_memory(getattr(past, name).blob, getattr(shown, name).blob)


def test_more_new_keys_in_one_batch_than_are_remembered():
    builder = HistoryBuilder(max_items=3)
    builder.fold(batch([f"k{n}" for n in range(50)]))
    builder.fold(batch(["k0", "k49"], at=2000.0))
    assert list(builder.history().keys) == ["k0", "k1", "k49"]


def test_a_recipe_that_utf8_cannot_hold_is_left_out():
    history = history_of(batch(["a"], loads={"a": (1, 1.0, "v\udc80", "text:\udc80")}))
    assert (list(history.recipes), list(history.versions)) == ([""], [""])


def test_a_long_batch_is_folded_right():
    keys = [f"k{n % 5000}" for n in range(12_000)]
    history = history_of(batch(keys))
    assert (len(history), round(float(history.counts[:, 0].sum()))) == (5000, 12_000)


# ------------------------------------------------------------------------------------------------------------- trail


def test_the_trail_is_the_accesses_in_their_order_over_all_caches():
    history = history_of(batch(["a", "b", "a"], at=1.0, cache="x"), batch(["a"], at=2.0, cache="y"))
    assert trail_of(history) == [("x", "a", 1.0), ("x", "b", 1.0), ("x", "a", 1.0), ("y", "a", 2.0)]


def test_the_trail_keeps_the_newest_accesses_whatever_came_in_one_fold():
    for sizes in ([10_000], [1] * 3000, [1500, 1, 2400, 7, 999]):
        builder = HistoryBuilder(max_trail=1000)
        keys = [f"k{n % 77}" for n in range(sum(sizes))]
        for n, size in enumerate(sizes):
            start = sum(sizes[:n])
            builder.fold(batch(keys[start : start + size]))
        assert [key for _, key, _ in trail_of(builder.history())] == keys[-1000:]


def test_a_trail_of_no_length_stays_empty():
    builder = HistoryBuilder(max_trail=0)
    builder.fold(batch(["a"] * 3000))
    assert trail_of(builder.history()) == []


def test_a_clock_that_goes_back_does_not_turn_the_trail():
    assert [at for *_, at in trail_of(history_of(batch(["a"], at=100.0), batch(["b"], at=40.0)))] == [100.0, 100.0]


def test_what_is_forgotten_leaves_the_trail_and_brings_nothing_older_back():
    builder = HistoryBuilder(max_trail=3)
    builder.fold(batch(["a", "b", "a", "c", "b", "c"]))
    builder.forget([ItemRef("c", "c")])
    assert [key for _, key, _ in trail_of(builder.history())] == ["b"]
    builder.fold(batch(["d", "b"]))
    assert [key for _, key, _ in trail_of(builder.history())] == ["b", "d", "b"]


def test_what_is_dropped_for_want_of_room_leaves_the_trail():
    builder = HistoryBuilder(max_items=2)
    builder.fold(batch(["a", "b", "a", "c", "d", "b"]))
    assert [key for _, key, _ in trail_of(builder.history())] == ["a", "b", "a", "b"]


def test_a_key_that_utf8_cannot_hold_leaves_no_trail():
    assert [key for _, key, _ in trail_of(history_of(batch(["a", "\udc80", "b", "\udc80", "a"])))] == ["a", "b", "a"]


def test_a_trail_taken_is_not_changed_by_what_comes_after():
    builder = HistoryBuilder(max_trail=1500)
    builder.fold(batch(["a", "b"] * 700, at=1.0))
    taken = builder.history()
    before = trail_of(taken)
    for at in range(2, 9):
        builder.fold(batch(["b", "c"] * 700, at=float(at)))
    builder.forget([ItemRef("c", "b")])
    assert trail_of(taken) == before
    with pytest.raises(ValueError, match="read-only"):
        taken.trail[0] = 1


def test_a_history_may_come_without_a_trail():
    whole = history_of(batch(["a", "b"]))
    told = {name: getattr(whole, name) for name in History.__slots__ if not name.startswith("trail")}
    builder = HistoryBuilder(History(**told))
    assert trail_of(builder.history()) == []
    builder.fold(batch(["b"], at=1001.0))
    assert trail_of(builder.history()) == [("c", "b", 1001.0)]


def test_accesses_are_summed_by_cache():
    builder = HistoryBuilder()
    builder.fold(batch(["a", "b", "a"], cache="x", hits=[True, False, True]))
    builder.fold(batch(["a"], cache="y"))
    assert builder.accesses() == {"x": 3, "y": 1}
