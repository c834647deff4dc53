"""Laws of the access log: what goes in comes out, in order, whole or sampled."""

import random
from collections import Counter
from collections import deque as consume
from itertools import cycle, islice, pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat._log import BATCH_LIMIT, STRIDE, CacheLog

keys = st.sampled_from("abcdefg")
accesses = st.lists(st.tuples(keys, st.booleans()), max_size=80)
HITS = 2**18


def record(log, happened):
    for key, is_hit in happened:
        if is_hit:
            log.hit(key)
        else:
            log.miss(key, 10, 0.5, "v", "r")


def seen(batches):
    return [(batch.keys[row], bool(hit)) for batch in batches for row, hit in zip(batch.row, batch.hit, strict=True)]


@given(st.lists(accesses, max_size=5))
def test_what_goes_in_comes_out_in_order_however_drains_fall(parts):
    log, drained = CacheLog("c"), []
    for part in parts:
        record(log, part)
        drained += seen(log.drain(0.0))
    assert [access for part in parts for access in part] == drained
    assert log.dropped == 0
    assert log.recorded_hits == sum(is_hit for _, is_hit in drained)
    assert log.recorded_misses == sum(not is_hit for _, is_hit in drained)


@given(accesses, st.integers(1, 9))
def test_a_bounded_log_keeps_the_newest_hits_and_counts_the_others(happened, limit):
    log = CacheLog("c", limit=limit)
    record(log, happened)
    drained = seen(log.drain(0.0))
    hits = [key for key, is_hit in happened if is_hit]
    kept = [key for key, is_hit in drained if is_hit]
    assert hits[len(hits) - len(kept) :] == kept
    assert log.dropped == len(hits) - len(kept)
    assert [key for key, is_hit in happened if not is_hit] == [key for key, is_hit in drained if not is_hit]


long = st.lists(accesses, max_size=12).map(lambda parts: [access for part in parts for access in part])
firsts_of_spans = st.lists(st.integers(0, STRIDE - 1), min_size=1, max_size=12)


def sampled(happened, firsts):
    log = CacheLog("c", sample_above=-1)
    record(log, happened)
    with mock.patch("preheat._log.os.urandom", lambda spans: bytes(islice(cycle(firsts), spans))):
        return list(log.drain(0.0))


@given(long, firsts_of_spans)
def test_samples_from_all_firsts_are_all_hits_once_and_all_misses_each_time(happened, firsts):
    counts = Counter()
    for shift in range(STRIDE):
        for batch in sampled(happened, [(first + shift) % STRIDE for first in firsts]):
            assert batch.stride == STRIDE
            counts.update(seen([batch]))
    expected = Counter(happened)
    assert counts == Counter({access: n * (1 if access[1] else STRIDE) for access, n in expected.items()})


@given(long, firsts_of_spans)
def test_a_sample_is_in_order_and_stands_for_as_many_as_there_were(happened, firsts):
    batches = sampled(happened, firsts)
    picked = iter(happened)
    assert all(access in picked for access in seen(batches))  # a subsequence
    hits = sum(is_hit for _, is_hit in happened)
    assert abs(sum(int(batch.times()[batch.hit].sum()) for batch in batches) - hits) < STRIDE


@given(long, firsts_of_spans)
def test_the_sample_is_the_same_where_hits_are_taken_out_one_by_one(happened, firsts):
    at_once = [seen([batch]) for batch in sampled(happened, firsts)]
    with mock.patch("preheat._log.HAS_GIL", False):
        assert at_once == [seen([batch]) for batch in sampled(happened, firsts)]


def seen_in_turn(period, draw_bytes):
    """How often a sample of 2**18 hits has each of `period` keys that are asked for in turn, against what is due."""
    log = CacheLog("c", sample_above=-1)
    consume(map(log.hit, islice(cycle(map(str, range(period))), HITS)), maxlen=0)
    with mock.patch("preheat._log.os.urandom", draw_bytes):
        counted = sum(
            (np.bincount(batch.row, minlength=period) for batch in in_one_order(log, period)), np.zeros(period)
        )
    return counted * STRIDE * period / HITS


def in_one_order(log, period):
    for batch in log.drain(0.0):
        yield batch._replace(row=np.array(list(map(int, batch.keys)))[batch.row])


@pytest.mark.parametrize("period", range(2, 65))
def test_keys_that_are_asked_for_in_turn_are_seen_in_proportion_whatever_the_period(period):
    shares = seen_in_turn(period, random.Random(period).randbytes)
    assert shares.min() > 0.5
    assert shares.max() < 1.5
    assert shares.mean() == pytest.approx(1.0)


@pytest.mark.parametrize("period", [2, 6, 16, 24, 48, 64])
def test_the_control_a_sample_at_even_steps_hides_keys_for_ever(period):
    shares = seen_in_turn(period, lambda spans: b"\3" * spans)
    assert shares.min() == 0


@given(st.integers(0, 3 * BATCH_LIMIT), st.lists(st.integers(0, 3 * BATCH_LIMIT), max_size=5))
def test_batches_are_no_larger_than_they_may_be_and_follow_each_other(hits, places):
    log = CacheLog("c", sample_above=None)
    for n in range(hits):
        for _ in range(places.count(n)):
            log.miss(f"before {n}", 1, 0.1, "", "")
        log.hit(str(n))
    batches = list(log.drain(0.0))
    assert all(len(batch.row) == BATCH_LIMIT for batch, _ in pairwise(batches))
    happened = [f"before {n}" if m else str(n) for n in range(hits) for m in [1] * places.count(n) + [0]]
    assert happened == [key for key, _ in seen(batches)]
