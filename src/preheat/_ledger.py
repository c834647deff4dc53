"""What is known and kept: the history as it grows, and the last run while traffic shows what it won.

Joins the recorder, the history builder and the store.  A state folder that can't be used costs the record and
nothing else: the ledger goes on in memory, and `fault` says why.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from preheat._history import HistoryBuilder
from preheat._measure import TrafficWindow, with_effects
from preheat._model import AccessBatch, History, PastRun, WarmupPlan, WarmupReport
from preheat._past import outdone_predictors, past_runs
from preheat._plan.adaptive import REMEMBERED_RUNS
from preheat._plan.sizes import Corrections, corrections_as_rows, corrections_from_rows, learn_corrections
from preheat._record import AccessRecorder
from preheat._store import SqliteStore
from preheat._summary import report_summary
from preheat.abc import AccessLog, Clock
from preheat.errors import StoreError

logger = logging.getLogger("preheat")

DRAIN_SECONDS = 0.25


class Ledger:
    """History and reports, folded in a background thread and saved at most every `flush_seconds`.

    `corrections` is what runs taught of the sizes of items, this process's and those before it.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, max_items: int, flush_seconds: float, clock: Clock = time.time
    ) -> None:
        self.fault: str | None = None
        self._clock, self._flush_seconds = clock, flush_seconds
        self._busy = threading.Lock()
        self._saving = threading.Lock()  # or an older history could be saved after a newer one
        self._recorder = AccessRecorder(self._fold, clock=clock)
        self._store = self._open(folder)
        self._builder = HistoryBuilder(self._load(), max_items=max_items)
        self._saved_at, self._dirty, self._closed = clock(), False, False
        self.corrections: Corrections = self._kept_corrections()
        self._report: WarmupReport | None = None
        self._started_at = 0.0
        self._window: TrafficWindow | None = None
        self._tell_misses: Callable[[str, int, float], None] | None = None

    @property
    def is_closed(self) -> bool:
        """Whether `close` has been called: nothing is recorded any more."""
        return self._closed

    def log(self, cache: str) -> AccessLog:
        """Where accesses of `cache` are reported to; the folding thread runs from the first call until `close`."""
        if not self._closed:
            self._recorder.start(DRAIN_SECONDS, self._flush_if_due)
        return self._recorder.log(cache)

    def history(self) -> History:
        """Everything recorded so far."""
        self._recorder.drain()
        with self._busy:
            return self._builder.history()

    def begin_run(self, plan: WarmupPlan) -> None:
        """A run of `plan` begins: from now on see which of its items are asked for, and what they meet."""
        self._recorder.drain()
        self.flush()  # what the run before has won is not measured any further
        with self._busy:
            self._report, self._started_at = None, self._clock()
            self._window = TrafficWindow(plan, self._builder.hit_ratios(), self._started_at)

    def end_run(self, report: WarmupReport) -> None:
        """The run begun last has ended with `report`: keep it, and what it wins from now on."""
        with self._busy:
            self._report, self._dirty = report, True
            self.corrections = learn_corrections(self.corrections, report.sizes, report.plan.size_factors)
        self.flush()

    def last_report(self) -> dict[str, Any] | None:
        """The last run with what it won so far; failing one in this process, the last one kept."""
        self._recorder.drain()
        with self._busy:
            report = self._measured()
        if report is not None:
            return report_summary(report) | {"started": self._started_at}
        kept = self.reports(1)
        return kept[0] if kept else None

    def reports(self, newest: int) -> list[dict[str, Any]]:
        """Runs kept, newest first."""
        try:
            return self._store.reports(newest) if self._store is not None else []
        except StoreError as error:
            self._note(error)
            return []

    def tell_misses_to(self, tell: Callable[[str, int, float], None] | None) -> None:
        """From now on call `tell(cache, misses, seconds)` with the loads that traffic waited for; None ends that."""
        self._tell_misses = tell

    def accesses(self) -> dict[str, int]:
        """By cache, how often it was asked for anything, as far as that has been folded; cheap, unlike a history."""
        with self._busy:
            return self._builder.accesses()

    def save_model(self, name: str, body: bytes) -> None:
        """Keep `body` under `name` for the processes after this one.  A save that fails is noted and not repeated."""
        store = self._store
        try:
            if store is not None:
                store.save_model(name, body)
        except StoreError as error:
            self._note(error)

    def models(self) -> dict[str, bytes]:
        """What `save_model` kept, by name; without what is damaged."""
        store = self._store
        try:
            return store.models() if store is not None else {}
        except StoreError as error:
            self._note(error)
            return {}

    def past_runs(self) -> tuple[PastRun, ...]:
        """What past runs have won, newest first: those that were kept, and the last one as far as it has been seen."""
        return past_runs(self._remembered())

    def outdone_predictors(self) -> dict[str, frozenset[str]]:
        """By cache, the predictors with which the last runs have won clearly less than with another."""
        return outdone_predictors(self._remembered())

    def _remembered(self) -> list[dict[str, Any]]:
        last, kept = self.last_report(), self.reports(REMEMBERED_RUNS)
        if last is not None:
            kept = [last, *(report for report in kept if report.get("started") != last.get("started"))]
        return kept

    def flush(self) -> None:
        """Save what is new.  A save that fails is noted, and tried again at the next flush."""
        with self._saving:
            self._flush()

    def _flush(self) -> None:
        with self._busy:
            if not self._dirty or self._store is None:
                return
            history, report, started_at = self._builder.history(), self._measured(), self._started_at
            self._dirty, self._saved_at = False, self._clock()
        try:
            self._store.save(history)
            if report is not None:
                kept = {"started": started_at, "corrections": corrections_as_rows(self.corrections)}
                self._store.save_report(started_at, report_summary(report) | kept)
            self.fault = self._store.notice
        except StoreError as error:
            self._note(error)
            self._dirty = True

    def close(self) -> None:
        """Fold and save the rest, and give up the state folder."""
        self._closed = True
        self._recorder.stop()
        self._recorder.drain()
        self.flush()
        if self._store is not None:
            self._store.close()
            self._store = None

    @property
    def overflows(self) -> int:
        """Drains that found a log full, so that accesses may have been dropped."""
        return self._recorder.overflows

    def _fold(self, batch: AccessBatch) -> None:
        with self._busy:
            self._builder.fold(batch)
            if self._window is not None:
                self._window.observe(batch)
            self._dirty = True
        if self._tell_misses is not None:
            took = batch.load_seconds[batch.load_seconds >= 0]
            if len(took):
                self._tell_misses(batch.cache, len(took), float(took.sum()))

    def _flush_if_due(self) -> None:
        if self._clock() - self._saved_at >= self._flush_seconds:
            self.flush()

    def _measured(self) -> WarmupReport | None:
        if self._report is None or self._window is None:
            return None
        return with_effects(self._report, self._window)

    def _open(self, folder: str | os.PathLike[str]) -> SqliteStore | None:
        try:
            store = SqliteStore(folder)
        except StoreError as error:
            self._note(error)
            return None
        if not store.owner:
            self._note(StoreError(f"another process owns {folder}; its history is read, nothing is written"))
        return store

    def _load(self) -> History | None:
        try:
            return self._store.load() if self._store is not None else None
        except StoreError as error:
            self._note(error)
            return None

    def _kept_corrections(self) -> Corrections:
        kept = self.reports(1)
        return corrections_from_rows(kept[0].get("corrections")) if kept else {}

    def _note(self, error: StoreError) -> None:
        if self.fault != str(error):
            logger.warning("%s", error)
        self.fault = str(error)
