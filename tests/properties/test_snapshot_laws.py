"""The laws of snapshots: what is restored is what was kept, or nothing; and the bytes of a file say what is in it."""

import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from preheat._history.forgetting import Forgotten
from preheat._snapshot.merging import choose_merge
from preheat.codecs import BytesCodec, DocumentCodec, TextCodec, VectorCodec, is_identical
from snapshots import Clocks, found, held, open_snapshot, save

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4),
    max_leaves=20,
)
NOT_SO_PLAIN = PLAIN | st.recursive(
    st.integers() | st.text(), lambda inner: st.tuples(inner, inner) | st.frozensets(st.integers()) | st.lists(inner)
)


@given(PLAIN)
def test_plain_data_come_back_identical_or_are_refused(value):
    codec = DocumentCodec()
    try:
        data = codec.encode(value)
    except (ValueError, OverflowError):
        return
    assert is_identical(codec.decode(memoryview(data)), value)


@given(NOT_SO_PLAIN)
def test_a_codec_never_turns_a_value_into_another(value):
    codec = DocumentCodec()
    try:
        data = codec.encode(value)
    except (TypeError, ValueError, OverflowError):
        return
    restored = codec.decode(memoryview(data))
    assert repr(restored) == repr(value)


@given(st.text(st.characters()), st.binary())
def test_text_and_bytes_come_back(text, data):
    assert TextCodec().decode(memoryview(TextCodec().encode(text))) == text
    assert BytesCodec().decode(memoryview(BytesCodec().encode(data))) == data


@given(
    npst.arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.complex64, np.bool_]), st.integers(0, 50)
    )
)
def test_vectors_come_back_to_the_bit(vector):
    vector.flags.writeable = False
    codec = VectorCodec(vector.dtype)
    restored = codec.decode(memoryview(codec.encode(vector)))
    assert (restored.dtype, restored.tobytes()) == (vector.dtype, vector.tobytes())


@given(st.binary(max_size=200))
def test_decoding_anything_gives_a_value_or_an_error_that_is_caught(data):
    for codec in (VectorCodec(), TextCodec(), BytesCodec(), DocumentCodec()):
        with suppress(ValueError, RecursionError):
            codec.decode(memoryview(data))


KEYS = st.sampled_from([f"key {n}" for n in range(6)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("load"), KEYS),
        st.tuples(st.just("load for 20 s"), KEYS),
        st.tuples(st.just("load a large one"), KEYS),
        st.tuples(st.just("load what can't be kept"), KEYS),
        st.tuples(st.just("evict"), KEYS),
        st.tuples(st.just("invalidate"), KEYS),
        st.tuples(st.just("forget"), KEYS),
        st.tuples(st.just("clear"), st.just("")),
        st.tuples(st.just("save"), st.just("")),
        st.tuples(st.just("restart"), st.just("")),
        st.tuples(st.just("wait"), st.just("")),
    ),
    max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_a_snapshot_restores_the_last_value_saved_that_was_neither_erased_nor_is_too_old(steps):
    """Beside a model: a dict of what is resident, and one of what the last saves kept."""
    clock, resident, kept, loads = Clocks(), {}, {}, Counter()
    with tempfile.TemporaryDirectory() as name:

        def start():
            return open_snapshot(Path(name), clock=clock, max_age_seconds=100)

        snapshot = start()
        for step, key in steps:
            clock.pass_by(1)
            if step.startswith("load"):
                loads[key] += 1
                value = f"{key}: {loads[key]}" + "x" * (20_000 if "large" in step else 0)
                resident[key] = held(
                    key,
                    value if "can't" not in step else b"no text",
                    made_at=clock.at,
                    size_bytes=len(value),
                    expires_at=clock.at + (20 if "20 s" in step else 1e9),
                )
            elif step == "evict":
                resident.pop(key, None)
            elif step in ("invalidate", "forget"):
                resident.pop(key, None)
                kept.pop(key, None)
                snapshot.erase([key]) if step == "invalidate" else snapshot.forget(Forgotten("cache", frozenset([key])))
            elif step == "clear":
                resident, kept = {}, {}
                snapshot.erase_all()
            elif step == "save":
                save(snapshot, list(resident.values()))
                kept |= {k: v for k, v in resident.items() if clock.at < min(v.made_at + 100, v.expires_at)}
                kept = {k: v for k, v in kept.items() if isinstance(v.value, str)}
            elif step == "restart":
                resident, snapshot = {}, start()
            else:
                clock.pass_by(25)
            fresh = {k: v.value for k, v in kept.items() if clock.at < min(v.made_at + 100, v.expires_at)}
            restored = {k: found(snapshot, k) for k in (f"key {n}" for n in range(6))}
            assert {k: v for k, v in restored.items() if v is not None} == fresh


@given(st.integers(0, 10**6), st.lists(st.integers(1, 10**6), max_size=20), st.integers(1, 10**7), st.booleans())
def test_a_merge_keeps_inside_the_limit_and_writes_nothing_for_nothing(new_bytes, generations, limit_bytes, wholly):
    merge = choose_merge(new_bytes, generations, limit_bytes, wholly=wholly)
    assert 0 <= merge.along <= len(generations)
    assert merge.budget_bytes + sum(generations[merge.along :]) <= limit_bytes
    if not new_bytes and not wholly and sum(generations) <= limit_bytes:
        assert merge.along == 0


@given(st.lists(st.integers(1, 10**5), min_size=1, max_size=300))
def test_generations_stay_few_and_a_byte_is_copied_about_as_often_as_there_are(saves):
    generations, written = [], 0
    for size in saves:
        merge = choose_merge(size, generations, 10**12)
        size += sum(generations[: merge.along])
        generations = [size, *generations[merge.along :]]
        written += size
        assert len(generations) <= 17
    assert written <= 20 * sum(saves)
