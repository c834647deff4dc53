"""Crews: several workers take the loads of one run, whatever becomes of some of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
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
        return LOADED if self._load is None else self._load(item)


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

    def hand(self, *, is_new: bool = False) -> Attempt:
        """A worker: one that has drawn before, unless it is new."""
        hand = Attempt(
            self.cache, way_of(self.cache), (), iter(()), Allowance(), self.brake, Turn(self.turns), self.now
        )
        hand.positions = () if is_new else (0,)
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


def test_workers_take_turns_at_a_run_and_go_on_with_the_next():
    gang = Gang()
    first, second = gang.add(0, 6, 3), gang.add(6, 3, 3)
    assert gang.crew.room == 3
    gang.perform(3)
    assert gang.cache.calls == ["00", "02", "04", "01", "03", "05", "06", "07", "08"]  # two each, of the first
    assert [first.results, second.results] == [[LOADED] * 6, [LOADED] * 3]
    assert (gang.drawn, gang.ended) == ([0, 6], [first, second])
    assert gang.crew.room == 0


def test_a_worker_takes_no_more_at_once_than_leaves_something_for_the_others():
    gang = Gang()
    run, hand = gang.add(0, 1000, 4), gang.hand()
    assert len(gang.crew.draw(hand)) == 32
    assert hand.positions == tuple(range(32))
    assert run.left == 968
    assert len(gang.crew.draw(hand)) == 32


def test_at_first_each_worker_takes_another_number_so_that_they_are_not_in_step():
    gang = Gang()
    gang.add(0, 1000, 4)
    hands = [gang.hand(is_new=True) for _ in range(4)]
    assert [len(gang.crew.draw(hand)) for hand in hands] == [1, 2, 3, 4]
    for hand in hands:
        gang.crew.put(hand, [LOADED] * len(hand.positions))
    assert [len(gang.crew.draw(hand)) for hand in hands] == [32] * 4


def test_when_fewer_are_wanted_the_others_leave():
    gang = Gang()
    gang.add(0, 8, 4)
    hands = [gang.hand() for _ in range(4)]
    assert [len(gang.crew.draw(hand)) for hand in hands[:2]] == [2, 2]
    gang.add(8, 4, 2)
    assert gang.crew.draw(hands[2]) == []
    gang.crew.leave(hands[2])
    gang.crew.leave(hands[3])
    gang.crew.put(hands[0], [LOADED, LOADED])
    assert len(gang.crew.draw(hands[0])) == 2


def test_the_time_of_a_run_is_that_of_its_loads_one_after_another():
    gang = Gang()
    run = gang.add(0, 2, 2)
    hands = [gang.hand(), gang.hand()]
    for hand in hands:
        gang.crew.draw(hand)
    for seconds, hand in zip((0.5, 2.0), hands, strict=True):
        gang.now = seconds
        gang.crew.put(hand, [LOADED])
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
    assert len(gang.cache.calls) == 6, "what the others had drawn by then is loaded"
    begun = [result for result in run.results if result is not NOT_BEGUN]
    assert {result.reason for result in begun} == {"ConnectionError: broken"}
    assert gang.ended == [run]


def test_what_a_loader_gives_to_be_awaited_is_awaited():
    async def later() -> ItemResult:
        return LOADED

    async def worse() -> ItemResult:
        raise ValueError("no")

    gang = Gang(lambda item: later() if item.ref.key == "00" else worse())
    run = gang.add(0, 2, 2)
    gang.perform(1)
    assert run.results == [LOADED, ItemResult(ItemStatus.FAILED, reason="ValueError: no")]


def test_of_a_run_that_is_broken_off_no_more_begins_and_those_at_it_are_told():
    gang = Gang()
    run, other = gang.add(0, 8, 4), gang.add(8, 8, 4)
    hand = gang.hand()
    gang.crew.draw(hand)
    assert gang.crew.break_off(8) == []
    assert gang.ended == [other]
    assert gang.crew.break_off(0) == [hand]
    assert gang.ended == [other], "some of it is still being loaded"
    assert gang.crew.draw(gang.hand()) == []
    gang.crew.put(hand, [LOADED, LOADED])
    assert gang.ended == [other, run]
    assert run.results == [LOADED, LOADED] + [NOT_BEGUN] * 6


def test_of_a_worker_that_is_given_up_what_it_was_loading_did_not_count():
    gang = Gang()
    run, hand = gang.add(0, 4, 1), gang.hand()
    gang.crew.draw(hand)
    hand.results.append(LOADED)
    gang.crew.give_up(hand, LATE)
    assert run.results == [LOADED, LATE, NOT_BEGUN, NOT_BEGUN]
    assert (gang.ended, hand in gang.crew) == ([run], False)
    hand.results.append(LOADED)  # late
    gang.crew.put(hand, hand.results)
    assert gang.crew.draw(hand) == []
    assert (run.results[1], hand.late_loads()) == (LATE, [1])


def test_one_that_was_given_up_between_two_loads_had_nothing_in_hand():
    gang = Gang()
    gang.add(0, 2, 1)
    hand = gang.hand()
    gang.crew.give_up(hand, ABANDONED)
    assert gang.crew.room == 1


def limits_of(items: int, width: int, sizes: Sequence[int], reserved: Sequence[int], spare: int | None) -> list[Any]:
    seen: list[int | None] = []

    def load(item: WarmupItem) -> ItemResult:
        seen.append(load_limit_bytes())
        return ItemResult(ItemStatus.LOADED, sizes[int(item.ref.key)])

    gang = Gang(load)
    gang.add(0, items, width, reserved, spare)
    gang.perform(1)
    return seen


def test_each_may_take_what_is_reserved_for_it_and_those_drawn_together_what_is_spare_for_one_worker():
    assert limits_of(4, 2, [55, 20, 70, 40], [10, 20, 30, 40], 50) == [60, 25, 80, 50]
    assert limits_of(2, 2, [1, 1], [], None) == [None, None]


def test_what_is_spare_for_all_workers_is_spent_once():
    assert limits_of(6, 2, [60, 60, 60, 10, 10, 10], [10] * 6, 50)[3:] == [10, 10, 10]
