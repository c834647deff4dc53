"""Events in, instructions out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from builders import reading
from preheat._execution import (
    BACKOFF_BASE_SECONDS,
    BLOCKED_READING_SECONDS,
    MAX_ATTEMPTS,
    MAX_BLOCKED_SECONDS,
    MAX_PAUSE_SECONDS,
    Abandon,
    Cancel,
    Drawn,
    Ended,
    Event,
    Execution,
    Finish,
    Instruction,
    Load,
    Loaded,
    MemoryRead,
    Outcomes,
    Pause,
    Resume,
    RollBack,
    RolledBack,
    Start,
    Tick,
    WakeAt,
)
from preheat._execution.lengths import RunLengths
from preheat._footing import CALM_SECONDS, SHORT_SECONDS, Footing
from preheat._model import (
    MIB,
    ItemResult,
    ItemStatus,
    MemoryPressureLevel,
    PressureResponse,
    PressureResponses,
)

LOW, MODERATE, HIGH, CRITICAL = MemoryPressureLevel
FAILED = ItemResult(ItemStatus.FAILED, reason="it broke")


class Named(Execution):
    """Its instructions name each position, whatever holds them."""

    def handle(self, event: Event) -> list[Instruction]:
        return [
            told._replace(positions=tuple(told.positions)) if isinstance(told, Load | Abandon) else told
            for told in super().handle(event)
        ]


def loaded(size_bytes: int = 10) -> ItemResult:
    return ItemResult(ItemStatus.LOADED, size_bytes)


def execution(
    n: int,
    *,
    caches: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
    phases: Sequence[int] | None = None,
    needs: dict[int, list[int]] | None = None,
    **changes: Any,
) -> Execution:
    arguments = {"budget_bytes": 10**6, "concurrency_limit": 10, "batch_size": 1, "known_after": 0} | changes
    return Named(
        caches or ["c"] * n,
        sizes or [10] * n,
        phases or [0] * n,
        needs or {},
        describe=lambda item: f"item-{item}",
        **arguments,
    )


def statuses(run: Execution) -> list[str]:
    return [str(result.status) if result else "?" for result in run.results]


def end(run: Execution, at: float, *positions: int, result: ItemResult | None = None) -> list[Any]:
    return run.handle(Ended(at, positions, [result or loaded(10)] * len(positions)))


# ------------------------------------------------------------------------------------------------ starting and ending


def test_an_empty_plan_finishes_at_once():
    assert [Finish(None)] == execution(0).handle(Start(0.0))


def test_items_start_in_order_and_the_run_finishes_with_the_last():
    run = execution(2)
    assert [Load((0,)), Load((1,))] == run.handle(Start(0.0))
    assert end(run, 1.0, 1) == []
    assert [Finish(None)] == end(run, 2.0, 0)
    assert statuses(run) == ["loaded", "loaded"]
    assert (run.guard.loaded_bytes, run.guard.reserved_bytes, run.done, run.attempts) == (20, 0, 2, 2)


def test_after_finish_nothing_is_done():
    run = execution(0)
    run.handle(Start(0.0))
    assert [run.handle(e) for e in (Tick(1.0), Cancel(1.0), MemoryRead(1.0, CRITICAL), Start(1.0))] == [[]] * 4


def test_never_more_batches_than_the_limit_are_in_flight():
    run = execution(3, concurrency_limit=2)
    assert [Load((0,)), Load((1,))] == run.handle(Start(0.0))
    assert [Load((2,))] == end(run, 1.0, 0)


def test_batches_have_the_size_asked_for_and_never_mix_caches():
    run = execution(6, caches=["a", "a", "b", "a", "b", "a"], batch_size=3, concurrency_limit=1)
    assert [Load((0, 1, 3))] == run.handle(Start(0.0))
    assert [Load((2, 4))] == end(run, 1.0, 0, 1, 3)
    assert [Load((5,))] == end(run, 2.0, 2, 4)


def test_a_batch_takes_no_more_than_its_share_so_that_all_loaders_work():
    run = execution(8, batch_size=100, concurrency_limit=2)
    assert [Load((0, 1, 2, 3)), Load((4, 5))] == run.handle(Start(0.0))
    assert [Load((6,))] == end(run, 1.0, 4, 5)


@pytest.mark.parametrize("status", [ItemStatus.RESIDENT, ItemStatus.UNAVAILABLE, ItemStatus.REJECTED])
def test_other_outcomes_end_an_item_and_take_no_budget(status):
    run = execution(1)
    run.handle(Start(0.0))
    assert [Finish(None)] == end(run, 1.0, 0, result=ItemResult(status))
    assert ([str(status)], 0, 0) == (statuses(run), run.guard.loaded_bytes, run.guard.reserved_bytes)


# ------------------------------------------------------------------------------------------------------ dependencies


def test_an_item_waits_for_all_that_it_needs():
    run = execution(3, needs={2: [0, 1]})
    assert [Load((0,)), Load((1,))] == run.handle(Start(0.0))
    assert end(run, 1.0, 0) == []
    assert [Load((2,))] == end(run, 2.0, 1)


def test_a_resident_need_is_as_good_as_a_loaded_one():
    run = execution(2, needs={1: [0]})
    run.handle(Start(0.0))
    assert [Load((1,))] == end(run, 1.0, 0, result=ItemResult(ItemStatus.RESIDENT))


def test_a_need_named_twice_starts_its_dependant_once():
    run = execution(2, needs={1: [0, 0]})
    run.handle(Start(0.0))
    assert [Load((1,))] == end(run, 1.0, 0)
    assert [Finish(None)] == end(run, 2.0, 1)


@pytest.mark.parametrize("status", [ItemStatus.UNAVAILABLE, ItemStatus.REJECTED])
def test_dependants_of_an_item_that_did_not_come_are_skipped_and_told_why(status):
    run = execution(4, needs={1: [0], 2: [1], 3: [2]}, phases=[0, 0, 1, 2])
    run.handle(Start(0.0))
    assert [Finish(None)] == end(run, 1.0, 0, result=ItemResult(status))
    assert [str(status), "skipped", "skipped", "skipped"] == statuses(run)
    assert f"it needs item-0, which ended as {status}" == run.results[1].reason
    assert run.results[3].reason == "it needs item-2, which ended as skipped"


def test_a_chain_of_a_hundred_thousand_is_skipped_without_recursion():
    n = 100_000
    run = execution(n, needs={i: [i - 1] for i in range(1, n)})
    run.handle(Start(0.0))
    assert [Finish(None)] == end(run, 1.0, 0, result=ItemResult(ItemStatus.UNAVAILABLE))
    assert n == run.done


# ------------------------------------------------------------------------------------------------------------ phases


def test_a_phase_starts_when_the_one_before_has_ended():
    run = execution(3, phases=[0, 0, 1])
    assert [Load((0,)), Load((1,))] == run.handle(Start(0.0))
    assert end(run, 1.0, 0) == []
    assert [Load((2,))] == end(run, 2.0, 1)
    end(run, 5.0, 2)
    assert (run.phase_started, run.phase_ended) == ({0: 0.0, 1: 2.0}, {0: 2.0, 1: 5.0})


def test_an_empty_phase_takes_no_time():
    run = execution(2, phases=[0, 2], phase_delay_seconds=0.0)
    run.handle(Start(0.0))
    assert [Load((1,))] == end(run, 1.0, 0)
    assert 1.0 == run.phase_started[1] == run.phase_ended[1] == run.phase_started[2]


def test_the_pause_between_phases_is_kept():
    run = execution(2, phases=[0, 1], phase_delay_seconds=2.0)
    run.handle(Start(0.0))
    assert [WakeAt(3.0)] == end(run, 1.0, 0)
    assert [WakeAt(3.0)] == run.handle(Tick(2.9))
    assert [Load((1,))] == run.handle(Tick(3.0))


def test_there_is_one_pause_over_an_empty_phase_and_none_at_the_ends():
    run = execution(2, phases=[1, 3], phase_delay_seconds=2.0)
    assert [Load((0,))] == run.handle(Start(0.0))
    assert [WakeAt(3.0)] == end(run, 1.0, 0)
    assert [Load((1,))] == run.handle(Tick(3.0))
    assert [Finish(None)] == end(run, 4.0, 1)


def test_an_item_rejected_at_its_start_may_be_the_last_of_its_phase():
    run = execution(3, sizes=[50, 1, 1], phases=[0, 1, 2], budget_bytes=10)
    assert [Load((1,))] == run.handle(Start(0.0))
    assert [Load((2,))] == end(run, 1.0, 1, result=loaded(1))
    assert [Finish(None)] == end(run, 2.0, 2, result=loaded(1))
    assert statuses(run) == ["rejected", "loaded", "loaded"]


def test_the_pause_is_kept_after_a_phase_of_rejected_items():
    run = execution(2, sizes=[50, 1], phases=[0, 1], budget_bytes=10, phase_delay_seconds=2.0)
    assert [WakeAt(2.0)] == run.handle(Start(0.0))
    assert [Load((1,))] == run.handle(Tick(2.0))


# ----------------------------------------------------------------------------------------------------------- retries


def test_a_failed_item_is_tried_three_times_with_growing_waits():
    run = execution(1)
    run.handle(Start(0.0))
    at = 0.0
    for attempt in range(1, MAX_ATTEMPTS):
        (wake,) = end(run, at, 0, result=FAILED)
        assert at <= wake.at <= at + BACKOFF_BASE_SECONDS * 2.0**attempt
        assert [Load((0,))] == run.handle(Tick(wake.at))
        at = wake.at
    assert [Finish(None)] == end(run, at, 0, result=FAILED)
    assert (statuses(run), run.results[0].reason, run.attempts) == (["failed"], "it broke", 3)


def test_before_its_time_a_failed_item_is_not_tried():
    run = execution(1)
    run.handle(Start(0.0))
    (wake,) = end(run, 5.0, 0, result=FAILED)
    assert [wake] == run.handle(Tick((5.0 + wake.at) / 2))


def test_a_retry_that_works_counts_as_loaded_and_frees_the_dependants():
    run = execution(2, needs={1: [0]})
    run.handle(Start(0.0))
    (wake,) = end(run, 0.0, 0, result=FAILED)
    run.handle(Tick(wake.at))
    assert [Load((1,))] == end(run, 2.0, 0)


def test_waits_are_random_but_repeatable():
    def waits(seed):
        run = execution(8, seed=seed)
        run.handle(Start(0.0))
        return [tuple(end(run, 0.0, n, result=FAILED)) for n in range(8)]

    assert waits(1) == waits(1) != waits(2)


def test_only_the_bad_item_of_a_batch_is_tried_again():
    run = execution(2, batch_size=2, concurrency_limit=1)
    run.handle(Start(0.0))
    (wake,) = run.handle(Ended(1.0, (0, 1), [FAILED, loaded()]))
    assert [Load((0,))] == run.handle(Tick(wake.at))


def test_a_failed_item_names_itself_to_its_dependants():
    run = execution(2, needs={1: [0]})
    run.handle(Start(0.0))
    for _ in range(MAX_ATTEMPTS):
        instructions = end(run, 0.0, 0, result=FAILED)
        run.handle(Tick(60.0))
    assert [Finish(None)] == instructions
    assert run.results[1].reason == "it needs item-0, which ended as failed"


# ------------------------------------------------------------------------------------------------------------ budget


def test_what_is_in_flight_is_reserved():
    run = execution(3, sizes=[40, 40, 40], budget_bytes=110)
    assert [Load((0,)), Load((1,))] == run.handle(Start(0.0))
    assert run.guard.reserved_bytes == 100  # with the margin
    assert [Load((2,))] == end(run, 1.0, 0, result=loaded(5))  # smaller than expected: there is room again
    assert (run.guard.loaded_bytes, run.guard.reserved_bytes) == (5, 100)


def test_an_item_without_room_waits_while_something_may_still_free_it_and_is_rejected_then():
    run = execution(3, sizes=[60, 60, 30], budget_bytes=100)
    assert [Load((0,))] == run.handle(Start(0.0))
    assert [Load((2,))] == end(run, 1.0, 0, result=loaded(60))
    assert [Finish(None)] == end(run, 2.0, 2, result=loaded(30))
    assert statuses(run) == ["loaded", "rejected", "loaded"]
    assert run.results[1].reason == "larger than what is left of the budget"


def test_an_item_larger_than_expected_is_undone_and_its_dependants_skipped():
    run = execution(2, budget_bytes=100, needs={1: [0]})
    run.handle(Start(0.0))
    assert [RollBack((0,))] == end(run, 1.0, 0, result=loaded(101))
    assert [Finish(None)] == run.handle(RolledBack(2.0, (0,), (101,)))
    assert (statuses(run), run.guard.loaded_bytes) == (["rejected", "skipped"], 0)


def test_an_oversized_item_that_traffic_uses_stays_and_counts():
    run = execution(3, budget_bytes=100, concurrency_limit=1, needs={1: [0]})
    run.handle(Start(0.0))
    end(run, 1.0, 0, result=loaded(101))
    assert [Finish(None)] == run.handle(RolledBack(2.0, (0,), (0,)))
    assert (statuses(run), run.guard.loaded_bytes) == (["loaded", "rejected", "rejected"], 101)


def test_oversized_items_of_a_batch_are_undone_newest_first():
    run = execution(3, batch_size=3, budget_bytes=100, concurrency_limit=1)
    run.handle(Start(0.0))
    assert RollBack((2, 1)) == run.handle(Ended(1.0, (0, 1, 2), [loaded(50), loaded(60), loaded(70)]))[0]
    assert [Finish(None)] == run.handle(RolledBack(2.0, (2, 1), (70, 60)))
    assert (statuses(run), run.guard.loaded_bytes) == (["loaded", "rejected", "rejected"], 50)


def test_nothing_starts_while_an_oversized_item_is_still_there():
    run = execution(2, sizes=[10, 5], budget_bytes=100, concurrency_limit=1)
    run.handle(Start(0.0))
    assert [RollBack((0,))] == end(run, 1.0, 0, result=loaded(101))
    assert [Load((1,))] == run.handle(RolledBack(2.0, (0,), (101,)))


def test_the_run_does_not_finish_before_a_roll_back_has():
    run = execution(1, budget_bytes=100)
    run.handle(Start(0.0))
    end(run, 1.0, 0, result=loaded(101))
    assert run.handle(Tick(2.0)) == []
    assert [Finish(None)] == run.handle(RolledBack(3.0, (0,), (101,)))


# ---------------------------------------------------------------------------------------------------------- pressure


def test_moderate_pressure_halves_what_is_in_flight():
    run = execution(9, concurrency_limit=4)
    assert run.handle(MemoryRead(0.0, MODERATE)) == []
    assert [Load((0,)), Load((1,))] == run.handle(Start(0.0))
    assert run.handle(Tick(1.0)) == []
    assert [Load((2,)), Load((3,))] == run.handle(MemoryRead(2.0, LOW))


def test_moderate_pressure_leaves_one_loader_at_least():
    run = execution(2, concurrency_limit=1)
    run.handle(MemoryRead(0.0, MODERATE))
    assert [Load((0,))] == run.handle(Start(0.0))


def test_nothing_starts_at_high_pressure_and_all_goes_on_after_it():
    run = execution(3, concurrency_limit=1)
    run.handle(Start(0.0))
    assert [WakeAt(1.0 + MAX_PAUSE_SECONDS)] == run.handle(MemoryRead(1.0, HIGH))
    assert [WakeAt(1.0 + MAX_PAUSE_SECONDS)] == end(run, 2.0, 0)
    assert [WakeAt(1.0 + MAX_PAUSE_SECONDS)] == run.handle(Tick(20.0))
    assert [Load((1,))] == run.handle(MemoryRead(21.0, MODERATE))


@pytest.mark.parametrize("since", [0.0, 0.1, 1e9 + 0.1])
def test_a_pause_that_lasts_too_long_ends_the_run_and_keeps_what_is_loaded(since):
    run = execution(2, concurrency_limit=1)
    run.handle(Start(since))
    (wake,) = run.handle(MemoryRead(since, HIGH))
    end(run, since + 1.0, 0)
    run.handle(MemoryRead(since + 2.0, HIGH))  # said again, not begun again
    assert [Finish("pressure")] == run.handle(Tick(wake.at))
    assert (statuses(run), run.guard.loaded_bytes) == (["loaded", "skipped"], 10)
    assert run.results[1].reason == "not started: the run was stopped (pressure)"


def test_a_pause_counts_anew_after_relief():
    run = execution(2, concurrency_limit=1)
    run.handle(Start(0.0))
    run.handle(MemoryRead(0.0, HIGH))
    run.handle(MemoryRead(20.0, LOW))
    assert [WakeAt(25.0 + MAX_PAUSE_SECONDS)] == run.handle(MemoryRead(25.0, HIGH))


def test_a_retry_falls_due_during_a_pause_and_waits_for_its_end():
    run = execution(1)
    run.handle(Start(0.0))
    end(run, 0.0, 0, result=FAILED)
    run.handle(MemoryRead(0.0, HIGH))
    assert [WakeAt(MAX_PAUSE_SECONDS)] == run.handle(Tick(5.0))
    assert [Load((0,))] == run.handle(MemoryRead(6.0, LOW))


def test_what_ends_during_a_pause_can_end_the_run():
    run = execution(1)
    run.handle(Start(0.0))
    run.handle(MemoryRead(0.0, HIGH))
    assert [Finish(None)] == end(run, 1.0, 0)


def test_critical_pressure_after_the_end_undoes_nothing():
    run = execution(1)
    run.handle(Start(0.0))
    assert [Finish(None)] == end(run, 1.0, 0)
    assert run.handle(MemoryRead(2.0, CRITICAL)) == []
    assert statuses(run) == ["loaded"]


def test_critical_pressure_stops_undoes_and_finishes():
    run = execution(5, concurrency_limit=1)
    run.handle(Start(0.0))
    for n in range(3):
        end(run, 1.0, n)
    assert [RollBack((2, 1, 0))] == run.handle(MemoryRead(2.0, CRITICAL))  # at once, not after what is in flight
    assert run.handle(RolledBack(2.1, (2, 1, 0), (10, 10, 0))) == []
    assert [RollBack((3,))] == end(run, 3.0, 3)
    assert [Finish("pressure")] == run.handle(RolledBack(3.1, (3,), (10,)))
    assert statuses(run) == ["loaded", "rolled_back", "rolled_back", "rolled_back", "skipped"]
    assert (run.guard.loaded_bytes, run.guard.reserved_bytes) == (10, 0)
    assert run.results[1].reason == "memory pressure became critical"


def test_critical_pressure_with_nothing_loaded_just_stops():
    run = execution(2, concurrency_limit=1)
    run.handle(Start(0.0))
    assert run.handle(MemoryRead(1.0, CRITICAL)) == []
    assert [Finish("pressure")] == end(run, 2.0, 0, result=FAILED)
    assert statuses(run) == ["failed", "skipped"]


def test_critical_pressure_after_a_cancel_still_undoes():
    run = execution(3, concurrency_limit=1)
    run.handle(Start(0.0))
    end(run, 1.0, 0)
    run.handle(Cancel(2.0))
    assert [RollBack((0,))] == run.handle(MemoryRead(2.5, CRITICAL))
    run.handle(RolledBack(2.6, (0,), (10,)))
    assert [RollBack((1,))] == end(run, 3.0, 1)
    assert [Finish("cancelled")] == run.handle(RolledBack(3.1, (1,), (10,)))


def test_an_oversized_item_at_critical_pressure_is_undone_once():
    run = execution(2, budget_bytes=100, concurrency_limit=1)
    run.handle(Start(0.0))
    assert [RollBack((0,))] == end(run, 1.0, 0, result=loaded(200))
    run.handle(MemoryRead(1.5, CRITICAL))
    run.handle(RolledBack(2.0, (0,), (200,)))
    assert statuses(run)[0] == "rejected"


# ------------------------------------------------------------------------------------------------------------ cancel


def test_cancel_awaits_what_is_in_flight_and_starts_nothing():
    run = execution(3, concurrency_limit=1)
    run.handle(Start(0.0))
    assert run.handle(Cancel(1.0)) == []
    assert [Finish("cancelled")] == end(run, 2.0, 0)
    assert statuses(run) == ["loaded", "skipped", "skipped"]
    assert run.guard.loaded_bytes == 10


def test_a_cancel_before_the_start_skips_everything():
    run = execution(2)
    assert [Finish("cancelled")] == run.handle(Cancel(0.0))
    assert statuses(run) == ["skipped", "skipped"]


def test_after_a_cancel_a_failed_item_is_not_tried_again():
    run = execution(1)
    run.handle(Start(0.0))
    run.handle(Cancel(1.0))
    assert [Finish("cancelled")] == end(run, 2.0, 0, result=FAILED)
    assert statuses(run) == ["failed"]


def test_a_cancel_while_an_item_waits_for_its_retry_skips_it():
    run = execution(1)
    run.handle(Start(0.0))
    end(run, 1.0, 0, result=FAILED)
    assert [Finish("cancelled")] == run.handle(Cancel(1.0))
    assert statuses(run) == ["skipped"]


def test_a_dependant_of_what_is_in_flight_stays_skipped_when_that_ends_well():
    run = execution(2, needs={1: [0]})
    run.handle(Start(0.0))
    run.handle(Cancel(1.0))
    assert [Finish("cancelled")] == end(run, 2.0, 0)
    assert statuses(run) == ["loaded", "skipped"]


# ------------------------------------------------------------------------------------------------------- the guard asks


def short(available: int) -> MemoryRead:
    return MemoryRead(0.0, LOW, reading(available, 10**6))


def test_loads_of_an_unknown_cache_go_one_by_one_until_three_sizes_are_known():
    run = execution(9, known_after=3, batch_size=4)
    assert [Load((0,))] == run.handle(Start(0.0))
    for item in (0, 1):
        assert [Load((item + 1,))] == end(run, 1.0, item)
    assert [Load((n,)) for n in range(3, 9)] == end(run, 2.0, 2)


RESIDENT = ItemResult(ItemStatus.RESIDENT)


def test_what_others_have_put_into_a_shared_cache_is_gone_through_in_runs_that_double():
    run = execution(40, known_after=3, batch_size=4, concurrency_limit=2, shared={"c"})
    assert [Load((0,))] == run.handle(Start(0.0))
    assert [Load((1, 2))] == end(run, 1.0, 0, result=RESIDENT)
    assert [Load((3, 4, 5, 6))] == end(run, 2.0, 1, 2, result=RESIDENT)
    assert [Load((7, 8, 9, 10))] == end(run, 3.0, 3, 4, 5, 6, result=RESIDENT)


def test_once_something_was_not_there_loads_of_a_shared_cache_go_one_by_one_too():
    run = execution(40, known_after=3, batch_size=4, shared={"c"})
    run.handle(Start(0.0))
    end(run, 1.0, 0, result=RESIDENT)
    assert [Load((3,))] == run.handle(Ended(2.0, (1, 2), [RESIDENT, loaded(10)]))
    assert [Load((4,))] == end(run, 3.0, 3)


def test_what_is_resident_in_a_cache_of_ones_own_teaches_nothing():
    run = execution(5, known_after=3, batch_size=4)
    run.handle(Start(0.0))
    for item in range(3):
        assert [Load((item + 1,))] == end(run, 1.0, item, result=RESIDENT)


def test_each_cache_has_a_slow_start_of_its_own():
    run = execution(6, caches=["a", "b", "a", "b", "a", "b"], known_after=3)
    assert [Load((0,)), Load((1,))] == run.handle(Start(0.0))
    assert [Load((2,))] == end(run, 1.0, 0)


def test_what_failed_teaches_no_size():
    run = execution(5, known_after=1)
    run.handle(Start(0.0))
    for item in range(3):
        assert [Load((item + 1,))] == end(run, 1.0, item, result=ItemResult(ItemStatus.UNAVAILABLE))


def test_a_load_is_told_what_was_reserved_and_what_is_spare():
    run = execution(2, concurrency_limit=2)
    run.handle(short(1000))
    (load, _) = run.handle(Start(0.0))
    assert load == Load((0,), (13,), (1000 - 26) // 4)


def test_an_item_that_memory_has_no_room_for_waits_and_is_rejected_in_the_end():
    run = execution(3, sizes=[500, 500, 10])
    run.handle(short(400))
    assert [WakeAt(BLOCKED_READING_SECONDS)] == run.handle(Start(0.0))
    assert [WakeAt(4.0 + BLOCKED_READING_SECONDS)] == run.handle(Tick(4.0))
    (load,) = run.handle(Tick(MAX_BLOCKED_SECONDS))  # both big ones have waited, and are not waited for again
    assert load.positions == (2,)
    assert statuses(run) == ["rejected", "rejected", "?"]
    assert run.results[0].reason == "larger than the memory that was left for it"


def test_an_item_that_waits_for_memory_starts_when_there_is_some():
    run = execution(1, sizes=[500])
    run.handle(short(400))
    run.handle(Start(0.0))
    (load,) = run.handle(short(600))
    assert load.positions == (0,)


def test_what_is_in_flight_is_awaited_before_anything_is_blocked():
    run = execution(2, sizes=[100, 500])
    run.handle(short(520))  # the first takes 125, at its peak 250
    assert [load.positions for load in run.handle(Start(0.0))] == [(0,)]
    assert run.handle(Tick(10.0)) == []
    assert [WakeAt(11.0 + BLOCKED_READING_SECONDS)] == end(run, 11.0, 0, result=loaded(100))


def test_at_moderate_pressure_nothing_starts_while_others_take_memory():
    run = execution(2, concurrency_limit=1)
    run.handle(MemoryRead(0.0, MODERATE, reading(100 * MIB, 400 * MIB)))
    run.handle(Start(0.0))
    run.handle(MemoryRead(0.2, MODERATE, reading(90 * MIB, 400 * MIB)))
    assert run.is_paused
    assert [WakeAt(0.2 + MAX_PAUSE_SECONDS)] == end(run, 0.3, 0)
    assert [load.positions for load in run.handle(MemoryRead(1.0, MODERATE, reading(90 * MIB, 400 * MIB)))] == [(1,)]


def test_what_was_not_begun_is_put_back():
    run = execution(3, batch_size=3, concurrency_limit=1)
    run.handle(Start(0.0))
    assert [Load((1, 2))] == run.handle(Ended(1.0, (0, 1, 2), [loaded(), None, None]))
    assert run.attempts == 3
    run.handle(Ended(2.0, (1, 2), [loaded(), loaded()]))
    assert (statuses(run), run.attempts) == (["loaded"] * 3, 3)


def test_what_was_not_begun_when_the_run_stopped_is_skipped():
    run = execution(2, batch_size=2, concurrency_limit=1)
    run.handle(Start(0.0))
    run.handle(Cancel(1.0))
    assert [Finish("cancelled")] == run.handle(Ended(2.0, (0, 1), [loaded(), None]))
    assert statuses(run) == ["loaded", "skipped"]


def test_outcomes_are_read_like_a_list():
    run = execution(3, batch_size=3, concurrency_limit=1)
    run.handle(Start(0.0))
    run.handle(Ended(1.0, (0, 1, 2), [loaded(), ItemResult(ItemStatus.RESIDENT), FAILED]))
    assert list(run.results[:2]) == [loaded(), ItemResult(ItemStatus.RESIDENT)]
    assert run.results[2] is None
    assert (list(run.results.codes), list(run.results.sizes)) == ([0, 1, -1], [10, 0, 0])


def test_reasons_are_read_like_a_dict():
    run = execution(3, batch_size=3, concurrency_limit=1)
    run.handle(Start(0.0))
    run.handle(Cancel(0.5))
    run.handle(Ended(1.0, (0, 1, 2), [loaded(), FAILED, FAILED]))
    reasons = run.results.reasons
    assert (dict(reasons), len(reasons)) == ({1: "it broke", 2: "it broke"}, 2)
    assert repr(reasons) == "Reasons({1: 'it broke', 2: 'it broke'})"
    for absent in (0, 3, -1):
        assert absent not in reasons


def test_what_was_too_large_is_not_tried_again_and_its_dependants_are_skipped():
    run = execution(2, needs={1: [0]})
    run.handle(Start(0.0))
    assert [Finish(None)] == end(run, 1.0, 0, result=ItemResult(ItemStatus.TOO_LARGE, reason="a giant"))
    assert (statuses(run), run.guard.reserved_bytes) == (["too_large", "skipped"], 0)


def test_a_retry_that_waits_for_memory_is_rejected_in_the_end():
    run = execution(1, sizes=[100])
    run.handle(Start(0.0))
    (wake,) = end(run, 0.0, 0, result=FAILED)
    run.handle(short(50))
    assert [WakeAt(wake.at + BLOCKED_READING_SECONDS)] == run.handle(Tick(wake.at))
    assert [Finish(None)] == run.handle(Tick(wake.at + MAX_BLOCKED_SECONDS))
    assert statuses(run) == ["rejected"]


def test_a_blocked_item_does_not_keep_the_phases_after_it_from_starting():
    run = execution(3, sizes=[500, 10, 10], phases=[0, 1, 1], needs={1: [0]})
    run.handle(short(100))
    run.handle(Start(0.0))
    (load,) = run.handle(Tick(MAX_BLOCKED_SECONDS))
    assert (load.positions, statuses(run)) == ((2,), ["rejected", "skipped", "?"])


# ------------------------------------------------------------------------------------------- strategies and switches

CAUTIOUS = PressureResponses(PressureResponse.PAUSE, PressureResponse.STOP, PressureResponse.ROLL_BACK)
CARELESS = PressureResponses(PressureResponse.CONTINUE, PressureResponse.SLOW, PressureResponse.STOP)


def switching(n: int, takes: Sequence[bool], **changes: Any) -> Execution:
    footing = Footing("adaptive", PressureResponses(), "conservative", PressureResponses())
    return execution(n, footing=footing, takes=takes, **changes)


def fall_back(run: Execution, at: float = 0.0) -> None:
    """MODERATE pressure for as long as it takes."""
    run.handle(MemoryRead(at, MODERATE))
    run.handle(MemoryRead(at + SHORT_SECONDS, MODERATE))
    assert run.footing.has_fallen_back


def test_the_strategy_says_what_pressure_does():
    careless = execution(4, concurrency_limit=4, footing=Footing("ours", CARELESS))
    careless.handle(MemoryRead(0.0, MODERATE))
    assert len(careless.handle(Start(0.0))) == 4
    slow = execution(4, concurrency_limit=4, footing=Footing("ours", CARELESS))
    slow.handle(MemoryRead(0.0, HIGH))
    assert len(slow.handle(Start(0.0))) == 2
    cautious = execution(4, footing=Footing("ours", CAUTIOUS))
    cautious.handle(MemoryRead(0.0, MODERATE))
    assert [WakeAt(MAX_PAUSE_SECONDS)] == cautious.handle(Start(0.0))
    assert [Finish("pressure")] == cautious.handle(MemoryRead(1.0, HIGH))


def test_a_strategy_that_stops_keeps_what_it_has_loaded_and_one_that_rolls_back_does_not():
    for responses, expected in ((CARELESS, [Finish("pressure")]), (CAUTIOUS, [RollBack((0,))])):
        run = execution(2, phases=[0, 1], phase_delay_seconds=9.0, footing=Footing("ours", responses))
        run.handle(Start(0.0))
        end(run, 1.0, 0)
        assert expected == run.handle(MemoryRead(2.0, CRITICAL))


def test_fallen_back_a_run_goes_on_with_what_the_milder_strategy_takes():
    run = switching(4, [False, True, False, True], concurrency_limit=1)
    assert [Load((0,))] == run.handle(Start(0.0))
    fall_back(run)
    assert [Load((1,))] == end(run, 3.0, 0)
    assert [Load((3,))] == end(run, 4.0, 1)
    (switch,) = run.switches
    assert (switch.before, switch.after, switch.at) == ("adaptive", "conservative", SHORT_SECONDS)


def test_pressure_in_sight_makes_a_run_fall_back_before_it_is_there():
    run = switching(2, [True, False], concurrency_limit=1)
    run.handle(Start(0.0))
    run.handle(MemoryRead(0.0, LOW, outlook=CRITICAL))
    run.handle(MemoryRead(SHORT_SECONDS, LOW, outlook=CRITICAL))
    assert [switch.reason for switch in run.switches] == ["CRITICAL pressure in sight for 2.0 s"]
    assert not run.is_paused


def test_what_it_does_not_take_waits_for_calm_and_is_loaded_then():
    run = switching(3, [False, True, False], concurrency_limit=1)
    run.handle(Start(0.0))
    fall_back(run)
    end(run, 3.0, 0)
    assert [WakeAt(4.0 + MAX_PAUSE_SECONDS)] == end(run, 4.0, 1)
    run.handle(MemoryRead(5.0, LOW))
    assert [Load((2,))] == run.handle(MemoryRead(5.0 + CALM_SECONDS, LOW))
    assert [Finish(None)] == end(run, 11.0, 2)
    assert statuses(run) == ["loaded"] * 3
    assert [switch.after for switch in run.switches] == ["conservative", "adaptive"]


def test_if_calm_does_not_come_it_is_skipped_with_the_reason_and_so_is_what_needs_it():
    run = switching(4, [True, False, False, False], phases=[0, 0, 1, 1], needs={2: [1]}, concurrency_limit=1)
    run.handle(Start(0.0))
    fall_back(run)
    assert [WakeAt(3.0 + MAX_PAUSE_SECONDS)] == end(run, 3.0, 0)
    assert [Finish(None)] == run.handle(Tick(3.0 + MAX_PAUSE_SECONDS))
    assert statuses(run) == ["loaded", "skipped", "skipped", "skipped"]
    why = "not started: the run went on as conservative (MODERATE pressure for 2.0 s), which does not take it"
    assert [run.results[item].reason for item in (1, 3)] == [why, why]
    assert run.results[2].reason == "it needs item-1, which ended as skipped"


def test_having_waited_once_a_run_does_not_wait_again_in_the_next_phase():
    run = switching(3, [False, True, False], phases=[0, 1, 1], concurrency_limit=1)
    run.handle(MemoryRead(0.0, HIGH))
    run.handle(Start(0.0))
    assert [WakeAt(1.0 + MAX_PAUSE_SECONDS)] == run.handle(MemoryRead(1.0, MODERATE))
    assert [Load((1,))] == run.handle(Tick(1.0 + MAX_PAUSE_SECONDS))
    assert [Finish(None)] == end(run, 40.0, 1)
    assert statuses(run) == ["skipped", "loaded", "skipped"]


def test_a_retry_that_falls_due_after_falling_back_waits_too():
    run = switching(2, [False, True], concurrency_limit=1)
    run.handle(Start(0.0))
    end(run, 0.1, 0, result=FAILED)
    fall_back(run, 0.2)
    assert [WakeAt(10.0 + MAX_PAUSE_SECONDS)] == end(run, 10.0, 1)


def test_a_run_that_is_stopped_while_something_waits_for_calm_skips_it():
    run = switching(2, [True, False], concurrency_limit=1)
    run.handle(Start(0.0))
    fall_back(run)
    end(run, 3.0, 0)
    assert [Finish("cancelled")] == run.handle(Cancel(4.0))
    assert run.results[1].reason == "not started: the run was stopped (cancelled)"


# -------------------------------------------------------------------------------------------------- runs of loads


def test_a_run_that_went_smoothly_is_as_good_as_its_results_one_by_one():
    def after(*events: Any) -> Any:
        run = execution(6, batch_size=3, concurrency_limit=2, sizes=[10] * 6)
        run.handle(Start(0.0))
        told = [run.handle(event) for event in events]
        return told, list(run.results), run.done, run.guard.loaded_bytes, run.guard.learned(), run.attempts

    smooth = after(Loaded(1.0, (0, 1, 2), [9, 10, 11]), Loaded(2.0, (3, 4, 5), [1, 2, 3]))
    each = after(
        Ended(1.0, (0, 1, 2), [loaded(9), loaded(10), loaded(11)]),
        Ended(2.0, (3, 4, 5), [loaded(1), loaded(2), loaded(3)]),
    )
    assert smooth == each


def test_a_smooth_run_of_items_that_do_not_lie_together_ends_each_of_them():
    run = execution(5, caches=["a", "b", "a", "b", "a"], batch_size=3, concurrency_limit=2)
    run.handle(Start(0.0))
    run.handle(Loaded(1.0, (0, 2, 4), [3, 4, 5]))
    assert statuses(run) == ["loaded", "?", "loaded", "?", "loaded"]
    assert list(run.results.sizes) == [3, 0, 4, 0, 5]


def test_a_smooth_run_frees_the_dependants_of_its_items():
    run = execution(3, batch_size=2, concurrency_limit=1, needs={2: [0]})
    assert [Load((0, 1))] == run.handle(Start(0.0))
    assert [Load((2,))] == run.handle(Loaded(1.0, (0, 1), [10, 10]))


def test_of_a_smooth_run_too_what_is_beyond_the_budget_is_undone():
    run = execution(2, batch_size=2, concurrency_limit=1, budget_bytes=100)
    run.handle(Start(0.0))
    assert [RollBack((1,))] == run.handle(Loaded(1.0, (0, 1), [60, 70]))


def timed(n: int, **changes: Any) -> Execution:
    return execution(n, **({"run_seconds": {"c": 1.0}, "batch_size": 8, "concurrency_limit": 1} | changes))


def taken(instructions: list[Any]) -> int:
    (load,) = (each for each in instructions if isinstance(each, Load))
    return len(load.positions)


def smooth(run: Execution, at: float, first: int, items: int, seconds: float | None = None) -> list[Any]:
    return run.handle(Loaded(at, tuple(range(first, first + items)), [10] * items, 0, seconds))


def test_a_run_lasts_as_long_as_it_should_going_by_the_one_before():
    run = timed(10**5)
    assert taken(run.handle(Start(0.0))) == 1
    assert taken(smooth(run, 0.2, 0, 1)) == 5  # of 0.2 s each
    assert taken(smooth(run, 0.7, 1, 5)) == 10
    assert taken(smooth(run, 1.2, 6, 10)) == 20
    assert taken(smooth(run, 1.21, 16, 20)) == 20 * 8  # at most so many times as long
    assert taken(smooth(run, 1.22, 36, 160)) == 160 * 8
    assert taken(smooth(run, 1.23, 196, 1280)) == 1280 * 8
    assert taken(smooth(run, 30.0, 1476, 10_240, seconds=0.5)) == 16_384  # the rest it waited for others
    assert taken(smooth(run, 1668.4, 11_716, 16_384)) == 10


def test_the_runs_of_a_cache_that_loads_in_bulk_are_whole_batches():
    run = timed(10**5, in_bulk={"c"})
    assert taken(run.handle(Start(0.0))) == 8
    assert taken(smooth(run, 0.4, 0, 8)) == 16
    assert taken(smooth(run, 10.0, 8, 16)) == 8


def test_what_is_left_is_shared_out_but_not_in_crumbs():
    lengths = RunLengths(8, {"c": 1.0})
    for loads in (1, 8):
        lengths.learn("c", loads, 0.01 * loads / 8)
    assert [lengths.most("c", share) for share in (100, 20, 1)] == [64, 20, 4]
    assert RunLengths(8, {}).most("c", 3) == 3


def test_no_batch_is_cut_for_the_last_of_what_is_left():
    assert [RunLengths(8, {"c": 1.0}, in_bulk={"c"}).most("c", share) for share in (100, 3)] == [8, 8]


def test_a_run_that_others_wait_for_is_short():
    run = timed(200, needs={199: [1]})
    run.handle(Start(0.0))
    assert taken(smooth(run, 0.001, 0, 1)) == 1  # of the 8 that it might be
    assert taken(smooth(run, 0.002, 1, 1)) == 8


# --------------------------------------------------------------------------------------------------- shared runs


def loads(instructions: list[Any]) -> list[tuple[int, int | None]]:
    """Of each run that is handed out: how many loads, and by how many workers."""
    return [(len(each.positions), each.width) for each in instructions if isinstance(each, Load)]


def shared(n: int, **changes: Any) -> Execution:
    """One that knows that loads of `c` and `d` are short."""
    names = changes.pop("crewed", ("c",))
    run_seconds = dict.fromkeys(names, 1.0)
    return timed(n, **({"concurrency_limit": 8, "crewed": names, "run_seconds": run_seconds} | changes))


def one_by_one(run: Execution, *firsts: int, seconds: float = 0.001) -> list[Any]:
    """The first loads, of whose length nothing is known, have ended."""
    instructions: list[Any] = []
    for first in firsts:
        instructions += smooth(run, 1.0, first, 1, seconds)
    return instructions


def test_short_loads_are_shared_by_all_workers_and_the_next_run_is_there_before_the_first_has_begun():
    run = shared(10**5, known_after=1)
    assert loads(run.handle(Start(0.0))) == [(1, None)]
    assert loads(one_by_one(run, 0)) == [(64, 8), (64, 8)]  # 8 each: at most so many times what was seen
    assert loads(run.handle(Drawn(1.01, 1))) == [(64, 8)]
    assert loads(smooth(run, 1.02, 1, 64, seconds=0.128)) == [], "two are there to be begun"
    assert loads(run.handle(Drawn(1.03, 65))) == [(8 * 50, 8)]  # 100 ms of 8 workers


def test_long_loads_are_not_shared():
    run = shared(1000, known_after=1)
    run.handle(Start(0.0))
    assert loads(one_by_one(run, 0, seconds=0.06)) == [(8, None)] * 8


def test_two_caches_share_the_workers():
    run = shared(10**4, crewed=("c", "d"), caches=["c", "d"] * 5000, known_after=1)
    run.handle(Start(0.0))
    assert loads(one_by_one(run, 0, 1)) == [(32, 4), (32, 4), (32, 4), (32, 4)]
    assert len(run.results) - run.done == 10**4 - 2


def test_the_loads_of_shared_runs_are_free_for_others_once_the_last_of_them_has_ended():
    run = shared(12, caches=["c"] * 9 + ["d"] * 3, known_after=1, concurrency_limit=2, phases=[0] * 9 + [1] * 3)
    run.handle(Start(0.0))
    assert loads(one_by_one(run, 0)) == [(8, 2)]
    assert loads(smooth(run, 1.01, 1, 8, seconds=0.008)) == [(1, None)]


def test_a_gate_says_how_many_loads_of_shared_runs_there_may_be_and_hears_what_there_are():
    tide = Tide(0.0, 1.0, room=6)
    run = shared(10**5, known_after=1, gates={"c": tide})
    run.handle(Start(0.0))
    assert loads(one_by_one(run, 0)) == [(48, 6), (48, 6)]
    tide.room_now = 3
    assert loads(run.handle(Drawn(1.0, 1))) == [(24, 3)], "from now on three load what is left of both"
    assert tide.shared == [(48, 6), (48, 0), (24, -3)]
    tide.room_now = 0
    for first, items in ((1, 48), (49, 48), (97, 24)):
        smooth(run, 1.0, first, items, seconds=0.05)
    assert tide.fewer == [1, 0, 0, 3], "the run of the one that is known first, and three that shared the last"


# ----------------------------------------------------------------------------------------------- pause and resume


def test_nothing_starts_while_somebody_holds_the_run_and_all_goes_on_after_it():
    run = execution(3, concurrency_limit=1)
    run.handle(Start(0.0))
    assert run.handle(Pause(1.0)) == []
    assert (run.is_held, run.starts_loads) == (True, False)
    assert end(run, 2.0, 0) == []
    assert run.handle(Tick(1000.0)) == [], "nobody's patience but that of who holds it"
    assert [Load((1,))] == run.handle(Resume(1001.0))
    assert (run.is_held, run.starts_loads) == (False, True)


def test_pressure_counts_while_somebody_holds_the_run():
    run = execution(2, concurrency_limit=1)
    run.handle(Start(0.0))
    run.handle(Pause(1.0))
    assert [WakeAt(2.0 + MAX_PAUSE_SECONDS)] == run.handle(MemoryRead(2.0, HIGH))
    assert run.handle(Resume(3.0)) == [WakeAt(2.0 + MAX_PAUSE_SECONDS)]


def test_what_ends_while_somebody_holds_the_run_can_end_it():
    run = execution(1)
    run.handle(Start(0.0))
    run.handle(Pause(0.5))
    assert [Finish(None)] == end(run, 1.0, 0)


# ------------------------------------------------------------------------------------------ deadline and giving up


def test_at_its_deadline_a_run_stops_and_gives_up_what_is_in_flight():
    run = execution(3, concurrency_limit=1, deadline_seconds=5.0)
    assert [Load((0,)), WakeAt(15.0)] == run.handle(Start(10.0))
    assert [WakeAt(15.0)] == run.handle(Tick(14.9))
    assert [Abandon((0,))] == run.handle(Tick(15.0))
    assert [Finish("deadline")] == end(run, 15.1, 0, result=ItemResult(ItemStatus.SKIPPED, reason="given up"))
    assert statuses(run) == ["skipped"] * 3


def test_what_a_run_waited_before_it_began_counts_against_its_deadline():
    run = execution(1, deadline_seconds=5.0)
    assert [Load((0,)), WakeAt(12.0)] == run.handle(Start(10.0, since=7.0))


@pytest.mark.parametrize("hold", [Pause(1.0), MemoryRead(1.0, HIGH)])
def test_a_run_that_is_held_has_its_deadline(hold):
    run = execution(2, concurrency_limit=1, deadline_seconds=5.0)
    run.handle(Start(0.0))
    assert [WakeAt(5.0)] == run.handle(hold)
    assert [Abandon((0,))] == run.handle(Tick(5.0))


def test_a_run_that_ends_before_its_deadline_never_hears_of_it():
    run = execution(1, deadline_seconds=5.0)
    run.handle(Start(0.0))
    assert [Finish(None)] == end(run, 6.0, 0)


def test_a_cancel_can_give_up_what_is_in_flight_at_once_or_on_second_thoughts():
    run = execution(3, concurrency_limit=2)
    run.handle(Start(0.0))
    assert run.handle(Cancel(1.0)) == []
    assert [Abandon((0,)), Abandon((1,))] == run.handle(Cancel(2.0, abandon=True))
    assert run.handle(Cancel(3.0, abandon=True)) == []
    assert end(run, 3.1, 0) == []
    assert [Finish("cancelled")] == end(run, 3.2, 1, result=FAILED)
    assert statuses(run) == ["loaded", "failed", "skipped"]


# -------------------------------------------------------------------------------------------------- going on


def test_a_run_goes_on_with_what_another_left_and_loads_nothing_twice():
    first = execution(6, needs={3: [0], 5: [2]}, concurrency_limit=3, phases=[0, 0, 0, 0, 1, 1])
    first.handle(Start(0.0))
    end(first, 1.0, 0, result=loaded(40))
    end(first, 1.0, 1, result=ItemResult(ItemStatus.RESIDENT))
    first.handle(Cancel(1.0))
    end(first, 1.5, 2, result=ItemResult(ItemStatus.UNAVAILABLE))
    end(first, 1.5, 3, result=loaded(10))
    second = execution(
        6,
        needs={3: [0], 5: [2]},
        phases=[0, 0, 0, 0, 1, 1],
        before=Outcomes.of(np.array(first.results.codes, np.int8), np.array(first.results.sizes)),
    )
    assert (second.done, second.guard.loaded_bytes) == (3, 50)
    assert [Load((2,))] == second.handle(Start(0.0))
    assert [Load((4,)), Load((5,))] == end(second, 1.0, 2)
    end(second, 2.0, 4)
    assert [Finish(None)] == end(second, 2.0, 5)
    assert statuses(second) == ["loaded", "resident", "loaded", "loaded", "loaded", "loaded"]
    assert second.attempts == 3


def test_what_an_earlier_run_loaded_is_undone_with_the_rest():
    before = Outcomes(3)
    before.load([0, 2], [10, 20])
    run = execution(3, before=before)
    run.handle(Start(0.0))
    assert [RollBack((2, 0))] == run.handle(MemoryRead(1.0, CRITICAL))
    run.handle(RolledBack(1.0, (2, 0), (20, 10)))
    assert run.guard.loaded_bytes == 0


# ------------------------------------------------------------------------------------------------------------ gates


class Tide:
    """An origin that lets loads start at certain instants, so many at once, and never takes long to say no."""

    def __init__(self, *opens: float, most: int = 10**6, retries: bool = True, room: int = 0) -> None:
        self.opens, self.most, self.retries, self.room_now = list(opens), most, retries, room
        self.shared: list[tuple[int, int]] = []
        self.fewer: list[int] = []
        self.admitted: list[tuple[float, list[int]]] = []
        self.ends: list[tuple[float, float, int]] = []

    def opens_at(self, at: float) -> float:
        return next((opens for opens in self.opens if opens >= at), float("inf")) if at not in self.opens else at

    def gives_up_at(self, at: float) -> float:
        return float("inf")

    def admit(self, at: float, size_bytes: Sequence[int], at_once: int = 1) -> int:
        self.admitted.append((at, list(size_bytes)))
        return min(self.most, len(size_bytes))

    def room(self, at: float, held: int) -> int:
        return self.room_now

    def share(self, items: int, more: int) -> None:
        self.shared.append((items, more))

    def loaded(self, at: float, load_seconds: float, items: int, fewer: int = 1) -> None:
        self.fewer.append(fewer)
        self.ends.append((at, load_seconds, items))

    def ended(self, at: float, load_seconds: float, results: Sequence[ItemResult | None], fewer: int = 1) -> None:
        self.ends.append((at, load_seconds, len(results)))

    def retry_at(self, at: float, tries: int) -> float | None:
        return at + 100.0 if self.retries else None


def test_loads_start_when_the_gate_opens_and_as_many_as_it_admits():
    tide = Tide(3.0, 9.0, most=2)
    run = execution(4, batch_size=3, concurrency_limit=1, gates={"c": tide})
    assert [WakeAt(3.0)] == run.handle(Start(0.0))
    assert Load((0, 1)) in run.handle(Tick(3.0))
    assert tide.admitted == [(3.0, [10, 10, 10])]
    assert [WakeAt(9.0)] == run.handle(Loaded(4.5, (0, 1), [10, 10]))
    assert tide.ends == [(4.5, 0.75, 2)]
    assert [load for load in run.handle(Tick(9.0)) if isinstance(load, Load)] == [Load((2, 3))]


FROM_PEER = ItemResult(ItemStatus.LOADED, 10, from_peer=True)


@pytest.mark.parametrize(
    ("results", "in_bulk", "load_seconds"),
    [
        ([loaded()] * 4, (), 0.25),
        ([loaded(), RESIDENT, FROM_PEER, loaded()], (), 0.5),  # what was there, or a peer had, took none of it
        ([loaded(), FAILED, loaded(), loaded()], (), 0.25),
        ([loaded(), None, None, None], (), 1.0),
        ([RESIDENT] * 4, (), 1.0),
        ([loaded()] * 4, {"c"}, 0.5),  # two calls
        ([loaded(), FAILED, loaded(), RESIDENT], {"c"}, 0.5),
        ([loaded(), loaded(), None, None], {"c"}, 1.0),
    ],
)
def test_a_gate_hears_how_long_each_load_took(results, in_bulk, load_seconds):
    tide = Tide(0.0)
    run = execution(4, batch_size=2, run_seconds={"c": 1.0}, in_bulk=in_bulk, concurrency_limit=1, gates={"c": tide})
    run.handle(Start(0.0))
    run.handle(Ended(1.0, (0, 1, 2, 3), results))
    assert tide.ends == [(1.0, load_seconds, 4)]


def test_a_gate_that_is_shut_does_not_hold_up_another_cache():
    run = execution(4, caches=["c", "d", "c", "d"], gates={"c": Tide(50.0)}, concurrency_limit=1)
    assert [Load((1,)), WakeAt(50.0)] == run.handle(Start(0.0))
    assert [Load((3,)), WakeAt(50.0)] == end(run, 1.0, 1)


def test_a_gate_says_when_a_failed_item_may_be_tried_again_or_that_it_never_may():
    run = execution(1, gates={"c": Tide(*map(float, range(200)))})
    run.handle(Start(0.0))
    (wake,) = end(run, 1.0, 0, result=FAILED)
    assert wake.at >= 101.0
    run = execution(1, gates={"c": Tide(0.0, retries=False)})
    run.handle(Start(0.0))
    assert [Finish(None)] == end(run, 1.0, 0, result=FAILED)
    assert run.attempts == 1
