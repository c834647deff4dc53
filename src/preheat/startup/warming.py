"""A warm-up at the start of an application: begun behind it, waited for as far as the gate says, and ended with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING

from preheat._model import MIB
from preheat._readiness import Entrance, Standing
from preheat.errors import PreheatError
from preheat.startup.terms import Terms
from preheat.startup.warmed import Warmed, open_service

if TYPE_CHECKING:
    from preheat._model import WarmupPlan, WarmupReport
    from preheat._service import CacheWarmupService

logger = logging.getLogger("preheat")

LOOK_SECONDS = 0.01
"""How often the gate is looked at while it is waited for."""

CANCEL_SECONDS = 5.0
"""What a run that was cancelled may take to end."""

PATIENCE_SECONDS = 3.0
"""How long the end waits for a state folder that another process is about to give up, to save what was recorded."""

_NOTHING_YET = Standing({}, is_active=False)


class Warming:
    """One warm-up, from the start of an application to its end.  Not to be begun twice.

    Attributes:
        service: The service that warms; None until it has been opened, and where that failed.
        report: How the run ended; None until it has, and where it failed.
    """

    def __init__(self, warmed: Warmed, terms: Terms) -> None:
        self.service: CacheWarmupService | None = None
        self.report: WarmupReport | None = None
        self._warmed, self._terms = warmed, terms
        self._is_ending = False
        self._task: asyncio.Task[None] | None = None
        self._entrance: Entrance | None = None

    def why_not_ready(self) -> str | None:
        """Why the gate is not met yet, in a few words; None if it is.  From any thread."""
        if self._entrance is None or self._task is None:
            return "no warm-up has begun"
        if self._task.done():
            return None
        standing = _NOTHING_YET if self.service is None else self.service.standing
        return self._entrance.why_closed(standing, time.monotonic())

    async def begin(self) -> None:
        """Begin, and return once the gate is met or the deadline has passed; at once where it listens first."""
        terms = self._terms
        self._entrance = Entrance(terms.gate, deadline_seconds=terms.deadline_seconds, since=time.monotonic())
        self._task = asyncio.create_task(self._contained(self._warm), name="preheat-warm-up")
        while not terms.listens_first and self.why_not_ready() is not None:
            await asyncio.wait({self._task}, timeout=LOOK_SECONDS)

    async def stop(self) -> None:
        """End the run if it goes on; the service stays open."""
        self._is_ending = True
        if self._task is not None:
            await self._end_run(self._task)

    async def end(self) -> None:
        """End the run if it goes on, save history and snapshots, and close the service."""
        await self.stop()
        if self.service is not None:
            await self._contained(self._close)

    async def _end_run(self, task: asyncio.Task[None]) -> None:
        if self.service is not None and not task.done():
            await self.service.cancel_warmup(abandon=True)
        _, going_on = await asyncio.wait({task}, timeout=CANCEL_SECONDS)
        for each in going_on:
            each.cancel()
            await asyncio.wait({each}, timeout=CANCEL_SECONDS)

    async def _warm(self) -> None:
        service = self.service = await open_service(self._warmed)
        if self._is_ending:
            return
        plan = await self._plan(service)
        if not self._is_ending:
            self.report = await service.execute_warmup_plan(plan, join=True)

    async def _plan(self, service: CacheWarmupService) -> WarmupPlan:
        """The plan of this one of the workers, all of which see the same memory free."""
        terms = self._terms
        plan = await service.create_warmup_plan(terms.strategy, terms.memory_budget_mb)
        if terms.workers == 1:
            return plan
        return await service.fit_warmup_plan(plan, plan.budget.granted_bytes / MIB / terms.workers)

    async def _close(self) -> None:
        if self.service is not None:
            await self.service.close(patience_seconds=PATIENCE_SECONDS)

    async def _contained(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work`; what it raises is logged, for no application is to fail by its warm-up."""
        try:
            await work()
        except PreheatError as error:
            logger.error("the application goes on without a warm-up: %s", error)
        except Exception:
            logger.exception("the warm-up failed; the caches fill by themselves")

    async def __aenter__(self) -> Warming:
        try:
            await self.begin()
        except BaseException:
            await self.end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()


__all__ = ["Warming"]
