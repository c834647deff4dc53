"""The parts that protect an origin, each by itself."""

import math
import random

import pytest

from preheat._origin.breaker import (
    CLOSES_AFTER,
    COOL_DOWN_CAP_SECONDS,
    OPENS_AT,
    STRICT_CLOSES_AFTER,
    STRICT_OPENS_AT,
    WINDOW,
    Breaker,
)
from preheat._origin.bucket import TokenBucket
from preheat._origin.limit import KNOWN_AFTER, LEARNED_FACTOR, LEAST, ROUND_LOADS, DelayLimit
from preheat._origin.retry import (
    BACKOFF_CAP_SECONDS,
    RETRY_CAP,
    RETRY_FLOOR,
    RETRY_RATIO,
    RetryBudget,
    backoff_seconds,
)

# --------------------------------------------------------------------------------------------------------- bucket


def test_a_full_bucket_lets_its_burst_pass_and_then_its_rate():
    bucket, passed = TokenBucket(rate=10.0, burst=3.0), []
    at = 100.0
    while len(passed) < 8:
        at = max(at, bucket.ready_at(at, 1.0))
        bucket.take(at, 1.0)
        passed.append(at)
    assert passed == pytest.approx([100.0] * 3 + [100.1, 100.2, 100.3, 100.4, 100.5])


def test_an_amount_beyond_the_burst_waits_for_a_full_bucket_and_leaves_a_debt():
    bucket = TokenBucket(rate=10.0, burst=5.0)
    bucket.take(0.0, 5.0)
    assert bucket.ready_at(0.0, 100.0) == pytest.approx(0.5)
    bucket.take(0.5, 100.0)
    assert bucket.ready_at(0.5, 1.0) == pytest.approx(0.5 + 9.6)


def test_what_was_not_used_is_given_back():
    bucket = TokenBucket(rate=1.0, burst=4.0)
    bucket.take(0.0, 4.0)
    bucket.take(0.0, -2.0)
    assert bucket.ready_at(0.0, 2.0) == 0.0
    bucket.take(0.0, -9.0)
    assert bucket.ready_at(0.0, 4.0) == 0.0
    assert bucket.ready_at(0.0, 99.0) == 0.0


def test_a_clock_that_was_set_back_gives_nothing_away():
    bucket = TokenBucket(rate=1.0, burst=1.0)
    bucket.take(100.0, 1.0)
    bucket.take(50.0, 1.0)
    assert bucket.ready_at(100.0, 1.0) == pytest.approx(102.0)


# -------------------------------------------------------------------------------------------------------- retries


def test_retries_are_a_tenth_of_the_first_requests_and_a_floor():
    budget, spent = RetryBudget(), 0
    for requests in range(1, 10_001):
        spent += budget.spend(requests)
    assert spent == pytest.approx(10_000 * RETRY_RATIO + RETRY_FLOOR, abs=1)


def test_what_was_saved_up_is_capped():
    budget = RetryBudget()
    assert sum(budget.spend(1_000_000) for _ in range(1_000)) == RETRY_CAP


def test_the_wait_is_random_doubles_and_is_capped():
    jitter = random.Random(1)
    for tries, bound in [(1, 0.2), (2, 0.4), (3, 0.8), (30, BACKOFF_CAP_SECONDS)]:
        waits = [backoff_seconds(tries, jitter) for _ in range(2_000)]
        assert min(waits) < bound * 0.01
        assert bound * 0.99 < max(waits) <= bound


# -------------------------------------------------------------------------------------------------------- breaker


def tell(breaker, *outcomes, at=0.0):
    for has_failed in outcomes:
        breaker.started()
        breaker.ended(at, has_failed=has_failed)


def opened(at=0.0):
    breaker = Breaker(random.Random(1))
    tell(breaker, *[True] * OPENS_AT, at=at)
    assert breaker.is_open
    return breaker


def test_it_opens_when_nearly_all_of_the_newest_outcomes_are_failures():
    breaker = Breaker(random.Random(1))
    tell(breaker, *[False] * (WINDOW - OPENS_AT), *[True] * (OPENS_AT - 1))
    assert not breaker.is_open
    tell(breaker, True)
    assert breaker.is_open
    assert breaker.opened == 1


def test_it_stays_closed_at_an_error_rate_of_a_half():
    breaker, chance = Breaker(random.Random(1)), random.Random(2)
    tell(breaker, *(chance.random() < 0.5 for _ in range(10_000)))
    assert breaker.opened == 0


def test_failures_that_took_long_open_it_sooner():
    breaker = Breaker(random.Random(1))
    for asked in range(1, 5):
        breaker.started()
        breaker.ended(30.0 * asked, has_failed=True, seconds=30.0)
        assert breaker.is_open == (asked == 4)


def test_it_closes_only_after_several_good_probes_in_a_row():
    breaker = opened()
    tell(breaker, *[False] * (CLOSES_AFTER - 1))
    assert breaker.is_open
    tell(breaker, True)
    tell(breaker, *[False] * (CLOSES_AFTER - 1))
    assert breaker.is_open
    tell(breaker, False)
    assert not breaker.is_open
    assert breaker.opened == 1


def test_each_failed_probe_makes_the_next_cool_down_longer_up_to_the_cap():
    breaker, waits = opened(), []
    for _ in range(40):
        waits.append(breaker.until)
        tell(breaker, True, at=0.0)
    bounds = [min(2.0**n, COOL_DOWN_CAP_SECONDS) for n in range(40)]
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    assert len(set(waits)) == 40


def test_the_cool_down_is_short_again_only_after_a_whole_window_of_good_outcomes():
    def after(good: int) -> float:
        breaker = opened()
        tell(breaker, True, True, True, at=0.0)
        tell(breaker, *[False] * (CLOSES_AFTER + good))
        tell(breaker, *[True] * OPENS_AT, at=0.0)
        return breaker.until

    assert after(good=WINDOW - 1) > 1.0
    assert after(good=WINDOW) <= 1.0


def test_what_had_started_before_it_opened_is_no_probe():
    breaker = opened()
    until = breaker.until
    breaker.ended(5.0, has_failed=True)
    for _ in range(9):
        breaker.ended(5.0, has_failed=False)
    assert breaker.is_open
    assert breaker.until == until


def test_a_probe_that_asked_nothing_proves_nothing():
    breaker = opened()
    tell(breaker, *[None] * 9)
    assert breaker.is_open


def test_once_strict_it_opens_early_and_closes_late():
    breaker = Breaker(random.Random(1))
    tell(breaker, *[True] * STRICT_OPENS_AT)
    assert not breaker.is_open
    breaker.make_strict(0.0)
    assert breaker.is_open
    tell(breaker, *[False] * (STRICT_CLOSES_AFTER - 1))
    assert breaker.is_open
    tell(breaker, False)
    assert not breaker.is_open
    tell(breaker, *[True] * (STRICT_OPENS_AT - 1))
    assert breaker.is_open  # one failure is remembered from before


# ---------------------------------------------------------------------------------------------------------- limit


class Paced:
    """A limit that is fed with loads that take what a test says, as many at a time as it lets start."""

    def __init__(self, most=64, learned=1.0):
        self.limit, self.at = DelayLimit(most, learned), 0.0

    def work(self, loads, seconds, live_seconds=None, demand=10**6):
        """`seconds(under way)` is what each load takes."""
        limit = self.limit
        for _ in range(loads):
            under_way = 0
            while under_way < demand and limit.ready_at(self.at, under_way) <= self.at:
                if under_way >= limit.slots:
                    limit.started_extra(self.at)
                under_way += 1
            if not under_way:
                self.at = limit.ready_at(self.at, 0)
                limit.started_extra(self.at)
                under_way = 1
            took = seconds(under_way)
            self.at += took / under_way
            limit.own.count += 1
            limit.own.seconds += took
            if live_seconds is not None:
                limit.note_live(self.at, live_seconds(under_way), 1, under_way - 1)
            if limit.own.count >= limit.judge_at:
                limit.judge(self.at, under_way - 1)
        return limit.limit


def test_it_starts_at_one_and_stays_there_until_it_knows_what_a_load_takes():
    paced = Paced()
    assert paced.limit.limit == 1.0
    assert paced.work(ROUND_LOADS, lambda n: 0.1) == 1.0


def test_it_grows_while_loads_take_no_longer_and_never_beyond_the_most():
    assert Paced(most=20).work(3_000, lambda n: 0.1) == 20.0


def test_it_settles_where_loads_begin_to_queue():
    found = Paced().work(5_000, lambda n: 0.1 * max(1.0, n / 6))
    assert 5 <= found <= 9


def test_it_shrinks_at_once_when_loads_take_clearly_longer_and_below_one_if_they_still_do():
    paced = Paced()
    paced.work(2_000, lambda n: 0.1)
    high = paced.limit.limit
    seen = [paced.work(8, lambda n: 0.3) for _ in range(60)]
    assert high > 8
    assert min(seen[:40]) < 1.0


def test_below_one_a_rest_follows_every_load():
    paced = Paced()
    paced.work(200, lambda n: 0.1, demand=1)
    paced.work(60, lambda n: 0.3)
    limit, began = paced.limit, paced.at
    assert limit.limit == pytest.approx(LEAST)
    paced.work(8, lambda n: 0.3)
    assert (paced.at - began) / 8 == pytest.approx(0.3 / LEAST, rel=0.2)


@pytest.mark.parametrize(("usual", "slower", "least"), [(0.0005, 0.0014, 1.0), (0.005, 0.014, LEAST)])
def test_no_rest_is_had_for_what_this_process_may_itself_be_to_blame(usual, slower, least):
    paced = Paced()
    paced.work(200, lambda n: usual, demand=1)
    paced.work(60, lambda n: slower)
    assert paced.limit.limit == pytest.approx(least)


def test_an_origin_that_stays_slow_is_the_new_measure_in_the_end():
    paced = Paced()
    paced.work(2_000, lambda n: 0.1)
    paced.work(3_000, lambda n: 0.3)
    assert paced.limit.limit > 8


def test_it_does_not_grow_while_it_is_not_what_holds_loads_up():
    assert Paced().work(3_000, lambda n: 0.1, demand=1) <= 2.0


def test_live_requests_that_take_longer_shrink_it_though_loads_do_not():
    paced = Paced()
    paced.work(1_000, lambda n: 0.1, live_seconds=lambda n: 0.01)
    high = paced.limit.limit
    paced.work(1_000, lambda n: 0.1, live_seconds=lambda n: 0.02)
    assert paced.limit.limit < high / 3


def test_it_goes_back_to_one_now_and_then_to_measure():
    paced, seen = Paced(most=16), []
    for _ in range(400):
        seen.append(paced.work(25, lambda n: 0.1))
    assert seen[-1] > 1.0
    assert 1.0 in seen[50:]


def test_an_overload_halves_it_once_for_what_was_under_way():
    paced = Paced()
    paced.work(3_000, lambda n: 0.1)
    before = paced.limit.limit
    for under_way in range(5, 0, -1):
        paced.limit.overloaded(paced.at, under_way)
    assert paced.limit.limit == before / 2


def test_a_run_measures_at_1_and_goes_on_at_half_of_what_the_one_before_learned():
    paced = Paced(learned=40.0)
    assert paced.limit.limit == 1.0
    paced.work(KNOWN_AFTER - 1, lambda n: 0.01)
    assert (paced.limit.limit, paced.limit.learned) == (1.0, 40.0)
    paced.work(8, lambda n: 0.01)
    assert paced.limit.limit == LEARNED_FACTOR * 40.0
    paced.work(3_000, lambda n: 0.01 * max(1.0, n / 30))
    assert 15.0 < paced.limit.limit < 40.0
    assert paced.limit.learned == paced.limit.limit


def test_what_was_learned_is_forgotten_where_one_at_a_time_is_too_much_now():
    paced = Paced(learned=40.0)
    paced.work(ROUND_LOADS, lambda n: 0.01)
    paced.work(ROUND_LOADS, lambda n: 0.1)
    assert paced.limit.highest == 1.0
    assert paced.limit.learned == paced.limit.limit < 1.0


@pytest.mark.parametrize("trouble", [DelayLimit.overloaded, DelayLimit.restart])
def test_what_was_learned_is_forgotten_in_trouble(trouble):
    limit = DelayLimit(64, 40.0)
    trouble(limit, 0.0, 0)
    assert limit.learned == limit.limit <= 1.0


def test_it_never_falls_below_the_least():
    limit = DelayLimit(8)
    for _ in range(50):
        limit.overloaded(0.0, 0)
    assert limit.limit == LEAST
    assert limit.ready_at(0.0, 1) == math.inf
