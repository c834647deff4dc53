"""Which adapter is found for what, and what is said where there is none."""

import sys
import tomllib
from collections import OrderedDict
from importlib import import_module
from pathlib import Path

import pytest

from preheat.adapters import watched
from preheat.adapters.registry import ADAPTERS, demand_options, find_adapter
from preheat.errors import InvalidSetting

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("name", ADAPTERS)
def test_each_row_names_a_class_that_exists_an_adapter_and_an_extra(name):
    module, _, kind = name.rpartition(".")
    pytest.importorskip(module.partition(".")[0], reason=f"{module} is not installed")
    assert isinstance(getattr(import_module(module), kind), type)
    assert callable(import_module(f"preheat.adapters.{ADAPTERS[name]}").watch)
    assert ADAPTERS[name] in EXTRAS


def test_a_subclass_has_the_adapter_of_its_class():
    aiocache = pytest.importorskip("aiocache", reason="aiocache is not installed")

    class Mine(aiocache.SimpleMemoryCache):
        pass

    assert find_adapter(Mine(), "mine").__module__ == "preheat.adapters.aiocache"


@pytest.mark.parametrize("mapping", [{}, OrderedDict()])
def test_a_plain_mapping_is_looked_for_nowhere_else(mapping, monkeypatch):
    monkeypatch.setattr("preheat.adapters.registry.find_plugins", lambda group: pytest.fail("looked for"))
    assert find_adapter(mapping, "pages") is watched.watch


def test_what_has_no_adapter_is_named_with_all_that_do():
    with pytest.raises(InvalidSetting, match=r"cache 'n': a int can't be watched; .* cache of aiocache, .*, langchain"):
        find_adapter(7, "n")


def test_an_adapter_whose_library_is_missing_names_its_extra(monkeypatch):
    class Cache:
        pass

    Cache.__module__, Cache.__qualname__ = "aiocache.base", "BaseCache"
    monkeypatch.setitem(sys.modules, "aiocache.base", None)
    monkeypatch.delitem(sys.modules, "preheat.adapters.aiocache", raising=False)
    with pytest.raises(InvalidSetting, match=r"can't be imported: .*; pip install 'preheat\[aiocache\]'"):
        find_adapter(Cache(), "mine")


def test_an_option_that_is_none_is_named_with_those_there_are():
    with pytest.raises(InvalidSetting, match="cache 'n': its adapter has no option lok; there are: lock"):
        demand_options(watched.watch, "n", {"lok": None})
