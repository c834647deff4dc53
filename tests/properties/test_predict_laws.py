"""Laws of prediction: the future of a trail changes nothing, chances are chances, what is stored is the model."""

from __future__ import annotations

import functools

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat._predict.blend import EXPERTS, LEARNED, Model, train_model
from preheat._predict.context import SPANS, expected
from preheat._predict.examples import NEVER, draw_examples
from preheat._predict.features import FEATURES, features
from preheat._predict.moment import Moment, moments
from preheat._predict.stored import decode_model, encode_model
from preheat._predict.trail import Trail, Window
from trails import moment_of, popular, popular_trail, trail_of, trails

HORIZONS = st.sampled_from([0.5, 1.0, 3.0, 7.5, 50.0, 1e6])
CAPACITIES = st.integers(1, 400)


@functools.cache
def learned_model(seed: int = 0) -> Model:
    """A model with networks, learned of a few thousand accesses."""
    model = train_model(popular_trail(3000, 200, seed), 10_000, seed=seed)
    assert model.learned is not None
    pool = {LEARNED: 0.8, "agreeing_context": 0.2}
    return Model(model.capacity_bytes, model.accesses, model.learned, pool, model.captured, model.importance)


@st.composite
def futures(draw: st.DrawFn) -> tuple[Trail, Trail, int]:
    """Two trails that are the same before a position and go on differently."""
    past = draw(st.lists(st.integers(0, 9), min_size=1, max_size=40))
    pauses = draw(st.lists(st.sampled_from([0.0, 1.0, 3600.0, 50_000.0]), min_size=len(past), max_size=len(past)))
    sizes = draw(st.lists(st.integers(1, 50), min_size=16, max_size=16))
    gone_on = []
    for _ in range(2):
        future = draw(st.lists(st.integers(0, 15), max_size=30))
        times = np.cumsum([*pauses, *(draw(st.sampled_from([0.0, 5.0, 1e5])) for _ in future)])
        keys = [*past, *future]
        by_number = [sizes[key] for key in dict.fromkeys(keys)]
        gone_on.append(trail_of(keys, by_number, times))
    return gone_on[0], gone_on[1], len(past)


def columns(moment: Moment) -> dict[str, np.ndarray]:
    """All that is derived of a moment."""
    items = np.arange(moment.known)
    found = {name: expert(moment) for name, expert in EXPERTS.items()}
    found |= {f"context {span}": each for span, each in zip(SPANS, expected(moment), strict=True)}
    found |= {name: getattr(moment, name) for name in ("last", "count", "decayed", "age", "life")}
    return found | {
        "gaps": moment.gaps(items),
        "features": features(moment, items),
        "model": learned_model().chance(moment),
    }


@given(futures(), HORIZONS, CAPACITIES)
def test_the_future_of_a_trail_changes_nothing(two, horizon, capacity_bytes):
    first, second, position = two
    with np.errstate(all="raise", under="ignore"):
        known = columns(moment_of(first, position, horizon, capacity_bytes))
        again = columns(moment_of(second, position, horizon, capacity_bytes))
    assert known.keys() == again.keys()
    different = [name for name in known if not np.array_equal(known[name], again[name], equal_nan=True)]
    assert different == []
    assert first.known(position) == second.known(position)
    assert first.refill(position, capacity_bytes) == second.refill(position, capacity_bytes)


@given(futures(), CAPACITIES)
def test_arrivals_in_a_window_are_those_of_its_accesses_whatever_comes_after(two, capacity_bytes):
    first, second, position = two
    window = Window(position // 2, position)
    for mine, theirs in zip(
        first.arrivals(window, capacity_bytes), second.arrivals(window, capacity_bytes), strict=True
    ):
        assert mine.tolist() == theirs.tolist()


@pytest.mark.parametrize("name", [*EXPERTS, LEARNED])
def test_the_control_a_changed_past_changes_every_chance(name):
    keys = popular(400, 20)
    other = keys.copy()
    other[300:390] = 3
    times = np.arange(400) * 1000.0 + np.arange(400) % 7
    mine, theirs = (moment_of(trail_of(each, times=times)) for each in (keys, other))
    expert = learned_model().chance if name == LEARNED else EXPERTS[name]
    assert not np.array_equal(expert(mine), expert(theirs))


@pytest.mark.parametrize("name", [*EXPERTS, LEARNED])
@given(trail=trails(), horizon=HORIZONS, data=st.data())
def test_chances_are_chances_of_each_known_item(name, trail, horizon, data):
    moment = moment_of(trail, data.draw(st.integers(1, len(trail))), horizon)
    expert = learned_model().chance if name == LEARNED else EXPERTS[name]
    chances = expert(moment)
    assert chances.shape == (moment.known,)
    assert np.isfinite(chances).all()
    assert ((chances >= 0.0) & (chances <= 1.0)).all()


@given(trails(), HORIZONS, st.data())
def test_moments_on_the_way_are_moments_by_themselves(trail, horizon, data):
    positions = sorted(data.draw(st.sets(st.integers(0, len(trail)), min_size=1, max_size=4)))
    for moment in moments(trail, positions, horizon, 10):
        alone = moment_of(trail, moment.position, horizon, 10)
        assert moment.last.tolist() == alone.last.tolist()
        assert moment.count.tolist() == alone.count.tolist()
        assert np.allclose(moment.decayed, alone.decayed, rtol=1e-9, atol=1e-12)


@given(trails(least=4), CAPACITIES, HORIZONS, st.integers(0, 2**32))
def test_weights_of_a_window_sum_to_the_items_known(trail, capacity_bytes, horizon, seed):
    windows = [Window(len(trail) // 3, len(trail) // 2), Window(len(trail) // 2, len(trail))]
    starts = moments(trail, [window.start for window in windows], horizon, capacity_bytes)
    drawn = draw_examples(starts, windows, np.random.default_rng(seed), lambda: None)
    for window, part in zip(windows, drawn, strict=True):
        assert part.weight.sum() == pytest.approx(trail.known(window.start))
        assert part.features.shape == (len(part.outcome), len(FEATURES))
        assert ((part.outcome >= 0) & (part.outcome <= NEVER)).all()


# ----------------------------------------------------------------------------------------------------------- storing


@given(trails(), HORIZONS)
def test_a_stored_model_expects_what_it_did_to_the_last_bit(trail, horizon):
    moment = moment_of(trail, horizon=horizon)
    again = decode_model(encode_model(learned_model()))
    assert np.array_equal(learned_model().chance(moment), again.chance(moment))


def refused_or_usable(body: bytes) -> None:
    """Anything but a ValueError, or a chance that is none, fails the test."""
    try:
        model = decode_model(body)
    except ValueError:
        return
    with np.errstate(all="raise", under="ignore"):
        chances = model.chance(moment_of(popular_trail(60, 20), horizon=20.0))
    assert ((chances >= 0.0) & (chances <= 1.0)).all()


@given(st.data())
def test_a_mutated_model_is_refused_or_usable(data):
    body = bytearray(encode_model(learned_model()))
    head = st.integers(0, min(2600, len(body) - 1))  # where the structure is
    tail = st.integers(0, len(body) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(head | tail)] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del body[data.draw(tail) :]
    refused_or_usable(bytes(body))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_model_are_refused(body):
    with pytest.raises(ValueError, match=r".+"):
        decode_model(body)


@given(
    st.sampled_from([b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"]), st.integers(2**20, 2**32 - 1), st.integers(0, 300)
)
def test_a_length_that_is_not_there_takes_no_memory(kind, length, offset):
    body = encode_model(learned_model())
    refused_or_usable(body[:offset] + kind + length.to_bytes(4, "big") + body[offset + 5 :])


NUMBERS = st.sampled_from([float("nan"), float("inf"), -1.0, 0.0, 1e300])


@given(NUMBERS, st.sampled_from(["recency", LEARNED]))
def test_weights_of_a_pool_that_are_none_are_refused(weight, name):
    fields = msgspec.msgpack.decode(encode_model(learned_model()))
    fields["pool"] = {name: weight, "context": 0.5}
    with pytest.raises(ValueError, match="pool"):
        decode_model(msgspec.msgpack.encode(fields))


@given(st.sampled_from(["centre", "spread", "inner", "outer", "bias"]), st.sampled_from([np.nan, np.inf, 1e30, -1e30]))
def test_parts_of_a_network_that_no_training_makes_are_refused(part, value):
    fields = msgspec.msgpack.decode(encode_model(learned_model()))
    array = np.frombuffer(fields["networks"][0][part], np.float32).copy()
    array[0] = value
    fields["networks"][0][part] = array.tobytes()
    with pytest.raises(ValueError, match=part):
        decode_model(msgspec.msgpack.encode(fields))
