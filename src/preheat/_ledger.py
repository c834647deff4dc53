"""What is known and kept: the history as it grows, and the last run while traffic shows what it won.

Joins the recorder, the history that is kept and the reports.  A state folder that can't be used costs the record and
nothing else: the ledger goes on in memory, and `fault` says why.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from preheat._history.forgetting import Forgotten, without_failures
from preheat._keeping import KeptHistory
from preheat._living import Living
from preheat._measure import TrafficWindow, with_effects
from preheat._model import AccessBatch, History, PastRun, WarmupPlan, WarmupReport
from preheat._overhead import Overhead
from preheat._past import outdone_predictors, past_runs
from preheat._plan.adaptive import REMEMBERED_RUNS
from preheat._plan.sizes import Corrections, corrections_as_rows, corrections_from_rows, learn_corrections
from preheat._record import AccessRecorder
from preheat._store import SQLITE_VERSION, SqliteStore
from preheat._summary import report_summary
from preheat.abc import AccessLog, Clock

DRAIN_SECONDS = 0.25
PATIENCE_STEP_SECONDS = 0.02


class Ledger:
    """History and reports, folded in a background thread and saved at most every `flush_seconds`.

    `corrections` is what runs taught of the sizes of items, this process's and those before it.
    """

    sqlite_version = SQLITE_VERSION

    def __init__(
        self, folder: str | os.PathLike[str], *, max_items: int, flush_seconds: float, clock: Clock = time.time
    ) -> None:
        self._clock, self._flush_seconds = clock, flush_seconds
        self._start_locks()
        self._recorder = AccessRecorder(self._fold, clock=clock)
        self._kept = KeptHistory(folder, max_items=max_items)
        self._saved_at, self._closed = clock(), False
        self.corrections: Corrections = self._kept_corrections()
        self._report: WarmupReport | None = None
        self._seen: WarmupReport | None = None
        self._save_seconds, self._saves = 0.0, 0
        self._report_due = False
        self._started_at = 0.0
        self._counted_start: float | None = None
        self._window: TrafficWindow | None = None
        self._unnamed: set[str] = set()  # items forgotten since, whose failures are not told any more
        self._tell_misses: Callable[[str, int, float], None] | None = None
        _ledgers.add(self)

    def _start_locks(self) -> None:
        self._busy = threading.Lock()
        self._saving = threading.Lock()  # or an older report could be saved after a newer one

    @property
    def fault(self) -> str | None:
        """Why what is known is not kept; None if it is."""
        return self._kept.fault

    @property
    def is_owner(self) -> bool:
        """Whether this process keeps what it records; of several with one state folder, one does."""
        return self._kept.is_owner

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
        return self._kept.history()

    def forget(self, gone: Forgotten) -> int:
        """Drop the items that are `gone` from the history, and their bytes from the state folder; how many were known.

        Raises:
            StoreError: The folder can't be rewritten; this process has forgotten them, the folder has not.
        """
        self._recorder.drain()
        with self._busy:
            failures = self._report.failures if self._report is not None else {}
            self._unnamed |= {str(ref) for ref in failures if gone.is_named(str(ref))}
            self._report_due = self._report is not None
        return self._kept.forget(gone, lambda report: without_failures(report, gone))

    def begin_run(self, plan: WarmupPlan) -> None:
        """A run of `plan` begins: from now on see which of its items are asked for, and what they meet.

        That it begins is on the disk when this returns, so that runs which never end are known to the next process.
        """
        self._recorder.drain()
        self.flush()  # what the run before has won is not measured any further
        ratios = self._kept.hit_ratios()
        with self._busy:
            self._report = self._seen = None
            self._started_at, self._unnamed = self._clock(), set()
            self._window = TrafficWindow(plan, ratios, self._started_at)
        began = self._started_at
        self._counted_start = began if self._kept.keep(lambda store: store.begin_start(began)) else None

    def end_run(self, report: WarmupReport) -> None:
        """The run begun last has ended with `report`: keep it, and what it wins from now on."""
        with self._busy:
            self._report, self._seen, self._report_due = report, report, True
            self.corrections = learn_corrections(self.corrections, report.sizes, report.plan.size_factors)
        began, self._counted_start = self._counted_start, None
        if began is not None:
            self._kept.keep(lambda store: store.end_start(began, self._clock()))
        self.flush()

    def interrupted_runs(self) -> int:
        """How many runs, the last ones in a row, began in processes before this one and never ended."""
        began = self._kept.ask(SqliteStore.interrupted_starts, 0)
        going_on = self._counted_start is not None or not self.is_owner  # the owner's may be
        return max(0, began - going_on)

    def last_report(self) -> dict[str, Any] | None:
        """The last run with what it won so far; failing one in this process, the last one kept."""
        self._recorder.drain()
        with self._busy:
            report = self._measured()
        if report is not None:
            return self._told(report) | {"started": self._started_at}
        kept = self.reports(1)
        return kept[0] if kept else None

    def reports(self, newest: int) -> list[dict[str, Any]]:
        """Runs kept, newest first."""
        return self._kept.ask(lambda store: store.reports(newest), [])

    def tell_misses_to(self, tell: Callable[[str, int, float], None] | None) -> None:
        """From now on call `tell(cache, misses, seconds)` with the loads that traffic waited for; None ends that."""
        self._tell_misses = tell

    def accesses(self) -> dict[str, int]:
        """By cache, how often it was asked for anything, as far as that has been folded; cheap, unlike a history."""
        return self._kept.accesses()

    def save_model(self, name: str, body: bytes) -> None:
        """Keep `body` under `name` for the processes after this one.  A save that fails is noted and not repeated."""
        self._kept.keep(lambda store: store.save_model(name, body))

    def models(self) -> dict[str, bytes]:
        """What `save_model` kept, by name; without what is damaged."""
        return self._kept.ask(SqliteStore.models, {})

    def past_runs(self) -> tuple[PastRun, ...]:
        """What past runs have won, newest first: those that were kept, and the last one as far as it has been seen."""
        return past_runs(self.runs(REMEMBERED_RUNS))

    def outdone_predictors(self) -> dict[str, frozenset[str]]:
        """By cache, the predictors with which the last runs have won clearly less than with another."""
        return outdone_predictors(self.runs(REMEMBERED_RUNS))

    def runs(self, newest: int) -> list[dict[str, Any]]:
        """Past runs, newest first: those that were kept, and the last one as far as it has been seen."""
        last, kept = self.last_report(), self.reports(newest)
        if last is not None:
            kept = [last, *(report for report in kept if report.get("started") != last.get("started"))]
        return kept[:newest]

    def flush(self) -> None:
        """Save what is new.  A save that fails is noted, and tried again at the next flush."""
        with self._saving:
            self._flush()

    def _flush(self) -> None:
        with self._busy:
            report = self._measured() if self._report_due else None
            started_at, corrections = self._started_at, self.corrections
            self._seen = report or self._seen
            self._report_due, self._saved_at = False, self._clock()
        began = time.perf_counter()
        self._kept.save()
        if report is not None:
            tree = self._told(report) | {"started": started_at, "corrections": corrections_as_rows(corrections)}
            if not self._kept.keep(lambda store: store.save_report(started_at, tree)):
                self._report_due = True
        self._save_seconds, self._saves = self._save_seconds + time.perf_counter() - began, self._saves + 1

    def give_up(self) -> None:
        """Save what is new, and leave the state folder to whoever records next: a parent does, before it forks."""
        self._recorder.drain()
        self.flush()
        self._kept.give_up()

    def close(self, *, patience_seconds: float = 0.0) -> None:
        """Fold and save the rest, and give up the state folder.

        Where there is something to save and another process owns the folder, that one is given `patience_seconds` to
        end: the workers of a server end together.
        """
        self._closed = True
        self._recorder.stop()
        self._recorder.drain()
        self.flush()
        until = time.monotonic() + patience_seconds
        while self._kept.is_waiting and time.monotonic() < until:
            time.sleep(PATIENCE_STEP_SECONDS)
            self.flush()
        self._kept.close()

    @property
    def dropped(self) -> int:
        """Accesses that came faster than they could be folded and were dropped: at least so many."""
        return self._recorder.dropped

    @property
    def seen(self) -> WarmupReport | None:
        """The last run of this process, with what it had won at the last flush; cheap, unlike `last_report`."""
        return self._seen

    @property
    def overhead(self) -> Overhead:
        """What recording has cost."""
        recorder = self._recorder
        return Overhead(recorder.fold_seconds, recorder.folded, recorder.dropped, self._save_seconds, self._saves)

    def traffic(self) -> dict[str, tuple[int, int]]:
        """By cache, hits and misses, as far as they have been folded; cheap, unlike a history."""
        return self._kept.traffic()

    @property
    def items(self) -> int:
        """How many items are known to this process."""
        return len(self._kept)

    def _fold(self, batch: AccessBatch) -> None:
        self._kept.fold(batch)
        with self._busy:
            if self._window is not None:
                self._window.observe(batch)
                self._report_due = self._report is not None
        if self._tell_misses is not None:
            took = batch.load_seconds[batch.load_seconds >= 0]
            if len(took):
                self._tell_misses(batch.cache, len(took), float(took.sum()))

    def _flush_if_due(self) -> None:
        is_due = self._clock() - self._saved_at >= self._flush_seconds
        if is_due:
            self._kept.give_up_if_idle()
        if is_due or (self._kept.is_waiting and self._kept.try_own()):
            self.flush()

    def _told(self, report: WarmupReport) -> dict[str, Any]:
        told = report_summary(report)
        return told | {"failures": [row for row in told["failures"] if row["item"] not in self._unnamed]}

    def _measured(self) -> WarmupReport | None:
        if self._report is None or self._window is None:
            return None
        return with_effects(self._report, self._window)

    def _kept_corrections(self) -> Corrections:
        kept = self.reports(1)
        return corrections_from_rows(kept[0].get("corrections")) if kept else {}

    def _start_over_in_child(self) -> None:
        """After a fork: the parent goes on with its run and its report."""
        self._start_locks()
        self._report = self._seen = self._window = self._counted_start = None
        self._report_due = False


_ledgers: Living[Ledger] = Living()


def _after_fork_in_child() -> None:
    for ledger in _ledgers:
        ledger._start_over_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
