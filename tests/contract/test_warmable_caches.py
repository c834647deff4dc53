"""Every cache and adapter that ships keeps the contract that authors of others are offered."""

import json

import numpy as np

from preheat import create_warmup_item
from preheat.adapters.mapping import MappingCache
from preheat.caches import EmbeddingCache, FileCache, ProjectCache, SearchCache
from preheat.testing import WarmableCacheContract


def encode(texts):
    return np.array([[float(ord(c)) for c in text[:4].ljust(4)] for text in texts], np.float32)


class TestEmbeddingCache(WarmableCacheContract):
    def make_cache(self):
        return EmbeddingCache(encode, model="letters", capacity_bytes=100_000)

    def make_item(self, n):
        text = f"{n} green bottles"
        return create_warmup_item(*self.make_cache().ref(text), recipe=f"text:{text}")

    def read(self, cache, item):
        return cache.get(item.recipe.removeprefix("text:"))


class TestEmbeddingCacheWithSources(TestEmbeddingCache):
    def make_cache(self):
        return EmbeddingCache(
            encode, model="letters", capacity_bytes=100_000, text_of=lambda source: source.removeprefix("bottle/")
        )

    def make_item(self, n):
        text = f"{n} green bottles"
        return create_warmup_item(*self.make_cache().ref(text), recipe=f"source:bottle/{text}")

    def read(self, cache, item):
        source = item.recipe.removeprefix("source:")
        return cache.get(source.removeprefix("bottle/"), source=source)


class TestSearchCache(WarmableCacheContract):
    def make_cache(self):
        return SearchCache(lambda query, k: tuple(query.split()) * k, version="1", capacity_bytes=100_000)

    def make_item(self, n):
        return create_warmup_item(*self.make_cache().ref(f"query {n}", k=2))

    def read(self, cache, item):
        query, parameters = json.loads(item.ref.key)
        return cache.get(query, **parameters)


class TestSearchCacheWithParametersOfAnyDepth(TestSearchCache):
    def make_cache(self):
        return SearchCache(lambda query, filters: [query, filters], version=lambda: "2", capacity_bytes=100_000)

    def make_item(self, n):
        return create_warmup_item(*self.make_cache().ref("caf\u00e9", filters={"tags": ["a", {"n": n}], "any": None}))


class TestFileCache(WarmableCacheContract):
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

    def make_cache(self):
        return FileCache(lambda path, content: content.splitlines(), root=self.root, capacity_bytes=100_000)

    def make_item(self, n):
        return create_warmup_item("file", f"{n}.txt")

    def read(self, cache, item):
        return cache.get(item.ref.key)


class TestFileCacheByContent(TestFileCache):
    def make_cache(self):
        return FileCache(
            lambda path, content: content.splitlines(), root=self.root, capacity_bytes=100_000, goes_by_path=False
        )


class TestFileCacheWithPages(TestFileCache):
    def make_cache(self):
        return FileCache(
            lambda path, content: content.splitlines(), root=self.root, capacity_bytes=100_000, with_pages=True
        )


class TestProjectCache(TestFileCache):
    @staticmethod
    def files(folder):
        for n in range(WarmableCacheContract.ITEMS):
            (folder / f"p{n}").mkdir()
            (folder / f"p{n}" / "a.txt").write_text("a" * n)
        return folder

    def make_cache(self):
        return ProjectCache(
            lambda path: {"files": sorted(p.name for p in path.iterdir()), "bytes": (path / "a.txt").stat().st_size},
            root=self.root,
            capacity_bytes=100_000,
        )

    def make_item(self, n):
        return create_warmup_item("project", f"p{n}")


class TestMappingCache(WarmableCacheContract):
    def make_cache(self):
        return MappingCache({}, lambda key: {"key": key, "length": len(key)}, name="pages")

    def make_item(self, n):
        return create_warmup_item("pages", "page " * (n + 1))

    def read(self, cache, item):
        return cache.get(item.ref.key)


class TestMappingCacheOnCachetools(TestMappingCache):
    def make_cache(self):
        from cachetools import LRUCache

        return MappingCache(LRUCache(maxsize=100), lambda key: {"key": key}, name="pages")
