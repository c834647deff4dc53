"""Laws of exported histories: what is read is what was written, and whatever a file holds, reading it ends."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from builders import batch, history_of, same_history, trail_of
from preheat._bad_lines import BadLines
from preheat._history import merge_histories
from preheat._portable import history_lines, read_history

KEYS = st.sampled_from(["a", "b", "日本", "", "k\0", 'quote"\\', "line\nend\u2028"])
NOW = 2e6


@st.composite
def histories(draw: st.DrawFn):
    many = []
    for at in sorted(draw(st.lists(st.floats(1.0, 1e6), max_size=6))):
        keys = draw(st.lists(KEYS, min_size=1, max_size=6))
        load = st.tuples(st.integers(0, 2**48), st.floats(0.0, 1e6), st.text(max_size=3), st.text(max_size=3))
        loads = {key: draw(load) for key in keys if draw(st.booleans())}
        many.append(batch(keys, at, draw(st.sampled_from(["x", "y"])), loads=loads))
    history = history_of(*many)
    if not len(history):
        return history
    hours = np.array(sorted(draw(st.sets(st.integers(0, 500), max_size=5))), np.int64)
    counted = draw(st.lists(st.integers(0, 10**6), min_size=2 * len(history.caches), max_size=2 * len(history.caches)))
    return replace(
        history,
        hours=hours,
        hourly=np.array([counted] * len(hours), np.int64).reshape(len(hours), len(history.caches), 2),
    )


def lines_of(history):
    text = b"".join(history_lines(history)).decode()
    return list(enumerate(text.split("\n")[:-1], 1))


@given(histories())
def test_what_is_read_is_what_was_written(history):
    bad = BadLines()
    read, cut = read_history(lines_of(history), bad, until=NOW)
    assert (cut, bad.named) == (False, [])
    assert same_history(history, read)
    assert np.array_equal(history.hours, read.hours)
    assert len(history.hours) == 0 or np.array_equal(history.hourly, read.hourly)


@given(histories(), st.data())
def test_without_some_lines_the_rest_is_read(history, data):
    first, *rest = lines_of(history)
    left = [line for line in rest if data.draw(st.booleans())]
    bad = BadLines()
    read, cut = read_history([first, *left], bad, until=NOW)
    assert bad.count == 0
    assert cut == ((rest[-1]) not in left)
    kept = [json.loads(text) for _, text in left]
    assert [row["key"] for row in kept if row["line"] == "item"] == list(read.keys)
    assert set(trail_of(read)) <= set(trail_of(history))


@given(histories(), st.integers(1, 4))
def test_of_more_items_than_are_kept_the_best_are(history, limit):
    read, _ = read_history(lines_of(history), BadLines(), until=NOW, max_items=limit)
    wanted = merge_histories(history, history_of(), max_items=limit)
    assert list(read.keys) == list(wanted.keys)
    assert trail_of(read) == trail_of(wanted)


@given(histories(), st.data())
def test_a_mutated_file_is_read_or_refused_but_never_a_crash(history, data):
    from preheat.errors import UsageError

    text = bytearray(b"".join(history_lines(history)))
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    mutated = enumerate(text.decode(errors="surrogateescape").split("\n"), 1)
    try:
        read, _ = read_history(mutated, BadLines(), until=NOW)
    except UsageError:
        return
    assert np.isfinite(read.counts).all()
    assert (read.counts >= 0).all()
    assert max(read.at, read.last_at.max(initial=0.0), read.trail_at.max(initial=0.0)) <= NOW
    assert ((read.trail >= 0) & (read.trail < len(read))).all()
    list(history_lines(read))
    if read.half_lives == history.half_lives:
        merge_histories(history, read)
