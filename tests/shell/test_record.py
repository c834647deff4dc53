"""The hot path and its folding thread."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import time
from collections import Counter
from contextvars import Context, copy_context

import pytest

import preheat._log
from preheat._log import MISS_LIMIT, SAMPLE_ABOVE, SPAN, STRIDE
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


COUNTED = 20_000


def in_threads(act, threads=4):
    team = [threading.Thread(target=act) for _ in range(threads)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()


@pytest.fixture
def hasty():
    """Threads change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_four_threads_lose_nothing_of_what_four_threads_record():
    log = CacheLog("c", sample_above=None)
    in_threads(lambda: [log.hit("a") for _ in range(COUNTED)])
    assert sum(len(batch.row) for batch in log.drain(0.0)) == 4 * COUNTED


@pytest.mark.usefixtures("hasty")
def test_four_threads_do_lose_counts_of_a_dict():
    counts = {}

    def count():
        for _ in range(20 * COUNTED):
            counts["a"] = counts.get("a", 0) + 1

    in_threads(count)
    assert counts["a"] < 80 * COUNTED


@pytest.mark.usefixtures("hasty")
def test_what_four_threads_record_while_samples_are_taken_is_counted_to_the_last_one():
    log, done, drained = CacheLog("c", sample_above=-1), threading.Event(), []

    def drain():
        while not done.is_set():
            drained.extend(batch.times().sum() for batch in log.drain(0.0))

    drainer = threading.Thread(target=drain)
    drainer.start()
    in_threads(lambda: [log.hit("a") for _ in range(COUNTED)])
    done.set()
    drainer.join()
    list(log.drain(0.0))
    assert log.recorded_hits == 4 * COUNTED


@pytest.mark.parametrize("step", ["_take_out", "_number_after"])
def test_what_is_just_being_taken_out_is_counted(monkeypatch, step):
    log, seen, take = CacheLog("c"), [], getattr(preheat._log, step)
    for _ in range(3):
        log.hit("a")
        log.miss("b", 1, 0.1, "", "")
    reader = threading.Thread(target=lambda: seen.append((log.recorded_hits, log.recorded_misses)))

    def take_while_another_reads(*arguments):
        taken = take(*arguments)
        if reader.ident is None:
            reader.start()
            reader.join(0.05)
        return taken

    monkeypatch.setattr(preheat._log, step, take_while_another_reads)
    list(log.drain(0.0))
    reader.join()
    assert seen == [(3, 3)]


def test_without_the_interpreters_lock_samples_are_taken_out_one_by_one(monkeypatch):
    monkeypatch.setattr("preheat._log.HAS_GIL", False)
    log = CacheLog("c", sample_above=-1)
    for n in range(2 * SPAN):
        log.hit(str(n))
    taken = [int(key) for _, key, _ in accesses(log.drain(0.0))]
    firsts = taken[0], taken[SPAN // STRIDE]
    assert taken == [*range(firsts[0], SPAN, STRIDE), *range(firsts[1], 2 * SPAN, STRIDE)]
    assert (log.recorded_hits, log.dropped) == (2 * SPAN, 0)


def test_recording_hits_makes_no_work_for_the_garbage_collector():
    log, key = CacheLog("c"), "a"
    gc.collect()
    before = [generation["collections"] for generation in gc.get_stats()]
    for _ in range(100_000):
        log.hit(key)
    assert before == [generation["collections"] for generation in gc.get_stats()]


def test_ordinary_traffic_is_counted_whole_and_very_much_is_sampled():
    log = CacheLog("c")
    for few_or_many, stride in ((SAMPLE_ABOVE, 1), (SAMPLE_ABOVE + 1, STRIDE)):
        for _ in range(few_or_many):
            log.hit("a")
        assert {stride} == {batch.stride for batch in log.drain(0.0)}


def test_keys_that_are_no_text_are_left_out_and_told_once(caplog):
    log = CacheLog("numbered")
    for _ in range(2):
        log.hit(7)
        log.hit("a")
        log.miss(("b",), 1, 0.1, "", "")
        log.miss("c", 1, 0.1, "", "")
        (batch,) = log.drain(0.0)
        assert [(key, hit) for _, key, hit in accesses([batch])] == [("a", True), ("c", False)]
        assert batch.size_bytes[batch.keys.index("c")] == 1
    assert len(caplog.records) == 1
    assert "'numbered'" in caplog.text


def test_text_of_another_class_is_the_text():
    class Word(str):
        __slots__ = ()

    log = CacheLog("c")
    log.hit(Word("a"))
    log.hit("a")
    (batch,) = log.drain(0.0)
    assert {"a"} == set(batch.keys)
    assert {str} == set(map(type, batch.keys))


def test_a_log_that_nobody_drains_passes_on_what_it_has():
    first, second = CacheLog("c"), CacheLog("c")
    first.hit("a")
    first.miss("b", 1, 0.1, "v", "r")
    first.pass_on(second)
    assert accesses(first.drain(0.0)) == []
    assert accesses(second.drain(0.0)) == [("c", "a", True), ("c", "b", False)]


def test_what_still_comes_where_it_was_recorded_before_is_taken_with_the_next_drain():
    first, second, third = CacheLog("c"), CacheLog("c"), CacheLog("c")
    hit, miss = first.hit, first.miss
    first.pass_on(second)
    second.pass_on(third)
    hit("late")
    miss("later", 1, 0.1, "", "")
    assert accesses(third.drain(0.0)) == [("c", "late", True), ("c", "later", False)]
    assert accesses(third.drain(0.0)) == []


def test_a_mark_whose_end_is_told_late_counts_nothing_and_puts_no_other():
    log = CacheLog("c", limit=3)
    mark = log._hits[0]
    log.hit("a")
    assert accesses(log.drain(0.0)) == [("c", "a", True)]
    del mark  # as without the interpreter's lock it may end now, though it was taken out before
    assert len(log._hits) == 1
    assert (accesses(log.drain(0.0)), log.dropped, log.recorded_hits) == ([], 0, 1)


def test_a_mark_that_fell_and_has_not_ended_yet_tells_that_something_was_dropped():
    log = CacheLog("c", limit=3)
    mark = log._hits[0]
    for n in range(9):
        log.hit(str(n))
    assert [key for _, key, _ in accesses(log.drain(0.0))] == ["5", "6", "7", "8"]
    del mark
    assert log.dropped == 1


def test_a_log_that_a_recorder_drains_keeps_what_it_has():
    mine, other = AccessRecorder(lambda batch: None).log("c"), CacheLog("c")
    mine.hit("a")
    mine.pass_on(other)
    assert accesses(other.drain(0.0)) == []
    assert accesses(mine.drain(0.0)) == [("c", "a", True)]


def test_the_first_access_can_be_told_where_to_go():
    first, second = CacheLog("c"), CacheLog("c")
    first.begin_with(lambda: second)
    first.hit("a")
    first.hit("b")
    assert accesses(second.drain(0.0)) == [("c", "a", True)]
    assert accesses(first.drain(0.0)) == [("c", "b", True)]


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


def alone(act):
    """A thread that takes on no context, as all do but those of newer free-threaded interpreters."""
    return threading.Thread(target=Context().run, args=(act,))


def test_quiet_holds_for_its_thread_and_its_block_only():
    seen = []
    assert not is_quiet()
    with quietly():
        with quietly():
            assert is_quiet()
        assert is_quiet()
        other = alone(lambda: seen.append(is_quiet()))
        other.start()
        other.join()
    assert not is_quiet()
    assert seen == [False]


def test_what_a_load_has_begun_is_quiet_as_long_as_the_load():
    with quietly():
        begun = copy_context()
        assert begun.run(is_quiet)
    assert not begun.run(is_quiet)


def test_what_is_read_quietly_is_not_recorded_and_what_others_read_meanwhile_is():
    log = CacheLog("c")

    def load():
        with quietly():
            log.hit("quiet")
            log.miss("quiet", 1, 0.1, "", "")
            other = alone(lambda: log.hit("loud"))
            other.start()
            other.join()

    load()
    log.hit("after")
    assert [key for _, key, _ in accesses(log.drain(0.0))] == ["loud", "after"]


def test_a_task_is_quiet_and_those_beside_it_are_not():
    log = CacheLog("c")

    async def load(begun, over):
        with quietly():
            begun.set()
            await over.wait()
            log.hit("quiet")
            await asyncio.to_thread(log.hit, "quiet in a thread")

    async def main():
        begun, over = asyncio.Event(), asyncio.Event()
        loading = asyncio.create_task(load(begun, over))
        await begun.wait()
        log.hit("loud")
        over.set()
        await loading

    asyncio.run(main())
    assert [key for _, key, _ in accesses(log.drain(0.0))] == ["loud"]


def test_a_hit_is_one_append_unless_somebody_is_quiet():
    log, told = CacheLog("c"), []
    log.follow(told.append)
    plain = log.hit
    with quietly():
        assert log.hit != plain
    assert log.hit == plain == told[-1]
    assert len(told) == 3


def test_quiet_ends_when_its_block_raises():
    with pytest.raises(KeyError), quietly():
        raise KeyError
    assert not is_quiet()


# -------------------------------------------------------------------------------------------------------------- fork

FORK = """
import os, sys, threading, time
from collections import Counter
from preheat._record import AccessRecorder, quietly

seen, folding = Counter(), threading.Event()

def consume(batch):
    folding.set()
    time.sleep(0.02)                                         # so that forks find a fold under way
    seen.update(f"{key} {threading.current_thread().name}" for key in map(batch.keys.__getitem__, batch.row))

recorder = AccessRecorder(consume)
log = recorder.log("c")
recorder.start(0.001, lambda: None)
children = []
for n in range(10):
    log.hit("parent")
    folding.wait(5); folding.clear()
    log.hit("parent")
    with quietly():
        child = os.fork()
    if child == 0:
        try:
            before = dict(seen)
            assert threading.active_count() == 1, "a thread came along"
            log.hit("child") if n % 2 else log.miss("child", 1, 0.1, "", "")
            assert threading.active_count() == 2, "no thread of its own"
            until = time.monotonic() + 10
            while seen["child preheat-fold"] < 1:
                assert time.monotonic() < until, "nothing is folded"
                time.sleep(0.001)
            log.hit("child")
            recorder.stop(); recorder.drain()
            new = Counter(seen); new.subtract(before)
            assert sum(new.values()) == 2 and not [k for k in +new if "parent" in k], new
        except BaseException as error:
            print("child", n, repr(error), file=sys.stderr); os._exit(1)
        os._exit(0)
    children.append(child)
recorder.stop(); recorder.drain()
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 10
total = Counter()
for key, n in seen.items():
    total[key.split()[0]] += n
assert total == {"parent": 20}, total
"""


def test_a_forked_child_records_for_itself_and_nothing_is_lost_or_counted_twice():
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, check=False, timeout=60
    )
    assert shown.returncode == 0, shown.stderr
