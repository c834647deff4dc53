"""Threads of a run's own, for loaders that block: made when they are needed, and no more than were asked for.

A hand-over costs a tenth of one to the loop's own pool, and a thread whose loader never comes back holds up neither
the run nor the end of the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any

Work = Callable[[], Any]


class LoaderThreads:
    """Does work in threads of its own, each in a copy of the context in which this was made.

    Args:
        most: So many threads at most, apart from those that were given up.
        name: Their names begin with it.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._context = copy_context()
        self._given_up_most = 2 * most
        self._works: SimpleQueue[Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = self._idle = self._alive = 0

    def submit(self, work: Work) -> None:
        """Have `work`, which never raises, done as soon as a thread is free."""
        with self._lock:
            self._waiting += 1
            self._works.put(work)
            self._start_if_needed()

    async def run(self, work: Work) -> Any:
        """Have `work` done and wait for what it returns or raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def do() -> None:
            settle: Callable[[Any], None]
            try:
                result, settle = work(), future.set_result
            except BaseException as error:
                result, settle = error, future.set_exception
            if not loop.is_closed():
                loop.call_soon_threadsafe(lambda: None if future.done() else settle(result))

        self.submit(do)
        return await future

    def give_one_up(self) -> None:
        """A thread may never come back: let another take its place, for as many of them as there may be."""
        with self._lock:
            if self._most < self._given_up_most:
                self._most += 1
            self._start_if_needed()

    def close(self) -> None:
        """Every thread ends when what it is doing has; this waits for none."""
        for _ in range(self._alive):
            self._works.put(None)

    def _start_if_needed(self) -> None:
        if self._waiting > self._idle and self._alive < self._most:
            self._alive += 1
            name = f"{self._name}-{self._alive}"
            serve = partial(self._context.copy().run, self._serve)
            threading.Thread(target=serve, name=name, daemon=True).start()

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            work = self._works.get()
            with self._lock:
                self._idle -= 1
                self._waiting -= work is not None
            if work is None:
                return
            work()
            del work  # with all that it refers to, while nothing else is to be done
