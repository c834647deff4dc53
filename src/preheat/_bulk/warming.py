"""A worker's caches, and how it runs the plan of a shard: fitted to memory and caches as they are, by the usual run.

Nothing is recorded and no report is kept here: what a bulk warm-up did stands on its board.  The limits of an origin,
on loads and on bytes, are kept by the server of the board, for all workers together.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from preheat._added import find_or_add_strategy
from preheat._bulk.adding import Head
from preheat._memory import SystemMemory, release_free_memory
from preheat._model import WarmupPlan, WarmupProgress, WarmupReport
from preheat._plan.budget import grant_budget
from preheat._plan.fitting import fit_plan
from preheat._plan.strategy import configure_strategies
from preheat._planning import demand_known, free_bytes
from preheat._pressure import pressure_level
from preheat._replicas import Replicas
from preheat._run import Run
from preheat._service import CacheWarmupService
from preheat._settings import Settings, resolve_settings
from preheat._target import caches_in, called, find_target
from preheat._watch import MemoryWatch
from preheat.abc import WarmableCache
from preheat.errors import InvalidSetting


class Warming:
    """What one worker warms, for one bulk warm-up.

    Args:
        caches: By name.
        settings: Those of the worker.
        url: The server that keeps the limits.
        head: What the bulk warm-up is: its limits are over those of the settings.
    """

    def __init__(self, caches: Mapping[str, WarmableCache], settings: Settings, url: str, head: Head) -> None:
        rates = {**settings.rate_limits, **head.rates}
        bandwidths = {**settings.bandwidth_limits_mb, **head.bandwidths_mb}
        self._settings = replace(
            settings,
            rate_limits=rates,
            bandwidth_limits_mb=bandwidths,
            coordinator_url=url if rates or bandwidths else None,
            replicas=1,
            start_jitter_seconds=0.0,
            replicas_at_once=None,
        )
        self._caches, self._strategies = caches, configure_strategies(settings.strategies)
        self._replicas = Replicas(self._settings)
        self._memory = SystemMemory()
        self._watch = MemoryWatch(self._memory, pressure_level)

    async def prepare(self, plan: WarmupPlan, on_progress: Callable[[WarmupProgress], None]) -> Run:
        """The run of `plan`, as far as memory and caches allow it now.

        Raises:
            UnknownCache, UnknownStrategy: The worker has not what it names.
        """
        demand_known(plan.candidates.caches, self._caches)
        settings, fitted = self._settings, await asyncio.to_thread(self._fit, plan)
        return Run(
            fitted,
            self._replicas.prepare(self._caches, shares_keys=False),
            watch=self._watch,
            release_memory=release_free_memory,
            concurrency_limit=settings.concurrency_limit,
            batch_size=settings.batch_size,
            item_timeout_seconds=settings.item_timeout_seconds,
            gates=self._replicas.gates(self._caches, plan.seed),
            on_progress=on_progress,
        )

    async def perform(self, run: Run) -> WarmupReport:
        """Perform what `prepare` gave."""
        return await self._replicas.perform(run)

    def _fit(self, plan: WarmupPlan) -> WarmupPlan:
        profile = find_or_add_strategy(plan.strategy, self._strategies)
        reading = self._memory()
        budget = grant_budget(reading, profile, pressure_level(reading), self._settings.memory_budget_bytes)
        statistics = {name: self._caches[name].get_warmup_statistics() for name in plan.candidates.caches}
        fitted = fit_plan(plan, budget, free_bytes(statistics, self._settings.quotas_mb))
        return replace(fitted, pressure_response=profile.pressure_response)


async def caches_of(target: str) -> tuple[dict[str, WarmableCache], Settings]:
    """The caches that `target`, a `module:attribute`, names, and the settings that they are warmed by.

    Raises:
        InvalidTarget, InvalidSetting: It can't be imported, or is nothing that can be warmed.
    """
    found: Any = await called(find_target(target))
    if isinstance(found, CacheWarmupService):
        return found.caches, found.settings
    caches = {cache.name: cache for cache in caches_in(found, target)}
    if not caches:
        raise InvalidSetting(f"{target} has no cache that could be warmed")
    return caches, resolve_settings(os.environ)
