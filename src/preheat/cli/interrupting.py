"""What Ctrl-C, and a request to end, do to a run: it is cancelled, and reported all the same."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from types import TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

Cancel = Callable[[bool], Awaitable[object]]


class Interruption:
    """While it is open, a signal calls `cancel(False)` on this loop, and a second one `cancel(True)`: end at once.

    Attributes:
        exit_code: What the process is to exit with; None if no signal came.
    """

    def __init__(self, cancel: Cancel) -> None:
        self.exit_code: int | None = None
        self._cancel = cancel
        self._calls: set[asyncio.Future[object]] = set()

    def __enter__(self) -> Interruption:
        for each in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(each, self._note, each)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(each)

    def _note(self, number: signal.Signals) -> None:
        is_second = self.exit_code is not None
        self.exit_code = 128 + number
        call = asyncio.ensure_future(self._cancel(is_second))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
