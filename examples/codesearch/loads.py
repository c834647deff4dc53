"""Counts the loads that one request causes, so that an answer can say what it cost.  It has no part in the warm-up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_loads: ContextVar[Counter[str] | None] = ContextVar("loads", default=None)


@contextmanager
def watch_loads() -> Iterator[Counter[str]]:
    """Loads made by this thread inside the block, by cache."""
    loads: Counter[str] = Counter()
    token = _loads.set(loads)
    try:
        yield loads
    finally:
        _loads.reset(token)


def note_load(cache: str, items: int = 1) -> None:
    """To be called by a loader: `items` values of `cache` are being made."""
    loads = _loads.get()
    if loads is not None:
        loads[cache] += items
