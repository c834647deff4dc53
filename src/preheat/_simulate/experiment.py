"""What to try: which warmers, where to restart, how large the cache is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from preheat._choose import choose_within
from preheat._replay import PRACTICE, Past, Warmer
from preheat.errors import UsageError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESTARTS = (0.40, 0.55, 0.70, 0.85)
CAPACITIES = (0.01, 0.05, 0.10)
MAX_RESTARTS = 10_000


def preheat(past: Past, budgets: Sequence[int], *, seed: int) -> list[NDArray[np.int64]]:
    """What `preheat.choose` takes; one training serves all budgets."""
    costs = None if past.cost_seconds is None else past.cost_seconds[past.items]
    sizes = past.size_bytes[past.items]
    chosen = choose_within(past.items, past.times, sizes, budgets, past.capacity_bytes, costs=costs, seed=seed)
    return [past.items[rows] for rows in chosen]


def warmers(seed: int) -> dict[str, Warmer]:
    """All that can be judged, by name; the first one is what a conclusion speaks of."""
    return {"preheat": partial(preheat, seed=seed), **PRACTICE}


@dataclass(frozen=True, slots=True)
class Experiment:
    """What to try.

    Attributes:
        warmers: Names out of `warmers`; all when empty.
        restarts: Shares of the requests that come before a restart, in (0, 1).
        capacities: Shares of the footprint, in (0, 1]; only used where `capacity_bytes` is empty.
        capacity_bytes: Capacities of their own.
        seed: For warmers that draw.

    Raises:
        UsageError: A value can't be used.
    """

    warmers: tuple[str, ...] = ()
    restarts: tuple[float, ...] = RESTARTS
    capacities: tuple[float, ...] = CAPACITIES
    capacity_bytes: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        known = warmers(self.seed)
        for name in self.warmers:
            if name not in known:
                raise UsageError(f"no warmer is called {name!r}; {nearest(name, known)}there are: {', '.join(known)}")
        if not all(0 < share < 1 for share in self.restarts):
            raise UsageError("a restart is a share of the requests between 0 and 1, as in --restarts 0.4,0.7")
        if not all(0 < share <= 1 for share in self.capacities):
            raise UsageError("a capacity is a share of the footprint above 0 and up to 1, as in --capacities 0.01,0.1")
        if not all(0 < capacity < 2**60 for capacity in self.capacity_bytes):
            raise UsageError("a capacity in MiB has to be above 0 and below 2**40")
        if not self.restarts or not (self.capacities or self.capacity_bytes):
            raise UsageError("at least one restart and one capacity are needed")
        if len(self.restarts) * max(len(self.capacities), len(self.capacity_bytes)) > MAX_RESTARTS:
            raise UsageError(f"more than {MAX_RESTARTS} restarts of one trace are too many")

    def chosen(self) -> dict[str, Warmer]:
        """The warmers to judge."""
        known = warmers(self.seed)
        return {name: known[name] for name in self.warmers or known}

    def sizes(self, footprint_bytes: int) -> list[tuple[float | None, int]]:
        """Capacities of a trace: share of the footprint (None where it was given in bytes), and bytes."""
        if self.capacity_bytes:
            return [(None, capacity) for capacity in self.capacity_bytes]
        return [(share, max(int(footprint_bytes * share), 1)) for share in self.capacities]
