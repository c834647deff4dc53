"""LangChain's `CacheBackedEmbeddings`: recorded in place, warmed by its own model, many texts in one call.

Its stores know texts by a hash, from which no text comes back; so the text of a miss is recorded as its recipe, behind
"document:" or "query:".  A history holds those texts, as far as they have at most 10,000 characters.

A vector depends on nothing but the text and the model.  So a warm-up can't put in an old one, and what was deleted from
a store comes back only as the next read would have brought it.  The namespace is part of each key: of another model,
or with another encoder of keys, nothing of the history is taken.  What a query asked for is embedded as a query; where
queries have a store of their own, their keys begin with "query:".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Sized
from contextvars import ContextVar
from typing import Any

import numpy as np
from langchain_classic.embeddings.cache import CacheBackedEmbeddings
from langchain_core.embeddings import Embeddings

from preheat._log import CacheLog, quietly
from preheat._model import DEFAULT_PRIORITY, History, ItemResult, ItemStatus, WarmupItem
from preheat._size import estimate_item_memory_usage
from preheat.adapters.library import KnownCache, Recorder
from preheat.adapters.loaders import LONGEST_RECIPE
from preheat.adapters.recorded import Steps, Telling, demand_unrecorded, given, record_object
from preheat.errors import InvalidSetting

__all__ = ["LangChainCache", "watch"]

DOCUMENT, QUERY = "document:", "query:"
STRANGE = "it has no text, or is of another model, namespace or encoder of keys"


class _Store:
    """One of the stores, by the keys that it has within.

    Attributes:
        prefix: What its keys begin with in history.
    """

    def __init__(self, store: Any, prefix: str) -> None:
        self._store, self.prefix = store, prefix
        self._inside: Any = store.store if hasattr(store, "key_encoder") else store

    def key(self, text: str) -> str:
        """What `text` is called in history."""
        encode: Callable[[str], str] = getattr(self._store, "key_encoder", str)
        return self.prefix + encode(text)

    def find(self, keys: Sequence[str]) -> list[bool]:
        """Whether each of `keys` is there."""
        return [found is not None for found in self._inside.mget([key[len(self.prefix) :] for key in keys])]

    def put(self, texts: Sequence[str], vectors: Sequence[list[float]]) -> None:
        """Keep the `vectors` of `texts`."""
        self._store.mset(list(zip(texts, vectors, strict=True)))

    def drop(self, key: str) -> None:
        """Delete `key`."""
        self._inside.mdelete([key[len(self.prefix) :]])

    def size_bytes(self, key: str, vector: list[float]) -> int:
        """What `vector` occupies as the store has it."""
        encode = getattr(self._store, "value_serializer", None)
        return estimate_item_memory_usage(vector if encode is None else encode(vector), key=key)

    def count(self) -> int | None:
        """How many vectors there are, if that can be told without listing them."""
        entries = getattr(self._inside, "store", None)
        return len(entries) if isinstance(entries, Sized) else None


class _Stores:
    """Both stores: see `preheat.adapters.library.Library`, as far as it is asked for."""

    def __init__(self, embeddings: CacheBackedEmbeddings) -> None:
        documents, queries = embeddings.document_embedding_store, embeddings.query_embedding_store
        self.of_documents = _Store(documents, "")
        self.of_queries = None if queries is None else _Store(queries, "" if queries is documents else QUERY)

    def of_key(self, key: str) -> _Store:
        queries = self.of_queries
        return (
            queries if queries is not None and queries.prefix and key.startswith(queries.prefix) else self.of_documents
        )

    def of_recipe(self, recipe: str) -> _Store | None:
        """The store that what is made by `recipe` belongs to; None if it is no recipe, or queries are not kept."""
        return {DOCUMENT: self.of_documents, QUERY: self.of_queries}.get(recipe[: recipe.find(":") + 1])

    def find(self, keys: Sequence[str]) -> list[bool]:
        found = dict[str, bool]()
        for store in filter(None, (self.of_documents, self.of_queries)):
            own = [key for key in keys if self.of_key(key) is store]
            found |= zip(own, store.find(own), strict=True)
        return [found[key] for key in keys]

    def count(self) -> int | None:
        stores = [self.of_documents] + ([self.of_queries] if self.of_queries and self.of_queries.prefix else [])
        counted = [store.count() for store in stores]
        return None if None in counted else sum(n for n in counted if n is not None)


# ---------------------------------------------------------------------------------------------------------- recording

_made: ContextVar[dict[str, tuple[list[float], float]] | None] = ContextVar("preheat_embedded", default=None)
"""What the model has embedded in the call under way: by text, the vector and its share of the time."""


class _Model(Embeddings):  # type: ignore[misc]  # an extra without types of its own
    """The model of a recorded `CacheBackedEmbeddings`, which notes what it is asked for; otherwise the model itself."""

    def __init__(self, model: Embeddings) -> None:
        self._model = model

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        started = time.perf_counter()
        return _note(texts, self._model.embed_documents(texts), started)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        started = time.perf_counter()
        return _note(texts, await self._model.aembed_documents(texts), started)

    def embed_query(self, text: str) -> list[float]:
        started = time.perf_counter()
        return _note([text], [self._model.embed_query(text)], started)[0]

    async def aembed_query(self, text: str) -> list[float]:
        started = time.perf_counter()
        return _note([text], [await self._model.aembed_query(text)], started)[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_model"], name)


def _note(texts: Sequence[str], vectors: list[list[float]], started: float) -> list[list[float]]:
    made = _made.get()
    if made is not None:
        seconds = (time.perf_counter() - started) / max(1, len(texts))
        made.update((text, (vector, seconds)) for text, vector in zip(texts, vectors, strict=True))
    return vectors


class _Tellings:
    """What each method tells a recorder."""

    def __init__(self, recorder: Recorder, stores: _Stores) -> None:
        self._recorder, self._stores = recorder, stores

    def by_name(self) -> dict[str, Telling]:
        """By name of the method; `a` before it is the same for its coroutine."""
        plain: dict[str, Telling] = {"embed_documents": self._documents, "embed_query": self._query}
        return plain | {f"a{name}": telling for name, telling in plain.items()}

    def _documents(self, embeddings: Any, texts: list[str]) -> Steps:
        before = _made.set({})
        try:
            vectors = yield given(texts)
        finally:
            made = _made.get() or {}
            _made.reset(before)
        self._tell(self._stores.of_documents, DOCUMENT, texts, made)
        return vectors

    def _query(self, embeddings: Any, text: str) -> Steps:
        before = _made.set({})
        try:
            vector = yield given(text)
        finally:
            made = _made.get() or {}
            _made.reset(before)
        if self._stores.of_queries is not None:
            self._tell(self._stores.of_queries, QUERY, [text], made)
        return vector

    def _tell(self, store: _Store, kind: str, texts: Sequence[str], made: dict[str, tuple[list[float], float]]) -> None:
        for text in dict.fromkeys(texts):
            key = store.key(text)
            if text not in made:
                self._recorder.hit(key)
                continue
            vector, seconds = made[text]
            recipe = kind + text if len(text) <= LONGEST_RECIPE else ""
            self._recorder.made(key, store.size_bytes(key, vector), seconds, recipe)


# ------------------------------------------------------------------------------------------------------------ warming


class LangChainCache(KnownCache):
    """A `CacheBackedEmbeddings` as the service sees it; loads many documents in one call of its model.

    Args:
        embeddings: It.
        name: Name of the cache in history and reports.
        log: Where accesses go until `record_to` names another.
        priority: The operator's word for its items, 1 to 10.
    """

    _library: _Stores

    def __init__(
        self, embeddings: CacheBackedEmbeddings, *, name: str, log: CacheLog, priority: int = DEFAULT_PRIORITY
    ) -> None:
        super().__init__(name, Recorder(name, log), _Stores(embeddings), None, priority=priority)
        self._model = embeddings.underlying_embeddings

    def key_of(self, text: str, *, is_query: bool = False) -> str:
        """What `text` is called in history.

        Raises:
            InvalidSetting: It is a query, and queries are not kept.
        """
        store = self._library.of_queries if is_query else self._library.of_documents
        if store is None:
            raise InvalidSetting(f"cache {self.name!r} keeps no queries; give query_embedding_cache")
        return store.key(text)

    def warmup_item(self, item: WarmupItem) -> ItemResult:
        """Embed the text of `item`, if it is absent; see `preheat.abc.WarmableCache`."""
        return self.warmup_items([item])[0]

    def warmup_items(self, items: Sequence[WarmupItem]) -> list[ItemResult]:
        """As `warmup_item` for each of `items`."""
        strange = [n for n, item in enumerate(items) if not self._is_own(item.ref.key, item.recipe)]
        results = dict.fromkeys(strange, ItemResult(ItemStatus.FAILED, reason=STRANGE))
        with quietly():
            resident = self._library.find([item.ref.key for item in items])
            results |= {n: ItemResult(ItemStatus.RESIDENT) for n, is_there in enumerate(resident) if is_there}
            for kind in (DOCUMENT, QUERY):
                absent = [n for n in range(len(items)) if n not in results and items[n].recipe.startswith(kind)]
                results |= zip(absent, self._embed([items[n] for n in absent], kind), strict=True)
        return [results[n] for n in range(len(items))]

    def undo_warmup(self, key: str) -> int:
        """Drop `key` if a warm-up loaded it and nobody here read it since; the bytes released."""
        size_bytes = self.recorder.unused.pop(key, 0)
        if size_bytes:
            self._library.of_key(key).drop(key)
        return size_bytes

    def _embed(self, items: Sequence[WarmupItem], kind: str) -> list[ItemResult]:
        store = self._library.of_recipe(kind)
        if not items or store is None:
            return []
        texts, started = [item.recipe[len(kind) :] for item in items], time.perf_counter()
        vectors = self._model.embed_documents(texts) if kind == DOCUMENT else [*map(self._model.embed_query, texts)]
        store.put(texts, vectors)
        seconds = (time.perf_counter() - started) / len(items)
        sizes = [store.size_bytes(item.ref.key, vector) for item, vector in zip(items, vectors, strict=True)]
        return [
            self._note_warmed(item.ref.key, size_bytes, seconds) for item, size_bytes in zip(items, sizes, strict=True)
        ]

    def _is_own(self, key: str, recipe: str) -> bool:
        store = self._library.of_recipe(recipe)
        return store is not None and store.key(recipe[recipe.find(":") + 1 :]) == key

    def _can_be_made(self, history: History, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        texts = zip(history.keys.take(rows), history.recipes.take(rows), strict=True)
        return np.array([self._is_own(key, recipe) for key, recipe in texts], np.bool_)


def watch(
    embeddings: CacheBackedEmbeddings,
    *,
    name: str,
    log: CacheLog,
    load: None = None,
    priority: int = DEFAULT_PRIORITY,
) -> tuple[CacheBackedEmbeddings, LangChainCache]:
    """Record `embeddings`, and what the service is to warm; see `heat.watch`.

    Raises:
        InvalidSetting: They are recorded already, or a load was given.
    """
    demand_unrecorded(embeddings, name)
    if load is not None:
        raise InvalidSetting(f"cache {name!r}: embeddings are made by their own model; leave load out")
    made = LangChainCache(embeddings, name=name, log=log, priority=priority)
    record_object(embeddings, name, _Tellings(made.recorder, made._library).by_name())
    embeddings.underlying_embeddings = _Model(embeddings.underlying_embeddings)
    return embeddings, made
