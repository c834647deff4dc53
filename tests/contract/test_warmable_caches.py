"""Every cache and adapter that ships keeps the contract that authors of others are offered."""

import json
import threading

import cachetools
import cachetools.keys
import numpy as np
import pytest

from preheat import create_warmup_item
from preheat._log import CacheLog
from preheat._model import ItemResult, ItemStatus
from preheat.adapters.cachetools import DecoratedFunction
from preheat.adapters.mapping import MappingCache
from preheat.adapters.watched import watch
from preheat.caches import EmbeddingCache, FileCache, ProjectCache, SearchCache
from preheat.errors import InvalidSetting
from preheat.testing import FakeClock, WarmableCacheContract, record_history


def encode(texts):
    return np.array([[float(ord(c)) for c in text[:4].ljust(4)] for text in texts], np.float32)


class ReadyCacheContract(WarmableCacheContract):
    """Of the ready caches: each has a limit in bytes, and `invalidate`."""

    small_bytes = 1000

    def make_small_cache(self):
        return self.make_cache(capacity_bytes=self.small_bytes)

    def delete(self, cache, item):
        cache.invalidate(item.ref.key)
        return True


class TestEmbeddingCache(ReadyCacheContract):
    def make_cache(self, encode=encode, capacity_bytes=100_000):
        return EmbeddingCache(encode, model="letters", capacity_bytes=capacity_bytes)

    def make_cache_loading(self, loading):
        return self.make_cache(lambda texts: (loading(), encode(texts))[1])

    def make_item(self, n):
        text = f"{n} green bottles"
        return create_warmup_item(*self.make_cache().ref(text), recipe=f"text:{text}")

    def read(self, cache, item):
        return cache.get(item.recipe.removeprefix("text:"))


class TestEmbeddingCacheWithSources(TestEmbeddingCache):
    def make_cache(self, encode=encode, capacity_bytes=100_000):
        return EmbeddingCache(
            encode,
            model="letters",
            capacity_bytes=capacity_bytes,
            text_of=lambda source: source.removeprefix("bottle/"),
        )

    def make_item(self, n):
        text = f"{n} green bottles"
        return create_warmup_item(*self.make_cache().ref(text), recipe=f"source:bottle/{text}")

    def read(self, cache, item):
        source = item.recipe.removeprefix("source:")
        return cache.get(source.removeprefix("bottle/"), source=source)


class TestSearchCache(ReadyCacheContract):
    def make_cache(self, loading=lambda: None, capacity_bytes=100_000):
        def search(query, k):
            loading()
            return tuple(query.split()) * k

        return SearchCache(search, version="1", capacity_bytes=capacity_bytes)

    def make_cache_loading(self, loading):
        return self.make_cache(loading)

    def make_item(self, n):
        return create_warmup_item(*self.make_cache().ref(f"query {n}", k=2))

    def read(self, cache, item):
        query, parameters = json.loads(item.ref.key)
        return cache.get(query, **parameters)


class TestSearchCacheWithParametersOfAnyDepth(TestSearchCache):
    def make_cache(self, loading=lambda: None, capacity_bytes=100_000):
        def search(query, filters):
            loading()
            return [query, filters]

        return SearchCache(search, version=lambda: "2", capacity_bytes=capacity_bytes)

    def make_item(self, n):
        return create_warmup_item(*self.make_cache().ref("caf\u00e9", filters={"tags": ["a", {"n": n}], "any": None}))


class TestFileCache(ReadyCacheContract):
    options: dict[str, bool] = {}

    @staticmethod
    def files(folder):
        for n in range(WarmableCacheContract.ITEMS):
            (folder / f"{n}.txt").write_text(f"line of {n}\n" * (n + 1))
        return folder

    def setup_method(self, _method):
        import tempfile
        from pathlib import Path

        self.folder = tempfile.TemporaryDirectory()
        self.root = self.files(Path(self.folder.name))

    def teardown_method(self, _method):
        self.folder.cleanup()

    def make_cache(self, loading=lambda: None, capacity_bytes=100_000):
        def parse(path, content):
            loading()
            return content.splitlines()

        return FileCache(parse, root=self.root, capacity_bytes=capacity_bytes, **self.options)

    def make_cache_loading(self, loading):
        return self.make_cache(loading)

    def make_item(self, n):
        return create_warmup_item("file", f"{n}.txt")

    def read(self, cache, item):
        return cache.get(item.ref.key)


class TestFileCacheByContent(TestFileCache):
    options = {"goes_by_path": False}


class TestFileCacheWithPages(TestFileCache):
    options = {"with_pages": True}
    small_bytes = 12_000  # an item takes a page at least


class TestProjectCache(TestFileCache):
    @staticmethod
    def files(folder):
        for n in range(WarmableCacheContract.ITEMS):
            (folder / f"p{n}").mkdir()
            (folder / f"p{n}" / "a.txt").write_text("a" * n)
        return folder

    def make_cache(self, loading=lambda: None, capacity_bytes=100_000):
        def analyse(path):
            loading()
            return {"files": sorted(p.name for p in path.iterdir()), "bytes": (path / "a.txt").stat().st_size}

        return ProjectCache(analyse, root=self.root, capacity_bytes=capacity_bytes)

    def make_item(self, n):
        return create_warmup_item("project", f"p{n}")


class TestMappingCache(WarmableCacheContract):
    def mapping(self):
        return {}

    def make_cache(self):
        return MappingCache(self.mapping(), lambda key: {"key": key, "length": len(key)}, name="pages")

    def make_item(self, n):
        return create_warmup_item("pages", "page " * (n + 1))

    def read(self, cache, item):
        return cache.get(item.ref.key)

    def make_cache_loading(self, loading):
        return MappingCache(self.mapping(), lambda key: (loading(), {"key": key})[1], name="pages")

    def replace(self, cache, item):
        cache.mapping[item.ref.key] = newer = {"key": "newer"}
        return newer

    def delete(self, cache, item):
        cache.invalidate(item.ref.key)
        return True


class OnCachetools(TestMappingCache):
    """The family, each with its limit."""

    def mapping(self, maxsize=100):
        raise NotImplementedError

    def make_small_cache(self):
        return MappingCache(self.mapping(3), lambda key: {"key": key}, name="pages")


class TestMappingCacheOnLRU(OnCachetools):
    def mapping(self, maxsize=100):
        return cachetools.LRUCache(maxsize)


class TestMappingCacheOnLFU(OnCachetools):
    def mapping(self, maxsize=100):
        return cachetools.LFUCache(maxsize)


class TestMappingCacheOnFIFO(OnCachetools):
    def mapping(self, maxsize=100):
        return cachetools.FIFOCache(maxsize)


class TestMappingCacheOnRR(OnCachetools):
    def mapping(self, maxsize=100):
        return cachetools.RRCache(maxsize)


class TestMappingCacheOnSizes(OnCachetools):
    """Whose limit is one of sizes that it takes itself."""

    def mapping(self, maxsize=100):
        return cachetools.LRUCache(maxsize * 10, getsizeof=lambda value: 10)


class TestMappingCacheOnTTL(OnCachetools):
    def mapping(self, maxsize=100, seconds=600.0):
        return cachetools.TTLCache(maxsize, seconds)

    def make_cache_of_life(self, seconds):
        self.clock = FakeClock()
        mapping = cachetools.TTLCache(100, seconds, timer=self.clock)
        return MappingCache(mapping, lambda key: {"key": key}, name="pages")

    def left_seconds(self, cache, item):
        began = self.clock.at
        while item.ref.key in cache.mapping:
            self.clock.advance(10.0)
        left, self.clock.at = self.clock.at - began, began
        return left


class TestMappingCacheOnTLRU(TestMappingCacheOnTTL):
    def mapping(self, maxsize=100):
        return cachetools.TLRUCache(maxsize, lambda key, value, now: now + 600.0)

    def make_cache_of_life(self, seconds):
        self.clock = FakeClock()
        mapping = cachetools.TLRUCache(100, lambda key, value, now: now + seconds, timer=self.clock)
        return MappingCache(mapping, lambda key: {"key": key}, name="pages")


class TestWatchedCache(WarmableCacheContract):
    """A cache that the application goes on using by itself, and that records itself; a warm-up comes from the side."""

    def mapping(self, maxsize=100):
        return cachetools.LRUCache(maxsize)

    def watched(self, load, maxsize=100):
        log = CacheLog("pages")
        recorded, cache = watch(self.mapping(maxsize), name="pages", log=log, load=load, lock=threading.RLock())
        cache.application = recorded
        return cache

    def make_cache(self):
        return self.watched(value_of)

    def make_cache_loading(self, loading):
        return self.watched(lambda key: (loading(), value_of(key))[1])

    def make_small_cache(self):
        return self.watched(value_of, 3)

    def make_item(self, n):
        return create_warmup_item("pages", f"page {n}")

    def read(self, cache, item):
        key = item.ref.key
        value = cache.application.get(key)
        if value is None:
            value = cache.application[key] = value_of(key)
        return value

    def replace(self, cache, item):
        cache.application[item.ref.key] = newer = "newer"
        return newer


def value_of(key):
    return f"value of {key}"


def test_undoing_what_the_application_dropped_is_no_miss():
    recorded, cache = watch(cachetools.LRUCache(9), name="pages", log=(log := CacheLog("pages")), load=value_of)
    cache.warmup_item(create_warmup_item("pages", "a"))
    del recorded["a"]
    assert cache.undo_warmup("a") == 0
    recorded["a"] = 1  # were it a miss, this would be its load
    assert log.recorded_misses == 0


class TestDecoratedFunction(WarmableCacheContract):
    """A function of `@cachetools.cached`, with a lock."""

    def decorated(self, load, maxsize=100):
        return cachetools.cached(cachetools.LRUCache(maxsize), lock=threading.Lock())(load)

    def make_cache(self):
        return DecoratedFunction(self.decorated(value_of), name="pages")

    def make_cache_loading(self, loading):
        return DecoratedFunction(self.decorated(lambda key: (loading(), value_of(key))[1]), name="pages")

    def make_small_cache(self):
        return DecoratedFunction(self.decorated(value_of, 3), name="pages")

    def make_item(self, n):
        return create_warmup_item("pages", f"page {n}")

    def read(self, cache, item):
        return cache(item.ref.key)

    def replace(self, cache, item):
        cache.function.cache[cache.function.cache_key(item.ref.key)] = newer = "newer"
        return newer

    def delete(self, cache, item):
        cache.invalidate(item.ref.key)
        return True


class TestDecoratedMethod(TestDecoratedFunction):
    """A method of `@cachetools.cachedmethod`, of one object."""

    def decorated(self, load, maxsize=100):
        class Shop:
            def __init__(self):
                self.cache, self.lock = cachetools.LFUCache(maxsize), threading.RLock()

            @cachetools.cachedmethod(lambda self: self.cache, lock=lambda self: self.lock)
            def price(self, key):
                return load(key)

        self.shop = Shop()
        return self.shop.price


@pytest.mark.parametrize("arguments", [((1,), {}), ((), {"x": 1}), (("[[",), {}), ((None, True, 1.5), {"y": "a"})])
def test_calls_of_a_decorated_function_are_made_again_from_their_record(arguments):
    calls = []

    def function(*given, **named):
        calls.append((given, named))
        return len(given)

    def decorated():
        return DecoratedFunction(cachetools.cached({}, key=cachetools.keys.typedkey)(function), name="f")

    first, other = decorated(), decorated()
    history = record_history(first, lambda: first(*arguments[0], **arguments[1]))
    (candidate,) = other.get_warmup_candidates(history, np.ones(1))
    other.warmup_item(candidate)
    other(*arguments[0], **arguments[1])
    assert calls == [arguments] * 2
    assert other.get_warmup_statistics()[3:5] == (1, 0)


def test_a_function_that_cachetools_did_not_decorate_is_refused():
    with pytest.raises(InvalidSetting, match="@cached"):
        DecoratedFunction(value_of, name="f")


def test_an_expiry_between_two_looks_is_a_miss():
    """A cache whose values end while they are looked for."""
    clock = iter(range(10**6))
    mapping = cachetools.TTLCache(10, 3, timer=lambda: next(clock))
    cache = MappingCache(mapping, value_of, name="pages")
    assert {cache.get("a") for _ in range(100)} == {"value of a"}


# ----------------------------------------------------------------------------------- the contract finds what is wrong


class Careless(MappingCache):
    """Puts what a warm-up loaded, whatever has happened meanwhile and whatever that evicts."""

    def _admit(self, item, value, seconds, may_keep=lambda: True, held=None):
        self.mapping[item.ref.key] = value
        return ItemResult(ItemStatus.LOADED, 1, seconds)


class OfCareless(TestMappingCacheOnTTL):
    def make_cache_loading(self, loading):
        return Careless({}, lambda key: (loading(), {"key": key})[1], name="pages")

    def make_small_cache(self):
        return Careless(cachetools.LRUCache(3), lambda key: {"key": key}, name="pages")

    def make_cache_of_life(self, seconds):
        self.clock = FakeClock()
        return MappingCache(
            cachetools.TTLCache(9, seconds * 2, timer=self.clock), lambda key: {"key": key}, name="pages"
        )


@pytest.mark.parametrize(
    "check",
    [
        "test_what_was_put_while_a_warm_up_loaded_it_stays",
        "test_what_was_deleted_while_a_warm_up_loaded_it_does_not_come_back",
        "test_warming_a_full_cache_evicts_nothing_that_traffic_uses",
        "test_what_a_warm_up_loads_lives_as_long_as_what_a_miss_loads",
    ],
)
def test_the_contract_finds_a_careless_cache(check):
    with pytest.raises(AssertionError):
        getattr(OfCareless(), check)()
