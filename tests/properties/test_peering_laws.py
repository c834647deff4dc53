"""The laws of values from peers: what arrives is what was given, or nothing is taken; and no life becomes longer."""

import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from preheat._peering.wire import Arrived, Asked, Doubtful, Given, read_answer, sealed, write_answer

SECONDS = st.floats(0, 1e9, allow_nan=False)
KEYS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=6, unique=True)


@st.composite
def exchanges(draw):
    """A question, and what is given of it."""
    asked = Asked("pages", "text", "1", "2", draw(KEYS))
    at = draw(st.lists(st.integers(0, len(asked.keys) - 1), unique=True))
    values = [
        Given(n, draw(st.text(max_size=3)), draw(SECONDS), draw(st.none() | SECONDS), draw(st.integers(0, 2**30)),
              draw(st.binary(max_size=20)), bytes(16))
        for n in at
    ]  # fmt: skip
    return asked, [sealed(asked.keys[each.at], each) for each in values]


def read_or_none(raw, asked, asked_at=1e9):
    try:
        return read_answer(raw, asked, asked_at)[1]
    except Doubtful:
        return None


@given(exchanges(), SECONDS)
def test_what_is_given_arrives_and_lives_no_longer_than_it_was_to(exchange, asked_at):
    asked, values = exchange
    assert read_answer(write_answer("me", asked, values), asked, asked_at) == ("me", [
        Arrived(asked.keys[each.at], each.version, each.data, each.size_bytes, asked_at - each.age_seconds,
                math.inf if each.remaining_seconds is None else asked_at + each.remaining_seconds)
        for each in values
    ])  # fmt: skip


@given(exchanges(), st.data())
def test_a_changed_answer_gives_the_same_or_nothing(exchange, data):
    asked, values = exchange
    raw = bytearray(write_answer("me", asked, values))
    at, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
    raw[at] ^= 1 << bit
    expected = read_or_none(write_answer("me", asked, values), asked)
    assert read_or_none(bytes(raw), asked) in (expected, None)


@given(exchanges(), st.data())
def test_an_answer_cut_short_gives_nothing(exchange, data):
    asked, values = exchange
    raw = write_answer("me", asked, values)
    assert read_or_none(raw[: data.draw(st.integers(0, len(raw) - 1))], asked) is None


@given(st.binary(max_size=200))
def test_bytes_that_are_no_answer_give_nothing(raw):
    assert read_or_none(raw, Asked("pages", "text", "1", "2", ["a"])) is None


@given(exchanges(), st.sampled_from(["cache", "codec", "codec_version", "application_version"]))
def test_an_answer_to_another_question_gives_nothing(exchange, name):
    asked, values = exchange
    other = msgspec.structs.replace(asked, **{name: "another"})
    assert read_or_none(write_answer("me", asked, values), other) is None


@given(exchanges(), st.sampled_from([math.nan, math.inf, -1.0]))
def test_a_life_that_is_none_gives_nothing(exchange, seconds):
    asked, _ = exchange
    value = sealed(asked.keys[0], Given(0, "", seconds, None, 1, b"", bytes(16)))
    assert read_or_none(write_answer("me", asked, [value]), asked) is None


@given(exchanges())
def test_a_value_that_comes_twice_makes_the_answer_worthless(exchange):
    asked, _ = exchange
    value = sealed(asked.keys[0], Given(0, "", 0.0, None, 1, b"", bytes(16)))
    assert read_or_none(write_answer("me", asked, [value, value]), asked) is None
