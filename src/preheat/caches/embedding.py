"""Texts -> vectors, by any model.

Keyed by the text's hash, so the same text under two names is embedded once; the model is the entry's version, so
another model's vectors are never served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from preheat._model import DEFAULT_PRIORITY, CandidateTable, History, ItemRef, WarmupItem
from preheat.caches._loading import ABSENT, LoadingCache, Request, warmup_candidates
from preheat.codecs import VectorCodec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat._model import ItemResult

MAX_TEXT = 8192  # longer texts are not kept in history; give them a source

_TEXT, _SOURCE = "text:", "source:"


class EmbeddingCache(LoadingCache["NDArray[np.float32]"]):
    """Vectors by text.

    Args:
        encode: Texts to vectors, (n, d); the same text must give the same vector in any batch.
        model: Name and version of the model; a change drops all vectors of the old one.
        capacity_bytes: What the entries may occupy.
        name: Name of the cache in history and reports.
        priority: The operator's word for its items, 1 to 10.
        text_of: For texts read with a `source`: finds the text again, or None if it is not there any more.
        needs: For a source, what has to be resident so that its text is found without a miss.
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
    ) -> None:
        super().__init__(name, capacity_bytes=capacity_bytes, priority=priority, codec=VectorCodec(np.float32))
        self.model = model
        self._encode, self._text_of, self._needs = encode, text_of, needs

    def get(self, text: str, source: str = "") -> NDArray[np.float32]:
        """The vector of `text`, (d,), read-only.  `source`, where given, is remembered in place of the text."""
        return self._get(self._request(text, source), lambda: self._vectors([text])[0])

    def get_many(self, texts: Sequence[str], sources: Sequence[str] | None = None) -> NDArray[np.float32]:
        """The vectors of `texts`, (n, d); what is absent is encoded in one batch."""
        if not texts:
            return np.empty((0, 0), np.float32)
        requests = [
            self._request(text, source) for text, source in zip(texts, sources or [""] * len(texts), strict=True)
        ]
        found = {request.key: self._lookup(request) for request in requests}
        found |= {request.key: self._restore(request) for request in requests if found[request.key] is ABSENT}
        absent = {request.key: n for n, request in enumerate(requests) if found[request.key] is ABSENT}
        if absent:
            at = list(absent.values())
            loaded = self._load_missing(
                [requests[n] for n in at], lambda mine: self._vectors([texts[at[n]] for n in mine])
            )
            found.update(zip(absent, loaded, strict=True))
        return np.stack([found[request.key] for request in requests])

    def ref(self, text: str) -> ItemRef:
        """The identity of the vector of `text`, as other items' dependencies name it."""
        return ItemRef(self.name, _digest(text))

    def warmup_items(self, items: Sequence[WarmupItem]) -> Sequence[ItemResult]:
        """As `warmup_item` for each, encoding all texts in one batch."""
        return self._warm_batch(items)

    def get_warmup_candidates(self, history: History, rates: NDArray[np.float64]) -> Sequence[WarmupItem]:
        """Texts that history knows and can find again."""
        return get_embedding_cache_warmup_candidates(self, history, rates)

    def _make(self, items: Sequence[WarmupItem]) -> list[tuple[NDArray[np.float32], str] | None]:
        model = self.model  # before encoding: vectors made across a change of models are made anew
        texts = [self._find_text(item) for item in items]
        vectors = iter(self._vectors([text for text in texts if text is not None]))
        return [None if text is None else (next(vectors), model) for text in texts]

    def _find_text(self, item: WarmupItem) -> str | None:
        text: str | None = None
        if item.recipe.startswith(_TEXT):
            text = item.recipe.removeprefix(_TEXT)
        elif item.recipe.startswith(_SOURCE) and self._text_of is not None:
            text = self._text_of(item.recipe.removeprefix(_SOURCE))
        return text if text is not None and _digest(text) == item.ref.key else None

    def _find_needs(self) -> Callable[[str, str], Iterable[ItemRef]] | None:
        needs = self._needs
        if needs is None:
            return None
        return lambda _, recipe: needs(recipe.removeprefix(_SOURCE)) if recipe.startswith(_SOURCE) else ()

    def _version_of(self, key: str) -> str | None:
        return self.model

    def _request(self, text: str, source: str) -> Request:
        recipe = _SOURCE + source if source else _TEXT + text if len(text) <= MAX_TEXT else ""
        return Request(_digest(text), recipe, self.model)

    def _vectors(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """One array per text, owning its numbers: a view would keep the whole batch alive."""
        if not texts:
            return []
        matrix = np.asarray(self._encode(texts))
        if matrix.ndim != 2 or len(matrix) != len(texts):
            raise ValueError(f"encode gave an array of shape {matrix.shape} for {len(texts)} texts")
        vectors = [np.array(vector, np.float32) for vector in matrix]
        for vector in vectors:
            vector.flags.writeable = False
        return vectors


def _digest(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))


def get_embedding_cache_warmup_candidates(
    cache: EmbeddingCache,
    history: History,
    rates: NDArray[np.float64] | None = None,
    *,
    where: Callable[[str], bool] | None = None,
) -> CandidateTable:
    """Texts that were embedded before, each with what its text needs to be found.

    Args:
        cache: The cache; popularity outlives the model, so texts embedded by another one are candidates too.
        history: What was asked for so far.
        rates: (len(history),) accesses per second expected; by default the decayed frequency's.
        where: Keeps an item by its text or, for texts read with one, its source.
    """
    return warmup_candidates(
        cache, history, rates, lambda _, recipe: bool(recipe) and (where is None or where(recipe.partition(":")[2]))
    )
