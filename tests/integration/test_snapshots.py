"""Snapshots of a service: a process that restarts has its values without loading them."""

import asyncio
import dataclasses
import gc
import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from preheat import CacheWarmupService
from preheat._snapshot import keeper
from preheat.abc import CacheStatistics, HeldValue, ItemResult, ItemStatus, SnapshotsValues, WarmableCache
from preheat.caches import EmbeddingCache, FileCache, ProjectCache, SearchCache
from preheat.codecs import DocumentCodec, TextCodec
from preheat.errors import InvalidSetting, StoreError
from preheat.testing import FakeClock, ScriptedMemory

GB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Hit:
    path: str
    lines: tuple[int, ...]


class Origin:
    """What the caches load from; counts, and can be changed."""

    def __init__(self):
        self.loads, self.version = [], "1"

    def encode(self, texts):
        self.loads.extend(texts)
        return np.array([[len(text), ord(text[0])] for text in texts], np.float32)

    def search(self, query):
        self.loads.append(query)
        return [Hit(query, (1, 2))]

    def parse(self, path, content):
        self.loads.append(path.name)
        return {"name": path.name, "size": len(content)}

    def analyse(self, path):
        self.loads.append(path.name)
        return {"files": sorted(each.name for each in path.iterdir())}


@pytest.fixture
def tree(tmp_path):
    for n in range(5):
        (tmp_path / "tree" / f"p{n}").mkdir(parents=True)
        (tmp_path / "tree" / f"p{n}" / "a.txt").write_text("a" * n)
    return tmp_path / "tree"


def make_caches(origin, tree, capacity_bytes=1 << 20):
    return {
        "embedding": EmbeddingCache(origin.encode, model="m1", capacity_bytes=capacity_bytes),
        "search": SearchCache(
            origin.search, version=lambda: origin.version, capacity_bytes=capacity_bytes, codec=DocumentCodec(list[Hit])
        ),
        "file": FileCache(origin.parse, root=tree, capacity_bytes=capacity_bytes),
        "project": ProjectCache(origin.analyse, root=tree, capacity_bytes=capacity_bytes, recheck_seconds=0.0),
    }


def read_all(caches):
    return {
        "embedding": [caches["embedding"].get(f"{n} bottles").tolist() for n in range(5)],
        "search": [caches["search"].get(f"query {n}") for n in range(5)],
        "file": [caches["file"].get(f"p{n}/a.txt") for n in range(5)],
        "project": [caches["project"].get(f"p{n}") for n in range(5)],
    }


def service(tmp_path, caches=None, **settings):
    settings = {"state_dir": str(tmp_path / "state"), "snapshots": True, "holdout_ratio": 0.0} | settings
    made = CacheWarmupService(memory=ScriptedMemory(limit_bytes=GB), **settings)
    for cache in (caches or {}).values():
        made.register(cache)
    return made


async def filled(tmp_path, origin, tree, **settings):
    """Runs a process that reads everything once, and ends; what it read."""
    async with service(tmp_path, caches := make_caches(origin, tree), **settings):
        values = read_all(caches)
    origin.loads.clear()
    return values


def test_a_restart_has_every_value_without_loading_any(tmp_path, tree):
    async def run():
        origin = Origin()
        values = await filled(tmp_path, origin, tree)
        async with service(tmp_path, caches := make_caches(origin, tree)) as restarted:
            assert read_all(caches) == values
            assert origin.loads == []
            status = (await restarted.get_warmup_status())["snapshots"]
        for name, cache in caches.items():
            statistics = cache.get_warmup_statistics()
            assert (statistics.hits, statistics.misses, statistics.items) == (5, 0, 5)
            assert status["caches"][name]["restored"] == 5
            assert status["caches"][name]["refused"] == {}
        assert status["fault"] is None
        json.dumps(status)

    asyncio.run(run())


def test_they_are_off_by_default(tmp_path, tree):
    async def run():
        origin = Origin()
        await filled(tmp_path, origin, tree, snapshots=False)
        assert not (tmp_path / "state" / "snapshots").exists()
        async with service(tmp_path, caches := make_caches(origin, tree), snapshots=False) as restarted:
            read_all(caches)
            await restarted.save_snapshots()
            assert (await restarted.get_warmup_status())["snapshots"] is None
        assert len(origin.loads) == 20

    asyncio.run(run())


def test_what_is_restored_takes_the_room_that_a_load_takes(tmp_path, tree):
    async def run():
        origin = Origin()
        async with service(tmp_path, first := make_caches(origin, tree)):
            read_all(first)
            loaded = {name: cache.get_warmup_statistics().used_bytes for name, cache in first.items()}
        async with service(tmp_path, second := make_caches(origin, tree)):
            read_all(second)
            assert loaded == {name: cache.get_warmup_statistics().used_bytes for name, cache in second.items()}
            for cache in second.values():
                cache.clear()
                assert cache.get_warmup_statistics().used_bytes == 0

    asyncio.run(run())


def test_a_value_that_does_not_fit_its_cache_is_served_and_not_kept(tmp_path):
    async def run():
        origin = Origin()
        async with service(
            tmp_path, {"e": EmbeddingCache(origin.encode, model="m", capacity_bytes=10_000)} | {}
        ) as first:
            first.caches["embedding"].get("text")
        origin.loads.clear()
        async with service(tmp_path, {"e": EmbeddingCache(origin.encode, model="m", capacity_bytes=10)}) as second:
            assert second.caches["embedding"].get("text").tolist() == [4.0, 116.0]
            assert len(second.caches["embedding"]) == 0
        assert origin.loads == []

    asyncio.run(run())


def test_what_changed_meanwhile_is_loaded(tmp_path, tree):
    async def run():
        origin = Origin()
        await filled(tmp_path, origin, tree)
        (tree / "p1" / "a.txt").write_text("changed")
        (tree / "p2" / "b.txt").write_text("new")
        origin.version = "2"
        caches = make_caches(origin, tree)
        caches["embedding"].model = "m2"
        async with service(tmp_path, caches) as restarted:
            read_all(caches)
            refused = {n: c["refused"] for n, c in (await restarted.get_warmup_status())["snapshots"]["caches"].items()}
        assert sorted(origin.loads) == sorted(
            [f"{n} bottles" for n in range(5)] + [f"query {n}" for n in range(5)] + ["a.txt", "p1", "p2"]
        )
        other = "other version of the item"
        assert refused == {"embedding": {other: 5}, "search": {other: 5}, "file": {other: 1}, "project": {other: 2}}

    asyncio.run(run())


@pytest.mark.parametrize("change", [{"application_version": "2"}, {"snapshot_max_age_seconds": 1}])
def test_another_application_or_age_drops_them(tmp_path, tree, change):
    async def run():
        origin = Origin()
        await filled(tmp_path, origin, tree)
        if "snapshot_max_age_seconds" in change:
            time.sleep(1.05)  # the wall clock itself is what the service goes by
        async with service(tmp_path, caches := make_caches(origin, tree), **change):
            read_all(caches)
        assert len(origin.loads) == 20

    asyncio.run(run())


@pytest.mark.parametrize("is_saved_first", [False, True])
def test_what_was_invalidated_does_not_come_back(tmp_path, tree, is_saved_first):
    async def run():
        origin = Origin()
        async with service(tmp_path, caches := make_caches(origin, tree)) as first:
            read_all(caches)
            if is_saved_first:
                await first.save_snapshots()
            caches["file"].invalidate("p3/a.txt")
            caches["project"].clear()
        origin.loads.clear()
        async with service(tmp_path, caches := make_caches(origin, tree)):
            read_all(caches)
        assert sorted(origin.loads) == ["a.txt", "p0", "p1", "p2", "p3", "p4"]

    asyncio.run(run())


CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from integration.test_snapshots import Origin, make_caches, read_all, service
async def run():
    made = service(Path({folder!r}), caches := make_caches(Origin(), Path({tree!r})))
    read_all(caches)
    await made.save_snapshots()
    caches["file"].invalidate("p3/a.txt")
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(run())
"""


def test_after_a_kill_what_was_saved_is_there_and_what_was_invalidated_is_not(tmp_path, tree):
    tests = os.path.dirname(os.path.dirname(__file__))
    program = CHILD.format(tests=tests, folder=str(tmp_path), tree=str(tree))
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run([sys.executable, "-c", program], check=False, env=environ, timeout=60, capture_output=True)
    assert said.returncode == -signal.SIGKILL, said.stderr

    async def run():
        origin = Origin()
        async with service(tmp_path, caches := make_caches(origin, tree)):
            read_all(caches)
        ours = [load for load in origin.loads if "query" not in load]  # there, Hit is a type of another module
        assert ours == ["a.txt"]

    asyncio.run(run())


def test_an_invalidation_during_a_restore_is_not_undone_by_it(tmp_path, tree):
    """The value is found, then invalidated by another thread, and only then to be kept."""

    async def run():
        origin = Origin()
        await filled(tmp_path, origin, tree)
        async with service(tmp_path, caches := make_caches(origin, tree)):
            cache = caches["file"]
            snapshot, find = cache._snapshot, cache._snapshot.find

            def find_and_invalidate(key, version):
                value = find(key, version)
                snapshot.find = find
                invalidating = threading.Thread(target=cache.invalidate, args=[key])
                invalidating.start()
                invalidating.join()
                return value

            snapshot.find = find_and_invalidate
            cache.get("p1/a.txt")
            assert origin.loads == ["a.txt"]

    asyncio.run(run())


def test_many_threads_that_want_the_same_value_restore_it_once_into_the_cache(tmp_path, tree):
    async def run():
        origin = Origin()
        await filled(tmp_path, origin, tree)
        async with service(tmp_path, caches := make_caches(origin, tree)):
            cache, values, ready = caches["search"], [], threading.Barrier(8)

            def read():
                ready.wait()
                values.append(cache.get("query 1"))

            threads = [threading.Thread(target=read) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert all(value is values[0] for value in values[1:]) or len({id(value) for value in values}) <= 8
            statistics = cache.get_warmup_statistics()
            assert (statistics.hits, statistics.misses, statistics.items) == (8, 0, 1)
        assert origin.loads == []

    asyncio.run(run())


def test_a_warm_up_takes_from_the_snapshot_what_it_holds(tmp_path, tree):
    async def run():
        origin = Origin()
        await filled(tmp_path, origin, tree)
        (tree / "p1" / "a.txt").write_text("changed")
        async with service(tmp_path, caches := make_caches(origin, tree)) as restarted:
            report = await restarted.execute_warmup_plan(await restarted.create_warmup_plan("aggressive"))
            assert report.counts[ItemStatus.LOADED] == 20
            assert sorted(origin.loads) == ["a.txt", "p1"]
            assert all(cache.get_warmup_statistics().warmed_items == 5 for cache in caches.values())
            read_all(caches)
            assert [cache.get_warmup_statistics().misses for cache in caches.values()] == [0] * 4
        assert sorted(origin.loads) == ["a.txt", "p1"]

    asyncio.run(run())


def test_a_read_by_a_loader_of_a_warm_up_is_served_quietly(tmp_path, tree):
    async def run():
        origin = Origin()
        await filled(tmp_path, origin, tree)
        async with service(tmp_path, caches := make_caches(origin, tree)):
            from preheat._record import quietly

            with quietly():
                assert caches["file"].get("p1/a.txt")["size"] == 1
            statistics = caches["file"].get_warmup_statistics()
            assert (statistics.hits, statistics.misses, statistics.items) == (0, 0, 0)
        assert origin.loads == []

    asyncio.run(run())


def test_forgetting_takes_values_off_the_disk(tmp_path, tree):
    async def run():
        origin = Origin()
        async with service(tmp_path, caches := make_caches(origin, tree)) as first:
            read_all(caches)
            await first.save_snapshots()
            key = caches["search"].ref("query 3").key
            caches["search"].invalidate(key)
            await first.forget("search", [key])
            assert await first.forget("other", [key]) == 0
        content = b"".join(path.read_bytes() for path in (tmp_path / "state" / "snapshots").iterdir())
        assert b"query 3" not in content
        assert b"query 2" in content

    asyncio.run(run())


def test_only_the_owner_of_the_state_folder_restores_and_keeps(tmp_path, tree, caplog):
    async def run():
        origin = Origin()
        await filled(tmp_path, origin, tree)
        others = make_caches(origin, tree)
        async with service(tmp_path, make_caches(origin, tree)), service(tmp_path, others) as second:
            read_all(others)
            status = (await second.get_warmup_status())["snapshots"]
        assert status["caches"] == {}
        assert "does not own" in status["fault"]
        assert len(origin.loads) == 20

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())


async def taken_over(service):
    """Waits until this process owns the state folder and restores from it."""
    deadline = time.monotonic() + 20
    while set((await service.get_warmup_status())["snapshots"]["caches"]) != set(service.caches):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def test_who_takes_the_state_folder_over_restores_what_it_has_not_touched_itself(tmp_path, tree, monkeypatch):
    monkeypatch.setattr(keeper, "TICK_SECONDS", 0.02)

    async def run():
        origin = Origin()
        await filled(tmp_path, origin, tree)
        first = service(tmp_path, make_caches(origin, tree))
        async with service(tmp_path, caches := make_caches(origin, tree, capacity_bytes=600)) as second:
            caches["search"].get("query 1")  # and lost for want of room, so that it is asked for again
            caches["search"].get("query 2")
            for key in ("query 3", "query 9"):
                caches["search"].invalidate(caches["search"].ref(key).key)
            caches["file"].clear()
            with pytest.raises(StoreError):
                await second.forget("search", [caches["search"].ref("query 4").key])
            await first.close()
            await taken_over(second)
            assert (await second.get_warmup_status())["snapshots"]["fault"] is None
            origin.loads.clear()
            read_all(caches)
        return origin.loads

    files, searches = {"a.txt"}, {f"query {n}" for n in range(1, 5)}
    loads = asyncio.run(run())
    assert {*loads} - {"query 1", "query 2"} == (files | searches) - {"query 1", "query 2"}
    assert "query 1" in loads


def test_what_was_invalidated_before_the_folder_was_taken_over_stays_so_in_the_next_process(
    tmp_path, tree, monkeypatch
):
    monkeypatch.setattr(keeper, "TICK_SECONDS", 0.02)

    async def run():
        origin = Origin()
        await filled(tmp_path, origin, tree)
        first = service(tmp_path, make_caches(origin, tree))
        async with service(tmp_path, caches := make_caches(origin, tree)) as second:
            caches["search"].invalidate(caches["search"].ref("query 3").key)
            caches["search"].get("query 0")  # only who has something to save takes over
            await first.close()
            await taken_over(second)
        origin.loads.clear()
        async with service(tmp_path, caches := make_caches(origin, tree)):
            read_all(caches)
        assert origin.loads == ["query 3"]

    asyncio.run(run())


def test_a_forked_child_restores_nothing_and_its_parent_s_snapshot_stays(tmp_path, tree):
    async def run():
        origin = Origin()
        await filled(tmp_path, origin, tree)
        async with service(tmp_path, caches := make_caches(origin, tree)):
            child = os.fork()
            if not child:
                try:
                    caches["file"].get("p1/a.txt")
                    caches["file"].invalidate("p1/a.txt")
                    os._exit(len(origin.loads))
                finally:
                    os._exit(99)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
            read_all(caches)
            assert origin.loads == []

    asyncio.run(run())


def test_a_cache_that_is_unregistered_is_kept_no_more_and_still_erases(tmp_path, tree):
    async def run():
        origin = Origin()
        async with service(tmp_path, caches := make_caches(origin, tree)) as first:
            for n in range(3):
                caches["file"].get(f"p{n}/a.txt")
            await first.save_snapshots()
            first.unregister("file")
            caches["file"].get("p3/a.txt")
            caches["file"].invalidate("p1/a.txt")
        origin.loads.clear()
        async with service(tmp_path, caches := make_caches(origin, tree)):
            for n in range(4):
                caches["file"].get(f"p{n}/a.txt")
        assert origin.loads == ["a.txt", "a.txt"]

    asyncio.run(run())


def test_a_folder_that_can_t_be_used_costs_the_snapshots_and_nothing_else(tmp_path, tree):
    async def run():
        (tmp_path / "state").mkdir(mode=0o700)
        (tmp_path / "state" / "snapshots").write_text("a file")
        origin = Origin()
        async with service(tmp_path, caches := make_caches(origin, tree)) as made:
            read_all(caches)
            await made.save_snapshots()
            assert "can't be used" in (await made.get_warmup_status())["snapshots"]["fault"]

    asyncio.run(run())


def test_they_are_saved_in_the_background_at_no_more_than_a_given_speed(tmp_path, tree, monkeypatch):
    monkeypatch.setattr(keeper, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(keeper, "SAVE_SECONDS", 0.02)

    async def run():
        async with service(tmp_path, caches := make_caches(Origin(), tree)) as made:
            read_all(caches)
            for _ in range(500):
                await asyncio.sleep(0.01)
                kept = (await made.get_warmup_status())["snapshots"]["caches"]
                if all(each["items"] == 5 for each in kept.values()):
                    return
        raise AssertionError(kept)

    asyncio.run(run())


def test_no_thread_and_no_descriptor_outlives_the_service(tmp_path, tree):
    async def run():
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            async with service(tmp_path, caches := make_caches(Origin(), tree)):
                read_all(caches)
                caches["file"].invalidate("p1/a.txt")
            del caches  # vectors keep the file that they are views of
            gc.collect()
        return len(os.listdir("/proc/self/fd")) - before

    assert asyncio.run(run()) <= 0
    assert [thread.name for thread in threading.enumerate() if thread.name == "preheat-snapshot"] == []


# ---------------------------------------------------------------------------------------------- a cache that has TTLs


class ExpiringCache:
    """Text that lives for `ttl` seconds by `clock`."""

    name = "expiring"

    def __init__(self, ttl, clock):
        self.ttl, self.clock, self.entries, self.loads = ttl, clock, {}, 0
        self.snapshot = None

    def get(self, key):
        kept = self.entries.get(key)
        if kept is None or self.clock() >= kept.expires_at:
            kept = self.snapshot.find(key, "") if self.snapshot is not None else None
        if kept is None:
            self.loads += 1
            now = self.clock()
            kept = HeldValue(key, "", f"load {self.loads}", 100, now, now + self.ttl)
        self.entries[key] = kept
        return kept.value

    def snapshot_codec(self):
        return TextCodec()

    def held_values(self):
        return list(self.entries.values())

    def restore_from(self, snapshot):
        self.snapshot = snapshot

    def get_warmup_candidates(self, history, rates):
        return []

    def warmup_item(self, item):
        return ItemResult(ItemStatus.RESIDENT)

    def estimate_item_size(self, item):
        return 0

    def get_warmup_statistics(self):
        return CacheStatistics(len(self.entries), 0, None, 0, 0, 0, 0, 0)


def test_the_time_to_live_of_a_cache_counts_on_through_restarts(tmp_path):
    async def run():
        clock = FakeClock(time.time() - 30)
        first = ExpiringCache(60, clock)
        assert isinstance(first, SnapshotsValues)
        assert isinstance(first, WarmableCache)
        async with service(tmp_path, {"a": first}):
            assert first.get("a") == "load 1"
        second = ExpiringCache(60, FakeClock(time.time()))
        async with service(tmp_path, {"a": second}):
            assert second.get("a") == "load 1"
            second.clock.advance(31)
            assert second.entries["a"].expires_at == clock() + 60
        late = ExpiringCache(20, FakeClock(time.time() - 30))
        async with service(tmp_path / "other", {"a": late}):
            late.get("a")
        last = ExpiringCache(20, FakeClock(time.time()))
        async with service(tmp_path / "other", {"a": last}):
            last.get("a")
            assert last.loads == 1
        assert not math.isinf(last.entries["a"].expires_at)

    asyncio.run(run())


def test_a_codec_without_a_name_and_a_cache_with_too_long_a_one_are_refused(tmp_path):
    async def run():
        cache = ExpiringCache(1, time.time)
        cache.snapshot_codec = object
        with pytest.raises(InvalidSetting, match="name and version of its codec"):
            service(tmp_path, {"a": cache})
        cache = ExpiringCache(1, time.time)
        cache.name = "x" * 257
        with pytest.raises(InvalidSetting, match="at most 256 characters"):
            service(tmp_path, {"a": cache})

    asyncio.run(run())
