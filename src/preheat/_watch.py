"""Who watches memory: a thread that reads it, listens for signals of pressure, and tells when the level changes.

Where there are no signals, memory is read at intervals all the same.  What a reading or a signal means is
`_pressure`'s business, how memory is read `_memory`'s, where signals come from `_signals`'.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from preheat._log import log_failure
from preheat._model import MemoryPressureLevel, MemoryReading
from preheat._plan.adaptive import Sample
from preheat._pressure import Signal, held_level, strongest_signal
from preheat._samples import Samples
from preheat._signals import PressureSignals, Silence, mend_after_fork

if TYPE_CHECKING:
    from preheat.abc import Clock, MemoryMonitor, PressureCallback

logger = logging.getLogger("preheat")

PressureRule = Callable[[MemoryReading, MemoryPressureLevel], MemoryPressureLevel]

HEADROOM_SECONDS, HEADROOM_INTERVAL_SECONDS = 60.0, 0.9
HEADROOM_SAMPLES = 64

REST_SECONDS = 0.02
"""Kept after each signal, so that a source that never falls silent can't occupy a core."""


class _Signals(Protocol):
    def wait(self, seconds: float) -> MemoryPressureLevel | None: ...
    def wake(self) -> None: ...
    def close(self) -> None: ...


class _Worker:
    """The thread that watches, and what it listens to, which it closes when it ends."""

    def __init__(self, signals: _Signals, run: Callable[[_Worker], None]) -> None:
        self.signals = signals
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=run, args=(self,), name="preheat-memory", daemon=True)

    def wait(self, seconds: float) -> MemoryPressureLevel | None:
        """As the signals do; should they fail, that is logged and nothing is listened to any more."""
        try:
            return self.signals.wait(seconds)
        except Exception:
            logger.exception("signals of memory pressure failed; memory is read at intervals alone")
            failed, self.signals = self.signals, Silence()
            failed.close()
            return None

    def stop(self) -> None:
        """End the thread and wait for it, unless this is that thread."""
        self.stopped.set()
        self.signals.wake()
        if threading.current_thread() is not self.thread:
            self.thread.join()


class MemoryWatch:
    """Reads memory and listens to the kernel; tells its subscribers when the pressure level changes.

    The level is what the rule makes of the reading, but at least that of a signal that is still held.  Safe to
    share between threads.  A forked child keeps the level and loses the subscriptions: they belong to the parent.
    Nothing is opened or started before the first subscription.

    Args:
        memory: Reads memory.
        rule: The level that a reading means, given the level that the rule gave before.
        signals: Opens what to listen to; None to read at intervals alone.
        clock: Says how long ago a signal was heard.
    """

    def __init__(
        self,
        memory: MemoryMonitor,
        rule: PressureRule,
        *,
        signals: Callable[[], PressureSignals] | None = PressureSignals,
        clock: Clock = time.monotonic,
    ) -> None:
        self._memory, self._rule, self._open_signals, self._clock = memory, rule, signals, clock
        self._level = self._ruled = MemoryPressureLevel.LOW
        self._last: MemoryReading | None = None
        self._quiet_since = 0.0  # when memory was read last, or the thread was started
        self._headroom = Samples(HEADROOM_SAMPLES)
        self._signal: Signal | None = None
        self._failed: set[type[Exception]] = set()
        self._times_met = [0] * len(MemoryPressureLevel)
        self._lock = threading.Lock()
        self._subscribers: dict[object, tuple[PressureCallback, float]] = {}
        self._changes: deque[tuple[MemoryPressureLevel, MemoryReading]] = deque()
        self._is_telling = False
        self._worker: _Worker | None = None
        mend_after_fork(self)

    @property
    def level(self) -> MemoryPressureLevel:
        """The level as of the last reading; LOW before the first."""
        return self._level

    @property
    def last(self) -> MemoryReading | None:
        """The last reading that succeeded."""
        return self._last

    @property
    def times_met(self) -> tuple[int, ...]:
        """By level, how often memory has come to it."""
        return tuple(self._times_met)

    @property
    def headroom(self) -> tuple[Sample, ...]:
        """The headroom of the last minute, a reading per second at most, oldest first; since `forget_headroom`."""
        with self._lock:
            oldest = self._clock() - HEADROOM_SECONDS
            recent = [Sample(*seen) for seen in self._headroom.newest_first() if seen[0] >= oldest]
        return tuple(reversed(recent))

    def forget_headroom(self) -> None:
        """What was seen so far says nothing of others: a run of ours has taken memory."""
        with self._lock:
            self._headroom.clear()

    def read(self) -> tuple[MemoryPressureLevel, MemoryReading | None]:
        """Read memory now: the level that it means, and the reading.

        Takes tens of microseconds.  Subscribers hear of a change before this returns, unless another thread is just
        telling them; then that one goes on.  If memory can't be read the reading is None, which is logged once per
        kind of failure, and the rule's word stays as it was.
        """
        failure: Exception | None = None
        reading: MemoryReading | None = None
        with self._lock:
            try:
                reading = self._memory()
                self._ruled, self._last = self._rule(reading, self._ruled), reading
                self._note_headroom(reading)
            except Exception as error:
                failure, reading = error, None
            self._quiet_since = self._clock()
            level = max(self._ruled, held_level(self._signal, self._quiet_since))
            if level != self._level and self._last is not None:
                self._level = level
                self._times_met[level] += 1
                self._changes.append((level, self._last))
            level = self._level
        if failure is not None and type(failure) not in self._failed:
            self._failed.add(type(failure))
            logger.error("memory can't be read; the pressure stays at %s", level.name, exc_info=failure)
        self._tell()
        return level, reading

    def _note_headroom(self, reading: MemoryReading) -> None:
        at = self._clock()
        if not self._headroom or at - self._headroom.last_at >= HEADROOM_INTERVAL_SECONDS:
            self._headroom.add(at, reading.available_bytes)

    def subscribe(self, tell: PressureCallback, *, interval_seconds: float) -> Callable[[], None]:
        """Call `tell(level, reading)` at every change of the level from now on, one call at a time.

        Memory is read every `interval_seconds` at least, by the smallest of all subscribers: by a thread, but only
        where nobody else has read it, as each reading of another thread holds up whoever runs.  The first subscription
        starts a thread and opens the signals; the end of the last stops the one and closes the others.  A `tell`
        that raises is logged.  It may read, subscribe and end subscriptions.

        Returns:
            What ends the subscription, waiting for the thread if it was the last; a second call does nothing.
        """
        key = object()
        with self._lock:
            self._subscribers[key] = (tell, max(interval_seconds, REST_SECONDS))
            if self._worker is None:
                self._start()
            else:
                self._worker.signals.wake()  # the interval may have become smaller
        return partial(self._end, key)

    def after_fork(self) -> None:
        """Only the forking thread is alive in a child: locks, thread and subscriptions are those of the parent."""
        self._lock, self._worker, self._is_telling = threading.Lock(), None, False
        self._subscribers, self._changes = {}, deque()

    def _start(self) -> None:
        signals: _Signals = Silence()
        try:
            if self._open_signals is not None:
                signals = self._open_signals()
        except Exception:
            logger.exception("signals of memory pressure can't be had; memory is read at intervals alone")
        worker, self._quiet_since = _Worker(signals, self._watch), self._clock()
        try:
            worker.thread.start()
        except RuntimeError:
            signals.close()
            logger.exception("no thread can be started to watch memory; its pressure is noticed when it is read")
        else:
            self._worker = worker

    def _end(self, key: object) -> None:
        with self._lock:
            if self._subscribers.pop(key, None) is None or self._subscribers:
                return
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    def _watch(self, worker: _Worker) -> None:
        try:
            while not worker.stopped.is_set():
                heard = worker.wait(self._due_seconds())
                if worker.stopped.is_set():
                    break
                if heard is not None:
                    self._hold(heard)
                elif self._due_seconds() > 0:  # somebody has read meanwhile
                    continue
                self.read()
                if heard is not None:
                    worker.stopped.wait(REST_SECONDS)
        finally:
            worker.signals.close()

    def _due_seconds(self) -> float:
        """In how many seconds memory has to be read again; 0 or less if it has to be now."""
        with self._lock:
            interval_seconds = min((seconds for _, seconds in self._subscribers.values()), default=0.0)
            return interval_seconds - (self._clock() - self._quiet_since)

    def _hold(self, level: MemoryPressureLevel) -> None:
        with self._lock:
            self._signal = strongest_signal(self._signal, Signal(level, self._clock()))

    def _tell(self) -> None:
        """Tell the changes in their order; whoever comes while another thread is at it leaves it to that thread."""
        while self._changes:
            with self._lock:
                if self._is_telling or not self._changes:
                    return
                self._is_telling = True
                level, reading = self._changes.popleft()
                keys = list(self._subscribers)
            try:
                for key in keys:
                    self._tell_one(key, level, reading)
            finally:
                self._is_telling = False

    def _tell_one(self, key: object, level: MemoryPressureLevel, reading: MemoryReading) -> None:
        tell, _ = self._subscribers.get(key, (None, 0.0))
        if tell is None:  # it has ended meanwhile
            return
        try:
            tell(level, reading)
        except Exception:
            log_failure("a subscriber to memory pressure failed; the others are told")
