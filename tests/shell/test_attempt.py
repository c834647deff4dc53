"""What a cache does with a batch becomes results, and each load is told its limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from builders import item
from preheat._attempt import (
    ABANDONED,
    Allowance,
    Attempt,
    load_async,
    load_batches_async,
    load_here,
    settle,
    smooth_sizes,
    way_of,
)
from preheat._kinds import MOST_KINDS, kinds_of
from preheat._limit import limited_by, load_limit_bytes
from preheat._model import ItemResult, ItemStatus, WarmupItem
from preheat._turns import Turn, Turns
from preheat._undo import undo_batch, undo_of
from preheat.errors import ItemTooLarge

ITEMS = [item("x"), item("y"), item("z")]


class Asked:
    """A cache that notes the limit of each load."""

    name = "c"

    def __init__(self, size_bytes: Callable[[str], Any] = lambda _: 10) -> None:
        self.limits: list[int | None] = []
        self._size = size_bytes

    def warmup_item(self, item: WarmupItem) -> Any:
        self.limits.append(load_limit_bytes())
        size_bytes = self._size(item.ref.key)
        return ItemResult(ItemStatus.LOADED, size_bytes) if not isinstance(size_bytes, ItemResult) else size_bytes


class AskedInBulk(Asked):
    def warmup_items(self, items: list[WarmupItem]) -> list[ItemResult]:
        self.limits.append(load_limit_bytes())
        return [ItemResult(ItemStatus.LOADED, 10) for _ in items]


class AskedOnTheLoop(Asked):
    async def warmup_item(self, item: WarmupItem) -> Any:
        await asyncio.sleep(0)
        return super().warmup_item(item)


class AskedLater(Asked):
    """A plain function that gives an awaitable."""

    def warmup_item(self, item: WarmupItem) -> Any:
        async def later() -> Any:
            return Asked.warmup_item(self, item)

        return later()


class AskedInBulkOnTheLoop(AskedOnTheLoop):
    async def warmup_items(self, items: list[WarmupItem]) -> list[ItemResult]:
        self.limits.append(load_limit_bytes())
        await asyncio.sleep(0)
        return [ItemResult(ItemStatus.LOADED, 10) for _ in items]


class Until:
    """A brake that is pulled as soon as something holds."""

    def __init__(self, holds: Callable[[], bool] = lambda: False) -> None:
        self._holds = holds

    @property
    def is_on(self) -> bool:
        return self._holds()


def attempt_at(cache: Any, items: Sequence[WarmupItem], allowance: Any = Allowance(), brake: Any = None) -> Attempt:  # noqa: B008
    places = tuple(range(len(items)))
    return Attempt(cache, way_of(cache), places, iter(items), allowance, brake or Until(), Turn(Turns()), 0.0)


def load(
    cache: Any,
    *items: WarmupItem,
    allowance: Allowance,
    may_begin: Callable[[], bool] = lambda: True,
    batch_size: int = 100,
) -> list[Any]:
    async def scene() -> list[Any]:
        attempt = attempt_at(cache, items, allowance, Until(lambda: not may_begin()))
        if attempt.way.is_on_loop and attempt.way.is_in_bulk:
            await load_batches_async(attempt, batch_size)
        elif attempt.way.is_on_loop:
            await load_async(attempt)
        else:
            load_here(attempt, batch_size if attempt.way.is_in_bulk else 1)
        return await settle(attempt)

    return asyncio.run(scene())


# -------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("kind", [Asked, AskedInBulk, AskedOnTheLoop])
def test_without_a_reservation_there_is_no_limit(kind):
    cache = kind()
    load(cache, *ITEMS, allowance=Allowance())
    assert set(cache.limits) == {None}


@pytest.mark.parametrize("kind", [Asked, AskedOnTheLoop])
def test_each_load_may_take_its_reservation_and_what_is_spare(kind):
    cache = kind()
    load(cache, *ITEMS, allowance=Allowance((10, 20, 30), 100))
    assert cache.limits == [110, 120, 130]


@pytest.mark.parametrize("kind", [Asked, AskedOnTheLoop, AskedLater])
def test_what_one_took_of_the_spare_the_next_can_not_have(kind):
    cache = kind({"x": 70, "y": 500, "z": 10}.__getitem__)
    load(cache, *ITEMS, allowance=Allowance((10, 20, 30), 100))
    assert cache.limits == [110, 20 + 40, 30]  # 60 of the spare are gone, then all of it


@pytest.mark.parametrize("kind", [AskedInBulk, AskedInBulkOnTheLoop])
def test_in_bulk_all_of_them_share_what_there_is(kind):
    cache = kind()
    load(cache, *ITEMS, allowance=Allowance((10, 20, 30), 100))
    assert cache.limits == [160 // 3]


@pytest.mark.parametrize("kind", [AskedInBulk, AskedInBulkOnTheLoop])
def test_a_run_is_handed_over_in_batches_and_a_last_one_alone_as_an_item(kind):
    cache = kind()
    load(cache, *ITEMS, allowance=Allowance((10, 20, 30), 100), batch_size=2)
    assert cache.limits == [130 // 2, 130]


def test_a_cache_whose_batches_are_not_of_the_kind_of_its_items_is_loaded_item_by_item():
    class Mixed(AskedOnTheLoop):
        def warmup_items(self, items: list[WarmupItem]) -> list[ItemResult]:
            raise AssertionError("it would block the loop")

    assert way_of(Mixed()) == (True, False)
    assert len(load(Mixed(), *ITEMS, allowance=Allowance())) == 3


@pytest.mark.parametrize("size", [ItemResult(ItemStatus.REJECTED), "big", None, -1])
def test_what_was_not_loaded_takes_nothing_of_the_spare(size):
    cache = Asked(lambda key: size if key == "x" else 10)
    load(cache, *ITEMS, allowance=Allowance((10, 20, 30), 100))
    assert cache.limits == [110, 120, 130]


def test_the_limit_ends_with_the_load():
    load(Asked(), *ITEMS, allowance=Allowance((1, 1, 1), 1))
    assert load_limit_bytes() is None


def test_an_awaitable_from_a_plain_function_is_told_its_limit_too():
    async def later() -> ItemResult:
        return ItemResult(ItemStatus.LOADED, load_limit_bytes() or 0)

    async def scene() -> ItemResult:
        attempt = attempt_at(Asked(), ITEMS[:1], Allowance((7,), 70))
        attempt.results.append(later())
        (result,) = await settle(attempt)
        return result

    assert asyncio.run(scene()).size_bytes == 77


def test_limits_end_with_what_they_are_for():
    with limited_by(lambda: 5):
        assert load_limit_bytes() == 5
    assert load_limit_bytes() is None


# ------------------------------------------------------------------------------------------------------------ outcomes


def raising(error: BaseException) -> Callable[[str], Any]:
    def fail(_: str) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("kind", [Asked, AskedOnTheLoop])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ItemTooLarge("c:x has 5000 bytes; a load may have 4000 now"), "c:x has 5000 bytes; a load may have 4000 now"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_value_that_is_too_large_is_an_outcome_of_its_own(kind, error, reason):
    (result,) = load(kind(raising(error)), ITEMS[0], allowance=Allowance())
    assert result == ItemResult(ItemStatus.TOO_LARGE, reason=reason)


def test_any_other_error_is_a_failure():
    (result,) = load(Asked(raising(ValueError("no"))), ITEMS[0], allowance=Allowance())
    assert result == ItemResult(ItemStatus.FAILED, reason="ValueError: no")


def test_a_bulk_load_that_met_a_giant_is_done_again_one_by_one():
    class Giant(AskedInBulk):
        def warmup_items(self, items: list[WarmupItem]) -> list[ItemResult]:
            raise ItemTooLarge("one of them")

    cache = Giant(lambda key: 10 if key != "y" else raising(ItemTooLarge("y"))(key))
    results = load(cache, *ITEMS, allowance=Allowance((10, 20, 30), 100))
    assert [str(result.status) for result in results] == ["loaded", "too_large", "loaded"]
    assert cache.limits == [110, 120, 130]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([ItemResult(ItemStatus.LOADED, 1)], "warmup_items gave 1 results for 3 items"),
        ([], "warmup_items gave 0 results for 3 items"),
        ([None] * 3, "warmup_item gave a NoneType, not an ItemResult"),
    ],
)
def test_a_bulk_answer_that_is_none_fails_each_of_its_items(answer, reason):
    class Wrong(AskedInBulk):
        def warmup_items(self, items: list[WarmupItem]) -> list[ItemResult]:
            return answer

    results = load(Wrong(), *ITEMS, allowance=Allowance())
    assert results == [ItemResult(ItemStatus.FAILED, reason=reason)] * 3


def test_a_bulk_answer_that_is_no_sequence_is_asked_for_one_by_one():
    class Wrong(AskedInBulk):
        def warmup_items(self, items: list[WarmupItem]) -> Any:
            return None

    assert load(Wrong(), *ITEMS, allowance=Allowance()) == [ItemResult(ItemStatus.LOADED, 10)] * 3


@pytest.mark.parametrize("kind", [Asked, AskedInBulk, AskedOnTheLoop])
def test_nothing_of_a_batch_is_begun_once_it_may_not(kind):
    cache = kind()
    assert load(cache, *ITEMS, allowance=Allowance(), may_begin=lambda: False) == [None] * 3
    assert cache.limits == []


@pytest.mark.parametrize("kind", [Asked, AskedOnTheLoop])
def test_the_rest_of_a_batch_is_not_begun_once_it_may_not(kind):
    cache = kind()
    results = load(cache, *ITEMS, allowance=Allowance(), may_begin=lambda: len(cache.limits) < 2)
    assert [result is None for result in results] == [False, False, True]


LOADED = ItemResult(ItemStatus.LOADED, 10)


def sizes_of(*results: Any) -> Any:
    attempt = attempt_at(Asked(), ITEMS)
    attempt.results += results
    return smooth_sizes(attempt)


class Told(Exception):
    """As an origin that says when to come back."""

    retry_after = 7


ONE_BY_ONE = [Asked, AskedOnTheLoop]


def statuses_of(results: Sequence[ItemResult | None]) -> list[ItemStatus | None]:
    return [result.status if result is not None else None for result in results]


@pytest.mark.parametrize("kind", ONE_BY_ONE)
def test_a_run_ends_where_its_origin_asks_for_rest_and_the_failure_tells_for_how_long(kind):
    results = load(kind(raising(Told())), *ITEMS, allowance=Allowance())
    assert statuses_of(results) == [ItemStatus.FAILED, None, None]
    assert results[0] is not None
    assert results[0].wait_seconds == 7.0


@pytest.mark.parametrize("kind", ONE_BY_ONE)
def test_a_run_ends_with_its_third_failure(kind):
    results = load(kind(raising(OSError("down"))), *ITEMS, *ITEMS, allowance=Allowance())
    assert statuses_of(results) == [ItemStatus.FAILED] * 3 + [None] * 3
    assert {result.wait_seconds for result in results if result is not None} == {None}


@pytest.mark.parametrize("kind", [AskedInBulk, AskedInBulkOnTheLoop])
def test_a_batch_that_was_refused_is_not_tried_one_by_one(kind):
    class Refused(kind):
        def warmup_items(self, items: list[WarmupItem]) -> Any:
            raise Told()

    class RefusedOnTheLoop(kind):
        async def warmup_items(self, items: list[WarmupItem]) -> Any:
            raise Told()

    cache = RefusedOnTheLoop() if kind is AskedInBulkOnTheLoop else Refused()
    assert statuses_of(load(cache, *ITEMS, allowance=Allowance())) == [ItemStatus.FAILED, None, None]
    assert cache.limits == []


@pytest.mark.parametrize("kind", [AskedInBulk, AskedInBulkOnTheLoop])
def test_nothing_is_begun_behind_a_batch_of_which_a_result_asks_for_rest(kind):
    told = ItemResult(ItemStatus.FAILED, reason="come back later", wait_seconds=7.0)

    class Refused(kind):
        def warmup_items(self, items: list[WarmupItem]) -> Any:
            return [LOADED] * (len(items) - 1) + [told]

    class RefusedOnTheLoop(kind):
        async def warmup_items(self, items: list[WarmupItem]) -> Any:
            return [LOADED] * (len(items) - 1) + [told]

    cache = RefusedOnTheLoop() if kind is AskedInBulkOnTheLoop else Refused()
    assert load(cache, *ITEMS, *ITEMS, allowance=Allowance(), batch_size=2) == [LOADED, told, *[None] * 4]


def test_plain_loads_are_taken_for_their_sizes_alone():
    assert list(sizes_of(LOADED, replace(LOADED, size_bytes=3), LOADED)) == [10, 3, 10]
    assert sizes_of(LOADED, LOADED) is None, "one is missing"


@pytest.mark.parametrize(
    "other",
    [
        None,
        (ItemStatus.LOADED, 1, 0.0, ""),
        ItemResult(ItemStatus.RESIDENT),
        ItemResult("done", 1),
        replace(LOADED, reason="but slowly"),
        replace(LOADED, from_peer=True),
        *(replace(LOADED, size_bytes=size) for size in (-1, 1.5, "3", None, 2**48 + 1, 2**63)),
    ],
)
def test_results_of_which_there_is_something_to_say_are_looked_at_one_by_one(other):
    assert sizes_of(LOADED, other, LOADED) is None


def test_what_is_taken_of_an_attempt_is_what_has_ended_and_what_comes_later_is_named_as_late():
    attempt = attempt_at(Asked(), ITEMS)
    attempt.results.append(LOADED)
    assert attempt.take(ABANDONED) == [LOADED, ABANDONED, None]
    assert attempt.late_loads() == []
    attempt.results.append(LOADED)
    assert (attempt.late_loads(), attempt.late_loads()) == ([1], [])


# ---------------------------------------------------------------------------------------------------------------- undo


class Undoes(Asked):
    """Releases five bytes an item, of a process of 100."""

    def __init__(self, shrinks_by: int = 5) -> None:
        super().__init__()
        self.happened: list[str] = []
        self.process_bytes, self._shrinks_by = 100, shrinks_by

    def undo_warmup(self, key: str) -> int:
        self.happened.append(key)
        self.process_bytes -= self._shrinks_by
        return 5

    def undo(self, *keys: str) -> list[int]:
        loads = ((undo_of(self if key != "other" else Asked()), key) for key in keys)
        return list(undo_batch(loads, lambda: self.happened.append("trim"), lambda: self.process_bytes))


def test_free_memory_is_given_back_after_all_is_undone():
    cache = Undoes()
    assert cache.undo("a", "other", "c") == [5, 0, 5]
    assert cache.happened == ["a", "c", "trim"]


def test_the_collector_is_asked_where_the_process_did_not_shrink(monkeypatch):
    cache = Undoes(shrinks_by=2)
    monkeypatch.setattr("gc.collect", lambda *_: cache.happened.append("collect"))
    assert cache.undo("a", "b") == [5, 5]
    assert cache.happened == ["a", "b", "trim", "collect", "trim"]


@pytest.mark.parametrize("answer", [-3, None, 2**63, 10**30])
def test_an_undo_that_gives_no_size_released_nothing(answer):
    cache = Undoes()
    cache.undo_warmup = lambda key: answer
    assert cache.undo("a") == [0]


def test_no_more_kinds_are_told_apart_than_can_be_learned():
    class Many(Asked):
        def kind_of(self, key: str) -> str:
            return key

    kind_of = kinds_of({"c": Many()})["c"]
    told = [kind_of(str(n)) for n in range(2 * MOST_KINDS)]
    assert told == [str(n) for n in range(MOST_KINDS)] + [""] * MOST_KINDS
    assert kind_of("0") == "0"
