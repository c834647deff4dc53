"""Laws of the access log: what goes in comes out, in order, whole or sampled."""

from collections import Counter
from itertools import pairwise
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from preheat._log import BATCH_LIMIT, STRIDE, CacheLog

keys = st.sampled_from("abcdefg")
accesses = st.lists(st.tuples(keys, st.booleans()), max_size=80)


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


def sampled(happened, offset):
    log = CacheLog("c", sample_above=-1)
    record(log, happened)
    with mock.patch("preheat._log.os.urandom", return_value=bytes([offset])):
        return list(log.drain(0.0))


@given(accesses)
def test_samples_of_all_offsets_are_all_hits_once_and_all_misses_each_time(happened):
    counts = Counter()
    for offset in range(STRIDE):
        for batch in sampled(happened, offset):
            assert batch.stride == STRIDE
            counts.update(seen([batch]))
    expected = Counter(happened)
    assert counts == Counter({access: n * (1 if access[1] else STRIDE) for access, n in expected.items()})


@given(accesses, st.integers(0, STRIDE - 1))
def test_a_sample_is_in_order_and_stands_for_as_many_as_there_were(happened, offset):
    batches = sampled(happened, offset)
    picked = iter(happened)
    assert all(access in picked for access in seen(batches))  # a subsequence
    hits = sum(is_hit for _, is_hit in happened)
    assert abs(sum(int(batch.times()[batch.hit].sum()) for batch in batches) - hits) < STRIDE


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
