"""A warm-up around a block of code, with or without an event loop of one's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

from preheat._readiness import Gate
from preheat.startup.terms import DEADLINE_SECONDS, agree
from preheat.startup.warmed import Warmed
from preheat.startup.warming import Warming


class warm(Warming):  # noqa: N801 - used as a function
    """Warm caches around a block: `with preheat.warm(caches): ...`, or `async with`.

    The block begins when the gate is met or the deadline has passed; the rest of the run goes on behind it, under
    `with` in a loop and a thread of its own.  A warm-up that fails is logged, and the block runs all the same.  After
    the block a run that goes on is cancelled, history and snapshots are saved, and the service is closed.

    Args:
        warmed: A service, caches, a function (also a coroutine function) that returns one of these, one of these by
            name as "module:attribute", or None: what belongs to the service of this process.
        gate: What has to have ended before the block begins: "none", "critical" (the critical phase) or "all".
        deadline_seconds: The block begins after so many seconds, whatever the gate says.
        strategy: By default the configured one.
        memory_budget_mb: MiB, for all workers together; only ever lowers the budget that the free memory gives.
        workers: Processes that do the same in the same memory; each takes its part of the budget.  By default what
            `WEB_CONCURRENCY` says, else 1.

    Raises:
        InvalidSetting: An argument can't be used.
    """

    def __init__(
        self,
        warmed: Warmed = None,
        *,
        gate: Gate | str = Gate.CRITICAL,
        deadline_seconds: float = DEADLINE_SECONDS,
        strategy: str | None = None,
        memory_budget_mb: float | None = None,
        workers: int | None = None,
    ) -> None:
        terms = agree(
            gate=gate,
            deadline_seconds=deadline_seconds,
            strategy=strategy,
            memory_budget_mb=memory_budget_mb,
            workers=workers,
        )
        super().__init__(warmed, terms)
        self._loop: _LoopThread | None = None

    def __enter__(self) -> warm:
        self._loop = _LoopThread()
        try:
            self._loop.run(self.begin())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            try:
                loop.run(self.end())
            finally:
                loop.close()


class _LoopThread:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="preheat-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait in the calling thread until `work` is done there."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """End the loop and the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
