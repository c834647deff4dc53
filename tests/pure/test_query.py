"""Questions as keys: the same for the same question, and for nothing else."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any
from unicodedata import normalize

import hypothesis.strategies as st
import pytest
from hypothesis import given

from preheat.caches._query import MOST_DEPTH, question_key, read_question
from preheat.errors import InvalidSetting


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("find  me", {}), (" find\tme\n", {})),
        (("q", {"a": 1, "b": 2}), ("q", {"b": 2, "a": 1})),
        (("q", {"f": {"x": [1, {"z": 1, "y": 2}]}}), ("q", {"f": {"x": (1, {"y": 2, "z": 1})}})),
        (("caf\u00e9", {}), ("cafe\u0301", {})),
        (("q", {"tag": ["caf\u00e9"]}), ("q", {"tag": ["cafe\u0301"]})),
        (("q", {"f": {"caf\u00e9": 1}}), ("q", {"f": {"cafe\u0301": 1}})),
        (("q", {"n": IntEnum("N", "ONE").ONE}), ("q", {"n": 1})),
    ],
)
def test_the_same_question_has_one_key(one, other):
    assert question_key(*one) == question_key(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"k": 1}, {"k": 1.0}),
        ({"k": 1}, {"k": True}),
        ({"k": 1}, {"k": "1"}),
        ({"k": 0}, {"k": False}),
        ({"k": None}, {}),
        ({"k": None}, {"k": "null"}),
        ({"k": [1, 2]}, {"k": [2, 1]}),
        ({"k": [[1], 2]}, {"k": [1, [2]]}),
        ({"k": {}}, {"k": []}),
        ({"k": 0.0}, {"k": -0.0}),
        ({"k": "a  b"}, {"k": "a b"}),  # only in the query is white space the user's typing
        ({"k": 10**30}, {"k": 1e30}),
    ],
)
def test_different_questions_have_different_keys(one, other):
    assert question_key("q", one) != question_key("q", other)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"x", "search parameter k is b'x'"),
        ({1, 2}, "search parameter k is {1, 2}"),
        (math.nan, "search parameter k is nan"),
        (math.inf, "search parameter k is inf"),
        ({"a": [1, b"x"]}, r"search parameter k\.a\[1\] is b'x'"),
        ({1: "a"}, "search parameter k has the name 1 in it; names have to be text"),
        ({"caf\u00e9": 1, "cafe\u0301": 2}, "search parameter k has a name twice, spelled in two ways"),
        (nested(MOST_DEPTH + 1), r"search parameter k\[0\].* is \[1\]; .* at most 16 inside each other"),
        ("x" if False else [b"x" * 500], r"search parameter k\[0\] is b'x{98}\.\.\.; it has"),
    ],
)
def test_what_is_no_plain_value_is_refused_and_named(value, shown):
    with pytest.raises(InvalidSetting, match=shown):
        question_key("q", {"k": value})


def test_a_list_that_holds_itself_is_refused():
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidSetting, match="at most 16 inside each other"):
        question_key("q", {"k": value})


def test_what_is_nested_as_deep_as_it_may_be_is_read_back():
    assert read_question(question_key("q", {"k": nested(MOST_DEPTH)})) == ("q", {"k": nested(MOST_DEPTH)})


def test_a_query_that_is_no_text_is_refused():
    with pytest.raises(InvalidSetting, match="the query is None; it has to be text"):
        question_key(None, {})  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["no json", "5", '["q"]', '["q",[]]', "[1,{}]", '["q",{},1]'])
def test_what_is_no_key_is_no_question(key):
    with pytest.raises((ValueError, TypeError)):
        read_question(key)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


def shape_of(value: Any) -> Any:
    """`value` with the type of everything in it, as equality alone does not tell them apart."""
    if isinstance(value, list):
        return [shape_of(each) for each in value]
    if isinstance(value, dict):
        return {normalize("NFC", name): shape_of(each) for name, each in value.items()}
    return type(value), repr(normalize("NFC", value)) if isinstance(value, str) else repr(value)


@given(query=st.text(), parameters=st.dictionaries(st.text(), VALUES, max_size=4))
def test_a_key_says_all_of_its_question(query, parameters):
    try:
        key = question_key(query, parameters)
    except InvalidSetting as error:
        assert "spelled in two ways" in str(error)  # noqa: PT017 - nothing else is wrong with these
        return
    asked, read = read_question(key)
    assert shape_of(read) == shape_of(parameters)
    assert question_key(asked, read) == key
    reordered = dict(reversed(parameters.items()))
    assert question_key(query, reordered) == key
