"""What a run tells the memory log: its loads and roll-backs, unless their caches do, and what pressure makes it do."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from preheat._events import MemoryLog
from preheat._execution import Ended, Loaded
from preheat._model import CandidateTable, ItemStatus, MemoryEvent, MemoryEventKind, MemoryReading


class MemoryNotes:
    """The notes of one run.

    Args:
        log: Where they go.
        items: The items of the plan, in loading order.
        reporting: Caches that tell the log themselves.
    """

    def __init__(self, log: MemoryLog, items: CandidateTable, reporting: Container[str]) -> None:
        self._log, self._items, self._reporting = log, items, reporting
        self._first = log.mark()

    def begin(self) -> None:
        """The run begins: what was noted before is none of its events."""
        self._first = self._log.mark()

    def events(self) -> Sequence[MemoryEvent]:
        """All that was logged since it began, oldest first; the oldest may have been dropped."""
        return self._log.events_after(self._first)

    def pressure(self, reading: MemoryReading | None, cause: str) -> None:
        """Pressure has changed, or made the run do something."""
        available_bytes = reading.available_bytes if reading is not None else 0
        self._log.track("", MemoryEventKind.PRESSURE, available_bytes, cause)

    def loads(self, ended: Loaded | Ended) -> None:
        """A run of loads has ended."""
        name = self._items.caches[self._items.cache[ended.positions[0]]]
        if name in self._reporting:
            return
        if isinstance(ended, Loaded):
            items, size_bytes = len(ended.sizes), ended.size_bytes
        else:
            sizes = [r.size_bytes for r in ended.results if r is not None and r.status is ItemStatus.LOADED]
            items, size_bytes = len(sizes), sum(sizes)
        if items:
            self._log.track(name, MemoryEventKind.ALLOCATION, size_bytes, "warm-up", items)

    def undone(self, positions: Sequence[int], released: Sequence[int]) -> None:
        """The loads of `positions` were undone, which released so many bytes of each."""
        sizes, codes = np.array(released), self._items.cache[list(positions)]
        for code, name in enumerate(self._items.caches):
            mine = sizes[(codes == code) & (sizes > 0)]
            if len(mine) and name not in self._reporting:
                self._log.track(name, MemoryEventKind.ROLLBACK, int(mine.sum()), "undone", len(mine))
