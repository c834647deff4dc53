"""The recorder: the logs of all caches, and the thread that drains them into history in batches.

What a request thread does is in `_log`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial

from preheat._living import Living
from preheat._log import BATCH_LIMIT, SAMPLE_ABOVE, CacheLog, is_quiet, log_failure, quietly, start_logs_over
from preheat._model import AccessBatch
from preheat.abc import Clock

__all__ = ["BATCH_LIMIT", "AccessRecorder", "CacheLog", "is_quiet", "log_failure", "quietly"]

CROWDED = 0.1  # a log this full will be drained sooner
HURRY = 8  # how much sooner

_all_recorders: Living[AccessRecorder] = Living()


class AccessRecorder:
    """The logs of all caches, and the thread that drains them.

    `fold_seconds` is the processor time that draining has taken, `folded` how many accesses it handed over.

    No thread runs before `start`.  `consume` is called with each batch, from that thread or from the caller of
    `drain`, never from two at once; what it raises is logged and the batch is lost, the application goes on.

    A process may fork at any time: no fold is under way then; the child begins with empty logs, and at the first
    access that it records with a thread of its own, if the parent had one.
    """

    def __init__(
        self,
        consume: Callable[[AccessBatch], None],
        *,
        clock: Clock = time.time,
        sample_above: int | None = SAMPLE_ABOVE,
    ) -> None:
        self._consume, self._clock, self.sample_above = consume, clock, sample_above
        self._logs: dict[str, CacheLog] = {}
        self._thread: threading.Thread | None = None
        self.fold_seconds, self.folded = 0.0, 0
        self._started_with: tuple[float, Callable[[], None]] | None = None
        self._make_locks()
        _all_recorders.add(self)

    def _make_locks(self) -> None:
        self._draining = threading.RLock()
        self._starting = threading.Lock()
        self._ending = threading.Event()  # of the thread

    def log(self, cache: str) -> CacheLog:
        """The log of `cache`, made at the first call."""
        if cache not in self._logs:
            log = CacheLog(cache, sample_above=self.sample_above)
            log.settle = self.drain
            self._logs.setdefault(cache, log)
        return self._logs[cache]

    @property
    def dropped(self) -> int:
        """Accesses that had no room in their logs and were dropped: at least so many."""
        return sum(log.dropped for log in list(self._logs.values()))

    def drain(self) -> None:
        """Hand over everything recorded so far."""
        with self._draining:
            at, began = self._clock(), time.thread_time()
            for log in list(self._logs.values()):
                for batch in log.drain(at):
                    self._hand_over(batch)
                    self.folded += len(batch.row)
                    if log.asked is not None:
                        log.asked(batch.keys)
            self.fold_seconds += time.thread_time() - began

    def _hand_over(self, batch: AccessBatch) -> None:
        try:
            self._consume(batch)
        except Exception:
            log_failure("accesses of cache %r could not be folded", batch.cache)

    def start(self, interval_seconds: float, then: Callable[[], None]) -> None:
        """Drain every `interval_seconds` in a daemon thread, sooner where a log fills up; `then` follows each drain."""
        if self._thread is not None:
            return
        with self._starting:
            if self._thread is None:
                self._started_with = (interval_seconds, then)
                self._ending = threading.Event()
                thread = threading.Thread(
                    target=self._run, args=(interval_seconds, then, self._ending), name="preheat-fold", daemon=True
                )
                thread.start()
                self._thread = thread

    def stop(self) -> None:
        """End the thread.  What was recorded since its last drain stays in the logs."""
        with self._starting:
            thread, self._thread = self._thread, None
            self._ending.set()
        if thread is not None:
            thread.join()

    def _run(self, interval_seconds: float, then: Callable[[], None], ending: threading.Event) -> None:
        pause = interval_seconds
        while not ending.wait(pause):
            fullest = max((log.fullness for log in list(self._logs.values())), default=0.0)
            pause = interval_seconds / HURRY if fullest > CROWDED else interval_seconds
            try:
                self.drain()
                then()
            except Exception:
                log_failure("what follows a drain failed; recording goes on")

    # ---------------------------------------------------------------------------------------------- forking

    def hold(self) -> None:
        """Wait until no fold is under way, and let none begin before `release`."""
        self._draining.acquire()

    def release(self) -> None:
        """The end of `hold`, in the same thread."""
        self._draining.release()

    def start_over(self) -> None:
        """After a fork, in the child, where the logs are empty and no other thread is."""
        was_running, self._thread = self._thread is not None, None
        self._make_locks()
        for log in self._logs.values() if was_running else ():
            log.begin_with(partial(self._start_again, log))

    def _start_again(self, log: CacheLog) -> CacheLog:
        try:
            if self._started_with is not None:
                self.start(*self._started_with)
        except RuntimeError:  # no more threads; the application must not fail for it
            log_failure("accesses are not folded")
        return log


_held: dict[int, list[AccessRecorder]] = {}


def _before_fork() -> None:
    held = _held[threading.get_ident()] = list(_all_recorders)
    for recorder in held:
        recorder.hold()


def _after_fork_in_parent() -> None:
    for recorder in _held.pop(threading.get_ident()):
        recorder.release()


def _after_fork_in_child() -> None:
    _held.clear()
    start_logs_over()
    for recorder in _all_recorders:
        recorder.start_over()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
