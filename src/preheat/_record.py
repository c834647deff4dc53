"""The hot path: accesses go into a bounded log; a thread folds them into history in batches.

Recording a hit is one `deque.append`, a bound C method: no lock, no clock, no object but the key itself.  The time
of an access is the time of the drain that takes it out, so instants are as coarse as the drain interval.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from preheat._model import AccessBatch
from preheat.abc import Clock

_thread = threading.local()

LOG_LIMIT = 262_144  # accesses waiting per cache: 2 MiB of pointers; beyond it the oldest are dropped
BATCH_LIMIT = 10_000  # folding more at once holds the interpreter's lock long enough to be felt

_Load = tuple[str, int, float, str, str]


@contextmanager
def quietly() -> Iterator[None]:
    """While this lasts, what the thread reads from any cache of ours is no traffic: a warm-up is loading."""
    before, _thread.quiet = is_quiet(), True
    try:
        yield
    finally:
        _thread.quiet = before


def is_quiet() -> bool:
    """Whether this thread loads for a warm-up."""
    return getattr(_thread, "quiet", False)


class CacheLog:
    """The access log of one cache; see `preheat.abc.AccessLog`."""

    __slots__ = ("cache", "events", "hit", "overflows")

    def __init__(self, cache: str, limit: int = LOG_LIMIT) -> None:
        self.cache = cache
        self.events: deque[str | _Load] = deque(maxlen=limit)
        self.hit: Callable[[str], None] = self.events.append
        self.overflows = 0

    def miss(self, key: str, size_bytes: int, load_seconds: float, version: str, recipe: str) -> None:
        """`key` had to be loaded; sizes and times of -1 where that failed."""
        self.events.append((key, size_bytes, load_seconds, version, recipe))

    def drain(self, at: float) -> Iterator[AccessBatch]:
        """Take out what has been recorded so far, as batches of the time `at`."""
        waiting = len(self.events)
        self.overflows += waiting == self.events.maxlen
        while waiting:
            taken = [self.events.popleft() for _ in range(min(waiting, BATCH_LIMIT))]
            waiting -= len(taken)
            yield _batch(self.cache, at, taken)


def _batch(cache: str, at: float, events: list[str | _Load]) -> AccessBatch:
    rows: dict[str, int] = {}
    row = np.empty(len(events), np.int64)
    hit = np.empty(len(events), np.bool_)
    loads: dict[int, _Load] = {}
    for n, event in enumerate(events):
        key = event if isinstance(event, str) else event[0]
        row[n] = rows.setdefault(key, len(rows))
        hit[n] = isinstance(event, str)
        if not isinstance(event, str) and event[2] >= 0:
            loads[rows[key]] = event
    unseen: _Load = ("", -1, -1.0, "", "")
    last = [loads.get(n, unseen) for n in range(len(rows))]
    return AccessBatch(
        cache=cache,
        at=at,
        keys=list(rows),
        row=row,
        hit=hit,
        size_bytes=np.array([load[1] for load in last], np.int64),
        load_seconds=np.array([load[2] for load in last], np.float64),
        versions=[load[3] for load in last],
        recipes=[load[4] for load in last],
    )


def log_failure(message: str, *about: object) -> None:
    """Log the exception at hand.  `logging` is imported by the first failure, to keep `import preheat` light."""
    import logging

    logging.getLogger("preheat").exception(message, *about)


class AccessRecorder:
    """The logs of all caches, and the thread that drains them.

    No thread runs before `start`.  `consume` is called with each batch, from that thread or from the caller of
    `drain`, never from two at once; what it raises is logged and the batch is lost, the application goes on.
    """

    def __init__(self, consume: Callable[[AccessBatch], None], *, clock: Clock = time.time) -> None:
        self._consume, self._clock = consume, clock
        self._logs: dict[str, CacheLog] = {}
        self._draining = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._started_with: tuple[float, Callable[[], None]] | None = None
        _recorders.add(self)

    def log(self, cache: str) -> CacheLog:
        """The log of `cache`, made at the first call."""
        return self._logs.setdefault(cache, CacheLog(cache))

    @property
    def overflows(self) -> int:
        """How many drains found a log full, so that accesses before them may have been dropped."""
        return sum(log.overflows for log in self._logs.values())

    def drain(self) -> None:
        """Hand over everything recorded so far."""
        with self._draining:
            at = self._clock()
            for log in list(self._logs.values()):
                try:
                    for batch in log.drain(at):
                        self._hand_over(batch)
                except Exception:  # what was recorded is no access: a key that is no text, a size beyond 64 bits
                    log_failure("accesses of cache %r could not be read", log.cache)

    def _hand_over(self, batch: AccessBatch) -> None:
        try:
            self._consume(batch)
        except Exception:
            log_failure("accesses of cache %r could not be folded", batch.cache)

    def start(self, interval_seconds: float, then: Callable[[], None]) -> None:
        """Drain every `interval_seconds` in a daemon thread, and call `then` after each drain."""
        if self._thread is None:
            self._started_with = (interval_seconds, then)
            self._wake.clear()
            self._thread = threading.Thread(
                target=self._run, args=(interval_seconds, then), name="preheat-fold", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the thread.  What was recorded since its last drain stays in the logs."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._wake.set()
            thread.join()

    def _run(self, interval_seconds: float, then: Callable[[], None]) -> None:
        while not self._wake.wait(interval_seconds):
            try:
                self.drain()
                then()
            except Exception:
                log_failure("what follows a drain failed; recording goes on")

    def start_over_in_child(self) -> None:
        """After a fork: what was recorded before it is the parent's."""
        self._draining, self._wake = threading.Lock(), threading.Event()
        for log in self._logs.values():
            log.events.clear()
        was_running, self._thread = self._thread is not None, None
        if was_running and self._started_with is not None:
            self.start(*self._started_with)


_recorders: weakref.WeakSet[AccessRecorder] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for recorder in list(_recorders):
        recorder.start_over_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
