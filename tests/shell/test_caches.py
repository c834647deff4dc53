"""The four ready caches: good caches first, and quiet, polite, truthful warm-ups second."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from builders import history_of
from limits import limited_to
from preheat import (
    create_warmup_item,
    get_embedding_cache_warmup_candidates,
    get_file_cache_warmup_candidates,
    get_project_cache_warmup_candidates,
    get_search_cache_warmup_candidates,
)
from preheat._events import MemoryLog
from preheat._history import HistoryBuilder
from preheat._limit import load_limit_bytes
from preheat._model import ItemRef, ItemStatus, MemoryEventKind, WarmupItem
from preheat._record import AccessRecorder, CacheLog, quietly
from preheat.adapters.mapping import SPARE_WEIGHTS, MappingCache
from preheat.caches import EmbeddingCache, FileCache, LoadingCache, ProjectCache, SearchCache
from preheat.caches._warmed import LINGERING
from preheat.errors import InvalidSetting, ItemTooLarge

pytestmark = pytest.mark.usefixtures("no_leaked_threads")

KINDS = ["embedding", "search", "file", "project"]


@dataclass
class Rig:
    """A cache over a world that can be watched, changed, slowed down and broken."""

    cache: LoadingCache[Any]
    read: Callable[[int], Any]
    change: Callable[[int], None]
    remove: Callable[[int], None]
    item: Callable[[int], WarmupItem]
    loads: list[str]
    gate: threading.Event
    entered: threading.Event
    fault: list[BaseException]

    def key(self, n: int) -> str:
        return self.item(n).ref.key

    def slow(self) -> None:
        self.gate.clear()
        self.entered.clear()

    @property
    def counters(self) -> tuple[int, int]:
        statistics = self.cache.get_warmup_statistics()
        return statistics.hits, statistics.misses

    @property
    def resident(self) -> list[int]:
        """Which of the first twenty are held, coldest first."""
        numbers = {self.key(n): n for n in range(20)}
        return [numbers[held.key] for held in reversed(self.cache.held_values())]


def same(a: Any, b: Any) -> bool:
    return np.array_equal(a, b) and a.dtype == b.dtype if isinstance(a, np.ndarray) else a == b


def text(n: int) -> str:
    return f"text number {n:02}"


@pytest.fixture
def make_rig(tmp_path: Path) -> Callable[..., Rig]:
    def make(kind: str, capacity_bytes: int = 10**6) -> Rig:
        loads: list[str] = []
        gate, entered, fault = threading.Event(), threading.Event(), []
        gate.set()

        def note(what: str) -> None:
            loads.append(what)
            entered.set()
            assert gate.wait(10.0)
            if fault:
                raise fault[0]

        rig = BUILDERS[kind](tmp_path, capacity_bytes, note)
        return Rig(*rig, loads, gate, entered, fault)

    return make


def embedding_rig(folder: Path, capacity_bytes: int, note: Callable[[str], None]):
    def encode(texts):
        rows = [[float(ord(c)) / 7 for c in f"{cache.model}{t}"[-8:]] + [len(cache.model)] for t in texts]
        note(",".join(texts))
        return np.array(rows)

    cache = EmbeddingCache(
        encode, model="m1", capacity_bytes=capacity_bytes, text_of=lambda s: None if s in gone else s.removeprefix("s/")
    )
    gone: set[str] = set()

    def change(n: int) -> None:
        cache.model += "'"

    def item(n: int) -> WarmupItem:
        return WarmupItem(cache.ref(text(n)), recipe=f"source:s/{text(n)}")

    return cache, lambda n: cache.get(text(n), source=f"s/{text(n)}"), change, lambda n: gone.add(f"s/{text(n)}"), item


def search_rig(folder: Path, capacity_bytes: int, note: Callable[[str], None]):
    version = ["1"]

    def search(query, **parameters):
        found = [f"{query} in index {version[0]}", sorted(parameters.items())]
        note(query)
        return found

    cache = SearchCache(search, version=lambda: version[0], capacity_bytes=capacity_bytes)

    def change(n: int) -> None:
        version[0] += "1"

    return (
        cache,
        lambda n: cache.get(text(n), limit=3),
        change,
        lambda n: None,  # a query is always there
        lambda n: WarmupItem(cache.ref(text(n), limit=3)),
    )


def file_rig(folder: Path, capacity_bytes: int, note: Callable[[str], None]):
    root = folder / "files"
    root.mkdir()
    for n in range(20):
        (root / f"{n}.txt").write_text(f"content {n:02}")

    def parse(path, content):
        note(path.name)
        return ["parsed", content.decode()]

    cache = FileCache(parse, root=root, capacity_bytes=capacity_bytes)

    def change(n: int) -> None:
        path = root / f"{n}.txt"
        path.write_text(path.read_text() + "'")

    return (
        cache,
        lambda n: cache.get(f"{n}.txt"),
        change,
        lambda n: (root / f"{n}.txt").unlink(),
        lambda n: WarmupItem(cache.ref(f"{n}.txt")),
    )


def project_rig(folder: Path, capacity_bytes: int, note: Callable[[str], None]):
    root = folder / "projects"
    for n in range(20):
        (root / f"p{n:02}").mkdir(parents=True)
        (root / f"p{n:02}" / "main.py").write_text(f"code {n:02}")

    def analyse(path):
        facts = sorted((p.name, p.read_text()) for p in path.iterdir())
        note(path.name)
        return facts

    cache = ProjectCache(analyse, root=root, capacity_bytes=capacity_bytes, recheck_seconds=0.0)

    def change(n: int) -> None:
        path = root / f"p{n:02}" / "main.py"
        path.write_text(path.read_text() + "'")

    def remove(n: int) -> None:
        (root / f"p{n:02}" / "main.py").unlink()
        (root / f"p{n:02}").rmdir()

    return cache, lambda n: cache.get(f"p{n:02}"), change, remove, lambda n: WarmupItem(cache.ref(f"p{n:02}"))


BUILDERS = {"embedding": embedding_rig, "search": search_rig, "file": file_rig, "project": project_rig}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def rig(kind, make_rig):
    return make_rig(kind)


@pytest.fixture
def small(kind, make_rig):
    """A rig whose cache has room for exactly three entries."""
    return rig_for(3, kind, make_rig)


@pytest.fixture
def eight(kind, make_rig):
    """A rig whose cache has room for exactly eight entries."""
    return rig_for(8, kind, make_rig)


def rig_for(entries, kind, make_rig):
    probe = make_rig(kind)
    probe.read(0)
    size = probe.cache.get_warmup_statistics().used_bytes
    if kind in ("file", "project"):
        import shutil

        shutil.rmtree(probe.cache.root)
    rig = make_rig(kind, entries * size + size // 2)
    rig.size = size
    return rig


class InThread(threading.Thread):
    """A call in a thread, with its result or its exception."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        super().__init__(daemon=True)
        self._call, self._arguments = call, arguments
        self.result: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._call(*self._arguments)
        except BaseException as error:
            self.error = error

    def end(self) -> Any:
        self.join(10.0)
        assert not self.is_alive()
        return self.result


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.001)


# ------------------------------------------------------------------------------------------------------ a good cache


def test_a_miss_loads_and_a_hit_does_not(rig):
    first, second = rig.read(1), rig.read(1)
    assert same(first, second)
    assert (len(rig.loads), rig.counters) == (1, (1, 1))
    assert rig.key(1) in rig.cache
    assert len(rig.cache) == 1


def test_what_came_first_and_was_not_used_since_goes_first(small):
    for n in (0, 1, 2):
        small.read(n)
    small.read(0)
    small.read(3)
    assert small.resident == [2, 3, 0]
    assert small.cache.get_warmup_statistics().evictions == 1


def test_it_is_never_above_its_capacity(small):
    for n in range(20):
        small.read(n)
        statistics = small.cache.get_warmup_statistics()
        assert statistics.used_bytes <= small.cache.capacity_bytes
        assert statistics.used_bytes == sum(entry.size_bytes for entry in small.cache.held_values())
    largest = max(entry.size_bytes for entry in small.cache.held_values())
    assert statistics.used_bytes + largest > small.cache.capacity_bytes


def test_a_value_larger_than_the_cache_is_served_and_not_kept(kind, make_rig):
    rig = make_rig(kind, 1)
    assert same(rig.read(1), rig.read(1))
    assert (len(rig.cache), len(rig.loads)) == (0, 2)


def test_sixteen_threads_that_miss_make_one_load(rig):
    rig.slow()
    threads = [InThread(rig.read, 1) for _ in range(16)]
    until(lambda: rig.cache.get_warmup_statistics().misses == 16)
    rig.gate.set()
    values = [thread.end() for thread in threads]
    assert all(same(values[0], value) for value in values)
    assert (len(rig.loads), rig.counters) == (1, (0, 16))
    assert rig.cache._flights == {}


def test_the_error_of_a_load_reaches_all_that_wait_and_is_not_kept(rig):
    rig.slow()
    rig.fault.append(RuntimeError("the source is down"))
    threads = [InThread(rig.read, 1) for _ in range(4)]
    until(lambda: rig.cache.get_warmup_statistics().misses == 4)
    rig.gate.set()
    for thread in threads:
        thread.end()
        assert str(thread.error) == "the source is down"
    rig.fault.clear()
    rig.read(1)
    assert (len(rig.loads), len(rig.cache)) == (2, 1)


def test_an_invalidated_entry_is_loaded_again(rig):
    rig.read(1)
    rig.cache.invalidate(rig.key(1))
    assert rig.key(1) not in rig.cache
    assert rig.cache.get_warmup_statistics().used_bytes == 0
    rig.read(1)
    assert len(rig.loads) == 2


def test_clear_forgets_everything(rig):
    for n in range(3):
        rig.read(n)
    rig.cache.clear()
    assert (len(rig.cache), rig.cache.get_warmup_statistics().used_bytes) == (0, 0)


@pytest.mark.parametrize("forget", ["invalidate", "clear"])
@pytest.mark.parametrize("loader", ["traffic", "warm-up"])
def test_a_load_that_was_invalidated_under_way_is_not_kept(rig, forget, loader):
    rig.slow()
    thread = InThread(rig.read, 1) if loader == "traffic" else InThread(rig.cache.warmup_item, rig.item(1))
    assert rig.entered.wait(5.0)
    rig.cache.invalidate(rig.key(1)) if forget == "invalidate" else rig.cache.clear()
    rig.gate.set()
    result = thread.end()
    assert len(rig.cache) == 0
    if loader == "warm-up":
        assert (result.status, result.size_bytes) == (ItemStatus.REJECTED, 0)
        assert "invalidated" in result.reason


@pytest.mark.parametrize("loader", ["traffic", "warm-up"])
def test_who_asks_after_an_invalidation_does_not_ride_on_a_load_from_before(rig, loader):
    rig.slow()
    before = InThread(rig.read, 1) if loader == "traffic" else InThread(rig.cache.warmup_item, rig.item(1))
    assert rig.entered.wait(5.0)
    rig.cache.invalidate(rig.key(1))
    after = InThread(rig.read, 1)
    until(lambda: len(rig.loads) == 2)
    rig.gate.set()
    before.end()
    after.end()
    assert len(rig.cache) == 1
    assert rig.cache._flights == {}


@pytest.mark.parametrize(
    ("argument", "value"), [("capacity_bytes", 0), ("capacity_bytes", -1), ("capacity_bytes", 1e6)]
)
def test_a_capacity_that_is_none_is_refused(argument, value, tmp_path):
    with pytest.raises(InvalidSetting, match=f"cache 'file': capacity_bytes is {value!r}"):
        FileCache(lambda path, content: content, root=tmp_path, capacity_bytes=value)


@pytest.mark.parametrize("priority", [0, 11])
def test_a_priority_that_is_none_is_refused(priority, tmp_path):
    with pytest.raises(InvalidSetting, match=f"priority is {priority}"):
        FileCache(lambda path, content: content, root=tmp_path, capacity_bytes=9, priority=priority)


# ------------------------------------------------------------------------------------------------- never a stale value


def test_a_stale_version_is_never_served(rig):
    old = rig.read(1)
    rig.change(1)
    new = rig.read(1)
    assert not same(old, new)
    assert same(new, rig.read(1))
    assert (len(rig.loads), len(rig.cache)) == (2, 1)


def test_a_change_during_a_load_is_seen_by_who_asks_after_it(rig):
    rig.slow()
    first = InThread(rig.read, 1)
    assert rig.entered.wait(5.0)
    rig.change(1)
    second = InThread(rig.read, 1)
    until(lambda: rig.counters[1] == 2)
    rig.gate.set()
    old, new = first.end(), second.end()
    assert not same(old, new)
    assert same(new, rig.read(1))


def test_a_change_during_a_warm_up_is_seen_by_who_asks_after_it(rig):
    rig.slow()
    warming = InThread(rig.cache.warmup_item, rig.item(1))
    assert rig.entered.wait(5.0)
    rig.change(1)
    asking = InThread(rig.read, 1)
    until(lambda: rig.counters[1] == 1)
    rig.gate.set()
    warming.end()
    served = asking.end()
    assert same(served, rig.read(1))
    fresh = rig.loads[:]
    rig.cache.clear()
    assert same(served, rig.read(1))  # what a miss loads now
    assert len(fresh) + 1 == len(rig.loads)


def test_an_entry_of_an_old_version_is_a_candidate_and_is_replaced_by_a_warm_up(rig):
    log = CacheLog(rig.cache.name)
    rig.cache.record_to(log)
    old = rig.read(1)
    history = history_of(*log.drain(1000.0))
    assert list(rig.cache.get_warmup_candidates(history, np.ones(1))) == []
    rig.change(1)
    assert [rig.key(1)] == [item.ref.key for item in rig.cache.get_warmup_candidates(history, np.ones(1))]
    result = rig.cache.warmup_item(rig.item(1))
    statistics = rig.cache.get_warmup_statistics()
    assert ItemStatus.LOADED is result.status
    assert (1, result.size_bytes) == (statistics.items, statistics.used_bytes)
    assert not same(old, rig.read(1))
    assert len(rig.loads) == 2


# ------------------------------------------------------------------------------------------------------------ warm-up


def test_a_warmed_entry_is_what_a_miss_loads(rig):
    result = rig.cache.warmup_item(rig.item(1))
    warmed = rig.read(1)
    rig.cache.clear()
    missed = rig.read(1)
    assert ItemStatus.LOADED is result.status
    assert same(missed, warmed)
    if isinstance(missed, np.ndarray):
        assert missed.tobytes() == warmed.tobytes()
    assert rig.counters == (1, 1)


def test_a_warm_up_tells_the_size_that_the_cache_accounts(rig):
    result = rig.cache.warmup_item(rig.item(1))
    statistics = rig.cache.get_warmup_statistics()
    assert result.size_bytes == statistics.used_bytes == statistics.warmed_bytes > 0
    assert (statistics.items, statistics.warmed_items) == (1, 1)
    assert result.seconds >= 0


def test_a_second_warm_up_finds_it_resident(rig):
    rig.cache.warmup_item(rig.item(1))
    result = rig.cache.warmup_item(rig.item(1))
    assert (result.status, result.size_bytes) == (ItemStatus.RESIDENT, 0)
    assert len(rig.loads) == 1


def test_a_warm_up_is_no_traffic(rig):
    log = CacheLog(rig.cache.name)
    rig.cache.record_to(log)
    rig.read(0)
    rig.read(0)
    list(log.drain(0.0))
    before = rig.counters
    rig.cache.warmup_item(rig.item(1))
    rig.cache.warmup_item(rig.item(0))
    assert before == rig.counters
    assert list(log.drain(1.0)) == []


def test_what_a_warm_up_reads_is_no_traffic_keeps_nothing_and_changes_no_order(rig):
    for n in (0, 1):
        rig.read(n)
    before, order = rig.counters, rig.resident
    with quietly():
        assert same(rig.read(0), rig.read(0))
        rig.read(5)
    assert (before, order) == (rig.counters, rig.resident)


def test_a_warm_up_never_evicts_what_traffic_loaded(small):
    for n in (0, 1, 2):
        small.read(n)
    result = small.cache.warmup_item(small.item(3))
    assert (result.status, result.size_bytes, result.reason) == (
        ItemStatus.REJECTED,
        0,
        "it does not fit its cache without evicting",
    )
    assert (small.resident, small.cache.get_warmup_statistics().evictions) == ([0, 1, 2], 0)


def test_what_is_warmed_goes_to_the_cold_end_each_behind_the_one_before(small):
    small.read(0)
    small.cache.warmup_item(small.item(1))
    small.cache.warmup_item(small.item(2))
    assert small.resident == [2, 1, 0]
    small.read(3)
    assert small.resident == [1, 0, 3]  # the least valuable of what was warmed went first


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 5, 0, 3, 1, 4]])
def test_the_least_valuable_of_what_was_warmed_goes_first_in_whatever_order_it_was_loaded(eight, order):
    rig = eight
    for n in (10, 11):
        rig.read(n)
    for n in order:  # the lower the number, the more it is worth
        assert rig.cache.warmup_item(rig.item(n)._replace(value_seconds=1.0 / (n + 1))).status is ItemStatus.LOADED
    for n, left in ((12, [0, 1, 2, 3, 4]), (13, [0, 1, 2, 3]), (14, [0, 1, 2])):
        rig.read(n)
        assert sorted(set(rig.resident) & set(range(6))) == left
    for n in (15, 16, 17, 18):
        rig.read(n)
    assert sorted(rig.resident) == [11, 12, 13, 14, 15, 16, 17, 18]  # only then what traffic loaded, oldest first


def test_of_what_is_worth_the_same_per_byte_the_critical_stay_longest(small):
    small.cache.warmup_item(small.item(0)._replace(priority=8))
    small.cache.warmup_item(small.item(1)._replace(value_seconds=9.0))
    small.cache.warmup_item(small.item(2)._replace(value_seconds=99.0))
    small.read(3)
    small.read(4)
    assert sorted(small.resident) == [0, 3, 4]


def test_what_is_known_of_worth_stays_bounded_and_ends_with_the_warm_up(rig):
    for _ in range(5 * LINGERING):
        rig.cache.warmup_item(rig.item(1))
        rig.cache.invalidate(rig.key(1))
    assert rig.cache._residents._warmed._heap == []
    rig.cache.warmup_item(rig.item(0))
    for _ in range(5 * LINGERING):
        rig.cache.warmup_item(rig.item(1))
        rig.cache.invalidate(rig.key(1))
    assert len(rig.cache._residents._warmed._heap) <= LINGERING + 5


def test_a_hit_makes_a_warmed_entry_traffic_s_own(small):
    small.cache.warmup_item(small.item(1))
    small.read(1)
    assert small.cache.get_warmup_statistics().warmed_items == 0
    small.read(2)
    small.read(3)
    assert small.resident == [1, 2, 3]


def test_undo_drops_what_nobody_used_and_nothing_else(rig):
    size = rig.cache.warmup_item(rig.item(1)).size_bytes
    rig.cache.warmup_item(rig.item(2))
    rig.read(2)
    rig.read(3)
    assert [size, 0, 0, 0] == [rig.cache.undo_warmup(rig.key(n)) for n in (1, 2, 3, 4)]
    assert rig.resident == [2, 3]
    assert rig.cache.undo_warmup(rig.key(1)) == 0


@pytest.mark.parametrize("kind", ["embedding", "file", "project"], indirect=True)
def test_what_is_not_there_any_more_is_unavailable(rig):
    rig.remove(1)
    result = rig.cache.warmup_item(rig.item(1))
    assert (result.status, result.size_bytes) == (ItemStatus.UNAVAILABLE, 0)
    assert (rig.cache._flights, len(rig.cache)) == ({}, 0)


def test_a_loader_that_raises_leaves_nothing_behind(rig):
    rig.fault.append(RuntimeError("the source is down"))
    with pytest.raises(RuntimeError, match="the source is down"):
        rig.cache.warmup_item(rig.item(1))
    assert (rig.cache._flights, len(rig.cache)) == ({}, 0)
    rig.fault.clear()
    assert ItemStatus.LOADED is rig.cache.warmup_item(rig.item(1)).status


def test_the_expected_size_is_the_item_s_or_else_the_mean_of_what_is_there(rig):
    assert rig.cache.estimate_item_size(rig.item(1)) == 0
    rig.read(0)
    rig.read(1)
    assert rig.cache.get_warmup_statistics().used_bytes // 2 == rig.cache.estimate_item_size(rig.item(2))
    assert rig.cache.estimate_item_size(WarmupItem(rig.item(1).ref, size_bytes=77)) == 77


# ---------------------------------------------------------------------------------------------- traffic meets warm-up


def test_a_live_miss_joins_the_load_of_a_warm_up(rig):
    rig.slow()
    warming = InThread(rig.cache.warmup_item, rig.item(1))
    assert rig.entered.wait(5.0)
    asking = InThread(rig.read, 1)
    until(lambda: rig.counters[1] == 1)
    rig.gate.set()
    served, result = asking.end(), warming.end()
    assert ItemStatus.LOADED is result.status
    assert (len(rig.loads), rig.counters) == (1, (0, 1))
    assert same(served, rig.read(1))
    assert rig.cache.undo_warmup(rig.key(1)) == 0  # it is traffic's now
    assert result.size_bytes == rig.cache.get_warmup_statistics().used_bytes


def test_a_live_miss_gets_its_value_and_keeps_it_where_the_warm_up_had_no_room(small):
    for n in (0, 1, 2):
        small.read(n)
    small.slow()
    warming = InThread(small.cache.warmup_item, small.item(3))
    assert small.entered.wait(5.0)
    asking = InThread(small.read, 3)
    until(lambda: small.counters[1] == 4)
    small.gate.set()
    asking.end()
    warming.end()
    assert small.resident == [1, 2, 3]  # as after any miss
    assert len(small.loads) == 4
    assert small.cache.get_warmup_statistics().used_bytes <= small.cache.capacity_bytes


def test_a_live_miss_loads_for_itself_where_the_warm_up_failed(rig):
    rig.slow()
    rig.fault.append(RuntimeError("only once"))
    warming = InThread(rig.cache.warmup_item, rig.item(1))
    assert rig.entered.wait(5.0)
    asking = InThread(rig.read, 1)
    until(lambda: rig.counters[1] == 1)
    rig.gate.set()
    warming.join(10.0)
    rig.fault.clear()
    asking.end()
    assert str(warming.error) == "only once"
    if asking.error is not None:  # its own load may have begun before the fault was mended: then the fault is its own
        assert str(asking.error) == "only once"
    assert (len(rig.loads), rig.counters) == (2, (0, 1))
    assert rig.cache._flights == {}


def test_a_warm_up_leaves_alone_what_traffic_is_loading(rig):
    rig.slow()
    asking = InThread(rig.read, 1)
    assert rig.entered.wait(5.0)
    assert ItemStatus.RESIDENT is rig.cache.warmup_item(rig.item(1)).status
    rig.gate.set()
    asking.end()
    assert (len(rig.loads), rig.cache.get_warmup_statistics().warmed_items) == (1, 0)


def test_an_item_named_twice_in_a_batch_is_loaded_once(rig):
    results = rig.cache._warm_batch([rig.item(1), rig.item(1)])
    assert [result.status for result in results] == [ItemStatus.LOADED, ItemStatus.RESIDENT]
    assert len(rig.loads) == 1


@pytest.mark.parametrize("seed", range(3))
def test_traffic_warm_ups_and_invalidations_at_once_leave_a_sound_cache(small, seed):
    def work(thread: int) -> None:
        draw = np.random.default_rng([seed, thread])
        for n in draw.integers(0, 8, 150).tolist():
            match int(draw.integers(0, 6)):
                case 0:
                    small.cache.warmup_item(small.item(n))
                case 1:
                    small.cache.undo_warmup(small.key(n))
                case 2:
                    small.cache.invalidate(small.key(n))
                case _:
                    small.read(n)

    threads = [InThread(work, n) for n in range(6)]
    for thread in threads:
        thread.end()
        assert thread.error is None
    statistics = small.cache.get_warmup_statistics()
    assert small.cache._flights == {}
    assert statistics.used_bytes == sum(entry.size_bytes for entry in small.cache.held_values())
    assert statistics.used_bytes <= small.cache.capacity_bytes


# ---------------------------------------------------------------------------------------------- history and candidates


def test_reads_are_reported_with_what_makes_the_value_again(rig):
    log = CacheLog(rig.cache.name)
    rig.cache.record_to(log)
    rig.read(1)
    rig.read(1)
    (batch,) = log.drain(0.0)
    assert [[rig.key(1)], [False, True]] == [batch.keys, batch.hit.tolist()]
    assert rig.cache.get_warmup_statistics().used_bytes == batch.size_bytes[0]
    assert batch.load_seconds[0] >= 0


def test_a_failed_load_is_reported_as_a_miss_without_a_load(rig):
    log = CacheLog(rig.cache.name)
    rig.cache.record_to(log)
    rig.fault.append(RuntimeError())
    with pytest.raises(RuntimeError):
        rig.read(1)
    (batch,) = log.drain(0.0)
    assert (batch.hit.tolist(), batch.load_seconds.tolist()) == ([False], [-1.0])


CANDIDATES = {
    "embedding": get_embedding_cache_warmup_candidates,
    "search": get_search_cache_warmup_candidates,
    "file": get_file_cache_warmup_candidates,
    "project": get_project_cache_warmup_candidates,
}


def test_candidates_are_what_was_asked_for_and_is_not_there(kind, rig):
    log = CacheLog(rig.cache.name)
    rig.cache.record_to(log)
    for n in (1, 2, 2, 3):
        rig.read(n)
    sizes = {held.key: held.size_bytes for held in rig.cache.held_values()}
    rig.cache.clear()
    rig.read(3)
    candidates = CANDIDATES[kind](rig.cache, history_of(*log.drain(1000.0)))
    assert {rig.key(1), rig.key(2)} == {item.ref.key for item in candidates}
    assert [sizes[item.ref.key] for item in candidates] == [item.size_bytes for item in candidates]
    rates = {item.ref.key: item.usage_frequency for item in candidates}
    assert rates[rig.key(2)] > rates[rig.key(1)] > 0
    for item in candidates:
        assert ItemStatus.LOADED is rig.cache.warmup_item(item).status
    assert (len(rig.cache), rig.counters[1]) == (3, 4)


def test_candidates_can_be_chosen(kind, rig):
    log = CacheLog(rig.cache.name)
    rig.cache.record_to(log)
    for n in (1, 2):
        rig.read(n)
    rig.cache.clear()
    history = history_of(*log.drain(1000.0))
    chosen = CANDIDATES[kind](rig.cache, history, where=lambda name, **_: "2" in name)
    assert [rig.key(2)] == [item.ref.key for item in chosen]


def test_of_an_unknown_history_there_are_no_candidates(rig):
    assert list(rig.cache.get_warmup_candidates(history_of(), np.empty(0))) == []


# --------------------------------------------------------------------------------------------------- each for itself


def test_many_texts_are_encoded_in_one_batch_and_read_in_their_order(make_rig):
    rig = make_rig("embedding")
    rig.read(1)
    many = rig.cache.get_many([text(0), text(1), text(2), text(0)])
    assert [text(1), f"{text(2)},{text(0)}"] == [rig.loads[0], ",".join(sorted(rig.loads[1].split(","), reverse=True))]
    assert all(same(many[row], rig.cache.get(text(n))) for row, n in enumerate((0, 1, 2, 0)))
    assert rig.cache.get_many([]).shape == (0, 0)


def test_a_batch_of_a_warm_up_is_one_batch_of_the_model(make_rig):
    rig = make_rig("embedding")
    results = rig.cache.warmup_items([rig.item(n) for n in range(3)])
    assert [result.status for result in results] == [ItemStatus.LOADED] * 3
    assert len(rig.loads) == 1
    assert rig.cache.get(text(1)).tobytes() == make_rig("embedding").read(1).tobytes()


def test_a_vector_is_read_only_and_owns_its_numbers(make_rig):
    rig = make_rig("embedding")
    rig.cache.get_many([text(n) for n in range(3)])
    vector = rig.cache.get(text(1))
    assert vector.base is None
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 0.0


@pytest.mark.parametrize("shape", [(1, 3), (3, 3), (2,), (2, 3, 1)])
def test_a_model_that_answers_with_another_number_fails_and_nobody_waits_for_ever(shape):
    cache = EmbeddingCache(lambda texts: np.zeros(shape), model="m", capacity_bytes=10**6)
    log = CacheLog("embedding")
    cache.record_to(log)
    with pytest.raises(ValueError, match=r"encode gave an array of shape \(.*\) for 2 texts"):
        cache.get_many(["a", "b"])
    assert cache._flights == {}
    with pytest.raises(ValueError, match="encode gave"):
        cache.warmup_items([WarmupItem(cache.ref(t), recipe=f"text:{t}") for t in "ab"])
    assert cache._flights == {}


def test_a_short_text_is_its_own_recipe_and_a_long_one_needs_a_source():
    cache = EmbeddingCache(lambda texts: np.ones((len(texts), 2)), model="m", capacity_bytes=10**6)
    log = CacheLog("embedding")
    cache.record_to(log)
    cache.get("short")
    cache.get("long" * 5000)
    cache.get("named", source="file.py#1")
    (batch,) = log.drain(1000.0)
    assert list(batch.recipes) == ["text:short", "", "source:file.py#1"]
    cache.clear()
    candidates = get_embedding_cache_warmup_candidates(cache, history_of(batch))
    assert [item.recipe for item in candidates] == ["text:short", "source:file.py#1"]
    results = [cache.warmup_item(item).status for item in candidates]
    assert results == [ItemStatus.LOADED, ItemStatus.UNAVAILABLE]  # nothing finds the text of that source


def test_a_source_whose_text_has_changed_is_unavailable():
    cache = EmbeddingCache(
        lambda texts: np.ones((len(texts), 2)), model="m", capacity_bytes=10**6, text_of=lambda source: "another text"
    )
    item = WarmupItem(cache.ref("the text"), recipe="source:a")
    assert ItemStatus.UNAVAILABLE is cache.warmup_item(item).status


def test_what_a_source_needs_is_the_dependency_of_its_vector():
    cache = EmbeddingCache(
        lambda texts: np.ones((len(texts), 2)),
        model="m",
        capacity_bytes=10**6,
        needs=lambda source: [ItemRef("file", source)],
    )
    log = CacheLog("embedding")
    cache.record_to(log)
    cache.get("a", source="x.py")
    cache.get("b")
    cache.clear()
    candidates = list(get_embedding_cache_warmup_candidates(cache, history_of(*log.drain(1.0))))
    assert [(ItemRef("file", "x.py"),), ()] == [item.dependencies for item in candidates]


def test_spaces_and_the_order_of_parameters_make_no_other_query():
    seen = []
    cache = SearchCache(lambda query, **rest: seen.append((query, rest)), version="1", capacity_bytes=10**6)
    cache.get("  find   me ", b=1, a=None)
    cache.get("find me", a=None, b=1)
    assert seen == [("find me", {"a": None, "b": 1})]
    assert cache.ref("find me", b=1, a=None) == cache.ref(" find me", a=None, b=1)
    assert cache.ref("find me", b=1) != cache.ref("find me", b=True)


@pytest.mark.parametrize("value", [{1: "a"}, b"x", object(), {1}, float("nan")])
def test_a_parameter_that_is_no_plain_value_is_refused(value):
    cache = SearchCache(lambda query, **_: [], version="1", capacity_bytes=10**6)
    with pytest.raises(InvalidSetting, match="search parameter where "):
        cache.get("q", where=value)


def test_what_a_query_needs_is_its_dependency():
    cache = SearchCache(
        lambda query, **_: [query],
        version="1",
        capacity_bytes=10**6,
        needs=lambda query, project: [ItemRef("project", project), ItemRef("embedding", query)],
    )
    log = CacheLog("search")
    cache.record_to(log)
    cache.get("q", project="p")
    cache.clear()
    (item,) = get_search_cache_warmup_candidates(cache, history_of(*log.drain(1.0)))
    assert (ItemRef("project", "p"), ItemRef("embedding", "q")) == item.dependencies


ESCAPES = ["../secret", "a/../../secret", "/etc/passwd", "..", "a\0b", "a/b/../../../x"]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("kind_of_path", ["file", "project"])
def test_nothing_outside_the_root_is_read(tmp_path, path, kind_of_path):
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    read = []
    if kind_of_path == "file":
        cache = FileCache(lambda p, content: read.append(p), root=root, capacity_bytes=10**6)
    else:
        cache = ProjectCache(lambda p: read.append(p), root=root, capacity_bytes=10**6)
    with pytest.raises(FileNotFoundError, match="is not a path inside"):
        cache.get(path)
    assert ItemStatus.UNAVAILABLE is cache.warmup_item(WarmupItem(ItemRef(cache.name, path))).status
    assert read == []


def test_a_folder_is_no_file_and_a_file_no_project(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    files = FileCache(lambda path, content: content, root=tmp_path, capacity_bytes=10**6)
    projects = ProjectCache(lambda path: path, root=tmp_path, capacity_bytes=10**6)
    with pytest.raises(IsADirectoryError):
        files.get("folder")
    with pytest.raises(NotADirectoryError):
        projects.get("file")
    for cache, key in ((files, "folder"), (projects, "file"), (files, "file/x"), (projects, "none")):
        assert ItemStatus.UNAVAILABLE is cache.warmup_item(WarmupItem(ItemRef(cache.name, key))).status


def test_a_name_that_is_not_utf8_is_served_and_does_no_harm_to_history(tmp_path):
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).write_text("x")
    cache = FileCache(lambda path, content: content, root=tmp_path, capacity_bytes=10**6)
    log = CacheLog("file")
    cache.record_to(log)
    assert cache.get(name) == b"x"
    assert len(history_of(*log.drain(1.0))) == 0


def test_a_project_is_looked_at_again_only_after_its_time(tmp_path):
    now = [0.0]
    (tmp_path / "p").mkdir()
    seen = []
    cache = ProjectCache(
        lambda path: seen.append(1) or len(seen),
        root=tmp_path,
        capacity_bytes=10**6,
        recheck_seconds=5.0,
        clock=lambda: now[0],
    )
    assert cache.get("p") == 1
    (tmp_path / "p" / "new.py").write_text("x")
    now[0] = 4.9
    assert cache.get("p") == 1
    now[0] = 5.0
    assert cache.get("p") == 2


@pytest.mark.parametrize("ignored", [".git/config", "__pycache__/a.pyc", ".hidden"])
def test_hidden_files_and_byte_code_do_not_change_a_project(tmp_path, ignored):
    (tmp_path / "p").mkdir()
    cache = ProjectCache(lambda path: object(), root=tmp_path, capacity_bytes=10**6, recheck_seconds=0.0)
    before = cache.get("p")
    (tmp_path / "p" / ignored).parent.mkdir(exist_ok=True)
    (tmp_path / "p" / ignored).write_text("x")
    assert before is cache.get("p")


def test_the_root_itself_can_be_a_project(tmp_path):
    (tmp_path / "a.py").write_text("x")
    cache = ProjectCache(lambda path: sorted(p.name for p in path.iterdir()), root=tmp_path, capacity_bytes=10**6)
    assert cache.get(".") == ["a.py"]


def test_the_time_of_a_load_is_its_own_without_that_of_the_loads_inside_it(tmp_path):
    (tmp_path / "f").write_text("x")

    def parse(path, content):
        time.sleep(0.05)
        return content

    files = FileCache(parse, root=tmp_path, capacity_bytes=10**6)
    searches = SearchCache(lambda query: files.get("f"), version="1", capacity_bytes=10**6)
    logs = {cache.name: CacheLog(cache.name) for cache in (files, searches)}
    for cache in (files, searches):
        cache.record_to(logs[cache.name])
    searches.get("q")
    seconds = {name: next(iter(log.drain(0.0))).load_seconds[0] for name, log in logs.items()}
    assert seconds["file"] >= 0.05
    assert seconds["search"] < seconds["file"]


# --------------------------------------------------------------------------------------------- what else they are told


def test_the_application_says_what_a_projects_facts_depend_on(tmp_path):
    (tmp_path / "p").mkdir()
    state, analysed = ["one"], []
    cache = ProjectCache(
        lambda path: analysed.append(path) or len(analysed),
        root=tmp_path,
        capacity_bytes=10_000,
        state_of=lambda path: state[0],
        recheck_seconds=0.0,
    )
    (tmp_path / "p" / "new.txt").write_text("new")
    assert [cache.get("p"), cache.get("p")] == [1, 1]
    state[0] = "two"
    assert cache.get("p") == 2


def test_history_of_another_cache_of_the_name_is_no_query():
    other = SearchCache(lambda query: query, version="1", capacity_bytes=10_000)
    builder = HistoryBuilder()
    recorder = AccessRecorder(builder.fold)
    log = recorder.log("search")
    for key in ("no json", "5", '["a query",{}]'):
        log.miss(key, 10, 0.1, "1", "")
    recorder.drain()
    history = builder.history()
    candidates = get_search_cache_warmup_candidates(other, history)
    assert [ref.key for ref in candidates.refs()] == ['["a query",{}]']


def test_statistics_of_what_was_warmed_add_up_over_every_way_out_of_the_cache():
    cache = EmbeddingCache(lambda texts: np.ones((len(texts), 8), np.float32), model="ones", capacity_bytes=4_000)
    items = [create_warmup_item(*cache.ref(str(n)), recipe=f"text:{n}") for n in range(8)]
    sizes = [cache.warmup_item(item).size_bytes for item in items]
    cache.get("0")
    cache.undo_warmup(items[1].ref.key)
    cache.invalidate(items[2].ref.key)
    statistics = cache.get_warmup_statistics()
    assert (statistics.warmed_items, statistics.warmed_bytes) == (5, sum(sizes[3:]))
    for n in range(100, 140):
        cache.get(str(n))
    statistics = cache.get_warmup_statistics()
    assert (statistics.warmed_items, statistics.warmed_bytes) == (0, 0)
    assert statistics.used_bytes <= 4_000


# -------------------------------------------------------------------------------------------------------------- memory


class Books:
    """A memory log that a cache reports to, and what it says."""

    def __init__(self, cache: Any) -> None:
        self.log, self.cache = MemoryLog(limit=100_000), cache
        cache.report_memory_to(self.track)

    def track(self, kind: MemoryEventKind, size_bytes: int, cause: str, items: int = 1) -> None:
        self.log.track("c", kind, size_bytes, cause, items)

    @property
    def told(self) -> list[tuple[str, str, int]]:
        return [(str(event.kind), event.cause, event.items) for event in self.log.events()]

    @property
    def current_bytes(self) -> int:
        totals = self.log.statistics().get("c")
        return totals.current_bytes if totals else 0

    def assert_balanced(self) -> None:
        statistics = self.cache.get_warmup_statistics()
        assert self.current_bytes == statistics.used_bytes


# not files, whose keys pathlib interns as it pleases, so that they differ in weight
@pytest.mark.parametrize("kind", ["embedding", "search", "project"], indirect=True)
def test_every_way_in_and_out_is_told_with_its_cause(small):
    books = Books(small.cache)
    small.read(0)
    small.cache.warmup_item(small.item(1))
    small.cache.warmup_item(small.item(2))
    small.cache.undo_warmup(small.key(2))
    small.read(2)
    small.read(3)
    small.cache.invalidate(small.key(3))
    small.cache.invalidate(small.key(3))
    small.cache.clear()
    small.cache.clear()
    assert books.told == [
        ("allocation", "traffic", 1),
        ("allocation", "warm-up", 1),
        ("allocation", "warm-up", 1),
        ("rollback", "undone", 1),
        ("allocation", "traffic", 1),
        ("eviction", "to make room", 1),
        ("allocation", "traffic", 1),
        ("release", "invalidated", 1),
        ("release", "cleared", 2),
    ]
    assert books.log.statistics()["c"].evictions == small.cache.get_warmup_statistics().evictions
    assert books.current_bytes == 0


@pytest.mark.parametrize("loader", ["traffic", "warm-up"])
def test_an_entry_of_an_old_version_is_released_when_it_is_replaced(rig, loader):
    rig.read(1)
    books = Books(rig.cache)
    rig.change(1)
    rig.read(1) if loader == "traffic" else rig.cache.warmup_item(rig.item(1))
    cause = "its model was replaced" if isinstance(rig.cache, EmbeddingCache) else "replaced"
    assert books.told == [("allocation", "resident before", 1), ("release", cause, 1), ("allocation", loader, 1)]
    books.assert_balanced()


def test_all_that_makes_room_for_one_is_one_event():
    cache = SearchCache(lambda query, **_: query * 10, version="1", capacity_bytes=3_000)
    for n in range(10):
        cache.get(str(n))
    books = Books(cache)
    cache.get("x" * 130)
    kind, cause, items = books.told[1]
    assert (kind, cause) == ("eviction", "to make room")
    assert items > 1
    books.assert_balanced()


def test_what_is_not_kept_is_not_told(kind, make_rig):
    rig = make_rig(kind, 1)
    books = Books(rig.cache)
    rig.read(1)
    rig.cache.warmup_item(rig.item(2))
    rig.fault.append(RuntimeError())
    with pytest.raises(RuntimeError):
        rig.read(3)
    assert books.told == []


def test_hits_are_not_told(rig):
    rig.read(1)
    books = Books(rig.cache)
    for _ in range(5):
        rig.read(1)
    assert len(books.told) == 1


def test_a_tracker_may_read_the_cache_that_tells_it(rig):
    seen = []
    rig.cache.report_memory_to(lambda *event: seen.append(rig.cache.get_warmup_statistics().used_bytes))
    rig.read(1)
    assert seen == [rig.cache.get_warmup_statistics().used_bytes]


@pytest.mark.parametrize("seed", range(3))
def test_the_books_of_a_cache_that_all_use_at_once_are_balanced(small, seed):
    books = Books(small.cache)

    def work(thread: int) -> None:
        draw = np.random.default_rng([seed, thread])
        for n in draw.integers(0, 8, 150).tolist():
            match int(draw.integers(0, 8)):
                case 0 | 1:
                    small.cache.warmup_item(small.item(n))
                case 2:
                    small.cache.undo_warmup(small.key(n))
                case 3:
                    small.cache.invalidate(small.key(n))
                case 4 if n == 0:
                    small.cache.clear()
                case _:
                    small.read(n)

    threads = [InThread(work, n) for n in range(6)]
    for thread in threads:
        thread.end()
        assert thread.error is None
    books.assert_balanced()
    totals = books.log.statistics()["c"]
    assert totals.peak_bytes <= small.cache.capacity_bytes
    assert totals.evictions == small.cache.get_warmup_statistics().evictions


def make_search_cache() -> tuple[Any, Callable[[int], Any], Callable[[int], Any]]:
    cache = SearchCache(lambda query, **_: query * 20, version="1", capacity_bytes=900)
    return cache, lambda n: cache.get(str(n)), lambda n: WarmupItem(cache.ref(str(n)))


def make_mapping_cache() -> tuple[Any, Callable[[int], Any], Callable[[int], Any]]:
    from cachetools import LRUCache

    cache = MappingCache(LRUCache(maxsize=3), lambda key: [key] * int(key), name="c")
    return cache, lambda n: cache.get(str(n)), lambda n: WarmupItem(ItemRef("c", str(n)))


ACTS = st.tuples(st.sampled_from(["read", "warm", "undo", "drop", "listen"]), st.integers(0, 5))


@pytest.mark.parametrize("make", [make_search_cache, make_mapping_cache])
@given(acts=st.lists(ACTS, max_size=30))
def test_the_books_are_balanced_after_any_sequence(make, acts):
    cache, read, item = make()
    books = Books(cache)
    for act, n in acts:
        key = item(n).ref.key
        if act == "read":
            read(n)
        elif act == "warm":
            cache.warmup_item(item(n))
        elif act == "undo":
            cache.undo_warmup(key)
        elif act == "drop":
            cache.mapping.pop(key, None) if isinstance(cache, MappingCache) else cache.invalidate(key)
        else:
            before, books = books, Books(cache)
            assert before.current_bytes == 0
        books.assert_balanced()
    if isinstance(cache, LoadingCache):
        assert cache._residents.kinds == ({"": [len(cache), cache._residents.used_bytes]} if len(cache) else {})


# ------------------------------------------------------------------------------------------------ memory of a mapping


def words(mapping: Any = None) -> MappingCache[Any]:
    return MappingCache({} if mapping is None else mapping, lambda key: [key], name="words")


def test_traffic_that_takes_a_warmed_entry_over_releases_nothing():
    cache = words()
    books = Books(cache)
    size_bytes = cache.warmup_item(create_warmup_item("words", "a")).size_bytes
    cache.get("a")
    assert cache.undo_warmup("a") == 0
    assert (books.told, books.current_bytes) == ([("allocation", "warm-up", 1)], size_bytes)
    books.assert_balanced()


def test_what_a_mapping_drops_is_told_when_it_is_noticed():
    cache = words()
    books = Books(cache)
    cache.warmup_item(create_warmup_item("words", "a"))
    cache.warmup_item(create_warmup_item("words", "b"))
    del cache.mapping["a"], cache.mapping["b"]
    cache.get("a")
    assert books.told[2:] == [("release", "its mapping has dropped it", 1), ("allocation", "traffic", 1)]
    cache.get_warmup_statistics()
    assert books.told[4:] == [("release", "its mapping has dropped it", 1)]
    books.assert_balanced()


def test_entries_that_the_application_swaps_are_noticed_when_their_key_is_asked_for():
    cache = words()
    books = Books(cache)
    cache.warmup_item(create_warmup_item("words", "a"))
    del cache.mapping["a"]
    cache.mapping["b"] = ["b"]
    assert cache.undo_warmup("a") == 0
    cache.get("a")
    assert books.told[1:] == [("release", "its mapping has dropped it", 1), ("allocation", "traffic", 1)]
    books.assert_balanced()


def test_of_two_loads_of_a_key_at_once_the_first_stays():
    both = threading.Barrier(2)

    def load(key: str) -> list[str]:
        both.wait(10.0)
        return [key]

    cache = MappingCache({}, load, name="words")
    books = Books(cache)
    threads = [InThread(cache.get, "a") for _ in range(2)]
    for thread in threads:
        thread.end()
    assert books.told == [("allocation", "traffic", 1)]
    books.assert_balanced()


def test_what_was_loaded_while_nobody_listened_is_not_weighed():
    cache = words()
    cache.get("a")
    cache.warmup_item(create_warmup_item("words", "b"))
    books = Books(cache)
    assert books.told == [("allocation", "resident before", 1)]
    assert cache.get_warmup_statistics().items == 2
    books.assert_balanced()


def test_the_weights_of_what_a_mapping_has_dropped_are_not_kept_for_ever():
    from cachetools import LRUCache

    class Value:
        pass

    values: weakref.WeakSet[Value] = weakref.WeakSet()

    def load(key: str) -> Value:
        value = Value()
        values.add(value)
        return value

    cache = MappingCache(LRUCache(maxsize=10), load, name="words")
    books = Books(cache)
    for n in range(1_000):
        if n % 2:
            cache.mapping.clear()
            cache.warmup_item(create_warmup_item("words", str(n)))
        else:
            cache.get(str(n))
    assert len(cache._weights) <= 2 * 10 + SPARE_WEIGHTS + 1
    assert len(values) <= 2 * 10 + SPARE_WEIGHTS + 1
    books.assert_balanced()


# ----------------------------------------------------------------------------------------------------------- the limit


def big_files(folder: Path, size: int = 1000) -> tuple[FileCache[int], list[int]]:
    (folder / "a.bin").write_bytes(bytes(size))
    parsed: list[int] = []
    cache = FileCache(
        lambda path, content: parsed.append(len(content)) or len(content), root=folder, capacity_bytes=9999
    )
    return cache, parsed


def test_a_warm_up_reads_no_file_that_is_larger_than_a_load_may_be(tmp_path):
    cache, parsed = big_files(tmp_path)
    item = WarmupItem(cache.ref("a.bin"))
    with limited_to(999), pytest.raises(ItemTooLarge, match=r"a\.bin has 1000 bytes; a load may have 999 now"):
        cache.warmup_item(item)
    assert (parsed, cache._flights, len(cache)) == ([], {}, 0)
    with limited_to(1000):
        assert cache.warmup_item(item).status is ItemStatus.LOADED
    assert (parsed, cache.get("a.bin")) == ([1000], 1000)


def test_a_file_that_has_more_than_it_says_is_read_no_further_than_the_limit():
    parsed: list[int] = []
    cache = FileCache(lambda path, content: parsed.append(len(content)), root="/proc/self", capacity_bytes=9999)
    with limited_to(999), pytest.raises(ItemTooLarge, match="a load may have 999 now"):
        cache.warmup_item(WarmupItem(cache.ref("smaps")))  # it says 0 bytes
    assert parsed == []


@pytest.mark.parametrize("limit_bytes", [10**9, None])
@pytest.mark.parametrize("size", [0, 1, 2**20, 2**21 + 1])
def test_a_limit_that_is_kept_changes_no_content(tmp_path, limit_bytes, size):
    content = os.urandom(size)
    (tmp_path / "a.bin").write_bytes(content)
    cache = FileCache(lambda path, content: content, root=tmp_path, capacity_bytes=10**8)
    with limited_to(limit_bytes):
        assert cache.warmup_item(WarmupItem(cache.ref("a.bin"))).status is ItemStatus.LOADED
    assert cache.get("a.bin") == content


def test_traffic_that_waits_for_a_warm_up_is_not_held_to_its_limit(rig):
    limits = []
    rig.slow()

    def warm():
        with limited_to(1000):
            limits.append(load_limit_bytes())
            return rig.cache.warmup_item(rig.item(1))

    rig.fault.append(ItemTooLarge("the value has 2000 bytes"))
    warming = InThread(warm)
    assert rig.entered.wait(5.0)
    asking = [InThread(rig.read, 1) for _ in range(4)]
    until(lambda: rig.counters[1] == 4)
    make = rig.cache._load_missing

    def load_unlimited(*arguments):
        rig.fault.clear()  # the source is sound, only the warm-up's load was refused
        limits.append(load_limit_bytes())
        return make(*arguments)

    rig.cache._load_missing = load_unlimited
    rig.gate.set()
    values = [thread.end() for thread in asking]
    warming.end()
    assert isinstance(warming.error, ItemTooLarge)
    assert [thread.error for thread in asking] == [None] * 4
    assert all(same(values[0], value) for value in values)
    assert limits == [1000] + [None] * 4
    assert (rig.cache._flights, rig.counters) == ({}, (0, 4))
    assert len(rig.loads) <= 1 + 4
    assert rig.key(1) in rig.cache


def test_traffic_is_not_held_to_the_limit_of_a_coroutine_that_reads_in_a_thread(rig):
    rig.slow()

    def read_for_a_warm_up():
        with limited_to(10):  # and not quiet, which is the thread's
            return rig.read(1)

    rig.fault.append(ItemTooLarge("the value has 2000 bytes"))
    first = InThread(read_for_a_warm_up)
    assert rig.entered.wait(5.0)
    second = InThread(rig.read, 1)
    until(lambda: rig.counters[1] == 2)
    end = rig.cache._end_flight

    def mend_and_end(*arguments, **more):
        rig.fault.clear()
        end(*arguments, **more)

    rig.cache._end_flight = mend_and_end
    rig.gate.set()
    value = second.end()
    first.end()
    assert isinstance(first.error, ItemTooLarge)
    assert second.error is None
    assert same(value, rig.read(1))


@pytest.mark.parametrize("loader", ["traffic", "warm-up"])
def test_a_load_that_fails_leaves_nothing_for_the_garbage_collector(tmp_path, loader):
    class Content:
        pass

    seen = []

    def parse(path: Path, content: bytes) -> object:
        value = Content()
        seen.append(weakref.ref(value))
        raise ItemTooLarge("too large")

    (tmp_path / "a").write_text("x")
    cache = FileCache(parse, root=tmp_path, capacity_bytes=1000)
    gc.disable()
    try:
        with pytest.raises(ItemTooLarge) as raised:
            cache.get("a") if loader == "traffic" else cache.warmup_item(WarmupItem(cache.ref("a")))
        del raised
        assert [reference() for reference in seen] == [None]
    finally:
        gc.enable()


# ----------------------------------------------------------------------------------------------------------- the kinds


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/b.py", ".py"),
        ("B.PY", ".py"),
        ("a.tar.gz", ".gz"),
        ("x.mp3", ".mp3"),
        ("Makefile", ""),
        ("folder.d/README", ""),
        (".gitignore", ""),
        ("name.", ""),
        ("log.20240101", ""),
        ("a." + "x" * 15, "." + "x" * 15),
        ("a." + "x" * 16, ""),
        ("a.\udce9", ""),
        ("a.b c", ""),
        ("", ""),
    ],
)
def test_the_kind_of_a_file_is_its_suffix(tmp_path, path, kind):
    cache = FileCache(lambda path, content: content, root=tmp_path, capacity_bytes=1000)
    assert cache.kind_of(path) == kind


@pytest.mark.parametrize("kind", ["embedding", "search", "project"], indirect=True)
def test_the_items_of_the_others_are_all_alike(rig):
    assert {rig.cache.kind_of(rig.key(n)) for n in range(5)} == {""}


def test_a_size_that_nobody_knows_is_the_mean_of_its_kind_or_else_of_all(tmp_path):
    for name, size in (("a.txt", 100), ("b.txt", 300), ("c.png", 5_000)):
        (tmp_path / name).write_bytes(bytes(size))
    cache = FileCache(lambda path, content: content, root=tmp_path, capacity_bytes=10**6)
    sizes = [cache.warmup_item(WarmupItem(cache.ref(name))).size_bytes for name in ("a.txt", "b.txt", "c.png")]

    def expected(name: str) -> int:
        return cache.estimate_item_size(WarmupItem(cache.ref(name)))

    assert expected("z.txt") == sum(sizes[:2]) // 2
    assert expected("z.png") == sizes[2]
    assert expected("z.md") == sum(sizes) // 3
    cache.undo_warmup("c.png")
    assert expected("z.png") == sum(sizes[:2]) // 2
    cache.clear()
    assert (expected("z.txt"), cache._residents.kinds) == (0, {})


# ---------------------------------------------------------------------------------------------- weights and groups


@pytest.mark.parametrize("kind", CANDIDATES)
def test_candidates_take_the_user_s_weights(kind, make_rig):
    rig = make_rig(kind)
    log = CacheLog(rig.cache.name)
    rig.cache.record_to(log)
    for n in (1, 2):
        rig.read(n)
    rig.cache.clear()
    history = history_of(*log.drain(1000.0))
    plain = {item.ref.key: item.usage_frequency for item in CANDIDATES[kind](rig.cache, history)}
    weighed = CANDIDATES[kind](rig.cache, history, weight=lambda name, **_: 3.0 if "2" in name else 0)
    rates = {item.ref.key: item.usage_frequency for item in weighed}
    assert rates == {rig.key(1): 0.0, rig.key(2): pytest.approx(3.0 * plain[rig.key(2)])}


def test_searches_of_a_project_that_is_asked_for_more_now_are_expected_more():
    cache = SearchCache(lambda query, **_: [query], version="1", capacity_bytes=10**6)
    log, builder = CacheLog("search"), HistoryBuilder()
    cache.record_to(log)
    for minute in range(300):
        for project in ("old", "new"):
            asked = 30 if minute < 299 else 300 if project == "new" else 0
            for _ in range(asked):
                cache.get("often", project=project)
            if minute == 150:
                cache.get("once", project=project)
        for batch in log.drain(1e6 + 60.0 * minute):
            builder.fold(batch)
    cache.clear()
    found = get_search_cache_warmup_candidates(cache, builder.history())
    rates = {item.ref: item.usage_frequency for item in found}
    assert rates[cache.ref("once", project="new")] > 1.2 * rates[cache.ref("once", project="old")]
    by_query = get_search_cache_warmup_candidates(cache, builder.history(), project_of=lambda query, **_: query)
    rates = {item.ref: item.usage_frequency for item in by_query}
    assert rates[cache.ref("once", project="new")] == pytest.approx(rates[cache.ref("once", project="old")])
