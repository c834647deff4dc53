"""Mappings whose values survive a restart: what is written, deleted and evicted in them is honoured at once."""

import asyncio
import os
from collections import OrderedDict

import cachetools
import pytest

from preheat import CacheWarmupService, heat
from preheat.abc import ItemStatus, SnapshotsValues
from preheat.adapters.mapping import MappingCache
from preheat.codecs import DocumentCodec, TextCodec
from preheat.testing import FakeClock, ScriptedMemory

ITEMS = 5
MAPPINGS = [dict, OrderedDict, lambda: cachetools.LRUCache(100), lambda: cachetools.LFUCache(100)]
makers = pytest.mark.parametrize("make", MAPPINGS, ids=["dict", "OrderedDict", "LRUCache", "LFUCache"])


def key(n):
    return f"page {n}"


def service(tmp_path, **settings):
    settings = {"state_dir": str(tmp_path / "state"), "snapshots": True, "holdout_ratio": 0.0} | settings
    return CacheWarmupService(memory=ScriptedMemory(limit_bytes=1 << 30), **settings)


class Origin:
    def __init__(self):
        self.loads = []

    def load(self, name):
        self.loads.append(name)
        return {"name": name, "loaded": len(self.loads)}

    async def load_awaited(self, name):
        return self.load(name)


def read_all(mapping, origin):
    """As an application does it: what is missing it loads itself."""
    for n in range(ITEMS):
        if mapping.get(key(n)) is None:
            mapping[key(n)] = origin.load(key(n))


async def warm(service):
    report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
    assert {ItemStatus.LOADED} == {status for status, items in report.counts.items() if items}


def in_a_process_that_is_killed(run):
    """`run()` in a child that ends in the midst of its work, with nothing saved by an end."""
    child = os.fork()
    if not child:
        code = 1
        try:
            asyncio.run(run())
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def after_a_restart(tmp_path, make, before, *, awaited=False):
    """What a warm-up puts into the mapping, and loads for that, after `before(mapping, origin)` and a kill."""

    async def first():
        made, origin = service(tmp_path), Origin()
        mapping = heat.watch(make(), name="pages", load=origin.load, service=made)
        read_all(mapping, origin)
        made.ledger.history()  # folds what was recorded
        made.ledger.flush()
        await made.save_snapshots()
        before(mapping, origin)

    in_a_process_that_is_killed(first)

    async def second():
        origin = Origin()
        async with service(tmp_path) as made:
            load = origin.load_awaited if awaited else origin.load
            mapping = heat.watch(make(), name="pages", load=load, service=made)
            await warm(made)
            status = (await made.get_warmup_status())["snapshots"]["caches"]["pages"]
        return dict(mapping), origin.loads, status

    return asyncio.run(second())


@makers
@pytest.mark.parametrize("awaited", [False, True])
def test_a_warm_up_after_a_restart_has_the_values_without_loading_them(tmp_path, make, awaited):
    values, loads, status = after_a_restart(tmp_path, make, lambda mapping, origin: None, awaited=awaited)
    assert values == {key(n): {"name": key(n), "loaded": n + 1} for n in range(ITEMS)}
    assert loads == []
    assert (status["restored"], status["refused"]) == (ITEMS, {})


def delete(mapping, origin):
    del mapping[key(1)]


def pop(mapping, origin):
    mapping.pop(key(1))


def write(mapping, origin):
    mapping[key(1)] = {"name": "another"}


def pop_what_is_not_there(mapping, origin):
    if isinstance(mapping, cachetools.Cache):
        mapping.popitem()  # to make room; with LRU page 0
    mapping.pop(key(1), None)
    mapping.pop(key(1), None)


@makers
@pytest.mark.parametrize("change", [delete, pop, write, pop_what_is_not_there])
def test_what_is_deleted_or_written_does_not_come_back_not_even_after_a_kill(tmp_path, make, change):
    values, loads, _ = after_a_restart(tmp_path, make, change)
    assert loads == [key(1)]
    assert values[key(1)] == {"name": key(1), "loaded": 1}


@makers
def test_what_was_cleared_does_not_come_back(tmp_path, make):
    _, loads, _ = after_a_restart(tmp_path, make, lambda mapping, origin: mapping.clear())
    assert sorted(loads) == [key(n) for n in range(ITEMS)]


def test_the_control_a_mapping_that_is_changed_behind_its_back_brings_old_values_back(tmp_path):
    """If this stops failing to honour it, the tests above prove nothing."""
    values, loads, _ = after_a_restart(tmp_path, dict, lambda mapping, origin: mapping._mapping.pop(key(1)))
    assert loads == []
    assert key(1) in values


def test_what_a_full_cache_evicts_may_come_back(tmp_path):
    def fill(mapping, origin):
        for n in range(100):
            mapping[f"other {n}"] = {}
        assert key(1) not in mapping

    values, loads, _ = after_a_restart(tmp_path, lambda: cachetools.LRUCache(100), fill)
    assert key(1) in values
    assert loads == []


def test_saving_is_no_use_of_an_entry(tmp_path):
    async def run():
        async with service(tmp_path) as made:
            mapping = heat.watch(cachetools.LRUCache(3), name="pages", load=Origin().load, service=made)
            mapping.update({"a": 1, "b": 2, "c": 3})
            mapping.get("a")
            await made.save_snapshots()
            mapping["d"] = 4
            assert set(mapping) == {"a", "c", "d"}

    asyncio.run(run())


def test_nothing_is_kept_of_what_expires_by_itself_of_what_can_t_be_warmed_and_of_what_was_there_before(tmp_path):
    async def run():
        async with service(tmp_path) as made:
            load = Origin().load
            heat.watch(cachetools.TTLCache(9, 60), name="expiring", load=load, service=made)["a"] = 1
            heat.watch({}, name="recorded", service=made)["a"] = 1
            heat.watch({"a": 1}, name="earlier", load=load, service=made)["b"] = 2
            await made.save_snapshots()
            caches = (await made.get_warmup_status())["snapshots"]["caches"]
        assert {name: each["items"] for name, each in caches.items()} == {"earlier": 1}

    asyncio.run(run())


def test_keys_that_are_no_text_are_no_trouble(tmp_path):
    async def run():
        async with service(tmp_path) as made:
            mapping = heat.watch({}, name="pages", load=Origin().load, service=made)
            mapping[7] = 1
            del mapping[7]
            mapping["a"] = 2
            await made.save_snapshots()

    asyncio.run(run())


def test_a_codec_of_ones_own_keeps_what_plain_data_can_t(tmp_path):
    codec = DocumentCodec(tuple[int, int])

    async def run(load, fill):
        async with service(tmp_path) as made:
            mapping = heat.watch({}, name="pages", load=load, codec=codec, service=made)
            await fill(mapping, made)
            return dict(mapping)

    async def read_and_write(mapping, made):
        if mapping.get("a") is None:
            mapping["a"] = (1, 2)

    origin = Origin()
    assert asyncio.run(run(origin.load, read_and_write)) == {"a": (1, 2)}
    assert asyncio.run(run(origin.load, lambda mapping, made: warm(made))) == {"a": (1, 2)}
    assert origin.loads == []


# ------------------------------------------------------------------------------------------- read through the adapter


def pages(load, *, codec=None, mapping=None):
    return MappingCache({} if mapping is None else mapping, load, name="pages", codec=codec or TextCodec())


def test_a_read_through_the_adapter_restores_counts_a_hit_and_honours_what_was_invalidated(tmp_path):
    async def run(loads):
        async with service(tmp_path) as made:
            made.register(cache := pages(lambda name: loads.append(name) or f"{name}, made {len(loads)}"))
            values = [cache.get(key(n)) for n in range(ITEMS)]
            statistics = cache.get_warmup_statistics()
            accesses = made.ledger.history().hits.sum()
            cache.invalidate(key(1))
            return values, (statistics.hits, statistics.misses, int(accesses))

    values, counted = asyncio.run(run([]))
    assert counted == (0, ITEMS, 0)
    again, counted = asyncio.run(run(loads := []))
    assert loads == [key(1)]
    assert counted == (ITEMS - 1, 1, ITEMS - 1)
    assert [again[n] for n in (0, 2, 3, 4)] == [values[n] for n in (0, 2, 3, 4)]


def test_without_a_codec_nothing_is_kept(tmp_path):
    async def run():
        async with service(tmp_path) as made:
            cache = MappingCache({}, str, name="pages")
            made.register(cache)
            cache.get("a")
            await made.save_snapshots()
            assert isinstance(cache, SnapshotsValues)
            assert (await made.get_warmup_status())["snapshots"] == {"fault": None, "caches": {}}

    asyncio.run(run())


def test_a_value_that_is_invalidated_while_it_is_looked_up_is_not_restored():
    cache = pages(lambda name: "loaded")

    class Found:
        erasures = 0

        def find(self, name, version):
            cache.invalidate(name)
            return pages_value(name)

        def erase(self, keys):
            pass

    cache.restore_from(Found())
    assert cache.get("a") == "loaded"


def pages_value(name):
    from preheat.abc import HeldValue

    return HeldValue(name, "", "kept", 10, FakeClock(1e9)())


def test_a_value_keeps_when_it_was_made_however_often_it_is_restored(tmp_path):
    cache = pages(lambda name: "loaded")

    class Found:
        erasures = 0

        def find(self, name, version):
            return pages_value(name)

    cache.restore_from(Found())
    assert cache.get("a") == "kept"
    assert cache.held_values() == [pages_value("a")]
    cache.restore_from(None)
    assert cache.held_values() == []
    assert cache.get("b") == "loaded"
