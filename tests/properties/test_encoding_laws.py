"""Laws of what is kept: rounded once, read back as it was, and refused where it was forged."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from builders import batch, history_of, same_history, trail_of
from older_schemas import encode_older
from preheat._history import HistoryBuilder, with_changes
from preheat._model import History
from preheat._store import SqliteStore
from preheat._store.compact import (
    MOST_INTEGER,
    TICKS,
    decode_floats,
    decode_integers,
    encode_floats,
    encode_integers,
    from_ticks,
    to_ticks,
)
from preheat._store.encoding import as_kept, decode_changes, decode_history, encode_changes, encode_history
from preheat._store.older import decode_older_history
from preheat.errors import StoreCorrupt

KEYS = st.sampled_from(["a", "b", "c", "日本", "", "k\0", "é" * 40])
NOTES = st.sampled_from(["", "v1", "日本", "a recipe that is somewhat longer"])
NUMBERS = st.floats(0.0, width=32)
FLOATS = NUMBERS | st.just(float("nan"))


@st.composite
def batches(draw: st.DrawFn):
    accesses = draw(st.lists(st.tuples(KEYS, st.booleans()), min_size=1, max_size=12))
    loads = {
        key: (draw(st.integers(0, 2**50)), draw(st.floats(0.0, 1e6)), draw(NOTES), draw(NOTES))
        for key, hit in accesses
        if not hit
    }
    keys, hits = zip(*accesses, strict=True)
    at = draw(st.floats(1.0, 2e9))
    return batch(keys, at, draw(st.sampled_from(["x", "y"])), hits=hits, loads=loads)


ORDERED = st.lists(batches(), min_size=1, max_size=8).map(lambda many: sorted(many, key=lambda each: each.at))


@st.composite
def histories(draw: st.DrawFn) -> History:
    history = history_of(*draw(ORDERED))
    hours = np.array(sorted(draw(st.sets(st.integers(-5, 2**40), max_size=5))), np.int64)
    shape = (len(hours), len(history.caches), 2)
    hourly = draw(arrays.arrays(np.int64, shape, elements=st.integers(0, 2**40)))
    return replace(history, hours=hours, hourly=hourly)


# ----------------------------------------------------------------------------------------------------------- numbers


@given(arrays.arrays(np.float32, st.integers(0, 50), elements=FLOATS))
def test_a_rounded_number_is_within_a_thousandth_and_rounded_once(values):
    rounded = decode_floats(encode_floats(values))
    usual = (values >= 2.0**-64) & (values < 2.0**64)
    assert (np.abs(rounded[usual] - values[usual]) <= values[usual] / 1000).all()
    assert np.array_equal(np.isnan(values), np.isnan(rounded))
    assert np.array_equal(values == 0, rounded == 0)
    assert np.array_equal(rounded, decode_floats(encode_floats(rounded)), equal_nan=True)


@given(st.lists(NUMBERS, min_size=2))
def test_rounding_keeps_the_order(values):
    rounded = decode_floats(encode_floats(np.array(sorted(values), np.float32)))
    assert (np.diff(rounded) >= 0).all()


@given(arrays.arrays(np.int64, st.integers(0, 50), elements=st.integers(-MOST_INTEGER, MOST_INTEGER)), st.booleans())
def test_integers_come_back_as_they_were(values, any_width):
    encoded = encode_integers(values, least_width=0 if any_width else 1)
    assert np.array_equal(values, decode_integers(*encoded, len(values)))
    assert any_width or np.array_equal(values, decode_integers(*encoded, None))


@given(arrays.arrays(np.float64, st.integers(1, 50), elements=st.floats(-1e12, 1e12)))
def test_instants_are_rounded_down_by_less_than_a_tick_and_once(at):
    rounded = from_ticks(to_ticks(at))
    assert ((rounded <= at) & (at - rounded <= 1.0 / TICKS)).all()
    assert np.array_equal(rounded, from_ticks(to_ticks(rounded)))


# ----------------------------------------------------------------------------------------------------------- history


@given(histories())
def test_what_is_decoded_is_what_was_encoded_rounded(history):
    assert same_history(as_kept(history), decode_history(encode_history(history)))


@given(histories())
def test_loading_and_saving_again_changes_nothing(history):
    once = decode_history(encode_history(history))
    assert same_history(once, decode_history(encode_history(once)))
    assert encode_history(once) == encode_history(decode_history(encode_history(once)))


@given(ORDERED, ORDERED)
def test_changes_come_back_and_lead_from_the_history_before_to_the_one_after(first, then):
    builder = HistoryBuilder(history_of(*first))
    before = as_kept(builder.history())
    latest = builder.history().at
    for each in then:
        builder.fold(each._replace(at=latest + each.at))
    changes = decode_changes(encode_changes(builder.changes()))
    assert same_history(as_kept(builder.history()), with_changes(before, changes))


def forged(data: st.DataObject, whole: bytes) -> bytes:
    """`whole` with a few bytes changed, and perhaps cut short."""
    mutant = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        mutant[data.draw(st.integers(0, len(mutant) - 1))] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del mutant[data.draw(st.integers(0, len(mutant) - 1)) :]
    return bytes(mutant)


def look_at_all_of(history: History) -> None:
    assert len(trail_of(history)) == len(history.trail)
    for column in (history.keys, history.versions, history.recipes):
        assert len(list(column)) == len(history) == len(history.cache)
        assert [column[row] for row in range(len(column))] == list(column)
    assert (history.counts >= 0).all()
    assert (history.size_bytes >= 0).all()
    HistoryBuilder(history).fold(batch(["a", "new"], at=history.at + 1.0))


@given(histories(), st.data())
def test_a_forged_history_is_refused_or_usable_but_never_a_crash(history, data):
    sections = {name: bytes(body) for name, body in encode_history(history).items()}
    name = data.draw(st.sampled_from(sorted(name for name, body in sections.items() if body)))
    sections[name] = forged(data, sections[name])
    try:
        look_at_all_of(decode_history(sections))
    except StoreCorrupt:
        return


@given(ORDERED, ORDERED, st.data())
def test_forged_changes_are_refused_or_usable_but_never_a_crash(first, then, data):
    builder = HistoryBuilder(history_of(*first))
    before, latest = as_kept(builder.history()), builder.history().at
    for each in then:
        builder.fold(each._replace(at=latest + each.at))
    try:
        changes = decode_changes(forged(data, encode_changes(builder.changes())))
    except StoreCorrupt:
        return
    try:
        now = with_changes(before, changes)
    except ValueError:
        return
    assert len(list(now.keys)) == len(now)


@given(histories(), st.data())
def test_a_forged_history_of_an_older_schema_is_refused_or_usable(history, data):
    whole = msgspec.msgpack.encode(encode_older(history))
    plain = replace(history, hours=history.hours[:0], hourly=history.hourly[:0])
    assert same_history(plain, decode_older_history(whole, xxhash.xxh3_128_digest(whole)))
    mutant = forged(data, whole)
    try:
        old = decode_older_history(mutant, xxhash.xxh3_128_digest(mutant))
    except StoreCorrupt:
        return
    assert len(list(old.keys)) == len(old)
    assert len(trail_of(old)) == len(old.trail)


def test_load_gives_what_save_was_given_rounded(tmp_path):
    store = SqliteStore(tmp_path / "state")

    @given(histories())
    def law(history):
        store.save(history)
        assert same_history(as_kept(history), store.load())

    try:
        law()
    finally:
        store.close()
