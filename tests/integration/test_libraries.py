"""Adapters of libraries that keep their entries in the process or in a folder, against the real packages."""

import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from preheat import create_warmup_item
from preheat._model import ItemStatus
from preheat.errors import InvalidSetting
from preheat.testing import WarmableCacheContract, record_history

theine = pytest.importorskip("theine", reason="theine is not installed")
diskcache = pytest.importorskip("diskcache", reason="diskcache is not installed")

from preheat.adapters.diskcache import DataDisk, DiskCache  # noqa: E402
from preheat.adapters.theine import TheineCache  # noqa: E402


def value_of(key):
    return f"value of {key}"


def item_of(key, size_bytes=0):
    return create_warmup_item("pages", key, size_bytes=size_bytes)


class LibraryContract(WarmableCacheContract):
    def make_item(self, n):
        return item_of(f"page {n}")

    def read(self, cache, item):
        return cache.get(item.ref.key)


# -------------------------------------------------------------------------------------------------------- theine


class TestTheineCache(LibraryContract):
    def make_cache(self, load=value_of, size=1000, **options):
        return TheineCache(theine.Cache(size), load, name="pages", **options)

    def make_cache_loading(self, loading):
        return self.make_cache(lambda key: (loading(), value_of(key))[1])

    def replace(self, cache, item):
        cache.mapping[item.ref.key] = "newer"
        return "newer"

    def delete(self, cache, item):
        cache.invalidate(item.ref.key)
        return True

    def make_small_cache(self):
        return self.make_cache(size=4)


def test_a_full_cache_of_theine_takes_nothing_from_a_warm_up():
    kept = theine.Cache(100)
    cache = TheineCache(kept, value_of, name="pages")
    for n in range(100):
        cache.get(f"{n}")
    results = [cache.warmup_item(item_of(f"new {n}")) for n in range(50)]
    assert {ItemStatus.REJECTED} == {result.status for result in results}
    assert all(kept.get(f"{n}")[1] for n in range(100))


def test_lives_are_given_to_theine():
    kept = theine.Cache(100)
    TheineCache(kept, value_of, name="pages", ttl_seconds=1.0).warmup_item(item_of("a"))
    assert kept.get("a") == ("value of a", True)
    deadline = time.monotonic() + 10
    while kept.get("a")[1] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert kept.get("a") == (None, False)


def test_a_value_that_is_none_is_a_value():
    cache = TheineCache(theine.Cache(100), lambda key: None, name="pages")
    assert cache.warmup_item(item_of("a")).status is ItemStatus.LOADED
    assert cache.get("a") is None
    assert cache.get_warmup_statistics()[3:5] == (1, 0)


def test_clearing_theine_forgets_what_was_weighed():
    cache = TheineCache(theine.Cache(100), value_of, name="pages")
    cache.warmup_item(item_of("a"))
    cache.clear()
    assert cache.get_warmup_statistics()[:2] == (0, 0)
    assert cache.warmup_item(item_of("a")).status is ItemStatus.LOADED


def test_what_is_none_of_theine_is_refused():
    with pytest.raises(InvalidSetting, match="no Cache of theine"):
        TheineCache({}, value_of, name="pages")
    with pytest.raises(InvalidSetting, match="whole seconds"):
        TheineCache(theine.Cache(1), value_of, name="pages", ttl_seconds=0.1)


# ----------------------------------------------------------------------------------------------------- diskcache


class TestDiskCache(LibraryContract):
    @pytest.fixture(autouse=True)
    def _with_folder(self, tmp_path):
        self.folder, self.opened = tmp_path, []
        yield
        for each in self.opened:
            each.close()

    def open(self, folder):
        return diskcache.Cache(folder)

    def make_cache(self, load=value_of, **options):
        self.opened.append(self.open(str(self.folder / f"{len(self.opened)}")))
        return DiskCache(self.opened[-1], load, name="pages", **options)

    def make_cache_loading(self, loading):
        return self.make_cache(lambda key: (loading(), value_of(key))[1])

    def replace(self, cache, item):
        cache.put(item.ref.key, "newer")
        return "newer"

    def delete(self, cache, item):
        cache.delete(item.ref.key)
        return True

    def make_cache_of_life(self, seconds):
        return self.make_cache(ttl_seconds=seconds)

    def left_seconds(self, cache, item):
        return cache.cache.get(item.ref.key, expire_time=True)[1] - time.time()


class TestDiskCacheOverAFanout(TestDiskCache):
    def open(self, folder):
        return diskcache.FanoutCache(folder, shards=4)


class TestDiskCacheWithData(TestDiskCache):
    def open(self, folder):
        return diskcache.Cache(folder, disk=DataDisk)


class TestDiskCacheWithJson(TestDiskCache):
    def open(self, folder):
        return diskcache.Cache(folder, disk=diskcache.JSONDisk)


@pytest.fixture
def kept(tmp_path):
    with diskcache.Cache(str(tmp_path / "kept")) as cache:
        yield cache


def test_sizes_are_those_on_disk_whether_in_a_row_or_in_a_file(kept):
    for size in (100, 200_000):
        result = DiskCache(kept, lambda key, size=size: b"x" * size, name="pages").warmup_item(item_of(f"{size}"))
        assert size < result.size_bytes < size + 400


@pytest.mark.parametrize("changes", ["delete", "put", "direct set"])
def test_what_changes_while_it_is_loaded_is_not_stored(kept, changes):
    def load(key):
        change()
        return "older"

    other = DiskCache(kept, value_of, name="pages")
    change = {
        "delete": lambda: other.delete("a"),
        "put": lambda: other.put("a", "newer"),
        "direct set": lambda: kept.set("a", "newer"),
    }[changes]
    assert DiskCache(kept, load, name="pages").warmup_item(item_of("a")).status is not ItemStatus.LOADED
    assert kept.get("a") == (None if changes == "delete" else "newer")
    kept.delete("a")
    DiskCache(kept, load, name="pages").get("a")
    assert kept.get("a") == (None if changes == "delete" else "newer")
    assert [key for key in kept if key != "a"] == []


def test_bare_adding_stores_what_was_deleted_meanwhile(kept):
    kept.delete("a")
    kept.add("a", "older")  # what a warm-up without a claim does
    assert kept.get("a") == "older"


DELETES = """
import sys, diskcache
from preheat.adapters.diskcache import DiskCache
with diskcache.Cache(sys.argv[1]) as kept:
    DiskCache(kept, str, name="pages").delete("a")
"""


def test_a_delete_in_another_process_stops_a_load_in_this_one(kept):
    def load(key):
        subprocess.run([sys.executable, "-c", DELETES, kept.directory], check=True)
        return "older"

    assert DiskCache(kept, load, name="pages").warmup_item(item_of("a")).status is ItemStatus.REJECTED
    assert "a" not in kept


def test_one_of_many_threads_keeps_what_it_loads(kept):
    loads, barrier = [], threading.Barrier(4)

    def load(key):
        loads.append(key)
        barrier.wait(10)
        return "value"

    cache = DiskCache(kept, load, name="pages")
    threads = [threading.Thread(target=cache.get, args=("a",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(loads), kept.get("a"), len(kept)) == (4, "value", 1)


def test_a_load_that_fails_leaves_no_claim(kept):
    def broken(key):
        raise ValueError("broken")

    cache = DiskCache(kept, broken, name="pages")
    with pytest.raises(ValueError, match="broken"):
        cache.get("a")
    with pytest.raises(ValueError, match="broken"):
        cache.warmup_item(item_of("a"))
    assert len(kept) == 0


def test_what_took_longer_than_the_deadline_is_not_stored(kept):
    cache = DiskCache(kept, lambda key: (time.sleep(0.1), "old")[1], name="pages", load_deadline_seconds=0.02)
    assert cache.warmup_item(item_of("a")).status is ItemStatus.REJECTED
    assert "a" not in kept


def test_lives_and_tags_are_kept(kept):
    cache = DiskCache(kept, value_of, name="pages", ttl_seconds=100.0, tag=lambda key, value: key[:1])
    for n in range(32):
        cache.warmup_item(item_of(f"a{n}"))
    cache.get("b1")
    cache.put("b2", "x")
    lives = [kept.get(f"a{n}", expire_time=True)[1] - time.time() for n in range(32)]
    assert 85 < min(lives) < 99
    assert 101 < max(lives) <= 110
    assert kept.get("b2", expire_time=True)[1] - time.time() <= 100
    assert (kept.evict("a"), kept.evict("b")) == (32, 2)


def test_a_life_of_a_value_s_own_is_never_extended(kept):
    left = {"a": 50.0, "b": -1.0, "c": None}
    cache = DiskCache(kept, value_of, name="pages", remaining_seconds=lambda key, value: left[key])
    statuses = [cache.warmup_item(item_of(key)).status for key in "abc"]
    assert statuses == [ItemStatus.LOADED, ItemStatus.UNAVAILABLE, ItemStatus.LOADED]
    assert 44 < kept.get("a", expire_time=True)[1] - time.time() <= 50
    assert kept.get("c", expire_time=True)[1] is None


@pytest.mark.parametrize("shards", [0, 4])
def test_a_full_folder_culls_nothing_for_a_warm_up(tmp_path, shards):
    options = {"size_limit": 2_000_000, "eviction_policy": "least-recently-stored"}
    make = diskcache.FanoutCache if shards else diskcache.Cache
    with make(str(tmp_path / "kept"), **({"shards": shards} if shards else {}), **options) as kept:
        cache = DiskCache(kept, lambda key: b"x" * 20_000, name="pages")
        for n in range(10):
            cache.get(f"traffic {n}")
        results = [cache.warmup_item(item_of(f"{n}")) for n in range(200)]
        assert {ItemStatus.LOADED, ItemStatus.REJECTED} == {result.status for result in results}
        assert all(f"traffic {n}" in kept for n in range(10))
        assert len(kept) == 10 + sum(result.status is ItemStatus.LOADED for result in results)
        statistics = cache.get_warmup_statistics()
        assert statistics.used_bytes <= statistics.capacity_bytes == 1_800_000


def test_storing_without_looking_culls_what_traffic_stored(tmp_path):
    with diskcache.Cache(str(tmp_path), size_limit=2_000_000) as kept:
        for n in range(10):
            kept.set(f"traffic {n}", b"x" * 20_000)
        for n in range(200):
            kept.set(f"{n}", b"x" * 20_000)
        assert not all(f"traffic {n}" in kept for n in range(10))


class Runs:
    """What runs code in whoever unpickles it."""

    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def test_with_data_only_nothing_is_unpickled(tmp_path):
    with diskcache.Cache(str(tmp_path)) as careless:
        careless["a"] = Runs()
        careless["\0preheat loading b"] = Runs()
        with pytest.raises(pytest.fail.Exception):
            careless.get("a")
    with sqlite3.connect(tmp_path / "cache.db") as database:
        database.execute("DELETE FROM Settings WHERE key LIKE 'disk_%'")
    database.close()
    with diskcache.Cache(str(tmp_path), disk=DataDisk) as kept:
        cache = DiskCache(kept, value_of, name="pages")
        assert kept.get("a") is None
        assert [cache.get(key) for key in "ab"] == ["value of a", "value of b"]
        with pytest.raises(TypeError, match="list"):
            kept["x"] = [1]
        with pytest.raises(TypeError, match="tuple"):
            kept[("x",)] = 1
        with pytest.raises(TypeError, match="64 bits"):
            kept["x"] = 2**70


def test_warming_and_looking_read_no_value_whatever_the_disk(kept):
    kept["a"] = Runs()
    cache = DiskCache(kept, value_of, name="pages")
    history = record_history(DiskCache(kept, value_of, name="pages"), lambda: None)
    assert len(cache.get_warmup_candidates(history, history.size_bytes * 0.0)) == 0
    assert cache.warmup_item(item_of("a")).status is ItemStatus.RESIDENT
    assert cache.get_warmup_statistics().items == 1
    cache.delete("a")
    assert "a" not in kept


def test_what_is_none_of_diskcache_is_refused(kept):
    with pytest.raises(InvalidSetting, match="no Cache or FanoutCache"):
        DiskCache({}, value_of, name="pages")
    with pytest.raises(InvalidSetting, match="ttl_seconds"):
        DiskCache(kept, value_of, name="pages", ttl_seconds=0.0)


def test_history_of_one_folder_warms_another(tmp_path):
    with diskcache.Cache(str(tmp_path / "a")) as one, diskcache.Cache(str(tmp_path / "b")) as other:
        cache = DiskCache(one, value_of, name="pages")
        history = record_history(cache, lambda: [cache.get(f"{n}") for n in range(5)])
        candidates = DiskCache(other, value_of, name="pages").get_warmup_candidates(history, history.size_bytes * 0.0)
        assert len(candidates) == 5
