"""What the handlers share: the service, who may wait for what, and the run that was started here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from preheat._model import WarmupReport
from preheat._readiness import Entrance, Gate
from preheat._service import CacheWarmupService
from preheat.errors import WarmupInProgress
from preheat.http.answers import Refused

logger = logging.getLogger("preheat")

MOST_WAITING = 4
END_SECONDS = 10.0
"""What a run may take to end when the server does."""


class Turnstile:
    """Lets through one at a time; a few may wait, who comes after them is sent away."""

    def __init__(self) -> None:
        self._lock, self._waiting = asyncio.Lock(), 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One's turn.

        Raises:
            Refused: Too many are waiting.
        """
        if self._waiting >= MOST_WAITING:
            raise Refused(503, "too many plans and histories are asked for at a time", {"retry-after": "5"})
        self._waiting += 1
        try:
            async with self._lock:
                yield
        finally:
            self._waiting -= 1


class Desk:
    """What the handlers share.

    Args:
        service: Whose caches are warmed.
        gate: What `/ready` waits for.
        ready_deadline_seconds: When it waits no longer; None if never.
        shows_keys: Whether items are named.
    """

    def __init__(
        self, service: CacheWarmupService, *, gate: Gate, ready_deadline_seconds: float | None, shows_keys: bool
    ) -> None:
        self.service, self.shows_keys = service, shows_keys
        self.entrance = Entrance(gate, deadline_seconds=ready_deadline_seconds, since=time.monotonic())
        self.heavy = Turnstile()
        self.streams = 0
        self.is_closing = False
        self._run: asyncio.Task[WarmupReport] | None = None

    async def begin(self, run: Coroutine[Any, Any, WarmupReport]) -> None:
        """Have `run` go on behind us; what hinders its beginning is raised.

        Raises:
            WarmupInProgress: Another one is active.
            PreheatError: As `run` does.
        """
        task = asyncio.create_task(run, name="preheat-http-run")
        await asyncio.sleep(0)  # by then it has taken the only place, or found it taken
        if task.done():
            task.result()
            return
        self._run = task
        task.add_done_callback(_note_end)

    async def close(self) -> None:
        """End the run that was started here, and the streams."""
        self.is_closing = True
        run, self._run = self._run, None
        if run is None or run.done():
            return
        await self.service.cancel_warmup(abandon=True)
        await asyncio.wait([run], timeout=END_SECONDS)

    def active_run(self) -> str:
        """The run that is active, in words."""
        progress = self.service.progress
        if progress is None:
            return "a warm-up is being made ready"
        if progress.waits_for:
            return f"a warm-up is {progress.waits_for}"
        return f"a warm-up as {progress.strategy} is active, {progress.done} of {progress.total} items done"

    def demand_idle(self) -> None:
        """Demand that no run is active.

        Raises:
            WarmupInProgress: One is.
        """
        if self.service.standing.is_active:
            raise WarmupInProgress(self.active_run())


def _note_end(task: asyncio.Task[WarmupReport]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the warm-up that was started over HTTP was broken off: %s", type(error).__name__)
