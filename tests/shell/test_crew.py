"""Crews: several workers take the loads of one run, whatever becomes of some of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from inspect import isawaitable
from typing import Any

from builders import item
from preheat._attempt import ABANDONED, LATE, NOT_BEGUN, Allowance, Attempt, Crew, SharedRun, load_shared, way_of
from preheat._limit import load_limit_bytes
from preheat._model import ItemResult, ItemStatus, WarmupItem
from preheat._turns import Turn, Turns
from running import Plain

LOADED = ItemResult(ItemStatus.LOADED, 7)


class Brake:
    def __init__(self) -> None:
        self.is_on = False


class Loads(Plain):
    """Loads by a function that is given, after one turn of the loop."""

    async def warmup_item(self, item: WarmupItem) -> Any:
        self.calls.append(item.ref.key)
        await asyncio.sleep(0)
        result = LOADED if self._load is None else self._load(item)
        return await result if isawaitable(result) else result


class Gang:
    """A crew, what it tells, and workers for it."""

    def __init__(self, load: Callable[[WarmupItem], Any] | None = None) -> None:
        self.cache, self.brake, self.turns = Loads(load=load), Brake(), Turns()
        self.drawn: list[int] = []
        self.ended: list[SharedRun] = []
        self.now = 0.0
        self.crew = Crew(
            self.cache,
            drawn=lambda run: self.drawn.append(run.positions[0]),
            ended=self.ended.append,
            clock=lambda: self.now,
        )

    def add(self, first: int, items: int, width: int, *allowance: Any) -> SharedRun:
        positions = tuple(range(first, first + items))
        run = SharedRun(positions, iter([item(f"{n:02}") for n in positions]), width, *allowance)
        self.crew.add(run, width)
        return run

    def hand(self) -> Attempt:
        """A worker."""
        hand = Attempt(
            self.cache, way_of(self.cache), (), iter(()), Allowance(), self.brake, Turn(self.turns), self.now
        )
        self.crew.join(hand)
        return hand

    async def work(self) -> None:
        hand = self.hand()
        try:
            await load_shared(hand, self.crew)
        finally:
            self.crew.leave(hand)

    def perform(self, workers: int) -> None:
        async def scene() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self.work())

        asyncio.run(scene())


def begin(gang: Gang, hand: Attempt) -> SharedRun:
    """Have `hand` load the next item: the run that it takes of."""
    run = gang.crew.begin(hand)
    assert run is not None
    hand.loading, *_ = next(run.rows)
    return run


def end(gang: Gang, hand: Attempt, run: SharedRun, result: ItemResult = LOADED) -> None:
    """`hand` has loaded what it had in hand, and finds no more to do."""
    run.results[hand.loading] = result
    gang.crew.end(hand)


def test_workers_take_turns_at_a_run_and_go_on_with_the_next():
    gang = Gang()
    first, second = gang.add(0, 6, 3), gang.add(6, 3, 3)
    assert gang.crew.room == 3
    gang.perform(3)
    assert gang.cache.calls == [f"{n:02}" for n in range(9)]
    assert [first.results, second.results] == [[LOADED] * 6, [LOADED] * 3]
    assert (gang.drawn, gang.ended) == ([0, 6], [first, second])
    assert gang.crew.room == 0


def test_a_run_whose_loads_have_all_begun_makes_room_for_the_next_before_it_has_ended():
    gang = Gang()
    slow, quick = gang.hand(), gang.hand()
    run = gang.add(0, 2, 2)
    assert begin(gang, slow) is begin(gang, quick) is run
    end(gang, quick, run)
    assert (gang.drawn, gang.ended) == ([0], [])
    assert gang.crew.begin(quick) is None
    end(gang, slow, run)
    assert (gang.drawn, gang.ended) == ([0], [run])


def test_when_fewer_are_wanted_the_others_leave():
    gang = Gang()
    run = gang.add(0, 8, 4)
    hands = [gang.hand() for _ in range(4)]
    begin(gang, hands[0])
    gang.add(8, 4, 2)
    assert gang.crew.begin(hands[2]) is None
    gang.crew.leave(hands[2])
    gang.crew.leave(hands[3])
    assert gang.crew.begin(hands[1]) is run


def test_the_time_of_a_run_is_that_of_its_loads_one_after_another():
    gang = Gang()
    run = gang.add(0, 2, 2)
    hands = [gang.hand(), gang.hand()]
    for hand in hands:
        begin(gang, hand)
    for seconds, hand in zip((0.5, 2.0), hands, strict=True):
        gang.now = seconds
        end(gang, hand, run)
    assert (run.seconds, gang.ended) == (2.5, [run])


def test_a_brake_leaves_what_has_not_begun_of_all_runs():
    gang = Gang()
    runs = [gang.add(0, 4, 2), gang.add(4, 4, 2)]

    def brake_at_01(item: WarmupItem) -> ItemResult:
        gang.brake.is_on = item.ref.key == "01"
        return LOADED

    gang.cache._load = brake_at_01
    gang.perform(1)
    assert runs[0].results == [LOADED, LOADED, NOT_BEGUN, NOT_BEGUN]
    assert runs[1].results == [NOT_BEGUN] * 4
    assert gang.ended == runs


def raise_error(item: WarmupItem) -> ItemResult:
    raise ConnectionError("broken")


def test_a_run_ends_with_its_third_failure_whoever_had_them():
    gang = Gang(raise_error)
    run = gang.add(0, 20, 10)
    gang.perform(2)
    assert len(gang.cache.calls) == 4, "what another had begun by then is loaded"
    begun = [result for result in run.results if result is not NOT_BEGUN]
    assert {result.reason for result in begun} == {"ConnectionError: broken"}
    assert gang.ended == [run]


def test_of_a_run_that_is_broken_off_no_more_begins_and_those_at_it_are_told():
    gang = Gang()
    run, other = gang.add(0, 8, 4), gang.add(8, 8, 4)
    hand = gang.hand()
    begin(gang, hand)
    assert gang.crew.break_off(8) == []
    assert gang.ended == [other]
    assert gang.crew.break_off(0) == [hand]
    assert gang.ended == [other], "some of it is still being loaded"
    assert gang.crew.begin(gang.hand()) is None
    end(gang, hand, run)
    assert (gang.ended, gang.drawn) == ([other, run], [])
    assert run.results == [LOADED] + [NOT_BEGUN] * 7


def test_of_a_worker_that_is_given_up_what_it_was_loading_did_not_count():
    gang = Gang()
    is_given_up = asyncio.Event()

    async def load_slowly() -> ItemResult:
        await is_given_up.wait()
        return LOADED

    gang.cache._load = lambda item: LOADED if item.ref.key == "00" else load_slowly()
    run, hand = gang.add(0, 4, 1), gang.hand()

    async def scene() -> None:
        work = asyncio.create_task(load_shared(hand, gang.crew))
        while hand.loading != 1:
            await asyncio.sleep(0)
        gang.crew.give_up(hand, LATE)
        assert (gang.ended, hand in gang.crew) == ([run], False)
        is_given_up.set()
        await work

    asyncio.run(scene())
    assert run.results == [LOADED, LATE, NOT_BEGUN, NOT_BEGUN]
    assert gang.crew.begin(hand) is None
    assert (hand.late_loads(), hand.late_loads()) == ([1], [])


def test_one_that_was_given_up_between_two_loads_had_nothing_in_hand():
    gang = Gang()
    gang.add(0, 2, 1)
    hand = gang.hand()
    gang.crew.give_up(hand, ABANDONED)
    assert gang.crew.room == 1


def test_what_had_come_when_its_worker_is_given_up_counts():
    gang = Gang()
    run, hand = gang.add(0, 2, 1), gang.hand()
    begin(gang, hand)
    run.results[0] = LOADED
    gang.crew.give_up(hand, ABANDONED)
    assert (run.results, gang.ended) == ([LOADED, NOT_BEGUN], [run])
    gang.crew.end(hand)  # it goes on to find that there is nothing more
    assert (gang.ended, hand in gang.crew) == ([run], False)


def limits_of(items: int, width: int, sizes: Sequence[int], reserved: Sequence[int], spare: int | None) -> list[Any]:
    seen: list[int | None] = []

    def load(item: WarmupItem) -> ItemResult:
        seen.append(load_limit_bytes())
        return ItemResult(ItemStatus.LOADED, sizes[int(item.ref.key)])

    gang = Gang(load)
    gang.add(0, items, width, reserved, spare)
    gang.perform(1)
    return seen


def test_each_may_take_what_is_reserved_for_it_and_what_is_spare_for_one_worker():
    assert limits_of(4, 2, [55, 20, 70, 40], [10, 20, 30, 40], 50) == [60, 70, 80, 55]
    assert limits_of(2, 2, [1, 1], [], None) == [None, None]


def test_what_is_spare_for_all_workers_is_spent_once():
    assert limits_of(6, 2, [60, 60, 60, 10, 10, 10], [10] * 6, 50) == [60, 60, 10, 10, 10, 10]


def test_what_several_may_take_at_the_same_time_is_there_for_all_of_them():
    gang = Gang()
    run = gang.add(0, 4, 2, [10] * 4, 50)
    hands = [gang.hand(), gang.hand()]
    limits = []
    for hand in hands:
        begin(gang, hand)
        limits.append(gang.crew.limit_bytes(hand))
    assert limits == [60, 60]
    end(gang, hands[0], run, ItemResult(ItemStatus.LOADED, 40))
    begin(gang, hands[0])
    assert gang.crew.limit_bytes(hands[0]) == 10 + 20, "50 is still lent to the other"
    assert gang.crew.limit_bytes(hands[0]) == 10 + 20, "asking again takes nothing more"
