"""What PREHEAT says, and each way in which it can't be used."""

from pathlib import PurePosixPath

import pytest

from preheat.django.configuration import read_configuration
from preheat.errors import InvalidSetting

ALIASES = ["default", "sessions"]


def importing(path):
    if path != "shop.load":
        raise ImportError(f"no {path}")
    return str.upper


def read(raw):
    return read_configuration(raw, ALIASES, importing)


def test_without_a_word_the_default_cache_is_watched():
    ((watched,), settings) = read({})
    assert (watched.alias, watched.name, watched.load, watched.priority) == ("default", "default", None, 5)
    assert settings == {}


def test_each_cache_is_watched_as_it_is_told():
    configuration = read(
        {"CACHES": {"sessions": {"NAME": "s", "LOAD": "shop.load", "PRIORITY": 9}, "default": {"LOAD": str}}}
    )
    assert [tuple(watched) for watched in configuration.watched] == [
        ("sessions", "s", str.upper, 9),
        ("default", "default", str, 5),
    ]


def test_all_else_are_settings():
    assert read({"STATE_DIR": PurePosixPath("/state"), "STRATEGY": "adaptive", "CACHES": {}}) == (
        (),
        {"state_dir": "/state", "strategy": "adaptive"},
    )


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (7, "PREHEAT is a int; it has to be a dict"),
        ({"CACHES": ["default"]}, r"PREHEAT\['CACHES'\] is a list; it has to be a dict"),
        ({"CACHES": {"session": {}}}, r"PREHEAT\['CACHES'\]\['session'\]: .* did you mean 'sessions'\?"),
        ({"CACHES": {"default": None}}, r"PREHEAT\['CACHES'\]\['default'\] is a NoneType"),
        ({"CACHES": {"default": {"PRIORTY": 5}}}, "has no option 'PRIORTY'; did you mean 'PRIORITY'"),
        ({"CACHES": {"default": {"LOAD": "shop.lode"}}}, r"\['LOAD'\] can't be imported: no shop.lode"),
        ({"CACHES": {"default": {"LOAD": 7}}}, r"\['LOAD'\] is a int; it has to be a function of the key"),
        ({"STRATGY": "balanced"}, "PREHEAT can't be used: stratgy is not a setting; did you mean 'strategy'"),
        ({"BATCH_SIZE": 0}, "PREHEAT can't be used: batch_size is 0; it has to be a whole number"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_its_place(raw, sentence):
    with pytest.raises(InvalidSetting, match=sentence):
        read(raw)
