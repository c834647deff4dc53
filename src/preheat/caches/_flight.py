"""One load under way, however many want what it makes: threads wait for it, and coroutines without blocking."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio

V = TypeVar("V")


class Flight(Generic[V]):
    """A load.

    Attributes:
        version: What it loads; of a warm-up's load it is known when it has landed.
        warming: Whether a warm-up began it.
        wanted: Whether traffic waits for it, so that a warm-up's load counts as traffic's own.
        invalidated: Whether what it loads must not be kept.
        value, error: How it ended; set before it has landed.
    """

    __slots__ = ("_landed", "_lock", "_waiting", "error", "invalidated", "value", "version", "wanted", "warming")

    def __init__(self, version: str = "", *, warming: bool = False) -> None:
        self.version, self.warming, self.wanted, self.invalidated = version, warming, False, False
        self.value: V | None = None
        self.error: BaseException | None = None
        self._landed = threading.Event()
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], None]] = []

    def land(self) -> None:
        """It has ended: whoever waits goes on."""
        with self._lock:
            self._landed.set()
            waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell()

    def wait(self) -> None:
        """Block this thread until it has landed."""
        self._landed.wait()

    async def landed(self) -> None:
        """Until it has landed.  Who waits can be cancelled, and it goes on."""
        import asyncio  # it is there where a coroutine runs

        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._lock:
            if self._landed.is_set():
                return
            self._waiting.append(lambda: _tell(loop, future))
        await future

    def result(self) -> V:
        """What it made, or its error raised, once it has landed."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # set before it landed where there was no error


def _tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    with suppress(RuntimeError):  # the loop was closed, so nobody waits there any more
        loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(None))
