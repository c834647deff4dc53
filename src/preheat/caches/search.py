"""Query and parameters -> results, tied to the version of the index that gave them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from preheat._model import DEFAULT_PRIORITY, CandidateTable, History, ItemRef, WarmupItem
from preheat.abc import SnapshotCodec
from preheat.caches._loading import LoadingCache, Request, is_coroutine_function, warmup_candidates
from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

V = TypeVar("V")


class SearchCache(LoadingCache[V]):
    """Results by query and parameters.

    White space in a query is folded and the order of parameters does not matter; `search` is called with the
    canonical form, so equal keys always have equal results.

    Args:
        search: Called as `search(query, **parameters)`; its result must not be changed by whoever reads it.  Where
            that may be large, it can ask `preheat.load_limit_bytes`.  It may be a coroutine function: then the cache
            is read by `aget`.
        version: Version of the index, or a function that tells it; results of another version are never served.
        capacity_bytes: What the entries may occupy.
        name: Name of the cache in history and reports.
        priority: The operator's word for its items, 1 to 10.
        needs: Called like `search`: what has to be resident before a result is made.
        codec: How values are kept in snapshots; by default as plain data, see `preheat.codecs.DocumentCodec`.
        ttl_seconds: How long results are served after they were made; by default as long as the index is the same.
    """

    def __init__(
        self,
        search: Callable[..., V],
        *,
        version: str | Callable[[], str],
        capacity_bytes: int,
        name: str = "search",
        priority: int = DEFAULT_PRIORITY,
        needs: Callable[..., Iterable[ItemRef]] | None = None,
        codec: SnapshotCodec | None = None,
        ttl_seconds: float | None = None,
    ) -> None:
        super().__init__(
            name,
            capacity_bytes=capacity_bytes,
            priority=priority,
            codec=codec,
            ttl_seconds=ttl_seconds,
            is_async=is_coroutine_function(search),
        )
        self._search, self._version, self._needs = search, version, needs

    def get(self, query: str, **parameters: Any) -> V:
        """The results of `query`.

        Raises:
            InvalidSetting: A parameter is not text, a number, a truth value or None.
        """
        return self._get(*self._ask(query, **parameters))

    def _ask(self, query: str, **parameters: Any) -> tuple[Request, Callable[[], V]]:
        key = _canonical_key(query, parameters)
        return Request(key, "", self._version_now()), lambda: self._run(key)

    def ref(self, query: str, **parameters: Any) -> ItemRef:
        """The identity of the results of `query`, as other items' dependencies name it."""
        return ItemRef(self.name, _canonical_key(query, parameters))

    def get_warmup_candidates(self, history: History, rates: NDArray[np.float64]) -> Sequence[WarmupItem]:
        """Queries that history knows."""
        return get_search_cache_warmup_candidates(self, history, rates)

    def _make_one(self, key: str) -> tuple[V, str] | None:
        version = self._version_now()
        return self._run(key), version

    def _run(self, key: str) -> V:
        query, parameters = _read_key(key)
        return self._search(query, **parameters)

    def _find_needs(self) -> Callable[[str, str], Iterable[ItemRef]] | None:
        needs = self._needs
        if needs is None:
            return None

        def of_key(key: str, _recipe: str) -> Iterable[ItemRef]:
            query, parameters = _read_key(key)
            return needs(query, **parameters)

        return of_key

    def _version_of(self, key: str) -> str | None:
        return self._version_now()

    def _version_now(self) -> str:
        return self._version if isinstance(self._version, str) else self._version()


def _canonical_key(query: str, parameters: Mapping[str, Any]) -> str:
    for name, value in parameters.items():
        if not isinstance(value, str | int | float | bool | None):
            raise InvalidSetting(f"search parameter {name} is {value!r}; it has to be text, a number, a bool or None")
    folded = [" ".join(query.split()), dict(sorted(parameters.items()))]
    return json.dumps(folded, ensure_ascii=False, separators=(",", ":"))


def _read_key(key: str) -> tuple[str, dict[str, Any]]:
    query, parameters = json.loads(key)
    return query, parameters


def get_search_cache_warmup_candidates(
    cache: SearchCache[Any],
    history: History,
    rates: NDArray[np.float64] | None = None,
    *,
    where: Callable[..., bool] | None = None,
) -> CandidateTable:
    """Queries that were asked before, each with what its results need.

    Args:
        cache: The cache; popularity outlives the index, so queries answered by an older one are candidates too.
        history: What was asked for so far.
        rates: (len(history),) accesses per second expected; by default the decayed frequency's.
        where: Called as `where(query, **parameters)`; keeps a query.
    """

    def is_kept(key: str, _recipe: str) -> bool:
        try:
            query, parameters = _read_key(key)
        except (ValueError, TypeError):  # recorded by another cache of this name
            return False
        return where is None or where(query, **parameters)

    return warmup_candidates(cache, history, rates, is_kept)
