"""The stages before a run, in their order: history -> prediction -> candidates -> budget -> plan.

Wires what the service holds; each decision is made in `_predict` and `_plan`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from preheat._model import (
    MIB,
    CacheStatistics,
    CandidateTable,
    History,
    MemoryBudget,
    MemoryPressureLevel,
    WarmupItem,
    WarmupPlan,
)
from preheat._plan import create_plan
from preheat._plan.adaptive import Conditions, adapt_strategy
from preheat._plan.budget import grant_budget
from preheat._plan.caution import cut_plan
from preheat._plan.fallback import with_fallback
from preheat._plan.fitting import fit_plan
from preheat._plan.sizes import Corrections, correct_sizes, in_flight_peak_bytes, size_factors
from preheat._plan.strategy import StrategyProfile, find_fallback
from preheat._predict.horizon import refill_seconds
from preheat._record import log_failure
from preheat._settings import Settings
from preheat.abc import CandidateSource, LoadsInBulk, Predictor, WarmableCache
from preheat.errors import UnknownCache, UsageError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat._ledger import Ledger
    from preheat._pool.peers import Peers
    from preheat._predict.blend import Model
    from preheat._predict.forecast import Forecast
    from preheat._training import BackgroundTraining
    from preheat._watch import MemoryWatch


class Expectation(NamedTuple):
    """What plans of any strategy are made of, as of one instant."""

    candidates: CandidateTable
    horizon: Mapping[str, float]
    statistics: Mapping[str, CacheStatistics]
    corrections: Corrections
    predictors: Mapping[str, str]


class Planning:
    """Makes plans for `caches`.

    What is a function opens what it returns at the first call; mappings and lists are looked at when they are needed.
    """

    def __init__(
        self,
        settings: Settings,
        caches: Mapping[str, WarmableCache],
        *,
        sources: Sequence[CandidateSource],
        strategies: Mapping[str, StrategyProfile],
        predictor: Predictor | None,
        ledger: Callable[[], Ledger],
        peers: Callable[[], Peers],
        training: Callable[[], BackgroundTraining],
        watch: Callable[[], MemoryWatch],
    ) -> None:
        self._settings, self._caches, self._sources, self._strategies = settings, caches, sources, strategies
        self._predictor, self._ledger, self._training, self._watch = predictor, ledger, training, watch
        self._peers = peers

    def conditions(self) -> Conditions:
        """Memory as it is and as it goes, and what past runs won."""
        level, reading = self._watch().read()
        return Conditions(level, reading, self._watch().headroom, self._ledger().past_runs())

    def plan(self, named: StrategyProfile, limit_bytes: int | None) -> WarmupPlan:
        """What the strategy `named` would load now, in at most `limit_bytes`."""
        return self._plan(named, limit_bytes, self._expect())

    def plan_each(self, named: Iterable[StrategyProfile], limit_bytes: int | None) -> list[WarmupPlan]:
        """What each of the strategies `named` would load now, all going by the same expectation."""
        expected = self._expect()
        return [self._plan(each, limit_bytes, expected) for each in named]

    def _plan(self, named: StrategyProfile, limit_bytes: int | None, expected: Expectation) -> WarmupPlan:
        profile, adapted = adapt_strategy(named, self.conditions()) if named.adapts else (named, ())
        plan = self._plan_as(profile, limit_bytes, expected)
        return self._with_responses(replace(plan, adapted=adapted), named, profile)

    def _expect(self) -> Expectation:
        history = self._peers().with_peers(self._ledger().history())
        statistics = self._statistics()
        horizon = {name: refill_seconds(history, name, s.capacity_bytes) for name, s in statistics.items()}
        corrections = self._ledger().corrections
        rates, predictors = self._forecast(history, horizon, statistics)
        candidates = self._candidates(history, rates, horizon, corrections)
        names = {name: predictors[name] for name in candidates.caches}
        return Expectation(candidates, horizon, statistics, corrections, names)

    def _plan_as(self, profile: StrategyProfile, limit_bytes: int | None, expected: Expectation) -> WarmupPlan:
        plan = create_plan(
            expected.candidates,
            self._budget(profile, limit_bytes, expected.candidates, expected.corrections),
            profile,
            horizon_seconds=expected.horizon,
            free_bytes=free_bytes(expected.statistics, self._settings.quotas_mb),
            holdout_ratio=self._settings.holdout_ratio,
            seed=int.from_bytes(os.urandom(8)) >> 1 if self._settings.seed is None else self._settings.seed,
        )
        return replace(plan, size_factors=size_factors(expected.corrections), predictors=expected.predictors)

    def fit(self, plan: WarmupPlan, profile: StrategyProfile, limit_bytes: int | None) -> WarmupPlan:
        """`plan`, made by `profile`, as far as memory and caches allow it now."""
        budget = self._budget(profile, limit_bytes, plan.candidates, self._ledger().corrections)
        fitted = fit_plan(plan, budget, free_bytes(self._statistics(), self._settings.quotas_mb))
        return self._with_responses(fitted, profile, profile)

    def _with_responses(self, plan: WarmupPlan, named: StrategyProfile, profile: StrategyProfile) -> WarmupPlan:
        """`plan`, made by `profile` for the strategy `named`, with what its run does when memory gets short."""
        plan = cut_plan(replace(plan, pressure_response=profile.pressure_response), self._ledger().interrupted_runs())
        fallback = find_fallback(named, self._strategies)
        return plan if fallback is None else with_fallback(plan, profile, fallback)

    def _forecast(
        self, history: History, horizon: Mapping[str, float], statistics: Mapping[str, CacheStatistics]
    ) -> Forecast:
        """What the application's own predictor expects, or else the model of each cache."""
        from preheat._predict.forecast import Forecast, forecast

        if self._predictor is not None:
            by_cache = np.array([horizon.get(name, 1.0) for name in history.caches] or [1.0])
            name = str(getattr(self._predictor, "__name__", type(self._predictor).__name__))
            try:
                rates = self._predictor(history, by_cache[history.cache])
                return Forecast(rates, dict.fromkeys((*history.caches, *horizon), name))
            except Exception:
                log_failure("the predictor %s failed; the models learned of each cache take its place", name)
        return forecast(history, horizon, self._models(history, statistics))

    def _models(self, history: History, statistics: Mapping[str, CacheStatistics]) -> dict[str, Model]:
        """By cache that is bounded, the model learned in the background; or one learned now, if that takes no time."""
        from preheat._predict.forecast import current_models

        kept = cast("Mapping[str, Model]", self._training().models())
        outdone = self._ledger().outdone_predictors()
        seed = self._settings.seed or 0
        return current_models(history, _capacities(statistics), kept, outdone=outdone, seed=seed)

    def _candidates(
        self, history: History, rates: NDArray[np.float64], horizon: Mapping[str, float], corrections: Corrections
    ) -> CandidateTable:
        from preheat._kinds import kinds_of

        if not self._settings.enabled:
            return CandidateTable.of(())
        tables = [_ask(_name_of(source), partial(source, history)) for source in self._sources]
        for name in horizon:
            tables.append(_ask(f"cache {name!r}", partial(self._caches[name].get_warmup_candidates, history, rates)))
        table = CandidateTable.concatenate(tables)
        demand_known(table.caches, self._caches)
        return correct_sizes(
            table,
            corrections,
            kind_of=kinds_of(dict(self._caches)),
            estimate=self._estimate_size,
        )

    def _budget(
        self,
        profile: StrategyProfile,
        limit_bytes: int | None,
        candidates: CandidateTable,
        corrections: Corrections,
    ) -> MemoryBudget:
        if not self._settings.enabled:
            reason = "warm-up is switched off by CACHE_WARMUP_ENABLED"
            return MemoryBudget(0, 0, 0, MemoryPressureLevel.LOW, None, reason)
        level, reading = self._watch().read()
        if reading is None:
            return MemoryBudget(0, 0, 0, MemoryPressureLevel.CRITICAL, None, "memory can't be read, so none is free")
        in_flight_bytes = in_flight_peak_bytes(
            candidates,
            corrections,
            loaders=self._settings.concurrency_limit,
            batch_size={
                n: self._settings.batch_size for n, c in list(self._caches.items()) if isinstance(c, LoadsInBulk)
            },
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
        for name, cache in list(self._caches.items()):  # others may be registered meanwhile
            try:
                found[name] = cache.get_warmup_statistics()
            except Exception:
                log_failure("the statistics of cache %r could not be had, so it is not warmed", name)
        return found

    def capacities(self) -> dict[str, int]:
        """By cache that is bounded, what it holds."""
        return _capacities(self._statistics())


def demand_known(names: Iterable[str], caches: Mapping[str, WarmableCache]) -> None:
    """Demand that `names` are those of `caches`.

    Raises:
        UnknownCache: One is not.
    """
    for name in names:
        if name not in caches:
            known = ", ".join(caches) or "none yet; call register(cache) first"
            raise UnknownCache(f"no cache is registered as {name!r}; {nearest(name, caches)}there are: {known}")


def _capacities(statistics: Mapping[str, CacheStatistics]) -> dict[str, int]:
    """By cache that is bounded, what it holds."""
    return {name: s.capacity_bytes for name, s in statistics.items() if s.capacity_bytes}


def free_bytes(statistics: Mapping[str, CacheStatistics], quotas_mb: Mapping[str, float]) -> dict[str, int | None]:
    """By cache, the room that a plan has in it: what is free, and no more than its quota; None without a limit."""
    quotas = {name: int(quota * MIB) for name, quota in quotas_mb.items()}
    free: dict[str, int | None] = {}
    for name, s in statistics.items():
        room = quotas.get(name) if s.capacity_bytes is None else max(0, s.capacity_bytes - s.used_bytes)
        free[name] = room if room is None else min(room, quotas.get(name, room))
    return free


def _name_of(source: CandidateSource) -> str:
    """What to call it; not its `repr`, which may show what it was made with."""
    return f"source {getattr(source, '__qualname__', type(source).__qualname__)}"


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
