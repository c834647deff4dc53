"""LangChain's `CacheBackedEmbeddings`: the real package, in memory and in files."""

import asyncio

import numpy as np
import pytest

pytest.importorskip("langchain_classic", reason="langchain-classic is not installed")

from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_classic.storage import LocalFileStore
from langchain_core.embeddings import Embeddings
from langchain_core.stores import InMemoryByteStore, InMemoryStore

from preheat import CacheWarmupService, create_warmup_item, heat
from preheat._log import CacheLog
from preheat.abc import ItemStatus
from preheat.adapters.langchain import watch
from preheat.errors import InvalidSetting
from preheat.testing import WarmableCacheContract, record_history


class Letters(Embeddings):
    """A model that tells queries from documents, as many do; counts its calls."""

    model = "letters"

    def __init__(self):
        self.calls = []

    def embed_documents(self, texts):
        self.calls.append(list(texts))
        return [[float(ord(letter)) for letter in text[:4].ljust(4)] for text in texts]

    def embed_query(self, text):
        return [-value for value in self.embed_documents([text])[0]]


def over(store, **options):
    options = {"namespace": "letters", "key_encoder": "blake2b"} | options
    return CacheBackedEmbeddings.from_bytes_store(Letters(), store, **options)


def watched(embeddings):
    return watch(embeddings, name="texts", log=CacheLog("texts"))[1]


class TestDocuments(WarmableCacheContract):
    @pytest.fixture(autouse=True)
    def use(self, tmp_path):
        self.folder, self.embeddings = tmp_path, {}

    def make_store(self):
        return InMemoryByteStore()

    def make_cache(self):
        embeddings = over(self.make_store())
        cache = watched(embeddings)
        self.embeddings[cache] = embeddings
        return cache

    def make_item(self, n):
        text = f"{n} green bottles"
        return create_warmup_item("texts", watched(over(InMemoryByteStore())).key_of(text), recipe=f"document:{text}")

    def read(self, cache, item):
        return self.embeddings[cache].embed_documents([item.recipe.removeprefix("document:")])


class TestDocumentsInFiles(TestDocuments):
    def make_store(self):
        return LocalFileStore(self.folder / f"store {len(self.embeddings)}")

    def test_statistics_count_what_was_warmed_and_not_used(self):
        cache = self.make_cache()
        self._warm(cache, self.make_item(0))
        assert cache.get_warmup_statistics().warmed_items == 1


class TestQueries(TestDocuments):
    def make_cache(self):
        embeddings = over(InMemoryByteStore(), query_embedding_cache=InMemoryByteStore())
        cache = watched(embeddings)
        self.embeddings[cache] = embeddings
        return cache

    def make_item(self, n):
        text = f"{n} green bottles"
        cache = watched(over(InMemoryByteStore(), query_embedding_cache=InMemoryByteStore()))
        return create_warmup_item("texts", cache.key_of(text, is_query=True), recipe=f"query:{text}")

    def read(self, cache, item):
        return self.embeddings[cache].embed_query(item.recipe.removeprefix("query:"))


# ---------------------------------------------------------------------------------------------- used as before


def warm(cache, history):
    return cache.warmup_items(list(cache.get_warmup_candidates(history, np.ones(len(history)))))


def test_documents_and_queries_come_back_from_a_history_as_what_they_were():
    embeddings = over(InMemoryByteStore(), query_embedding_cache=True)
    cache = watched(embeddings)

    def traffic():
        embeddings.embed_documents(["one", "two", "one"])
        embeddings.embed_documents(["two", "three"])
        embeddings.embed_query("what")
        embeddings.embed_query("what")

    history = record_history(cache, traffic)
    assert (int(history.hits.sum()), int(history.misses.sum())) == (2, 4)
    assert sorted(history.recipes) == ["document:one", "document:three", "document:two", "query:what"]
    fresh = over(InMemoryByteStore(), query_embedding_cache=True)
    known = watched(fresh)
    assert {result.status for result in warm(known, history)} == {ItemStatus.LOADED}
    calls = len(known._model.calls)
    assert fresh.embed_documents(["one", "two", "three"]) == embeddings.embed_documents(["one", "two", "three"])
    assert fresh.embed_query("what") == embeddings.embed_query("what")
    assert len(known._model.calls) == calls
    assert sorted(known._model.calls[0]) == ["one", "three", "two"]  # in one call


def test_coroutines_record_the_same():
    embeddings = over(InMemoryByteStore(), query_embedding_cache=True)

    async def use():
        await embeddings.aembed_documents(["one", "two"])
        await embeddings.aembed_documents(["two"])
        await embeddings.aembed_query("what")

    history = record_history(watched(embeddings), lambda: asyncio.run(use()))
    assert (int(history.hits.sum()), int(history.misses.sum())) == (1, 3)


def test_queries_that_are_not_kept_are_not_recorded():
    embeddings = over(InMemoryByteStore())
    history = record_history(watched(embeddings), lambda: embeddings.embed_query("what"))
    assert len(history) == 0


@pytest.mark.parametrize("options", [{"namespace": "other model"}, {"key_encoder": "sha256"}])
def test_of_another_model_nothing_is_taken(options):
    embeddings = over(InMemoryByteStore())
    history = record_history(watched(embeddings), lambda: embeddings.embed_documents(["one"]))
    other = watched(over(InMemoryByteStore(), **options))
    assert len(other.get_warmup_candidates(history, np.ones(1))) == 0
    item = create_warmup_item("texts", history.keys[0], recipe=history.recipes[0])
    assert other.warmup_item(item).status is ItemStatus.FAILED


def test_a_store_without_an_encoder_is_known_by_its_texts():
    embeddings = CacheBackedEmbeddings(Letters(), InMemoryStore())
    cache = watched(embeddings)
    history = record_history(cache, lambda: embeddings.embed_documents(["one"]))
    assert list(history.keys) == ["one"]
    embeddings.document_embedding_store.mdelete(["one"])
    assert [result.status for result in warm(cache, history)] == [ItemStatus.LOADED]


def test_a_very_long_text_is_recorded_and_not_kept_in_the_history():
    embeddings = over(InMemoryByteStore())
    history = record_history(watched(embeddings), lambda: embeddings.embed_documents(["x" * 20_000]))
    assert list(history.recipes) == [""]


def test_the_model_is_still_what_it_was():
    embeddings = over(InMemoryByteStore())
    watched(embeddings)
    assert isinstance(embeddings.underlying_embeddings, Embeddings)
    assert embeddings.underlying_embeddings.model == "letters"


def test_it_is_watched_by_its_class_and_needs_no_load(tmp_path):
    async def restart():
        async with CacheWarmupService(state_dir=str(tmp_path), holdout_ratio=0) as service:
            embeddings = heat.watch(over(InMemoryByteStore()), name="texts", service=service)
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            embeddings.embed_documents(["one", "two"])
            return report.count(ItemStatus.LOADED), service.caches["texts"].get_warmup_statistics().misses

    assert asyncio.run(restart()) == (0, 2)
    assert asyncio.run(restart()) == (2, 0)


def test_a_load_is_refused_in_a_sentence():
    with pytest.raises(InvalidSetting, match="made by their own model"):
        watch(over(InMemoryByteStore()), name="texts", log=CacheLog("texts"), load=str)
