"""The service: it knows the order of the stages and holds the parts; it decides nothing itself.

    record -> history -> predict -> plan -> execute -> measure

What is imported inside functions is needed only once a run starts; `import preheat` stays nearly as light as numpy.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from preheat._events import MemoryLog
from preheat._model import (
    MIB,
    CacheMemory,
    CacheStatistics,
    CandidateTable,
    History,
    MemoryBudget,
    MemoryEvent,
    MemoryEventKind,
    MemoryPressureLevel,
    WarmupItem,
    WarmupPlan,
    WarmupProgress,
    WarmupReport,
    WarmupStrategy,
)
from preheat._plan import create_plan
from preheat._plan.adaptive import Conditions, adapt_strategy, recommend_strategy
from preheat._plan.budget import grant_budget, limit_from_mb
from preheat._plan.fallback import with_fallback
from preheat._plan.fitting import fit_plan
from preheat._plan.sizes import Corrections, correct_sizes, in_flight_peak_bytes, size_factors
from preheat._plan.strategy import (
    StrategyProfile,
    configure_strategies,
    find_fallback,
    find_strategy,
    strategy_row,
)
from preheat._predict.horizon import refill_seconds
from preheat._pressure import pressure_level
from preheat._record import log_failure
from preheat._settings import Settings, resolve_settings
from preheat._summary import progress_summary
from preheat.abc import (
    CandidateSource,
    LoadsInBulk,
    MemoryMonitor,
    Predictor,
    PressureCallback,
    RecordsAccesses,
    ReportsMemory,
    WarmableCache,
)
from preheat.errors import InvalidSetting, UnknownCache, UsageError, WarmupInProgress, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat._coordination import Coordination
    from preheat._ledger import Ledger
    from preheat._predict.blend import Model
    from preheat._predict.forecast import Forecast
    from preheat._run import Run
    from preheat._training import BackgroundTraining
    from preheat._watch import MemoryWatch

CALLBACK_SECONDS = 1.0
"""How often memory is read for pressure callbacks while no run is active."""


class CacheWarmupService:
    """Records what its caches are asked for, and plans and runs their warm-up.

    Args:
        settings: By default what `CACHE_WARMUP_*` in the environment says.
        memory: Reads memory; by default the tightest limit on this process.
        predictor: Expects the future from history; by default models learned of each cache, which fall back to
            decayed frequency where there is little history.
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
        predictor: Predictor | None = None,
        **changes: Any,
    ) -> None:
        if settings is not None and changes:
            raise InvalidSetting(f"settings are given whole, so {', '.join(changes)} can't be given beside them")
        self.settings = settings or resolve_settings(os.environ, **changes)
        self._memory = memory
        self._predictor = predictor
        self._strategies = configure_strategies(self.settings.strategies)
        find_strategy(self.settings.strategy, self._strategies)
        self._caches: dict[str, WarmableCache] = {}
        self._sources: list[CandidateSource] = []
        self._subscriptions: set[Callable[[], None]] = set()
        self._watching: MemoryWatch | None = None
        self._memory_log = MemoryLog()
        self._ledger: Ledger | None = None
        self._trained: BackgroundTraining | None = None
        self._sees_headroom = False
        self._opening = threading.Lock()
        self._run: Run | None = None
        self._together: Coordination | None = None

    # -------------------------------------------------------------------------------------- registration

    def register(self, cache: WarmableCache) -> None:
        """Warm `cache` from now on, and record its traffic if it reports any.

        Raises:
            InvalidSetting: It lacks a member of `WarmableCache`, or another cache has its name.
        """
        if not isinstance(cache, WarmableCache):
            raise InvalidSetting(f"{cache!r} can't be warmed; it has to have the members of preheat.abc.WarmableCache")
        if self._caches.setdefault(cache.name, cache) is not cache:
            raise InvalidSetting(f"another cache is registered as {cache.name!r}; give this one a name of its own")
        if isinstance(cache, RecordsAccesses):
            cache.record_to(self.ledger.log(cache.name))
            if self._predictor is None and self.settings.enabled and not self.ledger.is_closed:
                self._training.begin()
        if isinstance(cache, ReportsMemory):
            cache.report_memory_to(partial(self._memory_log.track, cache.name))
        self._watch_headroom(find_strategy(self.settings.strategy, self._strategies))

    def unregister(self, name: str) -> None:
        """Warm the cache called `name` no longer.  What it records still goes into history.

        Raises:
            UnknownCache: No cache is registered under `name`.
        """
        self._demand_known([name])
        del self._caches[name]

    def register_strategy(self, name: str, *, share: float, why: str = "", **rules: Any) -> None:
        """Add a strategy, or replace one.  `rules` are the fields of the strategy table.

        Raises:
            InvalidSetting: A rule is not known or its value can't be used.
            UnknownStrategy: It falls back to a strategy that does not exist.
        """
        profile = strategy_row(name, {"share": share, "why": why} | rules)
        find_fallback(profile, self._strategies)
        self._strategies[name] = profile

    def register_candidate_source(self, source: CandidateSource) -> None:
        """Consider what `source(history)` names too; its rows come before those that the caches name."""
        self._sources.append(source)

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
        self._demand_known([cache])
        self._memory_log.track(cache, kind, size_bytes, cause, items)

    def get_memory_events(self, newest: int | None = None) -> Sequence[MemoryEvent]:
        """What happened to memory, oldest first, as far back as the log goes: the `newest` events, or all."""
        return self._memory_log.events(newest=newest)

    def get_memory_statistics(self) -> dict[str, CacheMemory]:
        """By cache, the sums of everything that was ever logged of it."""
        return self._memory_log.statistics()

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

        profile = find_strategy(strategy or self.settings.strategy, self._strategies)
        limit = limit_from_mb(memory_budget_mb, self.settings.memory_budget_bytes)
        return await asyncio.to_thread(self._plan, profile, limit)

    async def fit_warmup_plan(self, plan: WarmupPlan, memory_budget_mb: float | None = None) -> WarmupPlan:
        """`plan`, made earlier, as far as memory and caches allow it now; see `plan_from_json`.

        Its own order decides: what does not fit any more is left out, each with its reason.

        Raises:
            UnknownStrategy, InvalidSetting: Its strategy, or the argument, can't be used.
            UnknownCache: It names a cache that is not registered.
        """
        import asyncio

        self._demand_known(plan.candidates.caches)
        profile = find_strategy(plan.strategy, self._strategies)
        limit = limit_from_mb(memory_budget_mb, self.settings.memory_budget_bytes)
        return await asyncio.to_thread(self._fit, plan, profile, limit)

    async def execute_warmup_plan(
        self, plan: WarmupPlan, on_progress: Callable[[WarmupProgress], None] | None = None
    ) -> WarmupReport:
        """Load what `plan` says, inside its budget, and report.  Failed items are rows of the report.

        `on_progress` is called at most ten times a second, and once at the end.

        Raises:
            WarmupInProgress: A run is active in this service.
            UnknownCache: The plan names a cache that is not registered.
        """
        import asyncio

        from preheat._joint import joint
        from preheat._memory import release_free_memory
        from preheat._run import Run, report_without_running

        self._demand_known(plan.candidates.caches)
        if not self.settings.enabled:
            return report_without_running(plan, "disabled")
        if self._run is not None:
            raise WarmupInProgress("a warm-up is running; wait for it, or end it with cancel_warmup()")
        together = self._together = self._coordination()
        self._run = Run(
            plan,
            self.caches if together is None else joint(self.caches, together),
            watch=self._watch,
            memory_log=self._memory_log,
            release_memory=release_free_memory,
            concurrency_limit=self.settings.concurrency_limit,
            batch_size=self.settings.batch_size,
            phase_delay_seconds=self.settings.phase_delay_ms / 1000,
            on_progress=on_progress,
        )
        try:
            await asyncio.to_thread(self.ledger.begin_run, plan)
            if together is not None:
                await together.begin()
            report = await self._run.perform()
        finally:
            if together is not None:
                await together.end()
            self._run = None
            self._watch.forget_headroom()
        await asyncio.to_thread(self.ledger.end_run, report)
        return report

    async def cancel_warmup(self) -> bool:
        """Ask the active run to end; what is in flight is awaited.  False if there is none."""
        run = self._run
        if run is not None:
            run.cancel()
        if self._together is not None:
            self._together.stop()
        return run is not None

    async def get_warmup_status(self) -> dict[str, Any]:
        """Whether a run is active, its progress, and the last run with what it won: plain data.

        `progress` is None while no run is active, `last` until one has ended; `fault` says why history is not kept,
        if it isn't.
        """
        import asyncio

        run = self._run
        return {
            "active": run is not None,
            "progress": progress_summary(run.progress()) if run is not None else None,
            "last": await asyncio.to_thread(self.ledger.last_report),
            "fault": self.ledger.fault,
        }

    def get_recommended_strategy(self) -> WarmupStrategy:
        """The strategy that suits memory as it is and as it goes, and what past runs won."""
        return recommend_strategy(self._conditions())

    # --------------------------------------------------------------------------------------- life time

    @property
    def ledger(self) -> Ledger:
        """The history and the reports; opens the state folder at the first use."""
        from preheat._ledger import Ledger

        with self._opening:
            if self._ledger is None:
                self._ledger = Ledger(
                    self.settings.state_dir,
                    max_items=self.settings.max_history_items,
                    flush_seconds=self.settings.flush_seconds,
                )
            return self._ledger

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
                    lambda: {} if self._run is not None else _capacities(self._statistics()),
                    seed=self.settings.seed or 0,
                )
            return self._trained

    async def close(self) -> None:
        """Fold and save what was recorded, and give up the state folder; pressure callbacks end.

        The caches go on, unrecorded.
        """
        import asyncio

        global _shared
        if _shared is self:
            _shared = None
        for end in list(self._subscriptions):
            end()
        if self._trained is not None:
            await asyncio.to_thread(self._trained.stop)
        if self._ledger is not None:
            await asyncio.to_thread(self._ledger.close)

    async def __aenter__(self) -> CacheWarmupService:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _coordination(self) -> Coordination | None:
        """What shares a run out among replicas; None where this process warms up alone."""
        from preheat._coordination import Coordination

        if not self.settings.has_replicas:
            return None
        return Coordination(
            self.settings.coordinator_url,
            replicas=self.settings.replicas,
            jitter_seconds=self.settings.jitter_seconds,
            rates=self.settings.rate_limits,
        )

    # --------------------------------------------------------------------------------------- the stages

    def _watch_headroom(self, profile: StrategyProfile) -> None:
        """If `profile` adapts: see memory every second from now on, so that the trend of the headroom is known."""
        if profile.adapts and not self._sees_headroom:
            self._sees_headroom = True
            self.add_memory_pressure_callback(lambda level, reading: None)

    def _conditions(self) -> Conditions:
        level, reading = self._watch.read()
        return Conditions(level, reading, self._watch.headroom, self.ledger.past_runs())

    def _plan(self, named: StrategyProfile, limit_bytes: int | None) -> WarmupPlan:
        self._watch_headroom(named)
        profile, adapted = adapt_strategy(named, self._conditions()) if named.adapts else (named, ())
        return self._with_responses(replace(self._plan_as(profile, limit_bytes), adapted=adapted), named, profile)

    def _plan_as(self, profile: StrategyProfile, limit_bytes: int | None) -> WarmupPlan:
        history = self.ledger.history()
        statistics = self._statistics()
        horizon = {name: refill_seconds(history, name, s.capacity_bytes) for name, s in statistics.items()}
        corrections = self.ledger.corrections
        rates, predictors = self._forecast(history, horizon, statistics)
        candidates = self._candidates(history, rates, horizon, corrections)
        plan = create_plan(
            candidates,
            self._budget(profile, limit_bytes, candidates, corrections),
            profile,
            horizon_seconds=horizon,
            free_bytes=_free_bytes(statistics, self.settings.quotas_mb),
            holdout_ratio=self.settings.holdout_ratio,
            seed=int.from_bytes(os.urandom(8)) >> 1 if self.settings.seed is None else self.settings.seed,
        )
        names = {name: predictors[name] for name in candidates.caches}
        return replace(plan, size_factors=size_factors(corrections), predictors=names)

    def _fit(self, plan: WarmupPlan, profile: StrategyProfile, limit_bytes: int | None) -> WarmupPlan:
        budget = self._budget(profile, limit_bytes, plan.candidates, self.ledger.corrections)
        fitted = fit_plan(plan, budget, _free_bytes(self._statistics(), self.settings.quotas_mb))
        return self._with_responses(fitted, profile, profile)

    def _with_responses(self, plan: WarmupPlan, named: StrategyProfile, profile: StrategyProfile) -> WarmupPlan:
        """`plan`, made by `profile` for the strategy `named`, with what its run does when memory gets short."""
        plan = replace(plan, pressure_response=profile.pressure_response)
        fallback = find_fallback(named, self._strategies)
        return plan if fallback is None else with_fallback(plan, profile, fallback)

    def _forecast(
        self, history: History, horizon: Mapping[str, float], statistics: Mapping[str, CacheStatistics]
    ) -> Forecast:
        """What the application's own predictor expects, or else the model of each cache."""
        from preheat._predict.forecast import Forecast, forecast

        if self._predictor is None:
            return forecast(history, horizon, self._models(history, statistics))
        by_cache = np.array([horizon.get(name, 1.0) for name in history.caches] or [1.0])
        name = str(getattr(self._predictor, "__name__", type(self._predictor).__name__))
        return Forecast(
            self._predictor(history, by_cache[history.cache]), dict.fromkeys((*history.caches, *horizon), name)
        )

    def _models(self, history: History, statistics: Mapping[str, CacheStatistics]) -> dict[str, Model]:
        """A model for each cache that is bounded: the one that was learned in the background, or one learned now."""
        from preheat._predict.forecast import current_models

        kept = cast("Mapping[str, Model]", self._training.models())
        outdone = self.ledger.outdone_predictors()
        seed = self.settings.seed or 0
        return current_models(history, _capacities(statistics), kept, outdone=outdone, seed=seed)

    def _candidates(
        self, history: History, rates: NDArray[np.float64], horizon: Mapping[str, float], corrections: Corrections
    ) -> CandidateTable:
        from preheat._attempt import kinds_of

        if not self.settings.enabled:
            return CandidateTable.of(())
        tables = [_ask(repr(source), partial(source, history)) for source in self._sources]
        for name in horizon:
            tables.append(_ask(f"cache {name!r}", partial(self._caches[name].get_warmup_candidates, history, rates)))
        table = CandidateTable.concatenate(tables)
        self._demand_known(table.caches)
        return correct_sizes(
            table,
            corrections,
            kind_of=kinds_of(self._caches),
            estimate=self._estimate_size,
        )

    def _budget(
        self,
        profile: StrategyProfile,
        limit_bytes: int | None,
        candidates: CandidateTable,
        corrections: Corrections,
    ) -> MemoryBudget:
        if not self.settings.enabled:
            reason = "warm-up is switched off by CACHE_WARMUP_ENABLED"
            return MemoryBudget(0, 0, 0, MemoryPressureLevel.LOW, None, reason)
        level, reading = self._watch.read()
        if reading is None:
            return MemoryBudget(0, 0, 0, MemoryPressureLevel.CRITICAL, None, "memory can't be read, so none is free")
        in_flight_bytes = in_flight_peak_bytes(
            candidates,
            corrections,
            loaders=self.settings.concurrency_limit,
            batch_size={n: self.settings.batch_size for n, c in self._caches.items() if isinstance(c, LoadsInBulk)},
        )
        return grant_budget(reading, profile, level, limit_bytes, in_flight_bytes)

    def _estimate_size(self, item: WarmupItem) -> int:
        """What its cache takes `item` for; 0 if it can't tell."""
        try:
            return max(0, int(self._caches[item.ref.cache].estimate_item_size(item)))
        except Exception:
            log_failure("cache %r could not estimate an item", item.ref.cache)
            return 0

    def _statistics(self) -> dict[str, CacheStatistics]:
        """What each cache says of itself; one that fails is left out of the plan."""
        found: dict[str, CacheStatistics] = {}
        for name, cache in self._caches.items():
            try:
                found[name] = cache.get_warmup_statistics()
            except Exception:
                log_failure("the statistics of cache %r could not be had, so it is not warmed", name)
        return found

    def _demand_known(self, names: Any) -> None:
        for name in names:
            if name not in self._caches:
                known = ", ".join(self._caches) or "none yet; call register(cache) first"
                raise UnknownCache(
                    f"no cache is registered as {name!r}; {nearest(name, self._caches)}there are: {known}"
                )


def _capacities(statistics: Mapping[str, CacheStatistics]) -> dict[str, int]:
    """By cache that is bounded, what it holds."""
    return {name: s.capacity_bytes for name, s in statistics.items() if s.capacity_bytes}


def _free_bytes(statistics: Mapping[str, CacheStatistics], quotas_mb: Mapping[str, float]) -> dict[str, int | None]:
    """By cache, the room that a plan has in it: what is free, and no more than its quota; None without a limit."""
    quotas = {name: int(quota * MIB) for name, quota in quotas_mb.items()}
    free: dict[str, int | None] = {}
    for name, s in statistics.items():
        room = quotas.get(name) if s.capacity_bytes is None else max(0, s.capacity_bytes - s.used_bytes)
        free[name] = room if room is None else min(room, quotas.get(name, room))
    return free


def _ask(who: str, source: Callable[[], Sequence[WarmupItem]]) -> CandidateTable:
    """What `source` names; nothing if it fails, so that one cache's fault costs that cache's warm-up alone."""
    try:
        rows = source()
        return rows if isinstance(rows, CandidateTable) else CandidateTable.of(rows)
    except UsageError:
        raise
    except Exception:
        log_failure("the candidates of %s could not be had and are left out", who)
        return CandidateTable.of(())


_shared: CacheWarmupService | None = None


async def get_cache_warmup_service() -> CacheWarmupService:
    """The service of this process, made at the first call and configured by the environment.

    Raises:
        InvalidSetting, UnknownStrategy: The environment can't be used.
    """
    global _shared
    if _shared is None:
        _shared = CacheWarmupService()
    return _shared


async def execute_memory_aware_warmup(
    strategy: WarmupStrategy | str | None = None,
    memory_budget_mb: float | None = None,
    on_progress: Callable[[WarmupProgress], None] | None = None,
) -> WarmupReport:
    """Plan and run a warm-up of the caches registered with the service of this process.

    Args:
        strategy: By default the configured one.
        memory_budget_mb: MiB; only ever lowers the budget that the free memory gives.
        on_progress: Called at most ten times a second, and once at the end.

    Raises:
        UsageError: An argument or setting can't be used.
        WarmupInProgress: A run is active.
    """
    service = await get_cache_warmup_service()
    plan = await service.create_warmup_plan(strategy, memory_budget_mb)
    return await service.execute_warmup_plan(plan, on_progress)
