"""The memory log, and how caches report to it."""

from __future__ import annotations

import logging
import math
import threading

import pytest

from preheat._events import CAUSE_LIMIT, MemoryLog, MemoryReporter
from preheat._model import CacheMemory, MemoryEvent, MemoryEventKind
from preheat.errors import InvalidSetting
from preheat.testing import FakeClock

pytestmark = pytest.mark.usefixtures("no_leaked_threads")

ALLOCATION, RELEASE = MemoryEventKind.ALLOCATION, MemoryEventKind.RELEASE
EVICTION, ROLLBACK, PRESSURE = MemoryEventKind.EVICTION, MemoryEventKind.ROLLBACK, MemoryEventKind.PRESSURE


@pytest.fixture
def clock():
    return FakeClock(100.0)


@pytest.fixture
def log(clock):
    return MemoryLog(limit=4, clock=clock)


def sizes(events):
    return [event.size_bytes for event in events]


# ------------------------------------------------------------------------------------------------------------- the log


def test_an_event_has_time_cache_bytes_and_cause(log, clock):
    log.track("file", ALLOCATION, 10, "traffic")
    clock.advance(5.0)
    log.track("file", "eviction", 30, "to make room", items=3)
    assert log.events() == (
        MemoryEvent(100.0, ALLOCATION, "file", 10, "traffic", 1),
        MemoryEvent(105.0, EVICTION, "file", 30, "to make room", 3),
    )
    assert type(log.events()[1].kind) is MemoryEventKind


def test_the_totals_of_each_cache_are_its_own(log):
    log.track("file", ALLOCATION, 100)
    log.track("search", ALLOCATION, 7)
    log.track("file", EVICTION, 60, items=3)
    log.track("file", ALLOCATION, 10)
    log.track("file", RELEASE, 5)
    log.track("file", ROLLBACK, 10)
    assert log.statistics() == {
        "file": CacheMemory(current_bytes=35, peak_bytes=100, allocated_bytes=110, released_bytes=75, evictions=3),
        "search": CacheMemory(current_bytes=7, peak_bytes=7, allocated_bytes=7, released_bytes=0, evictions=0),
    }


def test_what_is_dropped_from_the_log_stays_in_the_totals(log):
    for size in range(1, 11):
        log.track("file", ALLOCATION, size)
    assert sizes(log.events()) == [7, 8, 9, 10]
    assert log.dropped == 6
    assert log.statistics()["file"].allocated_bytes == 55


def test_changes_of_pressure_are_in_no_total(log):
    log.track("", PRESSURE, 5_000, "high: paused")
    log.track("file", PRESSURE, 5_000, "no room")
    assert log.statistics() == {}
    assert len(log.events()) == 2


def test_a_cache_that_drops_what_it_never_reported_is_seen_to(log):
    log.track("file", RELEASE, 10)
    assert log.statistics()["file"] == CacheMemory(-10, 0, 0, 10, 0)


def test_events_can_be_asked_for_by_time_and_number(log, clock):
    for size in (1, 2, 3):
        log.track("file", ALLOCATION, size)
        clock.advance(1.0)
    assert sizes(log.events(since=101.0)) == [2, 3]
    assert sizes(log.events(newest=2)) == [2, 3]
    assert sizes(log.events(since=101.0, newest=1)) == [3]
    assert log.events(newest=0) == log.events(since=math.inf) == ()
    assert sizes(log.events(newest=99)) == [1, 2, 3]


def test_the_events_of_a_run_are_those_after_its_mark(log):
    log.track("file", ALLOCATION, 1)
    mark = log.mark()
    assert log.events_after(mark) == ()
    for size in (2, 3):
        log.track("file", ALLOCATION, size)
    assert sizes(log.events_after(mark)) == [2, 3]
    for size in (4, 5, 6):
        log.track("file", ALLOCATION, size)
    assert sizes(log.events_after(mark)) == [3, 4, 5, 6]
    assert log.events_after(log.mark() + 5) == ()


def test_a_long_cause_is_cut(log):
    log.track("file", ALLOCATION, 1, "x" * 10_000)
    assert log.events()[0].cause == "x" * CAUSE_LIMIT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "alocation"}, "kind of memory event is 'alocation'; did you mean 'allocation'? it has to be one of "),
        ({"kind": 3}, "kind of memory event is 3; "),
        ({"kind": []}, "kind of memory event is "),
        ({"size_bytes": -1}, "size_bytes of a memory event is -1; it has to be an int from 0"),
        ({"size_bytes": 1.0}, "size_bytes of a memory event is 1.0"),
        ({"size_bytes": None}, "size_bytes of a memory event is None"),
        ({"items": 0}, "items of a memory event is 0; it has to be an int from 1"),
        ({"items": 1.5}, "items of a memory event is 1.5"),
        ({"cause": None}, "both have to be text"),
        ({"cache": 5}, "both have to be text"),
    ],
)
def test_what_is_no_event_is_refused_and_leaves_nothing_behind(log, change, message):
    with pytest.raises(InvalidSetting) as refused:
        log.track(**{"cache": "file", "kind": ALLOCATION, "size_bytes": 1, "cause": "", "items": 1} | change)
    assert message in str(refused.value)
    assert (log.events(), log.statistics(), log.mark()) == ((), {}, 0)


@pytest.mark.parametrize("limit", [0, -1, 1.5, None])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(InvalidSetting, match="the limit of the memory log is"):
        MemoryLog(limit)


def test_a_negative_number_of_events_is_refused(log):
    with pytest.raises(InvalidSetting, match="newest of a memory event is -1"):
        log.events(newest=-1)


def test_eight_threads_lose_no_event():
    log = MemoryLog(limit=100)

    def work():
        for _ in range(2_000):
            log.track("file", ALLOCATION, 3)
            log.track("file", EVICTION, 2, items=2)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    totals = log.statistics()["file"]
    assert totals._replace(peak_bytes=0) == CacheMemory(16_000, 0, 48_000, 32_000, 32_000)
    assert log.mark() == log.dropped + len(log.events()) == 32_000


# -------------------------------------------------------------------------------------------------------- the reporter


class Heard(list):
    """A tracker that remembers."""

    def __call__(self, kind, size_bytes, cause, items=1):
        self.append((kind, size_bytes, cause, items))


def test_nothing_is_noted_before_somebody_follows():
    reporter, heard = MemoryReporter("file"), Heard()
    reporter.note(ALLOCATION, 5, "traffic")
    assert not reporter.is_followed
    reporter.follow(heard, 5, 1)
    reporter.note(RELEASE, 5, "cleared")
    assert heard == []
    reporter.tell()
    assert heard == [(ALLOCATION, 5, "resident before", 1), (RELEASE, 5, "cleared", 1)]


def test_who_follows_an_empty_cache_hears_nothing_of_what_was_there():
    reporter, heard = MemoryReporter("file"), Heard()
    reporter.follow(heard, 0, 0)
    reporter.tell()
    assert heard == []


def test_a_second_tracker_takes_over_and_the_books_of_the_first_are_closed():
    reporter, first, second = MemoryReporter("file"), Heard(), Heard()
    reporter.follow(first, 0, 0)
    reporter.note(ALLOCATION, 5, "traffic")
    reporter.follow(second, 5, 1)
    reporter.note(ALLOCATION, 7, "traffic")
    reporter.tell()
    assert first == [(ALLOCATION, 5, "traffic", 1), (RELEASE, 5, "reported elsewhere", 1)]
    assert second == [(ALLOCATION, 5, "resident before", 1), (ALLOCATION, 7, "traffic", 1)]


def test_a_tracker_that_raises_is_logged_once_and_goes_on_being_told(caplog):
    class Failing(Heard):
        def __call__(self, *event):
            super().__call__(*event)
            raise RuntimeError("no more room in the log")

    reporter, heard = MemoryReporter("file"), Failing()
    reporter.follow(heard, 0, 0)
    with caplog.at_level(logging.ERROR, "preheat"):
        for _ in range(3):
            reporter.note(ALLOCATION, 5, "traffic")
        reporter.tell()
    assert len(heard) == 3
    assert [record.message for record in caplog.records] == ["memory events of cache 'file' could not be tracked"]


def test_what_several_threads_note_is_told_in_order():
    reporter, lock, heard, noted = MemoryReporter("file"), threading.Lock(), Heard(), []
    reporter.follow(heard, 0, 0)

    def work(thread):
        for n in range(1_000):
            with lock:
                reporter.note(ALLOCATION, n, f"{thread}")
                noted.append((ALLOCATION, n, f"{thread}", 1))
            reporter.tell()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == noted
