"""The runs of a process that have ended, summed up: what counters show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from preheat._model import ItemStatus, MemoryPressureLevel, WarmupReport

THROUGH = "through"
"""How a run ended that nothing stopped."""


class Tally(NamedTuple):
    """Sums over runs.

    Attributes:
        runs: By strategy and how they ended: how many.
        items: By cache and status: how many ended so.
        loaded_bytes: By cache, as accounted at loading.
        phase_seconds: By phase.
        pressure_seconds: By level.
        seconds, paused_seconds: Duration; the part of it in which nothing started for want of memory.
        pauses: How often that began.
        attempts: Loads started.
        rolled_back_items, rolled_back_bytes: What was undone.
        switches: How often one went on under another strategy.
    """

    runs: Mapping[tuple[str, str], int] = {}
    items: Mapping[tuple[str, str], int] = {}
    loaded_bytes: Mapping[str, int] = {}
    phase_seconds: Mapping[str, float] = {}
    pressure_seconds: Mapping[str, float] = {}
    seconds: float = 0.0
    paused_seconds: float = 0.0
    pauses: int = 0
    attempts: int = 0
    rolled_back_items: int = 0
    rolled_back_bytes: int = 0
    switches: int = 0

    def with_run(self, report: WarmupReport) -> Tally:
        """The sums with those of `report`."""
        levels = {
            level.name: seconds for level, seconds in zip(MemoryPressureLevel, report.exposure.seconds, strict=True)
        }
        return Tally(
            runs=_sum(self.runs, {(str(report.plan.strategy), report.stopped or THROUGH): 1}),
            items=_sum(self.items, _items(report)),
            loaded_bytes=_sum(self.loaded_bytes, _loaded_bytes(report)),
            phase_seconds=_sum(self.phase_seconds, report.phase_seconds),
            pressure_seconds=_sum(self.pressure_seconds, levels),
            seconds=self.seconds + report.seconds,
            paused_seconds=self.paused_seconds + report.exposure.paused_seconds,
            pauses=self.pauses + report.exposure.pauses,
            attempts=self.attempts + report.attempts,
            rolled_back_items=self.rolled_back_items + report.count(ItemStatus.ROLLED_BACK),
            rolled_back_bytes=self.rolled_back_bytes + report.rolled_back_bytes,
            switches=self.switches + len(report.switches),
        )


def _sum(some: Mapping, others: Mapping) -> dict:  # type: ignore[type-arg]
    return {name: some.get(name, 0) + others.get(name, 0) for name in (*some, *(set(others) - set(some)))}


def _items(report: WarmupReport) -> dict[tuple[str, str], int]:
    table, statuses = report.plan.candidates, tuple(ItemStatus)
    codes = table.cache[report.plan.order].astype(np.int64) * len(statuses) + report.status
    counts = np.bincount(codes, minlength=len(table.caches) * len(statuses)).tolist()
    names = [(cache, str(status)) for cache in table.caches for status in statuses]
    return {name: n for name, n in zip(names, counts, strict=True) if n}


def _loaded_bytes(report: WarmupReport) -> dict[str, int]:
    table = report.plan.candidates
    cache = table.cache[report.plan.order]
    return {name: int(report.loaded_bytes[cache == code].sum()) for code, name in enumerate(table.caches)}
