"""What another distribution adds: found by its name when it is asked for, and never in the way of the application."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from plugins import install
from preheat import CacheWarmupService, heat
from preheat.adapters.mapping import MappingCache
from preheat.errors import BrokenPlugin, InvalidSetting, UnknownStrategy


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return install(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def installed(target, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(target))
    monkeypatch.setenv("CACHE_WARMUP_STATE_DIR", str(tmp_path / "state"))
    yield
    sys.modules.pop("tiny", None)


def test_nothing_is_looked_for_on_import(target):
    code = "import sys, preheat, preheat.heat; print([n for n in ('tiny', 'importlib.metadata') if n in sys.modules])"
    environment = os.environ | {"PYTHONPATH": f"{target}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------------- adapters


def test_an_object_of_its_class_is_watched_by_its_adapter():
    import tiny

    service = CacheWarmupService()
    shelf = heat.watch(tiny.Shelf(), name="shelf", load=str.upper, service=service)
    assert shelf.read("a") == "A"
    assert service.caches["shelf"].get_warmup_statistics().misses == 1
    asyncio.run(service.close())


def test_an_adapter_that_is_broken_is_told_in_the_log_and_the_sentence_names_those_there_are(caplog):
    import tiny

    with pytest.raises(InvalidSetting, match=r"a Broken can't be watched; .*django.*, or of tiny.Broken, tiny.Shelf"):
        heat.watch(tiny.Broken(), name="broken")
    (line,) = caplog.messages
    assert line.startswith(
        "'tiny.Broken' of preheat.adapters, which preheat-tiny 0.3 brings as tiny_is_not_there:watch"
    )
    assert "No module named 'tiny_is_not_there'" in line


def test_an_option_that_an_adapter_lacks_is_refused_in_a_sentence():
    import tiny

    with pytest.raises(InvalidSetting, match="its adapter has no option colour; there are: lock"):
        heat.watch(tiny.Shelf(), name="shelf", colour="red")


# ----------------------------------------------------------------------------------------------------- strategies


def test_a_strategy_is_used_by_its_name():
    service = CacheWarmupService(strategy="nightly")
    plan = asyncio.run(service.create_warmup_plan())
    assert (plan.strategy, plan.why) == ("nightly", "at night nobody else needs the memory")
    asyncio.run(service.close())


def test_a_strategy_that_is_broken_is_one_sentence_where_it_is_asked_for():
    service = CacheWarmupService()
    with pytest.raises(BrokenPlugin, match=r"preheat-tiny 0.3 brings as tiny:CROOKED, can't be used: .*share is 7"):
        asyncio.run(service.create_warmup_plan("crooked"))


def test_a_configured_strategy_that_is_broken_does_not_keep_the_application_from_starting(caplog):
    service = CacheWarmupService(strategy="crooked")
    assert asyncio.run(service.create_warmup_plan()).strategy == "balanced"
    assert "it is left out" in caplog.text
    asyncio.run(service.close())


def test_an_unknown_strategy_names_those_that_are_added_too():
    with pytest.raises(UnknownStrategy, match="and, by other distributions: crooked, nightly"):
        CacheWarmupService(strategy="weekly")


# --------------------------------------------------------------------------------------- predictors and candidates


def pages(service):
    cache = MappingCache({}, str.upper, name="shelf")
    service.register(cache)
    return cache


def test_a_predictor_is_used_by_its_name():
    service = CacheWarmupService(predictor="newest")
    pages(service).get("a")
    plan = asyncio.run(service.create_warmup_plan("aggressive"))
    assert plan.predictors == {} or set(plan.predictors.values()) == {"expect_newest"}
    asyncio.run(service.close())


def test_a_predictor_that_is_broken_leaves_the_models_in_their_place(caplog):
    service = CacheWarmupService(predictor="absent")
    assert "tiny:nothing_here" in caplog.text
    pages(service)
    assert asyncio.run(service.create_warmup_plan()).strategy == "balanced"
    asyncio.run(service.close())


def test_a_predictor_that_fails_leaves_the_models_in_their_place(caplog):
    def failing(history, horizon_seconds):
        raise OSError("no weather today")

    service = CacheWarmupService(predictor=failing)
    pages(service).get("a")
    assert len(asyncio.run(service.create_warmup_plan("aggressive")).candidates) == 0  # it is resident
    assert "the predictor failing failed" in caplog.text
    asyncio.run(service.close())


def test_candidates_are_used_by_the_name_of_their_source_and_one_that_fails_costs_its_own(caplog):
    service = CacheWarmupService()
    pages(service)
    service.register_candidate_source("raising")
    service.register_candidate_source("menu")
    plan = asyncio.run(service.create_warmup_plan("aggressive"))
    assert [item.ref.key for item in plan.candidates] == ["soup"]
    assert "the kitchen is closed" in caplog.text
    asyncio.run(service.close())


def test_a_name_that_nobody_has_is_one_sentence():
    with pytest.raises(InvalidSetting, match=r"no 'menus' among .* preheat.candidates; did you mean 'menu'"):
        CacheWarmupService().register_candidate_source("menus")
    with pytest.raises(InvalidSetting, match="there are: absent, newest"):
        CacheWarmupService(predictor="oldest")


# ---------------------------------------------------------------------------------------------------------- check


def test_check_names_what_is_installed_and_what_is_broken_and_is_no_failure_for_that(target, tmp_path):
    environment = os.environ | {"PYTHONPATH": f"{target}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "preheat.cli", "check", "--json"]
    shown = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    told = {row["text"]: row["severity"] for row in json.loads(shown.stdout)["findings"] if row["subject"] == "plugin"}
    assert told["nightly of preheat.strategies, by preheat-tiny 0.3"] == "ok"
    assert sorted(told.values()) == ["ok"] * 5 + ["warning"] * 3
    assert "Traceback" not in shown.stdout
