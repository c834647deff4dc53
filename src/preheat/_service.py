"""The service: it knows the order of the stages and holds the parts; it decides nothing itself.

    record -> history -> predict -> plan -> execute -> measure

What is imported inside functions is needed only once a run starts; `import preheat` stays nearly as light as numpy.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from preheat._added import added_predictor, added_source, configured_strategy, find_or_add_strategy
from preheat._events import MemoryLog
from preheat._model import (
    CacheMemory,
    MemoryEvent,
    MemoryEventKind,
    MemoryPressureLevel,
    MemoryReading,
    PhaseOutcome,
    WarmupPlan,
    WarmupProgress,
    WarmupReport,
    WarmupStrategy,
)
from preheat._plan.adaptive import recommend_strategy
from preheat._plan.budget import limit_from_mb
from preheat._plan.caution import caution_after
from preheat._plan.strategy import (
    StrategyProfile,
    configure_strategies,
    find_fallback,
    strategy_row,
)
from preheat._planning import Planning, demand_known
from preheat._pressure import pressure_level
from preheat._replicas import Replicas
from preheat._runs import RunObserver, Runs
from preheat._settings import Settings, resolve_settings
from preheat._summary import progress_summary
from preheat.abc import (
    CandidateSource,
    MemoryMonitor,
    Predictor,
    PressureCallback,
    RecordsAccesses,
    ReportsMemory,
    SnapshotsValues,
    WarmableCache,
)
from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    from preheat._figures import Observation
    from preheat._history.forgetting import Forgotten
    from preheat._ledger import Ledger
    from preheat._peering import Peering
    from preheat._pool.peers import Peers
    from preheat._readiness import Standing
    from preheat._run import Run
    from preheat._snapshot import SnapshotKeeper
    from preheat._training import BackgroundTraining
    from preheat._watch import MemoryWatch

CALLBACK_SECONDS = 1.0
"""How often memory is read for pressure callbacks while no run is active."""


class CacheWarmupService:
    """Records what its caches are asked for, and plans and runs their warm-up.

    Args:
        settings: By default what `CACHE_WARMUP_*` in the environment says.
        memory: Reads memory; by default the tightest limit on this process.
        predictor: Expects the future from history, or the name of one that another distribution adds; by default
            models learned of each cache, which fall back to decayed frequency where there is little history.
        changes: Settings by name, over those of the environment.

    Raises:
        InvalidSetting: A setting can't be used.
        UnknownStrategy: The configured strategy does not exist.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        memory: MemoryMonitor | None = None,
        predictor: Predictor | str | None = None,
        **changes: Any,
    ) -> None:
        if settings is not None and changes:
            raise InvalidSetting(f"settings are given whole, so {', '.join(changes)} can't be given beside them")
        self.settings = settings or resolve_settings(os.environ, **changes)
        self._memory = memory
        self._predictor = added_predictor(predictor) if isinstance(predictor, str) else predictor
        self._strategies = configure_strategies(self.settings.strategies)
        self._configured = configured_strategy(self.settings.strategy, self._strategies).name
        self._caches: dict[str, WarmableCache] = {}
        self._sources: list[CandidateSource] = []
        self._subscriptions: set[Callable[[], None]] = set()
        self._watching: MemoryWatch | None = None
        self._memory_log = MemoryLog()
        self._ledger: Ledger | None = None
        self._trained: BackgroundTraining | None = None
        self._keeper: SnapshotKeeper | None = None
        self._pooled: Peers | None = None
        self._sees_headroom = False
        self.is_closed = False
        self._opening = threading.Lock()
        self.peering = self._make_peering() if self.settings.peers else None
        self._runs, self._replicas = Runs(), Replicas(self.settings, peering=self.peering)
        self._planning = Planning(
            self.settings,
            self._caches,
            sources=self._sources,
            strategies=self._strategies,
            predictor=self._predictor,
            ledger=lambda: self.ledger,
            peers=lambda: self._peers,
            training=lambda: self._training,
            watch=lambda: self._watch,
        )

    # -------------------------------------------------------------------------------------- registration

    def register(self, cache: WarmableCache) -> None:
        """Warm `cache` from now on, and record its traffic if it reports any.

        Raises:
            InvalidSetting: It lacks a member of `WarmableCache`, or another cache has its name.
        """
        if not isinstance(cache, WarmableCache):
            raise InvalidSetting(f"{cache!r} can't be warmed; it has to have the members of preheat.abc.WarmableCache")
        if self._caches.setdefault(cache.name, cache) is not cache:
            raise name_taken(cache.name)
        if isinstance(cache, RecordsAccesses):
            cache.record_to(self.ledger.log(cache.name))
            if self._predictor is None and self.settings.enabled and not self.ledger.is_closed:
                self._training.begin()
            if self.settings.share_history and not self.ledger.is_closed:
                self._peers.begin()
        if isinstance(cache, ReportsMemory):
            cache.report_memory_to(partial(self._memory_log.track, cache.name))
        if isinstance(cache, SnapshotsValues):
            self._keep_values(cache.name, cache)
        self._watch_headroom(find_or_add_strategy(self._configured, self._strategies))

    def _keep_values(self, name: str, cache: SnapshotsValues) -> None:
        """Exchange the values of `cache` with peers, and keep them on disk, as far as either is wanted."""
        layer = self.peering.attach(name, cache) if self.peering is not None else None
        if self.settings.snapshots:
            self._snapshots.attach(name, layer or cache)

    def unregister(self, name: str) -> None:
        """Warm the cache called `name` no longer.  What it records still goes into history.

        Raises:
            UnknownCache: No cache is registered under `name`.
        """
        demand_known([name], self._caches)
        del self._caches[name]
        if self._keeper is not None:
            self._keeper.detach(name)

    def register_strategy(self, name: str, *, share: float, why: str = "", **rules: Any) -> None:
        """Add a strategy, or replace one.  `rules` are the fields of the strategy table.

        Raises:
            InvalidSetting: A rule is not known or its value can't be used.
            UnknownStrategy: It falls back to a strategy that does not exist.
        """
        profile = strategy_row(name, {"share": share, "why": why} | rules)
        find_fallback(profile, self._strategies)
        self._strategies[name] = profile

    def register_candidate_source(self, source: CandidateSource | str) -> None:
        """Consider what `source(history)` names too; its rows come before those that the caches name.

        Text is the name of a source that another distribution adds.

        Raises:
            InvalidSetting: There is no such one.
        """
        added = added_source(source) if isinstance(source, str) else source
        if added is not None:
            self._sources.append(added)

    @property
    def caches(self) -> dict[str, WarmableCache]:
        """The registered caches by name: a copy."""
        return dict(self._caches)

    # ------------------------------------------------------------------------------------------- memory

    def add_memory_pressure_callback(self, callback: PressureCallback) -> Callable[[], None]:
        """Call `callback(level, reading)` at every change of pressure, in a run or not; returns what ends that.

        It is called from the thread that noticed, and must not block.  The first callback starts a daemon thread
        that reads memory every second; with the end of the last one it is gone.
        """
        end_subscription = self._watch.subscribe(callback, interval_seconds=CALLBACK_SECONDS)

        def end() -> None:
            end_subscription()
            self._subscriptions.discard(end)

        self._subscriptions.add(end)
        return end

    def track_cache_memory_event(
        self, cache: str, kind: MemoryEventKind | str, size_bytes: int, cause: str = "", items: int = 1
    ) -> None:
        """Log that `cache` allocated, released, evicted or rolled back `size_bytes`.

        For caches that do not report by themselves (`preheat.abc.ReportsMemory`); the ready ones do.  Of such a cache
        a run logs its own loads and roll-backs, so those are not to be logged again.

        Raises:
            UnknownCache: No cache is registered under that name.
            InvalidSetting: The kind or the size can't be.
        """
        demand_known([cache], self._caches)
        self._memory_log.track(cache, kind, size_bytes, cause, items)

    def get_memory_events(self, newest: int | None = None) -> Sequence[MemoryEvent]:
        """What happened to memory, oldest first, as far back as the log goes: the `newest` events, or all."""
        return self._memory_log.events(newest=newest)

    def get_memory_statistics(self) -> dict[str, CacheMemory]:
        """By cache, the sums of everything that was ever logged of it."""
        return self._memory_log.statistics()

    def _watch_headroom(self, profile: StrategyProfile) -> None:
        """If `profile` adapts: see memory every second from now on, so that the trend of the headroom is known."""
        if profile.adapts and not self._sees_headroom:
            self._sees_headroom = True
            self.add_memory_pressure_callback(lambda level, reading: None)

    @property
    def _watch(self) -> MemoryWatch:
        from preheat._memory import SystemMemory
        from preheat._watch import MemoryWatch

        with self._opening:
            if self._watching is None:
                self._watching = MemoryWatch(self._memory or SystemMemory(), pressure_level)
            return self._watching

    # ----------------------------------------------------------------------------------------- warming

    async def create_warmup_plan(
        self, strategy: WarmupStrategy | str | None = None, memory_budget_mb: float | None = None
    ) -> WarmupPlan:
        """What `strategy` would load now; by default the configured one.

        `memory_budget_mb` (MiB) only ever lowers the budget that the free memory gives.

        Raises:
            UnknownStrategy, InvalidSetting: An argument can't be used.
            UnknownCache: A candidate source named a cache that is not registered.
            DependencyCycle: Candidates need each other.
        """
        import asyncio

        profile = find_or_add_strategy(self._configured if strategy is None else strategy, self._strategies)
        limit = limit_from_mb(memory_budget_mb, self.settings.memory_budget_bytes)
        self._watch_headroom(profile)
        return await asyncio.to_thread(self._planning.plan, profile, limit)

    async def compare_strategies(self, memory_budget_mb: float | None = None) -> list[WarmupPlan]:
        """A plan of every strategy that there is, as each would be made now, in their order; none is kept.

        Raises:
            InvalidSetting, UnknownCache, DependencyCycle: As for `create_warmup_plan`.
        """
        import asyncio

        limit = limit_from_mb(memory_budget_mb, self.settings.memory_budget_bytes)
        return await asyncio.to_thread(self._planning.plan_each, list(self._strategies.values()), limit)

    async def fit_warmup_plan(self, plan: WarmupPlan, memory_budget_mb: float | None = None) -> WarmupPlan:
        """`plan`, made earlier, as far as memory and caches allow it now; see `plan_from_json`.

        Its own order decides: what does not fit any more is left out, each with its reason.

        Raises:
            UnknownStrategy, InvalidSetting: Its strategy, or the argument, can't be used.
            UnknownCache: It names a cache that is not registered.
        """
        import asyncio

        demand_known(plan.candidates.caches, self._caches)
        profile = find_or_add_strategy(plan.strategy, self._strategies)
        limit = limit_from_mb(memory_budget_mb, self.settings.memory_budget_bytes)
        return await asyncio.to_thread(self._planning.fit, plan, profile, limit)

    async def execute_warmup_plan(
        self, plan: WarmupPlan, on_progress: Callable[[WarmupProgress], None] | None = None, *, join: bool = False
    ) -> WarmupReport:
        """Load what `plan` says, inside its budget, and report.  Failed items are rows of the report.

        `on_progress` is called at most ten times a second, and once at the end.  While another run is active in this
        process, `join` waits for that one and returns its report.

        Raises:
            WarmupInProgress: A run is active in this process, and `join` is false.
            WarmupBrokenOff: The run that was joined ended without a report.
            UnknownCache: The plan names a cache that is not registered.
        """
        return await self._execute(plan, None, on_progress, join=join)

    async def resume_warmup(
        self, on_progress: Callable[[WarmupProgress], None] | None = None, *, join: bool = False
    ) -> WarmupReport:
        """Go on with the last run of this service: with all items of its plan that are not resident.

        What it loaded is not loaded again, and counts against the budget.  The report is that of the whole plan;
        its attempts and seconds are those of this run.

        Raises:
            UsageError: No run has ended.
            WarmupInProgress, WarmupBrokenOff, UnknownCache: As for `execute_warmup_plan`.
        """
        before = self._runs.unfinished()
        return await self._execute(before.plan, before, on_progress, join=join)

    async def cancel_warmup(self, *, abandon: bool = False) -> bool:
        """Ask the active run to end.  False if there is none.

        What is in flight is awaited.  With `abandon` it is given up: loads on the loop are cancelled and have a
        second to clear up, those in threads are left to end, and undone if they loaded anything.
        """
        return self._runs.cancel(abandon=abandon)

    async def pause_warmup(self) -> bool:
        """Have the active run start nothing until `continue_warmup`; its deadline goes on.  False if there is none."""
        run = self._runs.active
        if run is not None:
            run.pause()
        return run is not None

    async def continue_warmup(self) -> bool:
        """Let the active run go on after `pause_warmup`.  False if there is none."""
        run = self._runs.active
        if run is not None:
            run.resume()
        return run is not None

    async def wait_for_phase(self, phase: str = "critical") -> PhaseOutcome:
        """How `phase` of the newest run ended, as soon as it has: what a readiness check waits for.

        The rest of the run goes on behind it.  Returns at once where it has ended already, and waits for a run where
        there was none.  A phase that failed or was empty, and one that a stop left unfinished, is an answer too; see
        `PhaseOutcome.reason`.

        Raises:
            InvalidSetting: There is no such phase.
        """
        return await self._runs.wait_for_phase(phase)

    def watch_warmup(self) -> AsyncIterator[WarmupProgress]:
        """The progress of the active run, or of the next one, until it has ended: at most ten times a second."""
        return self._runs.watch()

    @property
    def strategies(self) -> tuple[str, ...]:
        """The names of the strategies that there are."""
        return tuple(self._strategies)

    @property
    def progress(self) -> WarmupProgress | None:
        """The active run as it stands; None if there is none, or it is still being made."""
        run = self._runs.active
        return run.progress() if run is not None else None

    def read_memory(self) -> tuple[MemoryPressureLevel, MemoryReading | None]:
        """The pressure, and memory as it is; None where it can't be read.  Takes tens of microseconds."""
        return self._watch.read()

    def observe_runs(self, observer: RunObserver) -> Callable[[], None]:
        """Tell `observer` of each run as it begins and ends, in the task of the run; returns what ends that."""
        self._runs.observers.append(observer)

        def end() -> None:
            if observer in self._runs.observers:
                self._runs.observers.remove(observer)

        return end

    def observe(self) -> Observation:
        """The service as it stands, for those who measure it.  Takes milliseconds, however much is known."""
        from preheat._figures import Observation
        from preheat._overhead import folder_bytes, thread_seconds

        level, reading = self.read_memory()
        return Observation(
            caches=tuple(self._caches),
            progress=self.progress,
            tally=self._runs.tally,
            seen=self.ledger.seen,
            pressure=level,
            reading=reading,
            times_met=self._watch.times_met,
            traffic=self.ledger.traffic(),
            memory=self.get_memory_statistics(),
            items=self.ledger.items,
            is_owner=self.ledger.is_owner,
            **self.ledger.overhead._asdict(),
            state_bytes=folder_bytes(self.settings.state_dir),
            thread_seconds=thread_seconds(),
            snapshots=self._keeper.status()["caches"] if self._keeper is not None else {},
        )

    @property
    def standing(self) -> Standing:
        """How far the newest run has come: which phases have ended, and whether it goes on."""
        return self._runs.standing

    async def _execute(
        self,
        plan: WarmupPlan,
        before: WarmupReport | None,
        on_progress: Callable[[WarmupProgress], None] | None,
        *,
        join: bool,
    ) -> WarmupReport:
        demand_known(plan.candidates.caches, self._caches)
        if not self.settings.enabled:
            from preheat._run import report_without_running

            self._runs.open_all("disabled")
            return report_without_running(plan, "disabled")
        return await self._runs.execute(
            plan, self._make_run, self._perform, before=before, on_progress=on_progress, join=join
        )

    def _make_run(
        self,
        plan: WarmupPlan,
        before: WarmupReport | None,
        on_progress: Callable[[WarmupProgress], None],
        on_phase: Callable[[PhaseOutcome], None],
    ) -> Run:
        from preheat._memory import release_free_memory
        from preheat._run import Run

        return Run(
            plan,
            self._replicas.prepare(self.caches, shares_keys=not plan.is_shard),
            watch=self._watch,
            memory_log=self._memory_log,
            release_memory=release_free_memory,
            concurrency_limit=self.settings.concurrency_limit,
            batch_size=self.settings.batch_size,
            phase_delay_seconds=self.settings.phase_delay_ms / 1000,
            deadline_seconds=self.settings.deadline_seconds,
            item_timeout_seconds=self.settings.item_timeout_seconds,
            before=before,
            gates=self._replicas.gates(self.caches, plan.seed),
            on_progress=on_progress,
            on_phase=on_phase,
        )

    async def _perform(self, run: Run) -> WarmupReport:
        import asyncio

        try:
            await asyncio.to_thread(self.ledger.begin_run, run.plan)
            self.ledger.tell_misses_to(run.note_misses)
            report = await self._replicas.perform(run)
        finally:
            self.ledger.tell_misses_to(None)
            self._watch.forget_headroom()
        await asyncio.to_thread(self.ledger.end_run, report)
        return report

    async def get_warmup_status(self) -> dict[str, Any]:
        """Whether a run is active, its progress, and the last run with what it won: plain data.

        `progress` is None while no run is active, `last` until one has ended; `fault` says why history is not kept,
        if it isn't, `store` whether this process is the one that keeps it, and by which SQLite; `dropped` accesses, at
        least, came faster than they could be folded and are missing from it; `caution` is what follows from warm-ups
        that never ended; `snapshots` is None where they are off.
        """
        import asyncio

        progress = self.progress
        interrupted = await asyncio.to_thread(self.ledger.interrupted_runs)
        return {
            "active": progress is not None,
            "progress": progress_summary(progress) if progress is not None else None,
            "last": await asyncio.to_thread(self.ledger.last_report),
            "fault": self.ledger.fault,
            "store": {"owner": self.ledger.is_owner, "sqlite_version": self.ledger.sqlite_version},
            "caution": caution_after(interrupted),
            "dropped": self.ledger.dropped,
            "snapshots": self._keeper.status() if self._keeper is not None else None,
            "peers": await asyncio.to_thread(self._peers.status),
        }

    async def forget(self, cache: str, keys: Iterable[str]) -> int:
        """Forget these items of `cache`: their history and the values kept of them; how many history knew.

        When this returns, their bytes are in no file of the state folder.  What the cache itself holds is the
        application's to delete, before this: an access afterwards is recorded anew.

        Raises:
            StoreError: The folder can't be rewritten, above all if another process owns it; this one has forgotten.
        """
        import asyncio

        from preheat._history.forgetting import Forgotten

        return await asyncio.to_thread(self._forget, Forgotten(cache, frozenset(keys)))

    def _forget(self, gone: Forgotten) -> int:
        from preheat._snapshot import forget_values

        keeper = self._keeper
        try:
            known = self.ledger.forget(gone)
        finally:  # even where the history is another process's
            self._peers.forget(gone)
            if keeper is not None:
                keeper.forget(gone)
        if keeper is None:
            forget_values(self.settings.state_dir, gone, is_owner=lambda: self.ledger.is_owner)
        return known

    def get_recommended_strategy(self) -> WarmupStrategy:
        """The strategy that suits memory as it is and as it goes, and what past runs won."""
        return recommend_strategy(self._planning.conditions())

    # --------------------------------------------------------------------------------------- life time

    @property
    def ledger(self) -> Ledger:
        """The history and the reports; opens the state folder at the first use."""
        if self._ledger is not None:
            return self._ledger
        from preheat._ledger import Ledger

        with self._opening:
            if self._ledger is None:
                self._ledger = Ledger(
                    self.settings.state_dir,
                    max_items=self.settings.max_history_items,
                    flush_seconds=self.settings.flush_seconds,
                )
            return self._ledger

    def _make_peering(self) -> Peering:
        from preheat._peering import Peering

        return Peering(self.settings, self._caches, lambda: self.read_memory()[0])

    @property
    def _snapshots(self) -> SnapshotKeeper:
        from preheat._snapshot import SnapshotKeeper

        ledger, process = self.ledger, os.getpid()
        with self._opening:
            if self._keeper is None:  # a fork that comes to own the folder has the parent's erasures of long ago
                is_owner = lambda: ledger.is_owner and os.getpid() == process  # noqa: E731
                self._keeper = SnapshotKeeper.by_settings(self.settings, is_owner)
            return self._keeper

    @property
    def _peers(self) -> Peers:
        from preheat._pool.exchange import Exchange
        from preheat._pool.peers import Peers

        ledger, settings = self.ledger, self.settings
        with self._opening:
            if self._pooled is None:
                if settings.share_history and not settings.coordinator_url:
                    raise InvalidSetting(
                        "share_history takes a server to hand histories round: set coordinator_url too"
                    )
                self._pooled = Peers(
                    settings.state_dir,
                    max_items=settings.max_history_items,
                    history=ledger.history,
                    is_owner=lambda: ledger.is_owner,
                    exchange=Exchange(str(settings.coordinator_url)) if settings.share_history else None,
                )
            return self._pooled

    @property
    def _training(self) -> BackgroundTraining:
        """Learns models in the background once it has begun; puts it off while a run is active."""
        from preheat._predict.forecast import train_cache
        from preheat._predict.stored import decode_model, encode_model
        from preheat._training import BackgroundTraining, Learner

        ledger = self.ledger
        with self._opening:
            if self._trained is None:
                self._trained = BackgroundTraining(
                    Learner(train_cache, encode_model, decode_model),  # type: ignore[arg-type]
                    ledger,
                    lambda: {} if self._runs.is_active else self._planning.capacities(),
                    seed=self.settings.seed or 0,
                )
            return self._trained

    async def save_snapshots(self) -> None:
        """Keep on disk now what the caches hold; nothing where snapshots are off.  A fault shows in the status."""
        import asyncio

        if self._keeper is not None:
            await asyncio.to_thread(self._keeper.save)

    async def close(self, *, patience_seconds: float = 0.0) -> None:
        """Fold and save what was recorded, and give up the state folder; pressure callbacks end.

        The caches go on, unrecorded.  What they invalidate from now on is not erased from their snapshots.  A process
        that owns the folder and ends too, as the workers of a server do together, is given `patience_seconds` for it.
        """
        import asyncio

        self.is_closed = True
        for end in list(self._subscriptions):
            end()
        if self._trained is not None:
            await asyncio.to_thread(self._trained.stop)
        if self._pooled is not None:
            await asyncio.to_thread(self._pooled.stop)
        if self._keeper is not None:
            await asyncio.to_thread(self._keeper.close)
        if self.peering is not None:
            self.peering.close()
        if self._ledger is not None:
            await asyncio.to_thread(partial(self._ledger.close, patience_seconds=patience_seconds))

    def save_at_exit(self, *, patience_seconds: float = 0.0) -> None:
        """Save what was recorded, if anything was, where the process ends and nobody has called `close`."""
        if self._ledger is not None and not self.is_closed:
            self._ledger.close(patience_seconds=patience_seconds)

    async def __aenter__(self) -> CacheWarmupService:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def name_taken(name: str) -> InvalidSetting:
    """What is wrong with a second cache of that name."""
    return InvalidSetting(f"another cache is registered as {name!r}; give this one a name of its own")
