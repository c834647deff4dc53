"""Functions cached by joblib's `Memory`: the real package, on a real disk."""

import asyncio
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("joblib", reason="joblib is not installed")

from joblib import Memory

from preheat import CacheWarmupService, create_warmup_item, heat
from preheat._log import CacheLog
from preheat.abc import ItemStatus
from preheat.adapters.joblib import watch
from preheat.errors import InvalidSetting
from preheat.testing import WarmableCacheContract, record_history

CALLS = []


def analyse(word, times=2):
    CALLS.append((word, times))
    return {"word": word, "letters": [word] * times}


async def analyse_later(word):
    CALLS.append((word, 0))
    return {"word": word}


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


def watched(folder, function=analyse):
    return watch(Memory(folder, verbose=0).cache(function), name="words", log=CacheLog("words"))


class TestOnDisk(WarmableCacheContract):
    @pytest.fixture(autouse=True)
    def use(self, tmp_path):
        self.folder, self.made = tmp_path, 0

    def make_cache(self):
        self.made += 1
        return watched(self.folder / str(self.made))[1]

    def make_item(self, n):
        return create_warmup_item("words", f"word {n}")

    def read(self, cache, item):
        return cache._library.function(item.ref.key)


def warm(cache, history):
    candidates = cache.get_warmup_candidates(history, np.ones(len(history)))
    return [cache.warmup_item(item) for item in candidates]


def test_a_call_is_warmed_by_its_arguments_and_is_then_on_disk_for_every_process(tmp_path):
    function, cache = watched(tmp_path / "one")
    history = record_history(cache, lambda: [function("a"), function("a"), function("b", times=3), function("b", 3)])
    assert (int(history.hits.sum()), int(history.misses.sum()), len(CALLS)) == (2, 2, 2)
    function, cache = watched(tmp_path / "other")
    assert [result.status for result in warm(cache, history)] == [ItemStatus.LOADED] * 2
    assert len(CALLS) == 4
    plain = Memory(tmp_path / "other", verbose=0).cache(analyse)
    assert (plain("a"), plain("b", times=3)) == (analyse("a"), analyse("b", 3))
    assert len(CALLS) == 6  # those of the line above, by hand


def test_sizes_are_those_on_disk(tmp_path):
    function, cache = watched(tmp_path)
    size_bytes = cache.warmup_item(create_warmup_item("words", "a")).size_bytes
    (output,) = Path(tmp_path).rglob("output.pkl")
    assert size_bytes == sum(file.stat().st_size for file in output.parent.iterdir())
    history = record_history(cache, lambda: function("b"))
    assert abs(history.size_bytes[0] - size_bytes) < 50  # of as long a word; joblib also notes how long it took


def test_arguments_that_no_later_process_could_give_are_left_alone(tmp_path):
    function, cache = watched(tmp_path, lambda values: sum(values))
    history = record_history(cache, lambda: function(np.arange(3)))
    assert len(history) == 0


def test_calls_that_fail_and_calls_that_are_wrong_reach_the_caller(tmp_path):
    def fail(word):
        raise OSError("down")

    function, cache = watched(tmp_path, fail)
    with pytest.raises(OSError, match="down"):
        function("a")
    with pytest.raises(ValueError, match="Wrong number of arguments"):
        function()
    assert cache.get_warmup_statistics().misses == 1


def test_what_is_shelved_is_an_access_too(tmp_path):
    function, cache = watched(tmp_path)
    history = record_history(cache, lambda: [function.call_and_shelve("a").get(), function("a")])
    assert (int(history.hits.sum()), int(history.misses.sum())) == (1, 1)


def test_a_coroutine_function_is_warmed_in_a_thread(tmp_path):
    function, cache = watched(tmp_path / "one", analyse_later)

    async def use():
        await function("a")
        await function("a")

    history = record_history(cache, lambda: asyncio.run(use()))
    assert (int(history.hits.sum()), int(history.misses.sum())) == (1, 1)
    function, cache = watched(tmp_path / "other", analyse_later)
    assert [result.status for result in warm(cache, history)] == [ItemStatus.LOADED]
    assert asyncio.run(function("a")) == {"word": "a"}
    assert len(CALLS) == 2


def test_what_is_cleared_while_it_is_being_made_does_not_come_back(tmp_path):
    def make(word):
        thread = threading.Thread(target=function.clear, kwargs={"warn": False})
        thread.start()
        thread.join()
        return word

    function, cache = watched(tmp_path, make)
    assert cache.warmup_item(create_warmup_item("words", "a")).status is ItemStatus.REJECTED
    assert not function.check_call_in_cache("a")


def test_it_is_pickled_as_what_it_was(tmp_path):
    function, _ = watched(tmp_path)
    function("a")
    copy = pickle.loads(pickle.dumps(function))
    assert type(copy).__mro__[:2] == type(Memory(tmp_path, verbose=0).cache(analyse)).__mro__[:2]
    assert copy("a") == function("a")
    assert len(CALLS) == 1


def test_it_is_watched_by_its_class_and_needs_no_load(tmp_path):
    async def restart(folder):
        function = Memory(tmp_path / folder, verbose=0).cache(analyse)
        async with CacheWarmupService(state_dir=str(tmp_path / "state"), holdout_ratio=0) as service:
            heat.watch(function, name="words", service=service)
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            function("a")
            return report.count(ItemStatus.LOADED), service.caches["words"].get_warmup_statistics().misses

    assert asyncio.run(restart("one")) == (0, 1)
    assert asyncio.run(restart("other")) == (1, 0)


def test_what_is_no_result_on_disk_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(InvalidSetting, match="leave load out"):
        watch(Memory(tmp_path, verbose=0).cache(analyse), name="words", log=CacheLog("words"), load=str)
    with pytest.raises(InvalidSetting, match="kept nowhere; give joblib's Memory a location"):
        watch(Memory(None, verbose=0).cache(analyse), name="words", log=CacheLog("words"))
