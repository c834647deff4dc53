"""What authors of caches, predictors and stores test theirs with: fakes for the seams, and contract suites.

A suite is a class of test methods; subclass it in a test module, say how to make the thing, and any test runner
that collects classes runs it.  Nothing here needs a test framework.

    class TestMyCache(WarmableCacheContract):
        def make_cache(self):
            return MyCache(capacity_bytes=100_000)

        def make_item(self, n):
            return create_warmup_item("mine", f"key {n}")

        def read(self, cache, item):
            return cache.get(item.ref.key)
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from preheat._history import HistoryBuilder, empty_history
from preheat._model import (
    MIB,
    CacheStatistics,
    CandidateTable,
    History,
    ItemResult,
    ItemStatus,
    MemoryEventKind,
    MemoryReading,
    WarmupItem,
)
from preheat._record import AccessRecorder
from preheat._snapshot.awaited import AwaitedSnapshot
from preheat.abc import (
    GivesValues,
    HistoryStore,
    LoadsInBulk,
    Predictor,
    RecordsAccesses,
    ReportsMemory,
    SnapshotCodec,
    TellsKinds,
    UndoesWarmup,
    WarmableCache,
)

__all__ = [
    "FakeClock",
    "HistoryStoreContract",
    "PredictorContract",
    "ScriptedMemory",
    "SnapshotCodecContract",
    "WarmableCacheContract",
    "record_history",
]


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self, at: float = 1_000_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.at += seconds


class ScriptedMemory:
    """A memory monitor that reads from a script: available bytes, one reading after another, the last for ever."""

    def __init__(self, available_bytes: Iterable[int] = (), *, limit_bytes: int = 1024 * MIB) -> None:
        self._script: Iterator[int] = iter(available_bytes)
        self._limit_bytes = limit_bytes
        self._available = limit_bytes

    def __call__(self) -> MemoryReading:
        self._available = next(self._script, self._available)
        used = self._limit_bytes - self._available
        return MemoryReading(0.0, self._limit_bytes, used, 0, used, 0.0, "script")


def record_history(cache: WarmableCache, traffic: Callable[[], object], clock: FakeClock | None = None) -> History:
    """The history of what `traffic` asked `cache` for, recorded as a service would."""
    clock = clock or FakeClock()
    builder = HistoryBuilder()
    recorder = AccessRecorder(builder.fold, clock=clock)
    if isinstance(cache, RecordsAccesses):
        cache.record_to(recorder.log(cache.name))
    traffic()
    clock.advance(1.0)
    recorder.drain()
    return builder.history()


class WarmableCacheContract:
    """What the service relies on in a cache.

    `make_item(n)` gives distinct items, 0 <= n < 8, that the cache can load and that fit it together.
    """

    ITEMS: ClassVar[int] = 8

    def make_cache(self) -> Any:
        """A new, empty cache."""
        raise NotImplementedError

    def make_item(self, n: int) -> WarmupItem:
        """The `n`-th item."""
        raise NotImplementedError

    def read(self, cache: Any, item: WarmupItem) -> Any:
        """Ask `cache` for `item` as an application would; the value."""
        raise NotImplementedError

    def same(self, value: Any, other: Any) -> bool:
        """Whether two values are identical in content."""
        return bool(np.array_equal(value, other)) if isinstance(value, np.ndarray) else bool(value == other)

    # Offered where a cache can be looked into; what is not offered is not asked of it.

    def make_cache_loading(self, loading: Callable[[], object]) -> Any:
        """A new, empty cache whose loader calls `loading` while it makes a value; None if there is no such way in."""
        return None

    def replace(self, cache: Any, item: WarmupItem) -> Any:
        """Have the application put a newer value of `item` into `cache`; the value, None if it never does that."""
        return None

    def delete(self, cache: Any, item: WarmupItem) -> bool:
        """Have the application delete `item`, for its value has changed; False if it never does that."""
        return False

    def make_small_cache(self) -> Any:
        """A new, empty cache that holds at least one item and not all of them; None if none has such a limit."""
        return None

    def make_cache_of_life(self, seconds: float) -> Any:
        """A new, empty cache whose values live `seconds`; None if they live for ever."""
        return None

    def left_seconds(self, cache: Any, item: WarmupItem) -> float:
        """How long `item`, which is there, goes on living in a cache made by `make_cache_of_life`."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------- the contract

    def test_it_has_the_members_of_a_warmable_cache(self) -> None:
        assert isinstance(self.make_cache(), WarmableCache)

    def test_warming_an_absent_item_loads_it_and_accounts_for_its_bytes(self) -> None:
        result = self._warm(self.make_cache(), self.make_item(0))
        assert result.status is ItemStatus.LOADED
        assert result.size_bytes > 0

    def test_warming_an_item_again_finds_it_resident(self) -> None:
        cache = self.make_cache()
        self._warm(cache, self.make_item(0))
        assert self._warm(cache, self.make_item(0)).status is ItemStatus.RESIDENT

    def test_warming_an_item_that_traffic_loaded_finds_it_resident(self) -> None:
        cache = self.make_cache()
        self.read(cache, self.make_item(0))
        assert self._warm(cache, self.make_item(0)).status is ItemStatus.RESIDENT

    def test_a_warmed_entry_equals_what_a_miss_loads(self) -> None:
        warmed, cold = self.make_cache(), self.make_cache()
        for n in range(self.ITEMS):
            self._warm(warmed, self.make_item(n))
        for n in range(self.ITEMS):
            assert self.same(self.read(warmed, self.make_item(n)), self.read(cold, self.make_item(n)))

    def test_warming_is_no_traffic(self) -> None:
        cache = self.make_cache()
        before: CacheStatistics = cache.get_warmup_statistics()
        for n in range(self.ITEMS):
            self._warm(cache, self.make_item(n))
            self._warm(cache, self.make_item(n))
        after: CacheStatistics = cache.get_warmup_statistics()
        assert (after.hits, after.misses) == (before.hits, before.misses)

    def test_reading_a_warmed_item_is_a_hit(self) -> None:
        cache = self.make_cache()
        self._warm(cache, self.make_item(0))
        self.read(cache, self.make_item(0))
        statistics: CacheStatistics = cache.get_warmup_statistics()
        assert (statistics.hits, statistics.misses) == (1, 0)

    def test_statistics_count_what_was_warmed_and_not_used(self) -> None:
        cache = self.make_cache()
        sizes = [self._warm(cache, self.make_item(n)).size_bytes for n in range(self.ITEMS)]
        self.read(cache, self.make_item(0))
        statistics: CacheStatistics = cache.get_warmup_statistics()
        assert statistics.items == self.ITEMS
        assert statistics.warmed_items == self.ITEMS - 1
        assert statistics.warmed_bytes == sum(sizes[1:])

    def test_what_was_put_while_a_warm_up_loaded_it_stays(self) -> None:
        newer: list[Any] = []
        cache = self.make_cache_loading(lambda: newer.append(self.replace(cache, item)) if not newer else None)
        item = self.make_item(0)
        if cache is not None:
            status = self._warm(cache, item).status
            if newer != [None]:
                assert status is not ItemStatus.LOADED
                assert self.same(self.read(cache, item), newer[0])

    def test_what_was_deleted_while_a_warm_up_loaded_it_does_not_come_back(self) -> None:
        deleted: list[bool] = []
        cache = self.make_cache_loading(lambda: deleted.append(self.delete(cache, item)) if not deleted else None)
        item = self.make_item(0)
        if cache is not None:
            status = self._warm(cache, item).status
            if deleted != [False]:
                assert status is not ItemStatus.LOADED
                self.read(cache, item)
                statistics: CacheStatistics = cache.get_warmup_statistics()
                assert (statistics.hits, statistics.misses) == (0, 1)

    def test_warming_a_full_cache_evicts_nothing_that_traffic_uses(self) -> None:
        cache = self.make_small_cache()
        if cache is not None:
            used, *others = [self.make_item(n) for n in range(self.ITEMS)]
            self.read(cache, used)
            statuses = [self._warm(cache, item).status for item in others]
            assert ItemStatus.REJECTED in statuses
            before: CacheStatistics = cache.get_warmup_statistics()
            self.read(cache, used)
            for item, status in zip(others, statuses, strict=True):
                if status is ItemStatus.LOADED:
                    self.read(cache, item)
            after: CacheStatistics = cache.get_warmup_statistics()
            assert after.hits - before.hits == 1 + statuses.count(ItemStatus.LOADED)
            assert after.misses == before.misses

    def test_what_a_warm_up_loads_lives_as_long_as_what_a_miss_loads(self) -> None:
        cache = self.make_cache_of_life(1000.0)
        if cache is not None:
            warmed, missed = self.make_item(0), self.make_item(1)
            self._warm(cache, warmed)
            self.read(cache, missed)
            for item in (warmed, missed):
                assert 800.0 < self.left_seconds(cache, item) <= 1100.0  # a tenth either way spreads their ends

    def test_warming_in_bulk_gives_each_item_its_result(self) -> None:
        cache = self.make_cache()
        if isinstance(cache, LoadsInBulk):
            self._warm(cache, self.make_item(0))
            given = cache.warmup_items([self.make_item(n) for n in range(self.ITEMS)])
            results = asyncio.run(_await(given)) if inspect.isawaitable(given) else given
            expected = [ItemStatus.RESIDENT] + [ItemStatus.LOADED] * (self.ITEMS - 1)
            assert [result.status for result in results] == expected

    def test_undoing_drops_what_was_not_used_and_keeps_what_was(self) -> None:
        cache = self.make_cache()
        if isinstance(cache, UndoesWarmup):
            used, unused = self.make_item(0), self.make_item(1)
            size_bytes = [self._warm(cache, item).size_bytes for item in (used, unused)][1]
            self.read(cache, used)
            assert cache.undo_warmup(used.ref.key) == 0
            assert cache.undo_warmup(unused.ref.key) == size_bytes
            assert cache.undo_warmup(unused.ref.key) == 0
            assert self._warm(cache, used).status is ItemStatus.RESIDENT
            assert self._warm(cache, unused).status is ItemStatus.LOADED

    def test_what_is_given_to_peers_is_what_a_hit_would_be_served_and_giving_is_no_traffic(self) -> None:
        cache, item = self.make_cache(), self.make_item(0)
        if isinstance(cache, GivesValues) and cache.snapshot_codec() is not None:
            keys = [item.ref.key, self.make_item(1).ref.key]
            cache.restore_from(AwaitedSnapshot())
            assert list(cache.find_held(keys)) == [None, None]
            self._warm(cache, item)
            before = cache.get_warmup_statistics()  # type: ignore[attr-defined]
            found, absent = cache.find_held(keys)
            assert cache.get_warmup_statistics() == before  # type: ignore[attr-defined]
            assert absent is None
            assert found is not None
            assert found.key == keys[0]
            assert self.same(found.value, self.read(cache, item))
            if self.delete(cache, item):
                assert list(cache.find_held(keys)) == [None, None]

    def test_what_a_cache_reports_adds_up_to_the_bytes_that_it_uses(self) -> None:
        cache, reported = self.make_cache(), _Reported()
        statistics: Callable[[], CacheStatistics] = cache.get_warmup_statistics
        undo: Callable[[str], int] = getattr(cache, "undo_warmup", lambda _: 0)
        if isinstance(cache, ReportsMemory):
            items = [self.make_item(n) for n in range(self.ITEMS)]
            self._warm(cache, items[0])
            before = statistics()
            cache.report_memory_to(reported)
            assert (reported.total_bytes, reported.total_items) == (before.used_bytes, before.items)
            for n in (1, 2):
                self._warm(cache, items[n])
                assert reported.total_bytes == statistics().used_bytes
            for n in (1, 3):
                self.read(cache, items[n])
                assert reported.total_bytes == statistics().used_bytes
            for item in items:
                undo(item.ref.key)
                assert reported.total_bytes == statistics().used_bytes

    def test_the_load_of_a_warm_up_is_reported_and_its_end_too(self) -> None:
        cache, reported = self.make_cache(), _Reported()
        if isinstance(cache, ReportsMemory):
            cache.report_memory_to(reported)
            size_bytes = self._warm(cache, self.make_item(0)).size_bytes
            assert reported == [(MemoryEventKind.ALLOCATION, size_bytes, 1)]
            if isinstance(cache, UndoesWarmup):
                cache.undo_warmup(self.make_item(0).ref.key)
                assert reported[1:] == [(MemoryEventKind.ROLLBACK, size_bytes, 1)]

    def test_a_tracker_that_fails_breaks_no_cache(self) -> None:
        cache = self.make_cache()
        if isinstance(cache, ReportsMemory):
            cache.report_memory_to(_failing_tracker)
            assert self._warm(cache, self.make_item(0)).status is ItemStatus.LOADED
            assert self.same(self.read(cache, self.make_item(1)), self.read(self.make_cache(), self.make_item(1)))

    def test_the_kind_of_an_item_is_a_short_text_and_always_the_same(self) -> None:
        cache, other = self.make_cache(), self.make_cache()
        if isinstance(cache, TellsKinds):
            for n in range(self.ITEMS):
                item = self.make_item(n)
                kind = cache.kind_of(item.ref.key)
                assert isinstance(kind, str)
                assert len(kind) <= 64
                self._warm(cache, item)
                assert kind == cache.kind_of(item.ref.key) == other.kind_of(item.ref.key)

    def test_candidates_are_what_history_knows_and_is_not_resident(self) -> None:
        cache = self.make_cache()
        items = [self.make_item(n) for n in range(self.ITEMS)]
        history = record_history(cache, lambda: [self.read(cache, item) for item in items])
        assert len(cache.get_warmup_candidates(history, np.ones(len(history)))) == 0
        fresh = self.make_cache()
        candidates = CandidateTable.of(fresh.get_warmup_candidates(history, np.ones(len(history))))
        assert set(candidates.refs()) == {item.ref for item in items}
        assert (candidates.size_bytes > 0).all()
        assert (candidates.warmup_cost >= 0).all()

    def test_a_candidate_can_be_warmed_and_then_serves_as_a_hit(self) -> None:
        cache, fresh = self.make_cache(), self.make_cache()
        item = self.make_item(0)
        history = record_history(cache, lambda: self.read(cache, item))
        (candidate,) = fresh.get_warmup_candidates(history, np.ones(len(history)))
        assert self._warm(fresh, candidate).status is ItemStatus.LOADED
        assert self.same(self.read(fresh, item), self.read(cache, item))
        assert fresh.get_warmup_statistics().hits == 1

    def test_the_size_of_an_item_is_known_or_zero(self) -> None:
        assert self.make_cache().estimate_item_size(self.make_item(0)) >= 0

    def _warm(self, cache: Any, item: WarmupItem) -> ItemResult:
        result = cache.warmup_item(item)
        if inspect.isawaitable(result):
            result = asyncio.run(_await(result))
        assert isinstance(result, ItemResult)
        return result


class _Reported(list[tuple[MemoryEventKind, int, int]]):
    """A memory tracker that remembers what it was told."""

    def __call__(self, kind: MemoryEventKind, size_bytes: int, cause: str, items: int = 1) -> None:
        assert isinstance(kind, MemoryEventKind)
        assert isinstance(cause, str)
        assert size_bytes >= 0
        assert items >= 1
        self.append((kind, size_bytes, items))

    @property
    def total_bytes(self) -> int:
        """Allocated less dropped."""
        return sum(size if kind is MemoryEventKind.ALLOCATION else -size for kind, size, _ in self)

    @property
    def total_items(self) -> int:
        """Items allocated less items dropped."""
        return sum(items if kind is MemoryEventKind.ALLOCATION else -items for kind, _, items in self)


def _failing_tracker(kind: MemoryEventKind, size_bytes: int, cause: str, items: int = 1) -> None:
    raise RuntimeError("a tracker that fails")


async def _await(awaitable: Any) -> Any:
    return await awaitable


class PredictorContract:
    """What the service relies on in a predictor."""

    def make_predictor(self) -> Predictor:
        """The predictor."""
        raise NotImplementedError

    def test_nothing_known_gives_nothing_expected(self) -> None:
        assert self.make_predictor()(empty_history(), np.empty(0)).shape == (0,)

    def test_expectations_are_finite_and_not_negative(self) -> None:
        history = sample_history()
        for horizon in (0.001, 60.0, 1e9):
            rates = self.make_predictor()(history, np.full(len(history), horizon))
            assert rates.shape == (len(history),)
            assert np.isfinite(rates).all()
            assert (rates >= 0).all()

    def test_the_same_history_gives_the_same_expectations(self) -> None:
        history = sample_history()
        first, second = (self.make_predictor()(history, np.full(len(history), 60.0)) for _ in range(2))
        assert np.array_equal(first, second)

    def test_an_item_asked_for_all_the_time_is_expected_more_than_one_asked_for_once(self) -> None:
        history = sample_history()
        rates = dict(zip(history.keys, self.make_predictor()(history, np.full(len(history), 60.0)), strict=True))
        assert rates["always"] > rates["once"]


def sample_history() -> History:
    """A minute of traffic on one cache: "always" each second, "often" each fifth, "once" at the start."""
    builder, clock = HistoryBuilder(), FakeClock()
    recorder = AccessRecorder(builder.fold, clock=clock)
    log = recorder.log("sample")
    for second in range(60):
        asked = ["always"] + ["often"] * (second % 5 == 0) + ["once"] * (second == 0)
        for key in asked:
            if second == 0:
                log.miss(key, 100, 0.01, "1", "")
            else:
                log.hit(key)
        recorder.drain()
        clock.advance(1.0)
    return builder.history()


class HistoryStoreContract:
    """What the service relies on in a store of history.  It may round what was measured, by 0.1 %."""

    def make_store(self) -> HistoryStore:
        """A new, empty store."""
        raise NotImplementedError

    def test_nothing_saved_gives_nothing(self) -> None:
        assert self.make_store().load() is None

    def test_what_was_saved_is_loaded(self) -> None:
        store, history = self.make_store(), sample_history()
        store.save(history)
        assert_same_history(store.load(), history)

    def test_the_last_save_counts(self) -> None:
        store = self.make_store()
        store.save(empty_history())
        store.save(sample_history())
        assert_same_history(store.load(), sample_history())


def assert_same_history(history: History | None, expected: History) -> None:
    """Every field of `history` is that of `expected`: instants within 10 ms, measured numbers within 0.1 %."""
    assert history is not None
    for name in History.__slots__:
        value, wanted = getattr(history, name), getattr(expected, name)
        if not isinstance(wanted, np.ndarray):
            same = value == wanted
        elif wanted.dtype == np.float32:
            same = value.shape == wanted.shape and np.allclose(value, wanted, rtol=1e-3, equal_nan=True)
        elif wanted.dtype == np.float64:
            same = value.shape == wanted.shape and np.allclose(value, wanted, rtol=0.0, atol=0.01)
        else:
            same = np.array_equal(value.ravel(), wanted.ravel())
        assert same, f"{name}: {value!r} is not {wanted!r}"


class SnapshotCodecContract:
    """What a snapshot relies on in a codec.

    `make_values` gives values of every sort that the codec keeps, `make_strangers` some that it has to refuse.
    """

    def make_codec(self) -> SnapshotCodec:
        """The codec."""
        raise NotImplementedError

    def make_values(self) -> Sequence[Any]:
        """Values that it keeps."""
        raise NotImplementedError

    def make_strangers(self) -> Sequence[Any]:
        """Values that would not come back as they are."""
        return (object(), lambda: None)

    def same(self, value: Any, other: Any) -> bool:
        """Whether two values are identical in type and content."""
        if isinstance(value, np.ndarray):
            flags = value.flags.writeable, value.dtype, value.shape
            return flags == (other.flags.writeable, other.dtype, other.shape) and value.tobytes() == other.tobytes()
        return type(value) is type(other) and bool(value == other)

    # ------------------------------------------------------------------------------------------- the contract

    def test_it_has_a_name_and_a_version(self) -> None:
        codec = self.make_codec()
        assert isinstance(codec, SnapshotCodec)
        for text in (codec.name, codec.version):
            assert isinstance(text, str)
            assert 0 < len(text) <= 256

    def test_two_of_it_are_of_the_same_version(self) -> None:
        one, other = self.make_codec(), self.make_codec()
        assert (one.name, one.version) == (other.name, other.version)

    def test_what_was_kept_is_read_back_by_another_one(self) -> None:
        for value in self.make_values():
            data = self.make_codec().encode(value)
            assert isinstance(data, bytes)
            assert self.same(self.make_codec().decode(memoryview(data)), value)

    def test_what_would_not_come_back_is_refused(self) -> None:
        for value in self.make_strangers():
            assert _raises(self.make_codec().encode, value)

    def test_bytes_that_are_cut_short_make_another_value_or_none(self) -> None:
        codec = self.make_codec()
        for value in self.make_values():
            data = codec.encode(value)
            for size in range(0, len(data), max(1, len(data) // 50)):
                cut = memoryview(data)[:size]
                assert _raises(codec.decode, cut) or not self.same(codec.decode(cut), value)


def _raises(work: Callable[[Any], object], argument: Any) -> bool:
    try:
        work(argument)
    except Exception:
        return True
    return False
