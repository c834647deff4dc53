"""Reads from coroutines: nothing blocks the loop, and a load is shared with threads, whoever began it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest

from preheat._model import ItemStatus, WarmupItem
from preheat._record import CacheLog, quietly
from preheat.caches import EmbeddingCache, FileCache, ProjectCache, SearchCache
from preheat.errors import InvalidSetting


class Gate:
    """A slow search, which is let through from outside."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.open, self.entered = threading.Event(), threading.Event()

    def __call__(self, query: str) -> list[str]:
        self.calls.append(query)
        self.threads.add(threading.current_thread())
        self.entered.set()
        assert self.open.wait(10.0)
        return [query]


def searches(search: Any, **more: Any) -> SearchCache[Any]:
    return SearchCache(search, version="1", capacity_bytes=10**6, **more)


def test_many_coroutines_and_threads_share_one_load_and_the_loop_goes_on():
    gate = Gate()
    cache = searches(gate)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(cache.get("q"))) for _ in range(4)]

    async def main() -> None:
        tasks = [asyncio.create_task(cache.aget("q")) for _ in range(50)]
        for thread in threads:
            thread.start()
        while cache.get_warmup_statistics().misses < 54:
            await asyncio.sleep(0.001)  # the loop is not blocked, or this would never end
        gate.open.set()
        results.extend(await asyncio.gather(*tasks))
        assert await cache.aget("q") == ["q"]

    asyncio.run(main())
    for thread in threads:
        thread.join()
    assert results == [["q"]] * 54
    assert gate.calls == ["q"]
    assert threading.main_thread() not in gate.threads
    assert (cache._hits, cache._misses, cache._flights) == (1, 54, {})


def test_a_reader_that_is_cancelled_takes_the_load_from_nobody():
    gate = Gate()
    cache = searches(gate)

    async def main() -> None:
        first = asyncio.create_task(cache.aget("q"))
        while not gate.entered.is_set():
            await asyncio.sleep(0.001)
        second = asyncio.create_task(cache.aget("q"))
        while cache.get_warmup_statistics().misses < 2:
            await asyncio.sleep(0.001)
        first.cancel()
        gate.open.set()
        assert await second == ["q"]
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(main())
    assert (gate.calls, len(cache), cache._flights) == (["q"], 1, {})


@pytest.mark.parametrize("is_async", [False, True])
def test_the_error_of_a_load_reaches_all_who_wait_and_is_not_kept(is_async):
    calls: list[str] = []

    def fail(query: str) -> None:
        calls.append(query)
        raise RuntimeError("the index is down")

    async def afail(query: str) -> None:
        await asyncio.sleep(0.01)
        fail(query)

    cache = searches(afail if is_async else fail)
    log = CacheLog("search")
    cache.record_to(log)

    async def main() -> None:
        ended = await asyncio.gather(*(cache.aget("q") for _ in range(3)), return_exceptions=True)
        assert [str(error) for error in ended] == ["the index is down"] * 3

    asyncio.run(main())
    assert (len(cache), cache._flights) == (0, {})
    (batch,) = log.drain(0.0)
    assert not batch.hit.any()


def test_a_coroutine_function_loads_on_the_loop_once():
    calls: list[str] = []

    async def search(query: str) -> list[str]:
        calls.append(query)
        await asyncio.sleep(0.01)
        return [query]

    cache = searches(search)

    async def main() -> None:
        assert await asyncio.gather(*(cache.aget("q") for _ in range(10))) == [["q"]] * 10
        assert cache.get("q") == ["q"]  # a hit blocks nothing
        with pytest.raises(InvalidSetting, match="cache 'search' loads by a coroutine function"):
            cache.get("other")
        item = WarmupItem(cache.ref("warm"))
        assert (await cache.warmup_item(item)).status is ItemStatus.LOADED
        assert (await cache.warmup_item(item)).status is ItemStatus.RESIDENT
        assert await cache.aget("warm") == ["warm"]
        with quietly():
            assert await cache.aget("quiet") == ["quiet"]

    asyncio.run(main())
    assert calls == ["q", "warm", "quiet"]
    assert (len(cache), cache._flights, cache._misses) == (2, {}, 10)


def test_a_thread_rides_along_on_the_load_of_a_coroutine():
    async def search(query: str) -> list[str]:
        await asyncio.sleep(0.05)
        return [query]

    cache = searches(search)
    found: list[Any] = []

    async def main() -> None:
        reading = asyncio.create_task(cache.aget("q"))
        while not cache._flights:
            await asyncio.sleep(0)
        flight = cache._flights['["q",{}]']
        thread = threading.Thread(target=lambda: (flight.wait(), found.append(flight.result())))
        thread.start()
        await reading
        await asyncio.to_thread(thread.join)

    asyncio.run(main())
    assert found == [["q"]]


def test_who_waits_for_a_load_whose_loop_is_closed_loads_for_itself():
    calls: list[str] = []

    async def search(query: str) -> list[str]:
        calls.append(query)
        if len(calls) == 1:
            await asyncio.sleep(60)
        return [query]

    cache = searches(search)
    found: list[Any] = []
    other = threading.Thread(target=lambda: found.append(asyncio.run(cache.aget("q"))))

    async def main() -> None:
        reading = asyncio.create_task(cache.aget("q"))
        while not calls:
            await asyncio.sleep(0.001)
        other.start()
        while cache.get_warmup_statistics().misses < 2:
            await asyncio.sleep(0.001)
        reading.cancel()

    asyncio.run(main())
    other.join()
    assert (found, calls, cache._flights) == ([["q"]], ["q", "q"], {})


class AsyncModel:
    """An encoder that is awaited; an object whose call is a coroutine function."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    async def __call__(self, texts: list[str]) -> np.ndarray:
        self.batches.append(list(texts))
        await asyncio.sleep(0.01)
        return np.array([[float(len(text)), 1.0] for text in texts])


def test_an_encoder_may_be_a_coroutine_function():
    model = AsyncModel()
    cache = EmbeddingCache(model, model="m", capacity_bytes=10**5)

    async def main() -> None:
        one, many = await asyncio.gather(cache.aget("a"), cache.aget_many(["bb", "a", "bb"]))
        assert (one.tolist(), many.tolist()) == ([1.0, 1.0], [[2.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
        assert (await cache.aget_many([])).shape == (0, 0)
        results = await cache.warmup_items([WarmupItem(cache.ref(text), recipe=f"text:{text}") for text in ("a", "c")])
        assert [result.status for result in results] == [ItemStatus.RESIDENT, ItemStatus.LOADED]
        assert (await cache.warmup_item(WarmupItem(cache.ref("dd"), recipe="text:dd"))).status is ItemStatus.LOADED
        with pytest.raises(InvalidSetting, match="loads by a coroutine function"):
            cache.get("absent")
        assert cache.get_many(["a", "c"]).shape == (2, 2)

    asyncio.run(main())
    assert sorted(model.batches) == [["a"], ["bb"], ["c"], ["dd"]]
    assert cache._flights == {}


def test_an_encoder_that_blocks_is_called_in_a_thread():
    ticks = []

    def encode(texts: list[str]) -> np.ndarray:
        time.sleep(0.1)
        return np.ones((len(texts), 2))

    cache = EmbeddingCache(encode, model="m", capacity_bytes=10**5)

    async def main() -> None:
        reading = asyncio.create_task(cache.aget_many(["a", "b"]))
        while not reading.done():
            ticks.append(1)
            await asyncio.sleep(0.005)
        assert (await cache.aget("a")).tolist() == [1.0, 1.0]

    asyncio.run(main())
    assert len(ticks) > 3
    assert (cache._hits, cache._misses) == (1, 2)


def test_files_and_projects_are_read_from_coroutines(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.txt").write_text("x")
    files = FileCache(lambda path, content: content.decode(), root=tmp_path, capacity_bytes=10**5)
    projects = ProjectCache(lambda path: sorted(p.name for p in path.iterdir()), root=tmp_path, capacity_bytes=10**5)

    async def main() -> None:
        assert [await files.aget("p/a.txt"), await files.aget("p/a.txt")] == ["x", "x"]
        assert await projects.aget("p") == ["a.txt"]
        with pytest.raises(FileNotFoundError):
            await files.aget("none")

    asyncio.run(main())
    assert (files._hits, files._misses) == (1, 1)
