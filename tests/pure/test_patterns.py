"""Which keys a pattern stands for, and what it takes out of them."""

import pytest

from preheat.adapters.patterns import LONGEST_KEY, Pattern
from preheat.errors import InvalidSetting


@pytest.mark.parametrize(
    ("pattern", "key", "arguments"),
    [
        ("product:{id}", "product:7", {"id": "7"}),
        ("product:{id:int}", "product:7", {"id": 7}),
        ("product:{id:int}", "product:-7", {"id": -7}),
        ("product:{id:int}", "product:seven", None),
        ("product:{id:int}", "product:" + "9" * 19, None),
        ("product:{id}", "product:7:en", None),
        ("product:{id}:{language}", "product:7:en", {"id": "7", "language": "en"}),
        ("{name}-{language}", "red-en", {"name": "red", "language": "en"}),
        ("{name}-{language}", "dark-red-en", {"name": "dark", "language": "red-en"}),
        ("{name:any}-{language}", "dark-red-en", {"name": "dark-red", "language": "en"}),
        ("page:{path:any}", "page:/a:b\nc", {"path": "/a:b\nc"}),
        ("menu", "menu", {}),
        ("menu", "menus", None),
        ("a.b*{x}", "a.b*c", {"x": "c"}),
        ("a.b*{x}", "aXbbc", None),
        ("{x}", "", None),
        ("{x:any}", "x" * LONGEST_KEY, {"x": "x" * LONGEST_KEY}),
        ("{x:any}", "x" * (LONGEST_KEY + 1), None),
    ],
)
def test_a_key_matches_as_a_whole_or_not_at_all(pattern, key, arguments):
    assert Pattern(pattern).match(key) == arguments


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("", "has to be text"),
        (7, "has to be text"),
        ("a{b", "a brace that is not closed"),
        ("a}b", "a brace that is not closed, or not opened"),
        ("a{}", "a field is a name of its own"),
        ("a{b c}", "a field is a name of its own"),
        ("a{b:float}", "or name:int, or name:any"),
        ("{a}:{a}", "a field is a name of its own"),
        ("{a}{b}", "can't tell its fields apart"),
        ("{a:any}/{b:any}", "can't tell its fields apart"),
    ],
)
def test_a_mistake_is_one_sentence(pattern, sentence):
    with pytest.raises(InvalidSetting, match=sentence):
        Pattern(pattern)
