"""The search cache: bound to the index's version, whatever happens while a search runs."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from preheat._model import ItemStatus, WarmupItem
from preheat.caches import SearchCache
from preheat.caches._query import MOST_CHARACTERS
from preheat.caches.search import SEARCHES, IndexChanging
from preheat.errors import InvalidSetting

pytestmark = pytest.mark.usefixtures("no_leaked_threads")


class Index:
    """An index that can be made anew; a search of it can be held up between its beginning and its end."""

    def __init__(self) -> None:
        self.version, self.searches = 1, 0
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()

    def search(self, query: str, **parameters: Any) -> tuple[str, int]:
        seen = self.version
        self.searches += 1
        self.begun.set()
        assert self.may_end.wait(10.0)
        return query, seen

    def rebuild(self) -> None:
        self.version += 1

    def cache(self, **options: Any) -> SearchCache[tuple[str, int]]:
        return SearchCache(self.search, version=lambda: str(self.version), capacity_bytes=10**6, **options)


class Asking(threading.Thread):
    def __init__(self, cache: SearchCache[Any], query: str = "q") -> None:
        super().__init__(daemon=True)
        self._cache, self._query, self.result = cache, query, None
        self.start()

    def run(self) -> None:
        self.result = self._cache.get(self._query)

    def end(self) -> Any:
        self.join(10.0)
        assert not self.is_alive()
        return self.result


def test_a_result_found_while_the_index_was_made_anew_is_not_kept():
    index = Index()
    cache = index.cache()
    index.may_end.clear()
    asking = Asking(cache)
    assert index.begun.wait(5.0)
    index.rebuild()
    index.may_end.set()
    assert asking.end() == ("q", 1)  # whoever asked before the index was made anew
    assert len(cache) == 0
    assert cache.get("q") == ("q", 2)


def test_a_result_of_a_new_index_is_not_kept_as_the_old_one_s():
    """An index that tells its new version a moment late, and then goes back: kept, the result would be served then."""
    told, served = ["1"], [1]

    def search(query: str) -> int:
        served[0], told[0] = 2, "2"  # made anew before the search reads it
        return served[0]

    cache = SearchCache(search, version=lambda: told[0], capacity_bytes=10**6)
    assert cache.get("q") == 2
    told[0] = "1"
    assert len(cache) == 0


@pytest.mark.parametrize("askers", [1, 8])
def test_who_asks_after_a_new_index_gets_none_of_the_old_results(askers):
    index = Index()
    cache = index.cache()
    index.may_end.clear()
    before = Asking(cache)
    assert index.begun.wait(5.0)
    index.rebuild()
    after = [Asking(cache) for _ in range(askers)]
    index.may_end.set()
    before.end()
    assert {asking.end() for asking in after} == {("q", 2)}


@pytest.mark.parametrize("seed", range(3))
def test_no_thread_is_ever_served_an_older_version_than_it_saw_when_it_asked(seed):
    """What keeps results by question alone, as the control does, serves old ones."""
    index, stop, stale, naive_stale = Index(), threading.Event(), [], []
    cache, naive = index.cache(), {}

    def ask(thread: int) -> None:
        draw = random.Random(seed * 100 + thread)
        while not stop.is_set():
            query, asked_at = f"q{draw.randrange(4)}", index.version
            if cache.get(query)[1] < asked_at:
                stale.append(query)
            if query not in naive:
                naive[query] = index.search(query)
            if naive[query][1] < asked_at:
                naive_stale.append(query)
            if draw.random() < 0.1:
                cache.warmup_item(WarmupItem(cache.ref(query)))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        index.rebuild()
        stop.wait(0.002)
    stop.set()
    for thread in threads:
        thread.join()
    assert (stale, bool(naive_stale)) == ([], True)
    assert cache._flights == {}


def test_a_warm_up_of_an_index_that_changed_once_searches_again():
    index = Index()
    cache = index.cache()
    search = cache._search
    changes = [index.rebuild]

    def search_and_change(query: str) -> Any:
        found = search(query)
        if changes:
            changes.pop()()
        return found

    cache._search = search_and_change
    assert cache.warmup_item(WarmupItem(cache.ref("q"))).status is ItemStatus.LOADED
    assert (cache.get("q"), index.searches) == (("q", 2), 2)


def test_a_warm_up_of_an_index_that_always_changes_fails_with_the_reason():
    index = Index()
    cache = index.cache()
    cache._search = lambda query: index.rebuild()
    with pytest.raises(IndexChanging, match=f"the index changed each of the {SEARCHES} times"):
        cache.warmup_item(WarmupItem(cache.ref("q")))
    assert (cache._flights, len(cache)) == ({}, 0)


def test_parameters_of_any_depth_reach_the_search_in_their_canonical_form():
    asked = []
    cache = SearchCache(lambda query, **rest: asked.append((query, rest)), version="1", capacity_bytes=10**6)
    cache.get("cafe\u0301", filters={"lang": ("py", "rs"), "any": {"b": 1, "a": 2.0}})
    cache.get("caf\u00e9", filters={"any": {"a": 2.0, "b": 1}, "lang": ["py", "rs"]})
    assert asked == [("caf\u00e9", {"filters": {"any": {"a": 2.0, "b": 1}, "lang": ["py", "rs"]}})]
    assert list(asked[0][1]["filters"]) == ["any", "lang"]


def test_a_question_that_is_too_long_is_answered_and_not_kept():
    index = Index()
    cache = index.cache()
    long = "x" * MOST_CHARACTERS
    assert cache.get(long) == cache.get(long) == (long, 1)
    assert (len(cache), index.searches) == (0, 2)


@pytest.mark.parametrize("version", [None, 3])
def test_a_version_that_is_no_text_is_refused(version):
    cache = SearchCache(lambda query: [], version=lambda: version, capacity_bytes=10**6)
    with pytest.raises(
        InvalidSetting, match=f"cache 'search': the version of its index is {version}; it has to be text"
    ):
        cache.get("q")


def test_a_plan_that_takes_a_result_leaves_its_part_out_and_loads_it_all_the_same(tmp_path, monkeypatch):
    """Only searches ask for the vector of a query: with the result resident it would be there for nobody."""
    import asyncio

    import numpy as np

    from preheat import CacheWarmupService
    from preheat.caches import EmbeddingCache
    from preheat.testing import ScriptedMemory

    monkeypatch.setenv("CACHE_WARMUP_HOLDOUT_RATIO", "0")  # or one of the five may be held out
    encoded: list[str] = []

    def encode(texts: list[str]) -> Any:
        encoded.extend(texts)
        return np.ones((len(texts), 64), np.float32)

    def make() -> tuple[EmbeddingCache, SearchCache[Any]]:
        vectors = EmbeddingCache(encode, model="ones", capacity_bytes=10**6)

        def needs(query: str) -> Any:
            return [vectors.ref(query)]

        searches = SearchCache(
            lambda query: [query, float(vectors.get(query).sum())],
            version="1",
            capacity_bytes=10**6,
            needs=needs,
            parts=needs,
        )
        return vectors, searches

    async def live(*, ask: bool) -> Any:
        vectors, searches = make()
        async with CacheWarmupService(state_dir=str(tmp_path / "state"), memory=ScriptedMemory()) as service:
            service.register(vectors)
            service.register(searches)
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            for n in range(5 if ask else 0):
                searches.get(f"query {n}")
            return report, len(vectors), [searches.get(f"query {n}") for n in range(5)], vectors, searches

    asyncio.run(live(ask=True))
    encoded.clear()
    report, resident, served, vectors, searches = asyncio.run(live(ask=False))
    assert (report.count(ItemStatus.LOADED), resident) == (5, 0)
    assert sorted(encoded) == [f"query {n}" for n in range(5)]  # on the way, once each
    assert served == [[f"query {n}", 64.0] for n in range(5)]
    assert searches.get_warmup_statistics()[3:5] == (5, 0)
    assert vectors.get_warmup_statistics()[3:5] == (0, 0)
    reasons = {report.plan.reasons[code].name for code in report.plan.left_out.tolist() if code >= 0}
    assert reasons == {"COVERED"}
