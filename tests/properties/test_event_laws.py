"""The totals of the memory log are the sum of its events, whatever happens."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from preheat._events import MemoryLog
from preheat._model import CacheMemory, MemoryEventKind

happenings = st.tuples(
    st.sampled_from(["file", "search", ""]),
    st.sampled_from(MemoryEventKind),
    st.integers(0, 2**63 - 1) | st.integers(0, 10),
    st.text(max_size=5),
    st.integers(1, 5),
)


def fold(events):
    """What the totals have to be, said in another way than the log does it."""
    totals = {}
    for _, kind, cache, size_bytes, _, items in events:
        if kind is MemoryEventKind.PRESSURE:
            continue
        is_allocation = kind is MemoryEventKind.ALLOCATION
        old = totals.get(cache, CacheMemory())
        current = old.current_bytes + (size_bytes if is_allocation else -size_bytes)
        totals[cache] = CacheMemory(
            current_bytes=current,
            peak_bytes=max(old.peak_bytes, current),
            allocated_bytes=old.allocated_bytes + is_allocation * size_bytes,
            released_bytes=old.released_bytes + (not is_allocation) * size_bytes,
            evictions=old.evictions + items * (kind is MemoryEventKind.EVICTION),
        )
    return totals


def kept(happened, limit):
    """What a log still has of what happened, numbered: the newest of values, and the newest of pressure."""
    by_kind = {True: [], False: []}
    for n, event in enumerate(happened):
        by_kind[event[1] is MemoryEventKind.PRESSURE].append(n)
    newest = sorted(by_kind[True][-limit:] + by_kind[False][-limit:])
    return [(n, happened[n]) for n in newest]


def told(events):
    """The events as they were tracked."""
    return [(cache, kind, size, cause, items) for _, kind, cache, size, cause, items in events]


@given(st.lists(happenings, max_size=40))
def test_the_totals_are_the_sum_of_the_events(happened):
    log = MemoryLog(limit=40)
    for event in happened:
        log.track(*event)
    assert fold(log.events()) == log.statistics()
    assert log.dropped == 0
    for total in log.statistics().values():
        assert total.current_bytes == total.allocated_bytes - total.released_bytes
        assert total.peak_bytes >= total.current_bytes


@given(st.lists(happenings, max_size=40), st.integers(1, 10))
def test_a_small_log_keeps_the_newest_and_forgets_no_total(happened, limit):
    small, large = MemoryLog(limit), MemoryLog(40)
    for event in happened:
        small.track(*event)
        large.track(*event)
    assert small.statistics() == large.statistics()
    assert told(small.events()) == [event for _, event in kept(happened, limit)]
    assert small.dropped == len(happened) - len(small.events())


@given(st.lists(happenings, max_size=20), st.lists(happenings, max_size=20), st.integers(1, 50))
def test_the_events_after_a_mark_are_what_was_tracked_since(before, since, limit):
    log = MemoryLog(limit)
    for event in before:
        log.track(*event)
    mark = log.mark()
    for event in since:
        log.track(*event)
    assert told(log.events_after(mark)) == [event for n, event in kept([*before, *since], limit) if n >= len(before)]
