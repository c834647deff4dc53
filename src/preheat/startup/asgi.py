"""The lifespan of an ASGI application, as FastAPI, Starlette and Litestar take it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from preheat._readiness import Gate
from preheat.startup.terms import DEADLINE_SECONDS, Terms, agree
from preheat.startup.warmed import Warmed
from preheat.startup.warming import Warming

if TYPE_CHECKING:
    from preheat._model import WarmupReport
    from preheat._service import CacheWarmupService

OwnLifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]


class Lifespan:
    """What an application is given as its lifespan; made by `lifespan`.  Each start is a warm-up of its own."""

    def __init__(self, warmed: Warmed, terms: Terms, within: OwnLifespan | None) -> None:
        self._warmed, self._terms, self._within = warmed, terms, within
        self._warming: Warming | None = None

    @asynccontextmanager
    async def __call__(self, app: Any) -> AsyncIterator[Any]:
        """The lifespan of `app`, with what the application's own one gives."""
        if self._within is None:
            async with self._warm():
                yield None
        else:
            async with self._within(app) as state, self._warm():
                yield state

    def _warm(self) -> Warming:
        self._warming = Warming(self._warmed, self._terms)
        return self._warming

    def why_not_ready(self) -> str | None:
        """Why the gate is not met yet, in a few words; None if it is, or if the deadline has passed."""
        return "the application has not started" if self._warming is None else self._warming.why_not_ready()

    @property
    def service(self) -> CacheWarmupService | None:
        """The service that warms; None until it has been opened, and where that failed."""
        return None if self._warming is None else self._warming.service

    @property
    def report(self) -> WarmupReport | None:
        """How the warm-up ended; None until it has, and where it failed."""
        return None if self._warming is None else self._warming.report


def lifespan(
    warmed: Warmed = None,
    *,
    gate: Gate | str = Gate.CRITICAL,
    deadline_seconds: float = DEADLINE_SECONDS,
    strategy: str | None = None,
    memory_budget_mb: float | None = None,
    workers: int | None = None,
    listen_first: bool = False,
    within: OwnLifespan | None = None,
) -> Lifespan:
    """A lifespan that warms caches while the application starts, and saves what was learned when it ends.

    The listener opens when the gate is met or the deadline has passed; the rest of the run goes on behind it.  A
    warm-up that fails is logged and lets the application start.  At the end a run that goes on is cancelled, history
    and snapshots are saved, and the service is closed.

    Args:
        warmed: A service, caches, a function (also a coroutine function) that returns one of these, one of these by
            name as "module:attribute", or None: what belongs to the service of this process.  Functions are called at
            each start, after `within` has begun.
        gate: What has to have ended before the listener opens: "none", "critical" (the critical phase) or "all".
        deadline_seconds: The listener opens after so many seconds, whatever the gate says.
        strategy: By default the configured one.
        memory_budget_mb: MiB, for all workers together; only ever lowers the budget that the free memory gives.
        workers: Processes that serve this application from the same memory; each takes its part of the budget.  By
            default what `WEB_CONCURRENCY` says, else 1.
        listen_first: Open the listener at once; the gate then only decides what `why_not_ready` says, for a readiness
            probe.
        within: The application's own lifespan: begun before the warm-up and ended after it, its state handed on.

    Raises:
        InvalidSetting: An argument can't be used.
    """
    terms = agree(
        gate=gate,
        deadline_seconds=deadline_seconds,
        strategy=strategy,
        memory_budget_mb=memory_budget_mb,
        workers=workers,
        listen_first=listen_first,
    )
    return Lifespan(warmed, terms, within)
