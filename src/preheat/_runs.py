"""The runs of a service: one at a time in a process, joined, watched, waited for by phase, stopped and gone on with.

What a run does is `_run`'s business.  Waiters may live on other loops than the run; each is told on its own.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from preheat._model import PHASES, PhaseOutcome, WarmupPlan, WarmupProgress, WarmupReport
from preheat._readiness import Standing
from preheat.errors import InvalidSetting, UsageError, WarmupBrokenOff, WarmupInProgress, nearest

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from concurrent.futures import Future as SharedFuture

    from preheat._run import PhaseCallback, ProgressCallback, Run

logger = logging.getLogger("preheat")


class MakeRun(Protocol):
    """Makes the run of a plan; called in a thread, since a million items take their time."""

    def __call__(
        self,
        plan: WarmupPlan,
        before: WarmupReport | None,
        on_progress: ProgressCallback,
        on_phase: PhaseCallback,
    ) -> Run:
        """The run, not begun."""
        ...


Performs = Callable[["Run"], Awaitable[WarmupReport]]


class _Seat:
    """The one place for a run in this process, while it is taken."""

    def __init__(self) -> None:
        from concurrent.futures import Future

        self.report: SharedFuture[WarmupReport] = Future()


_taken: _Seat | None = None
_taking = threading.Lock()


def _take_seat() -> tuple[_Seat, bool]:
    """The seat, and whether it was free until now."""
    global _taken
    with _taking:
        if _taken is not None:
            return _taken, False
        _taken = _Seat()
        return _taken, True


def _leave_seat() -> None:
    global _taken
    with _taking:
        _taken = None


def _begin_anew() -> None:
    """In a forked child: the run that was active goes on in the parent alone."""
    global _taken, _taking
    _taken, _taking = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


class Runs:
    """What a service knows of its run, now and before.

    Attributes:
        active: The run that goes on; None if there is none.
        last: The report of the one that ended last, failing that None.
    """

    def __init__(self) -> None:
        self.active: Run | None = None
        self.last: WarmupReport | None = None
        self._lock = threading.Lock()
        self._outcomes: dict[str, PhaseOutcome] = {}
        self._waiting: list[tuple[str, AbstractEventLoop, Future[PhaseOutcome]]] = []
        self._feeds: set[_Feed] = set()
        self._cancelled_early: bool | None = None
        self._is_preparing = False

    @property
    def is_active(self) -> bool:
        """Whether a run goes on or is being made."""
        return self.active is not None or self._is_preparing

    @property
    def standing(self) -> Standing:
        """How far the newest run has come; what a readiness check goes by."""
        with self._lock:
            return Standing(dict(self._outcomes), self.is_active)

    # ------------------------------------------------------------------------------------------- one at a time

    async def execute(
        self,
        plan: WarmupPlan,
        make: MakeRun,
        perform: Performs,
        *,
        before: WarmupReport | None = None,
        on_progress: ProgressCallback | None = None,
        join: bool = False,
    ) -> WarmupReport:
        """Run `plan`, or wait with others for the run that is active in this process.

        Raises:
            WarmupInProgress: One is, and it is not to be joined.
            WarmupBrokenOff: The one that was joined ended without a report.
        """
        seat, is_mine = _take_seat()
        if not is_mine:
            return await _join(seat, join=join)
        try:
            report = await self._perform(plan, make, perform, before, on_progress)
            seat.report.set_result(report)
            return report
        finally:
            _leave_seat()
            if not seat.report.done():
                seat.report.set_exception(WarmupBrokenOff("the warm-up that was joined was broken off"))

    async def _perform(
        self,
        plan: WarmupPlan,
        make: MakeRun,
        perform: Performs,
        before: WarmupReport | None,
        on_progress: ProgressCallback | None,
    ) -> WarmupReport:
        import asyncio

        with self._lock:
            self._outcomes.clear()
        self._is_preparing, self._cancelled_early = True, None
        why = "broken off"
        try:
            run = await asyncio.to_thread(make, plan, before, _Telling(self._feeds, on_progress), self._open)
            self.active = run
            if self._cancelled_early is not None:
                run.cancel(abandon=self._cancelled_early)
            self.last = await perform(run)
            why = self.last.stopped or ""
            return self.last
        except asyncio.CancelledError:
            why = "cancelled"
            raise
        finally:
            self.active, self._is_preparing = None, False
            self.open_all(why or None)
            for feed in list(self._feeds):
                feed.end()

    def cancel(self, *, abandon: bool) -> bool:
        """Ask the active run to end; False if there is none."""
        if self.active is not None:
            self.active.cancel(abandon=abandon)
        elif self._is_preparing:
            self._cancelled_early = abandon
        return self.is_active

    def unfinished(self) -> WarmupReport:
        """The last report, to go on with.

        Raises:
            UsageError: No run has ended.
        """
        if self.last is None:
            raise UsageError("no warm-up has ended in this process, so there is none to resume; execute a plan first")
        return self.last

    # ------------------------------------------------------------------------------------------------- phases

    async def wait_for_phase(self, phase: str) -> PhaseOutcome:
        """How `phase` of the newest run ended, as soon as it has; waits for a run where there was none.

        Raises:
            InvalidSetting: There is no such phase.
        """
        import asyncio

        if phase not in PHASES:
            raise InvalidSetting(f"{phase!r} is no phase; {nearest(phase, PHASES)}there are: {', '.join(PHASES)}")
        loop = asyncio.get_running_loop()
        opened: Future[PhaseOutcome] = loop.create_future()
        with self._lock:
            known = self._outcomes.get(phase)
            if known is None:
                self._waiting = [waiter for waiter in self._waiting if not waiter[2].done()]
                self._waiting.append((phase, loop, opened))
        return known if known is not None else await opened

    def open_all(self, stopped: str | None) -> None:
        """No phase will end any more; those that have not are opened with the reason."""
        for phase in PHASES:
            if phase not in self._outcomes:
                self._open(PhaseOutcome(phase, {}, stopped))

    def _open(self, outcome: PhaseOutcome) -> None:
        with self._lock:
            self._outcomes[outcome.phase] = outcome
            told = [waiter for waiter in self._waiting if waiter[0] == outcome.phase]
            self._waiting = [waiter for waiter in self._waiting if waiter[0] != outcome.phase]
        for _, loop, opened in told:
            _call(loop, partial(_answer, opened, outcome))

    # ------------------------------------------------------------------------------------------------ progress

    async def watch(self) -> AsyncIterator[WarmupProgress]:
        """The progress of the active run, or of the next one, until it has ended."""
        feed = _Feed()
        self._feeds.add(feed)
        try:
            while (progress := await feed.next()) is not None:
                yield progress
        finally:
            self._feeds.discard(feed)


class _Feed:
    """The newest progress, for one who watches at a pace of his own."""

    def __init__(self) -> None:
        import asyncio

        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        self._newest: WarmupProgress | None = None
        self._has_ended = False

    def put(self, progress: WarmupProgress) -> None:
        """There is news, from any thread."""
        self._newest = progress
        _call(self._loop, self._news.set)

    def end(self) -> None:
        """There will be no more."""
        self._has_ended = True
        _call(self._loop, self._news.set)

    async def next(self) -> WarmupProgress | None:
        """What is newest, once that is new; None after the end."""
        while self._newest is None and not self._has_ended:
            self._news.clear()
            await self._news.wait()
        progress, self._newest = self._newest, None
        return progress


class _Telling:
    """Tells progress to those who watch and to a callback."""

    def __init__(self, feeds: set[_Feed], callback: ProgressCallback | None) -> None:
        self._feeds, self._callback = feeds, callback

    def __call__(self, progress: WarmupProgress) -> None:
        for feed in list(self._feeds):
            feed.put(progress)
        if self._callback is None:
            return
        try:
            self._callback(progress)
        except Exception:
            logger.exception("the progress callback failed and is not called again")
            self._callback = None


def _answer(waiter: Future[PhaseOutcome], outcome: PhaseOutcome) -> None:
    if not waiter.done():
        waiter.set_result(outcome)


async def _join(seat: _Seat, *, join: bool) -> WarmupReport:
    import asyncio

    if not join:
        raise WarmupInProgress("a warm-up is running; wait for it, join it, or end it with cancel_warmup()")
    return await asyncio.shield(asyncio.wrap_future(seat.report))


def _call(loop: AbstractEventLoop, what: Callable[[], object]) -> None:
    """Have `loop` call it, if there still is such a loop."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(what)
