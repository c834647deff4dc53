"""How long a load takes by itself, in threads and in tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_inner_seconds: ContextVar[list[float] | None] = ContextVar("preheat_inner_seconds", default=None)


@contextmanager
def own_time() -> Iterator[Callable[[], float]]:
    """Gives what tells the seconds that the load inside took so far, less those of the loads inside it.

    A search that had to parse a file waited for the file's sake: that miss is on the file's account.
    """
    outer, inner = _inner_seconds.get(), [0.0]
    token = _inner_seconds.set(inner)
    started = time.perf_counter()
    try:
        yield lambda: max(0.0, time.perf_counter() - started - inner[0])
    finally:
        _inner_seconds.reset(token)
        if outer is not None:
            outer[0] += time.perf_counter() - started
