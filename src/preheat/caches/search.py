"""Query and parameters -> results, tied to the version of the index that gave them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from preheat._model import DEFAULT_PRIORITY, CandidateTable, History, ItemRef, WarmupItem
from preheat._record import is_quiet
from preheat.abc import SnapshotCodec
from preheat.caches._coroutines import in_thread
from preheat.caches._loading import LoadingCache, Request, is_coroutine_function, warmup_candidates
from preheat.caches._query import MOST_CHARACTERS, question_key, read_question
from preheat.caches.candidates import expected_rates, weigh_candidates
from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")
V = TypeVar("V")

SEARCHES = 3  # by a warm-up, of an index that changes each time


def project_parameter(_query: str, *, project: object = "", **_: object) -> str:
    """The project of a query, if its parameters name one."""
    return project if isinstance(project, str) else ""


class IndexChanging(RuntimeError):
    """The index was another one after each of several searches than before it, so no result is of one version."""


def _index_changing() -> IndexChanging:
    return IndexChanging(f"the index changed each of the {SEARCHES} times that it was searched; try again later")


class SearchCache(LoadingCache[V]):
    """Results by query and parameters.

    What is the same question has one key, and `search` is called with that canonical form, so equal keys always have
    equal results: white space in a query is folded, text is brought to Unicode's form NFC, the order of names does not
    matter, tuples are lists.  1, 1.0 and True are different.

    Results of another version than the index has now are never served, and what was found while the index changed is
    given to whoever asked and not kept.  So `version` has to change before or with the first result that is different,
    and never to be one again that it was before.

    Args:
        search: Called as `search(query, **parameters)`; its result must not be changed by whoever reads it.  Where
            that may be large, it can ask `preheat.load_limit_bytes`.  It may be a coroutine function: then the cache
            is read by `aget`.
        version: Version of the index, or a function that tells it.
        capacity_bytes: What the entries may occupy.
        name: Name of the cache in history and reports.
        priority: The operator's word for its items, 1 to 10.
        needs: Called like `search`: what has to be resident before a result is made, such as the query's embedding.
        parts: Called like `search`: what nobody asks for but to make this result.  A plan that takes the result then
            knows that its parts are not worth their bytes, though it needs them.
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
        parts: Callable[..., Iterable[ItemRef]] | None = None,
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
        self._search, self._version, self._needs, self._parts = search, version, needs, parts

    def get(self, query: str, **parameters: Any) -> V:
        """The results of `query`.  A question of more than 16,384 characters is answered and not kept.

        Raises:
            InvalidSetting: A parameter is not text, a finite number, a truth value, None, or lists and dicts of such;
                or the version is no text.
        """
        key = question_key(query, parameters)
        return self._run(key) if len(key) > MOST_CHARACTERS else self._get(*self._asked(key))

    async def aget(self, query: str, **parameters: Any) -> V:
        """As `get`, in a coroutine: nothing blocks its loop, and a search is shared with whoever waits in a thread."""
        key = question_key(query, parameters)
        if len(key) <= MOST_CHARACTERS:
            return await self._aget(*await in_thread(lambda: self._asked(key)))
        found: V = await (self._run(key) if self._is_async else in_thread(lambda: self._run(key)))
        return found

    def _asked(self, key: str) -> tuple[Request, Callable[[], Any]]:
        version = self._version_now()
        return Request(key, "", version), lambda: self._run_of(key, version)

    def ref(self, query: str, **parameters: Any) -> ItemRef:
        """The identity of the results of `query`, as other items' dependencies name it."""
        return ItemRef(self.name, question_key(query, parameters))

    def get_warmup_candidates(self, history: History, rates: NDArray[np.float64]) -> Sequence[WarmupItem]:
        """Queries that history knows."""
        return get_search_cache_warmup_candidates(self, history, rates)

    def _make(self, items: Sequence[WarmupItem]) -> Any:
        return self._amake(items) if self._is_async else super()._make(items)

    def _make_one(self, key: str) -> tuple[V, str] | None:
        for _ in range(SEARCHES):
            version = self._version_now()
            results = self._run(key)
            if version == self._version_now():
                return results, version
        raise _index_changing()

    async def _amake(self, items: Sequence[WarmupItem]) -> list[tuple[V, str] | None]:
        return [await self._amake_one(item.ref.key) for item in items]

    async def _amake_one(self, key: str) -> tuple[V, str]:
        for _ in range(SEARCHES):
            version = await in_thread(self._version_now)
            results = await self._run(key)
            if version == await in_thread(self._version_now):
                return results, version
        raise _index_changing()

    def _run_of(self, key: str, version: str) -> Any:
        if self._is_async:
            return self._arun_of(key, version)
        results = self._run(key)
        self._drop_unless(key, version, self._version_now())
        return results

    async def _arun_of(self, key: str, version: str) -> V:
        results: V = await self._run(key)
        self._drop_unless(key, version, await in_thread(self._version_now))
        return results

    def _drop_unless(self, key: str, version: str, now: str) -> None:
        """Drop a load that was begun at `version`, and whatever is older, unless the index is still that one."""
        if version != now and not is_quiet():
            self.invalidate(key)

    def _run(self, key: str) -> Any:
        query, parameters = read_question(key)
        return self._search(query, **parameters)

    def _find_needs(self) -> Callable[[str, str], Iterable[ItemRef]] | None:
        needs = self._needs
        if needs is None:
            return None

        def of_key(key: str, _recipe: str) -> Iterable[ItemRef]:
            query, parameters = read_question(key)
            return needs(query, **parameters)

        return of_key

    def _version_of(self, key: str) -> str | None:
        return self._version_now()

    def _version_now(self) -> str:
        version = self._version if isinstance(self._version, str) else self._version()
        if not isinstance(version, str):
            raise InvalidSetting(f"cache {self.name!r}: the version of its index is {version!r}; it has to be text")
        return version


def get_search_cache_warmup_candidates(
    cache: SearchCache[Any],
    history: History,
    rates: NDArray[np.float64] | None = None,
    *,
    where: Callable[..., bool] | None = None,
    weight: Callable[..., float] | None = None,
    project_of: Callable[..., str] = project_parameter,
) -> CandidateTable:
    """Queries that were asked before, each with what its results need.

    All of the callables are called as `where(query, **parameters)`.

    Args:
        cache: The cache; popularity outlives the index, so queries answered by an older one are candidates too.
        history: What was asked for so far.
        rates: (len(history),) accesses per second expected; by default the decayed frequency's, moved as the share of
            the query's project has moved in the traffic.
        where: Keeps a query.
        weight: What is expected of a query is multiplied by it; 0 leaves it out.
        project_of: Tells the project of a query; by default its parameter `project`.

    Raises:
        InvalidSetting: A weight is no finite number that is 0 or more.
    """
    if rates is None:
        rates = expected_rates(history, cache.name, cache.capacity_bytes, partial(_tell, project_of, ""))
    table = warmup_candidates(cache, history, rates, lambda key, _: _tell(where or _anything, False, key))
    if cache._parts is not None:
        nothing: Iterable[ItemRef] = ()
        covers = ((row, tuple(_tell(cache._parts, nothing, key))) for row, key in enumerate(table.keys))
        table = replace(table, covers={row: parts for row, parts in covers if parts})
    return weigh_candidates(table, None if weight is None else lambda key, _: _tell(weight, 0.0, key))


def _anything(*_: Any, **__: Any) -> bool:
    return True


def _tell(question: Callable[..., T], otherwise: T, key: str) -> T:
    """What `question` says of the query and the parameters of `key`; `otherwise` if it is none of such a cache."""
    try:
        query, parameters = read_question(key)
    except (ValueError, TypeError):  # recorded by another cache of this name
        return otherwise
    return question(query, **parameters)
