"""Texts -> vectors, by any model.

Keyed by the text's hash, so the same text under two names is embedded once; the model is the entry's version, and a
change of it drops the vectors of the old one.  Vectors stand in a slab (`_vectors`), so an entry costs little more than
its numbers, and many are gathered at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from preheat._model import DEFAULT_PRIORITY, CandidateTable, HeldValue, History, ItemRef, MemoryEventKind, WarmupItem
from preheat._record import is_quiet
from preheat.caches._held_vectors import HeldVectors
from preheat.caches._loading import ABSENT, LoadingCache, Request, is_coroutine_function, warmup_candidates
from preheat.caches._texts import DIGEST_BYTES, Batch, digest_of, digests_of, key_of
from preheat.caches._vectors import DTYPES, Dtype, Vectors, hex_of
from preheat.caches.candidates import expected_rates, weigh_candidates
from preheat.codecs import VectorCodec
from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_TEXT = 8192  # longer texts are not kept in history; give them a source

V = TypeVar("V")

_TEXT, _SOURCE = "text:", "source:"


class EmbeddingCache(LoadingCache["NDArray[np.float32]"]):
    """Vectors by text.

    What is read is a copy in float32.  Kept as float16 a vector takes half the bytes and is read with a relative error
    of at most 2**-11 per number; as int8 a quarter, each number with an error of at most 1/253 of the vector's largest
    (`bench/embedding_cache.py` prints both, and the cosine to the original).  The vector that a miss returns is rounded
    in the same way, so that a hit is identical to it.

    Args:
        encode: Texts to vectors, (n, d); the same text must give the same vector in any batch.  It may be a coroutine
            function: then the cache is read by `aget` and `aget_many`.
        model: Name and version of the model; a change drops all vectors of the old one.
        capacity_bytes: What the entries may occupy.
        name: Name of the cache in history and reports.
        priority: The operator's word for its items, 1 to 10.
        text_of: For texts read with a `source`: finds the text again, or None if it is not there any more.
        needs: For a source, what has to be resident so that its text is found without a miss.
        dtype: How vectors are kept: float32, float16 or int8.
        ttl_seconds: How long a vector is served after it was made; for ever if not given.

    Raises:
        InvalidSetting: The dtype is none of these, or the capacity is more than the system lets a process reserve.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[str]], Any],
        *,
        model: str,
        capacity_bytes: int,
        name: str = "embedding",
        priority: int = DEFAULT_PRIORITY,
        text_of: Callable[[str], str | None] | None = None,
        needs: Callable[[str], Iterable[ItemRef]] | None = None,
        dtype: Dtype = "float32",
        ttl_seconds: float | None = None,
    ) -> None:
        self._vectors = _make_vectors(name, capacity_bytes, dtype, model)
        super().__init__(
            name,
            capacity_bytes=capacity_bytes,
            priority=priority,
            codec=VectorCodec(np.float32),
            ttl_seconds=ttl_seconds,
            shelf=self._vectors,
            is_async=is_coroutine_function(encode),
        )
        self._encode, self._text_of, self._needs = encode, text_of, needs

    @property
    def model(self) -> str:
        """Name and version of the model.  Setting another one drops all vectors."""
        return self._vectors.version

    @model.setter
    def model(self, model: str) -> None:
        with self._lock:
            if model == self._vectors.version:
                return
            self._residents.drop(list(self._residents.coldest()), MemoryEventKind.RELEASE, "its model was replaced")
            self._vectors.clear()
            self._vectors.version = model
        self._memory.tell()

    def get(self, text: str, source: str = "") -> NDArray[np.float32]:
        """The vector of `text`, (d,), read-only.  `source`, where given, is remembered in place of the text."""
        vector = self._look_up(text)
        if vector is not None:
            return vector
        return self._get(self._request(text, source), lambda: self._embed_one(text))

    async def aget(self, text: str, source: str = "") -> NDArray[np.float32]:
        """As `get`, in a coroutine: nothing blocks its loop, and a load is shared with whoever waits in a thread."""
        return await self._aget(self._request(text, source), lambda: self._embed_one(text))

    def get_many(self, texts: Sequence[str], sources: Sequence[str] | None = None) -> NDArray[np.float32]:
        """The vectors of `texts`, (n, d); what is absent is encoded in one batch."""
        if not texts:
            return np.empty((0, 0), np.float32)
        batch = self._look_up_many(texts, sources)
        found = [self._restore(request) for request in batch.requests]
        left = [n for n, vector in enumerate(found) if vector is ABSENT]
        if left:
            requests, make = self._wanted(batch, left)
            for n, vector in zip(left, self._load_missing(requests, make), strict=True):
                found[n] = vector
        return batch.completed(found)

    async def aget_many(self, texts: Sequence[str], sources: Sequence[str] | None = None) -> NDArray[np.float32]:
        """As `get_many`, in a coroutine."""
        if not texts:
            return np.empty((0, 0), np.float32)
        batch = self._look_up_many(texts, sources)
        found = await self._arestore(batch.requests)
        left = [n for n, vector in enumerate(found) if vector is ABSENT]
        if left:
            requests, make = self._wanted(batch, left)
            for n, vector in zip(left, await self._aload_missing(requests, make), strict=True):
                found[n] = vector
        return batch.completed(found)

    def _look_up(self, text: str) -> NDArray[np.float32] | None:
        """The resident vector, counted as a hit, without a key being made; None if there is none."""
        digest = digest_of(text)
        with self._lock:
            slot = self._residents.unless_expired(self._vectors.find_digest(digest))
            if slot < 0:
                return None
            vector = self._vectors.value_of(slot)
            if is_quiet():
                return vector
            self._note_use(slot)
            self._hits += 1
        if self._log is not None:
            self._log.hit(digest.hex())
        return vector

    def _look_up_many(self, texts: Sequence[str], sources: Sequence[str] | None) -> Batch:
        """What is resident of `texts`, counted as hits, and what is to be asked for of the others."""
        model, digests = self.model, digests_of(texts)
        words = np.frombuffer(digests, np.uint64).reshape(-1, 2)
        with self._lock:
            is_current = model == self._vectors.version
            slots = self._vectors.find_many(words) if is_current else np.full(len(texts), -1, np.int64)
            slots = self._residents.without_expired(slots)
            present = np.flatnonzero(slots >= 0)
            matrix = self._vectors.take(slots if len(present) == len(texts) else slots[present])
            if not is_quiet():
                self._residents.use_many(slots[present])
                self._hits += len(present)
        if self._log is not None and not is_quiet():
            for n in present.tolist():
                self._log.hit(digests[DIGEST_BYTES * n : DIGEST_BYTES * (n + 1)].hex())
        return Batch(matrix, present, *self._absent_of(texts, sources, np.flatnonzero(slots < 0).tolist()))

    def _absent_of(
        self, texts: Sequence[str], sources: Sequence[str] | None, absent: list[int]
    ) -> tuple[dict[int, str], list[Request], list[str]]:
        """The key of each position that is absent, and of all different ones the request and the text."""
        requests: dict[str, Request] = {}
        keys, wanted = {}, []
        for n in absent:
            request = self._request(texts[n], sources[n] if sources else "")
            keys[n] = request.key
            if request.key not in requests:
                requests[request.key] = request
                wanted.append(texts[n])
        return keys, list(requests.values()), wanted

    def _wanted(self, batch: Batch, left: Sequence[int]) -> tuple[list[Request], Callable[[list[int]], Any]]:
        texts = [batch.texts[n] for n in left]
        return [batch.requests[n] for n in left], lambda mine: self._embed([texts[n] for n in mine])

    def ref(self, text: str) -> ItemRef:
        """The identity of the vector of `text`, as other items' dependencies name it."""
        return ItemRef(self.name, key_of(text))

    def warmup_items(self, items: Sequence[WarmupItem]) -> Any:
        """As `warmup_item` for each, encoding all texts in one batch; to be awaited if `encode` is a coroutine."""
        return self._awarm_batch(items) if self._is_async else self._warm_batch(items)

    def get_warmup_candidates(self, history: History, rates: NDArray[np.float64]) -> Sequence[WarmupItem]:
        """Texts that history knows and can find again."""
        return get_embedding_cache_warmup_candidates(self, history, rates)

    def held_values(self) -> Sequence[HeldValue]:
        """What is resident, what would be evicted last first; a vector is copied when it is looked at."""
        with self._lock:
            slots = list(self._residents.coldest())[::-1]
            return HeldVectors(map(self._vectors.digest_of, slots), self._held_now)

    def _held_now(self, digest: tuple[int, int]) -> HeldValue:
        key = hex_of(digest)
        with self._lock:
            slot = self._residents.find(key)
            return HeldValue(key, self.model, None, 0, 0.0) if slot < 0 else self._residents.held(slot)

    def _make(self, items: Sequence[WarmupItem]) -> Any:
        model = self.model  # before encoding: vectors made across a change of models are made anew
        texts = [self._find_text(item) for item in items]
        embedded = self._embed([text for text in texts if text is not None])
        if isinstance(embedded, Awaitable):
            return _paired_later(texts, embedded, model)
        return _paired(texts, embedded, model)

    def _find_text(self, item: WarmupItem) -> str | None:
        text: str | None = None
        if item.recipe.startswith(_TEXT):
            text = item.recipe.removeprefix(_TEXT)
        elif item.recipe.startswith(_SOURCE) and self._text_of is not None:
            text = self._text_of(item.recipe.removeprefix(_SOURCE))
        return text if text is not None and key_of(text) == item.ref.key else None

    def _find_needs(self) -> Callable[[str, str], Iterable[ItemRef]] | None:
        needs = self._needs
        if needs is None:
            return None
        return lambda _, recipe: needs(recipe.removeprefix(_SOURCE)) if recipe.startswith(_SOURCE) else ()

    def _version_of(self, key: str) -> str | None:
        return self.model

    def _request(self, text: str, source: str) -> Request:
        recipe = _SOURCE + source if source else _TEXT + text if len(text) <= MAX_TEXT else ""
        return Request(key_of(text), recipe, self.model)

    def _may_keep(self, version: str, value: NDArray[np.float32]) -> bool:
        return version == self._vectors.version and len(value) > 0 and self._vectors.width in (0, len(value))

    def _from_kept(self, held: HeldValue) -> tuple[NDArray[np.float32], int]:
        # it may have been kept while the cache had another dtype
        (vector,) = self._vectors.rounded(held.value[None])
        vector.flags.writeable = False
        return vector, self._vectors.entry_bytes(len(vector))

    def _size_of(self, key: str, value: NDArray[np.float32]) -> int:
        return self._vectors.entry_bytes(len(value))

    def _embed(self, texts: Sequence[str]) -> Any:
        """A vector for each text, as a read of it will give it; awaitable where `encode` is a coroutine function."""
        if self._is_async:
            return self._embed_later(texts)
        return self._split(self._encode(texts), len(texts), self.model) if texts else []

    async def _embed_later(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        model = self.model
        return self._split(await self._encode(texts), len(texts), model) if texts else []

    def _embed_one(self, text: str) -> Any:
        embedded = self._embed([text])
        return _first(embedded) if isinstance(embedded, Awaitable) else embedded[0]

    def _split(self, encoded: Any, texts: int, model: str) -> list[NDArray[np.float32]]:
        """One array per text, owning its numbers: a view would keep the whole batch alive."""
        matrix = np.asarray(encoded)
        if matrix.ndim != 2 or len(matrix) != texts or not matrix.shape[1]:
            raise ValueError(f"encode gave an array of shape {matrix.shape} for {texts} texts")
        width = self._vectors.width
        if width not in (0, matrix.shape[1]) and model == self.model:
            raise ValueError(
                f"encode gave vectors of {matrix.shape[1]} numbers, and of {width} before; "
                f"another model needs another name than {model!r}"
            )
        vectors = [np.array(vector) for vector in self._vectors.rounded(matrix.astype(np.float32, copy=False))]
        for vector in vectors:
            vector.flags.writeable = False
        return vectors


def _make_vectors(name: str, capacity_bytes: int, dtype: Dtype, model: str) -> Vectors:
    if dtype not in DTYPES:
        raise InvalidSetting(f"cache {name!r}: dtype is {dtype!r}; it has to be one of {', '.join(DTYPES)}")
    size_bytes = capacity_bytes if isinstance(capacity_bytes, int) and capacity_bytes > 0 else 1  # refused later
    try:
        return Vectors(size_bytes, dtype, model)
    except (OSError, OverflowError):
        raise InvalidSetting(
            f"cache {name!r}: the system lets this process reserve no {capacity_bytes} bytes of address space; "
            "give a smaller capacity_bytes, or raise the limit (ulimit -v)"
        ) from None


def _paired(texts: Sequence[str | None], vectors: Iterable[V], model: str) -> list[tuple[V, str] | None]:
    following = iter(vectors)
    return [None if text is None else (next(following), model) for text in texts]


async def _paired_later(
    texts: Sequence[str | None], vectors: Awaitable[Iterable[V]], model: str
) -> list[tuple[V, str] | None]:
    return _paired(texts, await vectors, model)


async def _first(vectors: Awaitable[Sequence[V]]) -> V:
    return (await vectors)[0]


def get_embedding_cache_warmup_candidates(
    cache: EmbeddingCache,
    history: History,
    rates: NDArray[np.float64] | None = None,
    *,
    where: Callable[[str], bool] | None = None,
    weight: Callable[[str], float] | None = None,
) -> CandidateTable:
    """Texts that were embedded before, each with what its text needs to be found.

    Both callables are called with the text or, for texts read with one, its source.

    Args:
        cache: The cache; popularity outlives the model, so texts embedded by another one are candidates too.
        history: What was asked for so far.
        rates: (len(history),) accesses per second expected; by default the decayed frequency's, moved as the share of
            the model that embedded the text last has moved in the traffic.
        where: Keeps an item.
        weight: What is expected of an item is multiplied by it; 0 leaves it out.

    Raises:
        InvalidSetting: A weight is no finite number that is 0 or more.
    """
    if rates is None:
        rows = history.rows_of(cache.name)
        models = dict(zip(history.keys.take(rows), history.versions.take(rows), strict=True))
        rates = expected_rates(history, cache.name, cache.capacity_bytes, lambda key: models.get(key, ""))
    table = warmup_candidates(
        cache, history, rates, lambda _, recipe: bool(recipe) and (where is None or where(recipe.partition(":")[2]))
    )
    return weigh_candidates(table, None if weight is None else lambda _, recipe: weight(recipe.partition(":")[2]))
