"""The run itself against simulated origins, under a virtual clock: nothing sleeps, and the same seed plays the same."""

import math
from array import array
from itertools import pairwise

import pytest
from msgspec.structs import replace

from origins import FAILED, LOADED, SimulatedOrigin, Traffic, VirtualRun, execution_of
from preheat._execution import Cancel, Ended, Execution, Load, Start
from preheat._model import ItemResult, ItemStatus
from preheat._origin import Limits, Origin, origin_of, origins_of
from preheat._origin.origin import OUTAGE_SECONDS

DEAD = SimulatedOrigin(answer=lambda at, chance: (FAILED, 0.1))


def statuses(run):
    return [result.status if result else None for result in run.execution.results]


def half_fail(until):
    return lambda at, chance: (FAILED if at < until and chance.random() < 0.5 else LOADED, 1.0)


def warmed(items, origin, *, gate=None, seed=0, **changes):
    gate = gate or Origin("shop", seed=seed)
    return VirtualRun(execution_of(items, {"shop": gate}, seed=seed, **changes), ["shop"] * items, {"shop": origin})


def run_of(caches, phase, origins, needs=None, gates=None, **changes):
    """A run over items of several caches, each with an origin of its own."""
    gates = gates or {name: Origin(name) for name in origins}
    execution = Execution(
        caches,
        array("q", [1]) * len(caches),
        phase,
        needs or {},
        budget_bytes=2**30,
        concurrency_limit=8,
        batch_size=8,
        gates=gates,
        **changes,
    )
    return VirtualRun(execution, caches, origins)


# ------------------------------------------------------------------------------------------------------------ errors


def test_an_origin_that_fails_half_the_time_is_asked_little_more_than_once_per_item_and_loses_nothing():
    items, heals_at = 4_000, 40.0
    origin = SimulatedOrigin(answer=half_fail(heals_at), seed=3)
    run = warmed(items, origin).perform()
    ill = sum(at < heals_at for at in origin.requests)
    assert ill <= 1.12 * items
    assert statuses(run).count(ItemStatus.LOADED) >= 0.99 * items
    (record,) = run.execution.origins
    assert record.requests == len(origin.requests)
    assert record.deferred >= 0.3 * items


def test_without_a_budget_it_would_be_asked_much_more_often():
    class Spendthrift(Origin):
        def retry_at(self, at, tries):
            return at + 0.1 if tries < 3 else None

    origin = SimulatedOrigin(answer=half_fail(math.inf), seed=3)
    warmed(1_000, origin, gate=Spendthrift("shop")).perform()
    assert len(origin.requests) > 1.5 * 1_000


def test_what_failed_in_both_passes_says_how_it_failed_and_what_was_never_tried_is_skipped():
    origin = SimulatedOrigin(answer=DEAD.answer)
    run = warmed(1_000, origin).perform()
    ended = statuses(run)
    tried = [n for n, status in enumerate(ended) if status is ItemStatus.FAILED]
    assert set(ended) == {ItemStatus.FAILED, ItemStatus.SKIPPED}
    assert {run.execution.results[n].reason for n in tried} == {FAILED.reason}
    skipped = next(result for result in run.execution.results if result.status is ItemStatus.SKIPPED)
    assert "its origin failed nearly always" in skipped.reason


# ----------------------------------------------------------------------------------------------------------- outages


@pytest.mark.parametrize(("seconds", "factor"), [(0.001, 1.0), (1e6, 1.0)], ids=["refuses", "hangs"])
def test_a_dead_origin_is_asked_for_next_to_nothing_and_the_run_ends(seconds, factor):
    answer = FAILED if seconds < 1 else LOADED
    origin = SimulatedOrigin(10**4, seconds, answer=lambda at, chance: (answer, factor), timeout_seconds=30.0)
    run = warmed(10_000, origin).perform(until=600.0)
    assert run.finished is not None
    assert len(origin.requests) <= 100


def test_a_probe_starts_only_when_nothing_else_is_under_way():
    spans = []
    origin = SimulatedOrigin(answer=DEAD.answer)
    serve = origin.serve

    def watched(at):
        end, result = serve(at)
        spans.append((at, end))
        return end, result

    origin.serve = watched
    warmed(1_000, origin).perform()
    opened = next(n for n, (a, b) in enumerate(pairwise(spans)) if b[0] > a[1] + 0.4)
    probes = spans[opened:]
    assert len(probes) >= 2
    assert all(end <= at for (_, end), (at, _) in pairwise(probes))


def test_a_dead_origin_holds_up_neither_its_phase_nor_the_other_origins():
    caches = ["dead"] * 100 + ["well"] * 100 + ["well"] * 100
    phase = [0] * 200 + [1] * 100
    run = run_of(caches, phase, {"dead": DEAD, "well": SimulatedOrigin()}).perform()
    assert statuses(run)[100:] == [ItemStatus.LOADED] * 200
    assert run.execution.phase_ended[0] <= 2 * OUTAGE_SECONDS + 10
    assert run.execution.phase_ended[0] <= run.execution.phase_started[1]


def test_what_needs_an_item_that_was_put_off_waits_with_it():
    def heals(at, chance):
        return (FAILED if at < 8.0 else LOADED, 0.1)

    caches = ["ill"] * 50 + ["well"] * 50
    needs = {50 + n: (n,) for n in range(50)}
    run = run_of(caches, [0] * 50 + [1] * 50, {"ill": SimulatedOrigin(answer=heals), "well": SimulatedOrigin()}, needs)
    run.perform()
    loaded = statuses(run)
    assert loaded.count(ItemStatus.LOADED) >= 90
    assert all(loaded[50 + n] is not ItemStatus.LOADED or loaded[n] is ItemStatus.LOADED for n in range(50))


def test_what_needs_an_item_that_never_came_is_skipped_for_that():
    caches = ["dead"] * 40 + ["well"]
    run = run_of(caches, [0] * 40 + [1], {"dead": DEAD, "well": SimulatedOrigin()}, {40: (39,)}).perform()
    assert "it needs 39, which ended as" in run.execution.results[40].reason


def test_an_origin_that_gets_well_in_the_first_pass_goes_on_there():
    origin = SimulatedOrigin(answer=lambda at, chance: (FAILED if 1.0 < at < 4.0 else LOADED, 1.0))
    run = warmed(4_000, origin).perform()
    assert statuses(run).count(ItemStatus.LOADED) == 4_000
    assert run.execution.origins[0].refused == 0


def test_a_run_that_is_stopped_tells_how_what_was_put_off_had_failed():
    origin = SimulatedOrigin(answer=half_fail(math.inf))
    run = warmed(2_000, origin).perform(until=6.0)
    run.execution.handle(Cancel(6.0))
    while run.finished is None:
        run.perform()
    ended = statuses(run)
    assert None not in ended
    assert ended.count(ItemStatus.FAILED) > 20
    assert ended.count(ItemStatus.SKIPPED) > 20


def test_the_deadline_holds_though_the_origin_is_dead():
    run = warmed(1_000, SimulatedOrigin(answer=DEAD.answer), deadline_seconds=3.0).perform()
    assert run.finished.stopped == "deadline"
    assert run.now <= 4.0


# ------------------------------------------------------------------------------------------------- waits and rates


@pytest.mark.parametrize("wait", [0.5, 3.0, 20.0, 300.0])
def test_nothing_is_asked_for_before_the_instant_that_the_origin_named(wait):
    told = []

    def answer(at, chance):
        if len(told) < 3 and at > 1.0:
            told.append(at)
            return replace(FAILED, wait_seconds=wait), 0.0
        return LOADED, 1.0

    origin = SimulatedOrigin(answer=answer)
    warmed(500, origin).perform(until=1_000.0)
    assert told
    for at in told:
        assert not [other for other in origin.requests if at + 0.001 < other < at + wait]


def test_a_long_wait_does_not_hold_up_what_others_could_load():
    def answer(at, chance):
        return (replace(FAILED, wait_seconds=25.0) if at < 1.0 else LOADED), 1.0

    caches = ["busy"] * 50 + ["well"] * 50
    run = run_of(caches, [0] * 50 + [1] * 50, {"busy": SimulatedOrigin(answer=answer), "well": SimulatedOrigin()})
    run.perform()
    assert run.execution.phase_ended[0] < 5.0
    assert statuses(run)[50:] == [ItemStatus.LOADED] * 50


@pytest.mark.parametrize("batch_size", [1, 32])
def test_loads_keep_to_a_rate_however_fast_the_origin_is(batch_size):
    origin = SimulatedOrigin(64, 0.0001)
    gate = Origin("shop", Limits(64, loads_per_second=50.0))
    run = warmed(500, origin, gate=gate, batch_size=batch_size).perform()
    seconds = run.now
    assert 500 / 50 - 0.2 <= seconds <= 500 / 50 * 1.05
    for start in (0.0, 2.0, 5.5):
        assert sum(start <= at < start + 2.0 for at in origin.requests) <= 2.0 * 50 * 1.05 + 1
    assert run.execution.origins[0].limited_seconds > 8.0


# ---------------------------------------------------------------------------------------------------- live traffic


def live_ratio(gate, seed=1):
    """Live p99 beside a warm-up over that without, and the part of the spare that the warm-up uses."""
    traffic = Traffic(32, 0.02, seconds=30.0, brownout=(15.0, 25.0), seed=seed)

    def beside(execution, items):
        origin = SimulatedOrigin(32, 0.02, seed + 7, lambda at, _: (LOADED, traffic.slowness(at)))
        run = VirtualRun(execution, ["shop"] * items, {"shop": origin}, traffic=traffic)
        return run.perform(until=30.0), origin

    alone, _ = beside(None, 0)
    run, origin = beside(execution_of(40_000, {"shop": gate}), 40_000)
    used = sum(4.0 <= at < 15.0 for at in origin.requests) / traffic.spare_loads(4.0, 15.0)
    spans = [(1.0, 15.0), (15.0, 25.0)]
    return [run.heard.p99(*span) / alone.heard.p99(*span) for span in spans], used


def test_live_traffic_hardly_feels_the_run_which_takes_a_good_part_of_the_spare():
    ratios, used = live_ratio(Origin("shop", Limits(64)))
    assert max(ratios) <= 1.25
    assert used >= 0.4


def test_it_would_feel_a_fixed_number_of_loads_at_a_time():
    class Fixed(Origin):
        def opens_at(self, at):
            return at if self._under_way < 64 else math.inf

    ratios, _ = live_ratio(Fixed("shop"))
    assert min(ratios) > 1.5


# ---------------------------------------------------------------------------------------------------------- sharing


class Named:
    def __init__(self, origin):
        self.origin = origin


def test_caches_that_name_the_same_origin_share_it_and_others_have_their_own():
    caches = {"a": Named("db"), "b": Named("db"), "c": object(), "d": Named(""), "e": Named(None)}
    rates = {"db": 5.0, "c": 7.0}
    origins = origins_of(caches, concurrency=4, loads_per_second=rates, bytes_per_second={}, seed=1)
    assert origins["a"] is origins["b"]
    assert len({id(origin) for origin in origins.values()}) == 4
    assert [origins[name].record().origin for name in caches] == ["db", "db", "c", "d", "e"]
    assert origin_of(Named(3), "x") == "x"


def test_a_shared_origin_bears_its_load_over_all_its_caches():
    shared = Origin("db")
    origin = SimulatedOrigin()
    run = run_of(["a", "b"] * 20, [0] * 40, {"a": origin, "b": origin}, gates={"a": shared, "b": shared}).perform(0.5)
    assert shared.record().highest_limit == 1.0
    assert len(origin.requests) <= 0.5 / 0.05 * 3
    assert run.finished is None


# ----------------------------------------------------------------------------------------------------------- batches


def origin_of_batches(call_seconds, is_there=lambda item: False):
    """What becomes of an origin that batches of 32 are loaded from.

    A call takes `call_seconds(loads of it, calls under way)`; of what `is_there` nothing is asked.
    """
    items, batch, at = 20_000, 32, 0.0
    execution = Execution(
        ["shop"] * items,
        array("q", [1]) * items,
        array("b", [0]) * items,
        {},
        budget_bytes=2**30,
        concurrency_limit=16,
        batch_size=batch,
        run_seconds={"shop": 0.02},
        in_bulk={"shop"},
        gates={"shop": Origin("shop")},
    )
    flying = [each for each in execution.handle(Start(at)) if isinstance(each, Load)]
    while flying:
        loads = len(flying[0].positions)
        calls, each_seconds = -(-loads // batch), call_seconds(min(loads, batch), len(flying))
        at += calls * each_seconds / len(flying)
        positions = flying.pop(0).positions
        results = [ItemResult(ItemStatus.RESIDENT if is_there(n) else ItemStatus.LOADED, 1) for n in positions]
        ended = Ended(at, positions, results, 0, calls * each_seconds)
        flying += [each for each in execution.handle(ended) if isinstance(each, Load)]
    assert execution.done == items
    return execution.origins[0]


def test_a_loader_that_does_one_call_after_another_is_called_by_two_at_a_time_at_the_most():
    origin = origin_of_batches(lambda loads, under_way: (0.008 if loads == 1 else 0.001) * under_way)
    assert origin.highest_limit <= 2.0


def test_calls_that_others_do_not_slow_down_are_made_side_by_side():
    assert origin_of_batches(lambda loads, under_way: 0.001).limit >= 16.0


def test_batches_of_which_most_is_there_do_not_make_their_origin_look_slow():
    mostly_there = origin_of_batches(lambda loads, under_way: 0.001, lambda item: item // 320 % 2 and item % 16)
    assert mostly_there.limit >= 16.0
