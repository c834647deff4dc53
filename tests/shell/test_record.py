"""The hot path and its folding thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter

import pytest

from preheat._log import MISS_LIMIT
from preheat._record import BATCH_LIMIT, AccessRecorder, CacheLog, is_quiet, quietly

pytestmark = pytest.mark.usefixtures("no_leaked_threads")


def accesses(batches):
    return [
        (batch.cache, batch.keys[row], bool(hit))
        for batch in batches
        for row, hit in zip(batch.row, batch.hit, strict=True)
    ]


def wait_for(condition, seconds=5.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.002)


# --------------------------------------------------------------------------------------------------------------- log


def test_a_drain_gives_the_accesses_in_their_order():
    log = CacheLog("c")
    log.hit("a")
    log.miss("b", 10, 0.5, "v", "r")
    log.hit("a")
    (batch,) = log.drain(7.0)
    assert accesses([batch]) == [("c", "a", True), ("c", "b", False), ("c", "a", True)]
    assert (batch.at, batch.keys) == (7.0, ["a", "b"])


def test_a_batch_tells_size_time_version_and_recipe_of_the_last_load_of_a_key():
    log = CacheLog("c")
    log.miss("a", 10, 0.5, "v1", "r1")
    log.miss("a", 20, 0.7, "v2", "r2")
    log.hit("b")
    (batch,) = log.drain(0.0)
    a, b = batch.keys.index("a"), batch.keys.index("b")
    assert [(batch.size_bytes[n], batch.load_seconds[n]) for n in (a, b)] == [(20, 0.7), (-1, -1.0)]
    assert [(batch.versions[n], batch.recipes[n]) for n in (a, b)] == [("v2", "r2"), ("", "")]


def test_a_load_that_failed_is_a_miss_and_no_load():
    log = CacheLog("c")
    log.miss("a", 10, 0.5, "v1", "r1")
    log.miss("a", -1, -1.0, "v2", "r2")
    (batch,) = log.drain(0.0)
    assert (batch.hit.tolist(), batch.size_bytes.tolist(), batch.versions) == ([False, False], [10], ["v1"])


def test_a_long_log_comes_in_batches_and_once():
    log = CacheLog("c")
    for n in range(2 * BATCH_LIMIT + 1):
        log.hit(str(n))
    assert [len(batch.row) for batch in log.drain(0.0)] == [BATCH_LIMIT, BATCH_LIMIT, 1]
    assert list(log.drain(1.0)) == []


@pytest.mark.parametrize("recorded", range(30))
def test_a_log_is_bounded_drops_the_oldest_and_counts_what_it_dropped(recorded):
    log = CacheLog("c", limit=3)
    keys = [str(n) for n in range(recorded)]
    for key in keys:
        log.hit(key)
    kept = [key for _, key, _ in accesses(log.drain(0.0))]
    assert kept in (keys[-3:], keys[-2:])  # what counts the dropped takes a place for a moment
    assert log.dropped == recorded - len(kept)
    assert log.recorded_hits == recorded
    log.hit("one more")
    assert [key for _, key, _ in accesses(log.drain(1.0))] == ["one more"]
    assert log.dropped == recorded - len(kept)


def test_misses_are_bounded_too_and_counted():
    log = CacheLog("c")
    for n in range(MISS_LIMIT + 5):
        log.miss(str(n), 1, 0.1, "", "")
    assert sum(len(batch.row) for batch in log.drain(0.0)) == MISS_LIMIT
    assert log.dropped == 5


def test_what_is_recorded_while_draining_waits_for_the_next_drain():
    log = CacheLog("c")
    for n in range(BATCH_LIMIT + 1):
        log.hit(str(n))
    first = log.drain(0.0)
    next(first)
    log.hit("late")
    assert "late" not in [key for _, key, _ in accesses(first)]
    assert [key for _, key, _ in accesses(log.drain(1.0))] == ["late"]


def test_nothing_is_lost_or_invented_while_eight_threads_record():
    seen = Counter()
    recorder = AccessRecorder(lambda batch: seen.update(key for _, key, _ in accesses([batch])))
    log = recorder.log("c")
    done = threading.Event()

    def record(thread):
        for n in range(5000):
            log.hit(f"{thread}-{n % 50}")

    def drain():
        while not done.is_set():
            recorder.drain()

    drainers = [threading.Thread(target=drain) for _ in range(2)]
    writers = [threading.Thread(target=record, args=(n,)) for n in range(8)]
    for thread in drainers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in drainers:
        thread.join()
    recorder.drain()
    assert {f"{thread}-{n}": 100 for thread in range(8) for n in range(50)} == seen


# ---------------------------------------------------------------------------------------------------------- recorder


def test_each_cache_has_one_log_and_all_are_drained_at_one_instant():
    batches = []
    recorder = AccessRecorder(batches.append, clock=lambda: 42.0)
    recorder.log("x").hit("a")
    recorder.log("y").hit("b")
    recorder.log("x").hit("c")
    recorder.drain()
    assert accesses(batches) == [("x", "a", True), ("x", "c", True), ("y", "b", True)]
    assert {42.0} == {batch.at for batch in batches}


def test_a_consumer_that_raises_loses_its_batch_and_nothing_else(caplog):
    batches = []

    def consume(batch):
        if batch.cache == "bad":
            raise RuntimeError("no room")
        batches.append(batch)

    recorder = AccessRecorder(consume)
    recorder.log("bad").hit("a")
    recorder.log("good").hit("b")
    with caplog.at_level(logging.ERROR, "preheat"):
        recorder.drain()
    assert accesses(batches) == [("good", "b", True)]
    assert [record.message for record in caplog.records] == ["accesses of cache 'bad' could not be folded"]


@pytest.mark.parametrize("access", [("a", 2**63, 1.0, "", ""), (7, 1, 1.0, "", ""), ("a", "big", 1.0, "", "")])
def test_an_access_that_is_none_costs_its_batch_and_nothing_else(access, caplog):
    batches = []
    recorder = AccessRecorder(batches.append)
    recorder.log("bad").miss(*access)
    recorder.log("good").hit("b")
    recorder.drain()
    recorder.log("bad").hit("c")
    recorder.drain()
    assert ("good", "b", True) in accesses(batches)
    assert accesses(batches)[-1] == ("bad", "c", True)


def test_no_thread_runs_before_the_start():
    before = threading.active_count()
    recorder = AccessRecorder(lambda batch: None)
    recorder.log("c").hit("a")
    recorder.stop()  # of nothing
    assert before == threading.active_count()


def test_the_thread_drains_and_then_does_what_follows():
    batches, followed = [], threading.Event()
    recorder = AccessRecorder(batches.append)
    recorder.log("c").hit("a")
    recorder.start(0.001, followed.set)
    recorder.start(0.001, followed.set)  # a second start starts no second thread
    assert sum(thread.name == "preheat-fold" for thread in threading.enumerate()) == 1
    assert followed.wait(5.0)
    recorder.stop()
    assert accesses(batches) == [("c", "a", True)]


def test_stop_joins_and_the_thread_can_be_started_again():
    batches = []
    recorder = AccessRecorder(batches.append)
    recorder.start(0.001, lambda: None)
    recorder.stop()
    assert "preheat-fold" not in [thread.name for thread in threading.enumerate()]
    recorder.log("c").hit("a")
    assert batches == []
    recorder.start(0.001, lambda: None)
    wait_for(lambda: batches)
    recorder.stop()


def test_the_thread_outlives_what_follows_a_drain_and_raises(caplog):
    calls = []

    def follow():
        calls.append(1)
        raise RuntimeError("disk")

    recorder = AccessRecorder(lambda batch: None)
    recorder.start(0.001, follow)
    wait_for(lambda: len(calls) >= 3)
    recorder.stop()
    assert "what follows a drain failed; recording goes on" in caplog.text


def test_what_all_logs_dropped_is_counted():
    recorder = AccessRecorder(lambda batch: None)
    for name in ("x", "y"):
        recorder._logs[name] = CacheLog(name, limit=2)
        for _ in range(9):
            recorder.log(name).hit("a")
    recorder.drain()
    assert recorder.dropped == 18 - 4


# ------------------------------------------------------------------------------------------------------------- quiet


def test_quiet_holds_for_its_thread_and_its_block_only():
    seen = []
    assert not is_quiet()
    with quietly():
        with quietly():
            assert is_quiet()
        assert is_quiet()
        other = threading.Thread(target=lambda: seen.append(is_quiet()))
        other.start()
        other.join()
    assert not is_quiet()
    assert seen == [False]


def test_quiet_ends_when_its_block_raises():
    with pytest.raises(KeyError), quietly():
        raise KeyError
    assert not is_quiet()
