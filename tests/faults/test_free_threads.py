"""Eight threads at once, with the interpreter's lock and without: nothing lost, nothing mixed up, one load for all.

Under a free-threaded interpreter the threads really run side by side; under any other they change places as often as
they can.  The controls are what one writes without a thought: a count, and a check before an act.
`PREHEAT_FAULT_RUNS` asks for more rounds.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import cachetools
import numpy as np
import pytest

from builders import GIB, reading
from preheat import CacheWarmupService, heat
from preheat._log import HAS_GIL, CacheLog, quietly
from preheat._model import AccessBatch, ItemStatus, MemoryEventKind
from preheat._record import AccessRecorder
from preheat.adapters.ear import Ear
from preheat.adapters.library import Recorder
from preheat.adapters.loaders import Recipe
from preheat.adapters.mapping import MappingCache
from preheat.caches import EmbeddingCache, SearchCache

RUNS = min(200, int(os.environ.get("PREHEAT_FAULT_RUNS", "10")))
THREADS, CALLS = 8, 3000

pytestmark = pytest.mark.usefixtures("hasty", "no_leaked_threads")


@pytest.fixture
def hasty() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def service(tmp_path: Any) -> Iterator[CacheWarmupService]:
    made = CacheWarmupService(state_dir=str(tmp_path), memory=lambda: reading(8 * GIB))
    made.ledger._recorder.sample_above = None  # every one is counted
    yield made
    asyncio.run(made.close())


def together(act: Callable[[random.Random], None], threads: int = THREADS) -> None:
    """Call `act` in so many threads that begin at the same moment; what any of them raises fails the test."""
    barrier, failures = threading.Barrier(threads), []

    def run(seed: int) -> None:
        barrier.wait()
        try:
            act(random.Random(seed))
        except BaseException as failure:
            failures.append(failure)

    team = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert failures == []


def folded(service: CacheWarmupService, name: str) -> tuple[int, int]:
    """Hits and misses in the history."""
    service.ledger._recorder.drain()
    return service.ledger.traffic().get(name, (0, 0))


# ----------------------------------------------------------------------------------------------------------- controls


def test_a_count_without_a_lock_loses():
    counts = {"asked": 0}

    def ask(_: random.Random) -> None:
        for _ in range(20 * CALLS):
            counts["asked"] = counts.get("asked", 0) + 1

    together(ask)
    assert counts["asked"] < 20 * THREADS * CALLS


def test_a_cache_that_looks_and_then_loads_loads_more_than_once():
    values: dict[int, str] = {}
    loads: list[int] = []

    def load(key: int) -> str:
        loads.append(key)
        return str(key)

    def ask(_: random.Random) -> None:
        for key in range(20 * CALLS):
            if key not in values:
                values[key] = load(key)

    together(ask)
    assert len(loads) > len(values)


# ---------------------------------------------------------------------------------------------------------- recording


def test_every_hit_and_miss_of_a_log_is_folded_once_while_two_drain():
    seen: Counter[tuple[str, bool]] = Counter()

    def fold(batch: AccessBatch) -> None:
        seen.update((batch.keys[row], bool(hit)) for row, hit in zip(batch.row, batch.hit, strict=True))

    recorder = AccessRecorder(fold, sample_above=None)
    log, done = recorder.log("c"), threading.Event()

    def drain() -> None:
        while not done.is_set():
            recorder.drain()

    def record(draw: random.Random) -> None:
        for n in range(CALLS):
            log.hit(f"{n % 50}")
            if n % 10 == 0:
                log.miss(f"{draw.randrange(50)}", 1, 0.1, "", "")

    drainers = [threading.Thread(target=drain) for _ in range(2)]
    for thread in drainers:
        thread.start()
    together(record)
    done.set()
    for thread in drainers:
        thread.join()
    recorder.drain()
    hits = {key: count for (key, hit), count in seen.items() if hit}
    assert {str(n): THREADS * CALLS // 50 for n in range(50)} == hits
    assert sum(seen.values()) - sum(hits.values()) == THREADS * CALLS // 10
    assert (log.recorded_hits, log.recorded_misses) == (THREADS * CALLS, THREADS * CALLS // 10)
    assert log.dropped == 0


def test_a_log_that_overflows_while_it_is_drained_counts_no_more_than_there_was_and_shows_no_mark():
    log, done, drained = CacheLog("c", limit=100), threading.Event(), []

    def drain() -> None:
        while not done.is_set():
            drained.extend(log.drain(0.0))

    def record(_: random.Random) -> None:
        for n in range(CALLS):
            log.hit(f"{n % 50}")

    record(random.Random())  # so that something is dropped, however little waits at each drain
    drainer = threading.Thread(target=drain)
    drainer.start()
    together(record)
    done.set()
    drainer.join()
    drained.extend(log.drain(0.0))
    assert {str(n) for n in range(50)} >= {key for batch in drained for key in batch.keys}
    taken = sum(len(batch.row) for batch in drained)
    assert 0 < log.dropped <= (THREADS + 1) * CALLS - taken
    log.hit("after")
    assert [batch.keys for batch in log.drain(0.0)] == [["after"]]


def test_nothing_is_lost_while_the_first_access_finds_where_accesses_go():
    for _ in range(5 * RUNS):
        folded = Counter[str]()
        recorder = AccessRecorder(lambda batch, folded=folded: folded.update(batch.keys[n] for n in batch.row))
        unconnected = CacheLog("c")
        ear = Ear("c", unconnected)

        def begin(ear: Ear = ear, recorder: AccessRecorder = recorder) -> CacheLog:
            ear.record_to(recorder.log("c"))
            recorder.drain()
            return recorder.log("c")

        unconnected.begin_with(begin)
        together(lambda draw, ear=ear: [ear.hit(str(n)) for n in range(40)] and None)
        recorder.drain()
        assert {str(n): THREADS for n in range(40)} == folded


def test_what_loads_quietly_is_no_traffic_and_leaves_the_way_of_a_hit_as_it_was():
    log = CacheLog("c", sample_above=None)

    def ask(draw: random.Random) -> None:
        for n in range(CALLS):
            if n % 10 == 0:
                with quietly():
                    log.hit("quiet")
            log.hit("loud")

    together(ask)
    counts = Counter(batch.keys[row] for batch in log.drain(0.0) for row in batch.row)
    assert counts == {"loud": THREADS * CALLS}
    assert log.hit == log._hits.append


def test_a_thread_that_folds_can_be_started_and_stopped_from_everywhere():
    recorder = AccessRecorder(lambda batch: None)

    def change(draw: random.Random) -> None:
        for _ in range(10 * RUNS):
            recorder.stop() if draw.random() < 0.5 else recorder.start(0.001, lambda: None)

    together(change)
    recorder.stop()  # the fixture sees whether a thread is left


def test_logs_come_and_go_while_loads_begin_and_end():
    def make(_: random.Random) -> None:
        for _ in range(CALLS // 10):
            log = CacheLog("c")
            with quietly():
                log.hit("a")
            assert list(log.drain(0.0)) == []

    together(make)


# ------------------------------------------------------------------------------------------------------------- caches


def test_a_watched_dict_has_each_value_under_its_key_and_every_access_counted(service):
    cache = heat.watch({}, name="c", load=str, service=service)

    def ask(draw: random.Random) -> None:
        for _ in range(CALLS):
            key = str(draw.randrange(200))
            value = cache.get(key)
            if value is None:
                cache[key] = f"value of {key}"
            assert value in (None, f"value of {key}")

    together(ask)
    assert sum(folded(service, "c")) == THREADS * CALLS


def test_a_watched_lru_cache_under_the_lock_of_the_application_counts_every_read(service):
    lock = threading.Lock()
    cache = heat.watch(cachetools.LRUCache(50), name="c", load=str, lock=lock, service=service)
    asked = Counter[bool]()

    def ask(draw: random.Random) -> None:
        for _ in range(CALLS):
            key = str(draw.randrange(80))
            with lock:
                value = cache.get(key)
                asked[value is not None] += 1
                if value is None:
                    cache[key] = key
            assert value in (None, key)

    together(ask)
    assert folded(service, "c") == (asked[True], asked[False])


@pytest.mark.parametrize("keep", [heat.cached, heat.lru_cache], ids=["cached", "lru_cache"])
def test_a_cached_function_gives_each_caller_its_own_and_counts_every_call(keep, service):
    limit = {"max_items": 50} if keep is heat.cached else {"maxsize": 50}

    @keep(name="f", service=service, **limit)
    def value_of(key: str) -> str:
        return f"value of {key}"

    def ask(draw: random.Random) -> None:
        for _ in range(CALLS):
            key = str(min(draw.randrange(80), draw.randrange(80)))
            assert value_of(key) == f"value of {key}"

    together(ask)
    info = value_of.cache_info()
    assert info.hits + info.misses == THREADS * CALLS
    assert folded(service, "f") == (info.hits, info.misses)
    assert info.currsize == 50 == len(list(value_of.cache.mapping))


def test_a_stampede_loads_each_key_once(service):
    loads: list[str] = []

    @heat.cached(name="f", max_items=10_000, service=service)
    def value_of(key: str) -> str:
        loads.append(key)
        return key

    together(lambda _: [value_of(str(n)) for n in range(CALLS)] and None)
    assert len(loads) == len(set(loads)) == CALLS


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_an_embedding_cache_serves_each_text_its_own_vector_within_its_bytes(dtype, service):
    loads: list[str] = []

    def encode(texts: list[str]) -> np.ndarray:
        loads.extend(texts)
        return np.array([[float(text)] * 8 for text in texts], np.float32)

    cache = EmbeddingCache(encode, model="m", capacity_bytes=10_000, dtype=dtype)
    service.register(cache)

    def ask(draw: random.Random) -> None:
        for n in range(CALLS // 10):
            texts = [str(draw.randrange(1, 120)) for _ in range(4)]
            vectors = cache.get_many(texts) if n % 2 else np.array([cache.get(text) for text in texts])
            assert np.allclose(vectors[:, 0], [float(text) for text in texts], rtol=0.01)
            if n % 20 == 0:
                cache.invalidate(cache.ref(texts[0]).key)

    together(ask)
    told = cache.get_warmup_statistics()
    assert told.used_bytes <= 10_000
    assert told.evictions > 0
    assert folded(service, "embedding") == (told.hits, told.misses)
    assert cache._flights == {}


def test_a_search_cache_counts_every_query_and_loads_one_at_a_time(service):
    under_way, most = Counter[str](), Counter[str]()

    def search(query: str) -> list[str]:
        under_way[query] += 1
        most[query] = max(most[query], under_way[query])
        under_way[query] -= 1
        return [query]

    cache = SearchCache(search, version="1", capacity_bytes=2**16)
    service.register(cache)

    def ask(draw: random.Random) -> None:
        for _ in range(CALLS // 4):
            query = f"query {draw.randrange(300)}"
            assert cache.get(query) == [query]

    together(ask)
    told = cache.get_warmup_statistics()
    assert told.hits + told.misses == THREADS * (CALLS // 4)
    assert folded(service, "search") == (told.hits, told.misses)
    assert set(most.values()) == {1}


def test_calls_noted_for_a_library_are_told_of_their_own_value_and_stay_few():
    recorder = Recorder("c", CacheLog("c"))
    untold = Recipe(life_seconds=None).text

    def note(draw: random.Random) -> None:
        for _ in range(CALLS // 4):
            key, value = str(draw.randrange(30)), object()
            call = f"[[{draw.random()}],{{}}]"
            recorder.note_call(key, Recipe(call=call), value)
            assert recorder._recipe(key, value, None) in (untold, Recipe(call=call, life_seconds=None).text)

    together(note)
    assert len(recorder._calls) <= 64


# ----------------------------------------------------------------------------------------------------------- warm-ups


def test_a_run_beside_traffic_ends_every_item_once_and_leaves_nothing_reserved(service):
    """Loads in threads, while eight others read and invalidate: the books of cache, run and memory log agree."""
    cache = MappingCache({}, load=lambda key: f"value of {key}" * 20, name="c")
    service.register(cache)
    for n in range(600):
        cache.get(str(n))
    cache.clear()

    async def warm() -> Any:
        return await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))

    reports: list[Any] = []
    runner = threading.Thread(target=lambda: reports.append(asyncio.run(warm())))

    def ask(draw: random.Random) -> None:
        while runner.is_alive():
            key = str(draw.randrange(600))
            assert cache.get(key).startswith(f"value of {key}v")
            if draw.random() < 0.05:
                cache.invalidate(key)

    runner.start()
    together(ask)
    runner.join()
    (report,) = reports
    assert sum(report.counts.values()) == len(report.plan.order)
    ended = {status for status, items in report.counts.items() if items}
    assert ended <= {ItemStatus.LOADED, ItemStatus.RESIDENT, ItemStatus.REJECTED}
    told, logged = cache.get_warmup_statistics(), service.get_memory_statistics()["c"]
    assert told.items == len(cache.mapping) == len(cache._weights)
    assert told.used_bytes == sum(cache._weights.values()) == logged.current_bytes
    assert cache._loading == {}


def test_caches_can_be_registered_while_plans_are_made(service):
    plans: list[Any] = []

    def act(draw: random.Random) -> None:
        for n in range(RUNS):
            name = f"c{draw.random()}"
            service.register(MappingCache({}, load=str, name=name))
            if n % 5 == 0:
                plans.append(asyncio.run(service.create_warmup_plan("balanced")))

    together(act)
    assert len(service.caches) == THREADS * RUNS
    assert len(plans) == THREADS * -(-RUNS // 5)


def test_memory_events_of_eight_threads_add_up(service):
    log = service._memory_log

    def track(_: random.Random) -> None:
        for _ in range(CALLS):
            log.track("c", MemoryEventKind.ALLOCATION, 3)
            log.track("c", MemoryEventKind.RELEASE, 2)

    together(track)
    told = log.statistics()["c"]
    assert (told.allocated_bytes, told.released_bytes) == (3 * THREADS * CALLS, 2 * THREADS * CALLS)


# --------------------------------------------------------------------------------------------------------- the build


@pytest.mark.skipif(HAS_GIL, reason="this interpreter runs one thread at a time")
def test_nothing_that_preheat_imports_brings_the_interpreters_lock_back():
    assert not sys._is_gil_enabled()
