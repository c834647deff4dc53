"""A cache as a run sees it where replicas warm up together, with nobody to talk to."""

import asyncio
import contextlib
import threading
import time

import pytest

import preheat._joint
from preheat import create_warmup_item
from preheat._coordination import Coordination
from preheat._joint import JointCache, joint
from preheat._model import ItemResult, ItemStatus
from preheat.abc import LoadsInBulk, TellsKinds, UndoesWarmup, WarmableCache
from preheat.adapters.mapping import MappingCache
from preheat.errors import ItemTooLarge
from running import perform, reasons, run_of
from running import statuses as told

ITEMS = [create_warmup_item("pages", f"{n}", size_bytes=1000, usage_frequency=1.0, warmup_cost=0.1) for n in range(6)]


class Shelf(MappingCache):
    """A mapping that says that it is shared."""

    shared_as = "shelf"

    def __init__(self, load=str, **resident):
        super().__init__(dict(resident), load, name="pages")
        self.finds = 0

    def find_resident(self, keys):
        self.finds += 1
        return [key in self.mapping for key in keys]


def statuses(cache, items=ITEMS, **options):
    return [result.status.value for result in asyncio.run(JointCache(cache, alone(**options)).warmup_items(items))]


def alone(**options):
    return Coordination(**options)


def test_only_caches_that_are_shared_or_whose_origin_has_a_rate_are_seen_differently():
    caches = {"a": MappingCache({}, str, name="a"), "b": MappingCache({}, str, name="b"), "pages": Shelf()}
    caches["b"].origin = "shop"
    seen = joint(caches, alone(rates={"shop": 10.0}))
    assert {name: type(cache) for name, cache in seen.items()} == {
        "a": MappingCache,
        "b": JointCache,
        "pages": JointCache,
    }


def test_it_has_the_abilities_of_its_cache():
    cache = JointCache(MappingCache({}, str, name="pages"), alone())
    assert isinstance(cache, WarmableCache)
    assert isinstance(cache, LoadsInBulk)
    assert isinstance(cache, UndoesWarmup)
    assert not isinstance(cache, TellsKinds)


def test_what_is_resident_is_not_loaded_again():
    shelf = Shelf(**{"0": "there", "3": "there"})
    assert statuses(shelf) == ["resident", "loaded", "loaded", "resident", "loaded", "loaded"]
    assert shelf.mapping["0"] == "there"


def test_a_load_that_fails_fails_alone():
    def load(key):
        if key == "1":
            raise ItemTooLarge("huge")
        return {"2": 1}.get(key) or key if key != "2" else 1 / 0

    assert statuses(Shelf(load)) == ["loaded", "too_large", "failed", "loaded", "loaded", "loaded"]


class Bulk(Shelf):
    def warmup_items(self, items):
        if any(item.ref.key == "2" for item in items):
            raise ValueError("one is bad")
        return [self.warmup_item(item) for item in items]


def test_of_a_batch_that_failed_together_each_is_tried_by_itself():
    assert statuses(Bulk()) == ["loaded"] * 6


def test_a_cache_that_can_t_tell_what_is_resident_is_loaded_all_the_same(caplog):
    class Broken(Shelf):
        def find_resident(self, keys):
            raise OSError("no")

    assert statuses(Broken()) == ["loaded"] * 6
    assert "could not be shared out" in caplog.text


def test_what_was_not_begun_when_the_run_was_stopped_is_skipped():
    together = alone(rates={"pages": 1.0})
    together.stop()
    results = asyncio.run(JointCache(Shelf(), together).warmup_items(ITEMS))
    assert {result.status for result in results} == {ItemStatus.SKIPPED}


def test_coroutine_caches_are_loaded_on_the_loop():
    class OnTheLoop(Shelf):
        async def warmup_item(self, item):
            asyncio.get_running_loop()
            return MappingCache.warmup_item(self, item)

    assert statuses(OnTheLoop()) == ["loaded"] * 6


@pytest.mark.parametrize("replicas", [1, 8])
def test_a_replica_that_never_heard_of_the_others_loads_everything_in_the_end(replicas):
    assert sorted(statuses(Shelf(), replicas=replicas)) == ["loaded"] * 6


def test_a_wait_for_the_start_ends_when_the_run_is_stopped():
    async def begin():
        together = alone(jitter_seconds=600.0)
        beginning = asyncio.ensure_future(together.begin())
        await asyncio.sleep(0)
        together.stop()
        await beginning

    asyncio.run(begin())


def test_results_are_those_of_the_cache():
    result = asyncio.run(JointCache(Shelf(), alone()).warmup_item(ITEMS[0]))
    assert isinstance(result, ItemResult)
    assert result.size_bytes > 0


# ------------------------------------------------------------------------------------------- as a run sees it


def joint_run(cache, together, **changes):
    run = run_of([JointCache(cache, together)], ITEMS, **({"batch_size": len(ITEMS)} | changes))
    together.follow(lambda: run.is_stopping, lambda: run.is_holding)
    return run


def test_waits_for_the_rate_are_none_of_a_loader_s_time():
    report = perform(joint_run(Shelf(), alone(rates={"pages": 15.0}), item_timeout_seconds=0.15))
    assert report.seconds > 0.15
    assert set(told(report).values()) == {"loaded"}


class ServedByOthers(Coordination):
    """Another replica has taken everything."""

    async def take(self, shared_as, keys, at_once=1):
        return []


def load_later(shelf, seconds):
    """Another replica loads what `shelf` lacks."""
    others = threading.Timer(seconds, lambda: shelf.mapping.update((item.ref.key, "theirs") for item in ITEMS))
    others.start()
    return others


@pytest.mark.parametrize(("is_apart", "outcome"), [(True, {"resident"}), (False, {"failed"})])
def test_waits_for_others_are_none_of_a_loader_s_time(monkeypatch, is_apart, outcome):
    """They would be, if it did not say that it waits: then it is late each time."""
    if not is_apart:
        monkeypatch.setattr(preheat._joint, "apart", contextlib.nullcontext)
        monkeypatch.setattr(preheat._joint, "at_work", contextlib.nullcontext)
    shelf = Shelf()
    others = load_later(shelf, 0.6 if is_apart else 5.0)
    report = perform(joint_run(shelf, ServedByOthers(), item_timeout_seconds=0.1))
    others.cancel()
    assert set(told(report).values()) == outcome


def test_of_loads_in_turn_each_has_the_time_of_a_load():
    report = perform(joint_run(Shelf(lambda key: time.sleep(0.1) or key), alone(), item_timeout_seconds=0.4))
    assert report.seconds > 0.4
    assert set(told(report).values()) == {"loaded"}


def test_a_load_that_hangs_is_late_and_undone_when_it_ends():
    ending, undone = threading.Event(), threading.Event()

    class Hanging(Shelf):
        def undo_warmup(self, key):
            released_bytes = super().undo_warmup(key)
            undone.set()
            return released_bytes

    def hang(key):
        if key == "1":
            ending.wait(10.0)
        return key

    shelf = Hanging(hang)
    report = perform(joint_run(shelf, alone(), item_timeout_seconds=0.1))
    assert "took longer than an item may" in reasons(report)["1"]
    ending.set()
    assert undone.wait(10.0)
    assert "1" not in shelf.mapping


@pytest.mark.parametrize("why", ["cancelled", "deadline"])
def test_a_run_that_ends_waits_for_no_others(why):
    async def go():
        shelf = Shelf()
        run = joint_run(shelf, ServedByOthers(), deadline_seconds=0.2 if why == "deadline" else None)
        performing = asyncio.ensure_future(run.perform())
        while not shelf.finds:
            await asyncio.sleep(0.01)
        if why == "cancelled":
            run.cancel()
        return await performing

    report = asyncio.run(go())
    assert (report.stopped, set(told(report).values())) == (why, {"skipped"})
    assert report.seconds < preheat._joint.PATIENCE_SECONDS / 2


def test_a_run_that_pauses_begins_nothing_in_the_middle_of_a_batch():
    async def go():
        shelf = Shelf()
        run = joint_run(shelf, alone(rates={"pages": 20.0}))
        performing = asyncio.ensure_future(run.perform())
        while not shelf.mapping:
            await asyncio.sleep(0.005)
        run.pause()
        before, during = -1, 0
        while before != during:  # what was under way ends
            before = during
            await asyncio.sleep(0.3)
            during = len(shelf.mapping)
        run.resume()
        return during, await performing

    during, report = asyncio.run(go())
    assert 0 < during < len(ITEMS)
    assert set(told(report).values()) == {"loaded"}


def test_an_origin_that_asks_for_rest_is_left_alone():
    asked = []

    class Overloaded(Exception):
        status_code, headers = 503, {"Retry-After": "7"}

    def refuse(key):
        asked.append(key)
        raise Overloaded(key)

    results = asyncio.run(JointCache(Shelf(refuse), alone()).warmup_items(ITEMS))
    assert {result.wait_seconds for result in results} == {7.0}
    assert len(asked) == 1
