"""The origin: when a load may start there, and what its end means."""

import math

import pytest
from msgspec.structs import replace

from preheat._model import ItemResult, ItemStatus
from preheat._origin import Limits, Origin
from preheat._origin.breaker import OPENS_AT
from preheat._origin.limit import KNOWN_AFTER
from preheat._origin.origin import OUTAGE_SECONDS
from preheat._origin.retry import RETRY_FLOOR

LOADED, FAILED = ItemResult(ItemStatus.LOADED, 10), ItemResult(ItemStatus.FAILED)
RESIDENT = ItemResult(ItemStatus.RESIDENT)


def load(origin, *results, at=0.0, seconds=0.1):
    """Runs of one load, one after another, that end as `results`."""
    for result in results:
        assert origin.opens_at(at) <= at
        assert origin.admit(at, (1,)) == 1
        at += seconds
        origin.ended(at, seconds, [result])
    return at


def test_a_new_origin_takes_one_run_at_a_time():
    origin = Origin("o")
    assert origin.opens_at(0.0) == 0.0
    assert origin.admit(0.0, [1]) == 1
    assert origin.opens_at(0.0) == math.inf
    origin.loaded(1.0, 1.0, 1)
    assert origin.opens_at(1.0) == 1.0


@pytest.mark.parametrize(("seconds", "expected"), [(0.001, 50), (0.02, 2), (1.0, 1)])
def test_a_run_is_as_long_as_can_be_judged_soon_enough(seconds, expected):
    origin = Origin("o")
    load(origin, *[LOADED] * 40, seconds=seconds)
    assert origin.admit(99.0, [1] * 100) == pytest.approx(expected, abs=1)


def test_a_run_of_what_loads_in_batches_ends_with_a_whole_one():
    origin = Origin("o")
    load(origin, *[LOADED] * 40, seconds=0.015)
    assert origin.admit(99.0, [1] * 100, at_once=16) == 48


def test_what_one_call_loads_is_not_torn_apart_but_for_a_probe():
    origin = Origin("o")
    assert origin.admit(0.0, [1] * 100, at_once=32) == 32
    origin.ended(1.0, 0.03, [LOADED] * 31 + [FAILED])
    assert origin.admit(1.0, [1] * 100, at_once=32) == 32
    origin.ended(2.0, 0.03, [FAILED] * 32)
    assert origin.admit(origin.opens_at(2.0), [1] * 100, at_once=32) == 1


def test_a_batch_beyond_the_whole_slots_is_followed_by_the_next_when_it_has_had_its_share_of_time():
    origin = Origin("o", learned_limit=2.5)
    at = load(origin, *[LOADED] * KNOWN_AFTER, seconds=0.01)  # it goes on at 1.25
    for _ in range(2):
        assert origin.opens_at(at) == at
        origin.admit(at, [1] * 32, at_once=32)
    origin.ended(at, 0.0, [None] * 32)
    assert origin.opens_at(at) == pytest.approx(at + 0.01 / 0.25)


def test_loads_that_were_not_begun_are_no_requests():
    origin = Origin("o")
    origin.admit(0.0, [1, 1, 1], at_once=3)
    origin.ended(1.0, 1.0, [LOADED, None, None])
    assert origin.record().requests == 1


def test_what_a_peer_gave_is_no_request_and_costs_nothing_of_a_rate():
    origin = Origin("o", Limits(loads_per_second=10.0, bytes_per_second=1000.0))
    for _ in range(100):
        assert origin.opens_at(1.0) <= 1.0
        origin.admit(1.0, [10], at_once=1)
        origin.ended(1.0, 0.001, [replace(LOADED, from_peer=True)])
    assert (origin.record().requests, origin.record().limited_seconds) == (0, 0.0)
    origin.admit(1.0, [10], at_once=1)
    origin.ended(1.0, 0.001, [LOADED])
    assert origin.opens_at(1.0) > 1.0


def test_what_a_peer_gave_says_nothing_of_how_the_origin_is():
    """Neither that it bears more, nor that it is well again."""
    origin = Origin("o")
    load(origin, *[replace(LOADED, from_peer=True)] * 200, seconds=0.001)
    assert origin.record().limit == Origin("o").record().limit
    at = 0.0
    while origin.opens_at(at) <= at:
        at = load(origin, FAILED, at=at)
    at = origin.opens_at(at)
    load(origin, replace(LOADED, from_peer=True), at=at)
    assert origin.record().opened == 1
    assert load(origin, FAILED, at=origin.opens_at(at))


@pytest.mark.parametrize("others", [[], [RESIDENT] * 97, [FAILED] * 3, [None] * 9])
def test_a_limit_learns_of_what_was_loaded_only(others):
    origin = Origin("o")
    origin.admit(9.0, [1] * 100, at_once=100)
    origin.ended(9.1, 0.1, [*others, LOADED, LOADED, LOADED])
    own = origin._limit.own
    assert (own.count, own.seconds) == (3, pytest.approx(0.3))


def test_waits_by_a_rate_that_others_keep_count_once():
    origin = Origin("o")
    for at, seconds in [(1.0, 2.0), (1.5, 1.0), (2.0, 3.0), (9.0, 1.0)]:
        origin.note_limited(at, seconds)
    assert origin.record().limited_seconds == pytest.approx(5.0)


def test_nothing_starts_before_the_instant_that_the_origin_named_and_some_time_at_random_behind_it():
    opens = set()
    for seed in range(20):
        origin = Origin("o", seed=seed)
        at = load(origin, replace(FAILED, wait_seconds=8.0))
        opens_at = origin.opens_at(at)
        assert at + 8.0 <= opens_at <= at + 10.0
        assert origin.opens_at(opens_at) <= opens_at
        opens.add(opens_at)
    assert len(opens) == 20


def test_several_that_name_an_instant_are_all_obeyed():
    origin = Origin("o")
    origin.admit(0.0, [1, 1], at_once=2)
    origin.ended(1.0, 1.0, [replace(FAILED, wait_seconds=100.0), replace(FAILED, wait_seconds=1.0)])
    assert origin.opens_at(1.0) >= 101.0


def test_a_rate_lets_so_many_loads_start_in_any_second():
    origin = Origin("o", Limits(concurrency=64, loads_per_second=20.0))
    at, starts = 0.0, []
    while at < 10.0:
        at = max(at, origin.opens_at(at))
        starts += [at] * origin.admit(at, [1] * 7)
        origin.loaded(at, 0.0, 1)
    assert len(starts) == pytest.approx(200, abs=7)
    assert max(sum(start <= other < start + 1.0 for other in starts) for start in starts) <= 22
    assert origin.record().limited_seconds == pytest.approx(10.0, rel=0.1)


def test_a_rate_of_bytes_counts_what_is_expected():
    origin = Origin("o", Limits(bytes_per_second=1000.0))
    at, loads = 0.0, 0
    while at < 100.0:
        at = max(at, origin.opens_at(at))
        loads += origin.admit(at, [500, 500])
        origin.loaded(at, 0.0, 1)
    assert loads == pytest.approx(200, abs=2)


def test_while_the_origin_is_not_well_loads_go_one_by_one():
    origin = Origin("o")
    load(origin, FAILED)
    assert origin.admit(1.0, [1] * 10) == 1


def test_a_dead_origin_is_probed_one_load_at_a_time_once_all_else_has_ended():
    origin = Origin("o")
    at = load(origin, *[FAILED] * (OPENS_AT - 1))
    origin.admit(at, (1,))
    origin.ended(at, 0.1, [FAILED])
    opens_at = origin.opens_at(at)
    assert at + 0.5 <= opens_at <= at + 1.0
    assert origin.admit(opens_at, [1] * 10) == 1
    assert origin.opens_at(opens_at) == math.inf
    origin.ended(opens_at + 9.0, 9.0, [RESIDENT])
    assert origin.opens_at(opens_at + 9.0) <= opens_at + 9.0


def test_the_last_try_of_an_item_is_kept_for_the_later_pass():
    origin = Origin("o")
    load(origin, LOADED)
    assert 1.0 <= origin.retry_at(1.0, tries=1) <= 1.2
    assert origin.retry_at(1.0, tries=2) == math.inf
    origin.begin_later_pass(1.0, 30.0)
    assert 1.0 <= origin.retry_at(1.0, tries=2) <= 1.4
    assert origin.retry_at(1.0, tries=3) is None


def test_without_budget_what_failed_is_put_off():
    origin = Origin("o")
    granted = sum(origin.retry_at(0.0, tries=1) < math.inf for _ in range(100))
    assert granted == RETRY_FLOOR
    assert origin.record().retries == granted


def test_it_is_given_up_after_an_outage_and_at_once_where_it_says_so_itself():
    origin = Origin("o")
    assert origin.gives_up_at(0.0) == math.inf
    at = load(origin, *[FAILED] * OPENS_AT)
    assert origin.gives_up_at(at) == at + OUTAGE_SECONDS
    origin.begin_later_pass(at, 30.0)
    assert origin.gives_up_at(at) == at + 30.0
    told = Origin("p")
    at = load(told, replace(FAILED, wait_seconds=60.0))
    assert told.gives_up_at(at) == at


def test_an_origin_that_is_well_again_is_not_given_up():
    origin = Origin("o")
    at = load(origin, *[FAILED] * OPENS_AT)
    for _ in range(3):
        at = load(origin, LOADED, at=max(at, origin.opens_at(at)))
    assert origin.gives_up_at(at) == math.inf


def test_the_record_tells_what_was_asked_and_how_it_was_borne():
    origin = Origin("shop")
    load(origin, LOADED, FAILED, RESIDENT, LOADED)
    origin.retry_at(1.0, tries=1)
    origin.put_off(3, were_refused=True)
    origin.put_off(1)
    record = origin.record()
    assert record.origin == "shop"
    assert (record.requests, record.failures, record.retries) == (4, 1, 1)
    assert (record.deferred, record.refused, record.opened) == (4, 3, 0)
    assert (record.limited_seconds, record.limit, record.highest_limit) == (0.0, 1.0, 1.0)
