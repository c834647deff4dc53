"""What one restart came to: hits by warmer, between those of a cold start and the best that was possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preheat._replay.past import Past, Trace, Warmer
from preheat._replay.window import Window, best_possible, fill_window, saved_misses

if TYPE_CHECKING:
    from numpy.typing import NDArray

TENTHS = (1, 3, 10)
CURVE_POINTS = 20
MIN_SAVED_MISSES = 100
MIN_SAVED_RATIO = 0.02


class Hits(NamedTuple):
    """Hits after a tenth, three tenths and all of the window."""

    tenth: int
    third: int
    whole: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One restart of one cache under one budget.

    Attributes:
        restart: Requests before the restart.
        capacity_bytes: What the cache holds.
        budget_bytes: What a warmer may load.
        requests: Requests of the window, and of its first tenth and three tenths, as `Hits` has them.
        cold, never_restarted, oracle: Hits of an empty cache, of one that went on, of the best possible warm set.
        warmers: Hits by warmer.
        saved_seconds: Waiting that each warmer and the oracle saved, where the trace knows what misses cost.
        curve: Of the first warmer: loaded bytes, and the hits had the plan been cut there.
    """

    restart: int
    capacity_bytes: int
    budget_bytes: int
    requests: Hits
    cold: Hits
    never_restarted: Hits
    oracle: Hits
    warmers: Mapping[str, Hits]
    saved_seconds: Mapping[str, float]
    curve: tuple[tuple[int, int], ...] = ()

    @property
    def counts(self) -> bool:
        """Whether there is enough to gain here for shares of it to mean something."""
        possible = self.oracle.whole - self.cold.whole
        return possible >= MIN_SAVED_MISSES and possible >= MIN_SAVED_RATIO * self.requests.whole

    def captured(self, hits: Hits) -> Shares:
        """Of the misses that the best warm set saves, the share that `hits` saved: 0 is cold, below is harm."""
        return Shares(*map(_share, hits, self.cold, self.oracle))


class Shares(NamedTuple):
    """Captured shares after a tenth, three tenths and all of the window; None where nothing could be won."""

    tenth: float | None
    third: float | None
    whole: float | None


def _share(hits: int, cold: int, oracle: int) -> float | None:
    return (hits - cold) / (oracle - cold) if oracle > cold else None


def play_restart(
    trace: Trace,
    restart: int,
    capacity_bytes: int,
    budgets: Sequence[int],
    warmers: Mapping[str, Warmer],
) -> list[Cell]:
    """Restart `trace` before request number `restart`, once for each budget (bytes, at most the capacity)."""
    past = trace.past(restart, capacity_bytes)
    window = fill_window(trace, restart, capacity_bytes)
    replay = _Replay(trace, past, window)
    plans = {name: warmer(past, budgets) for name, warmer in warmers.items()}
    return [replay.cell(budget, {name: made[i] for name, made in plans.items()}) for i, budget in enumerate(budgets)]


class _Replay:
    """A window, to be played with one warm set after another."""

    def __init__(self, trace: Trace, past: Past, window: Window) -> None:
        self._trace, self._past, self._window = trace, past, window
        self._marks = Hits(*(max(1, window.requests * tenths // 10) for tenths in TENTHS))
        self._cold = Hits(*map(window.cold_hits, self._marks))
        self._never_restarted = self._hits(self._saved(past.resident))

    def cell(self, budget_bytes: int, plans: Mapping[str, NDArray[np.int64]]) -> Cell:
        for name, plan in plans.items():
            self._check(name, plan, budget_bytes)
        capacity_bytes = self._past.capacity_bytes
        oracle = self._saved(best_possible(self._window, len(self._past.size_bytes), capacity_bytes, budget_bytes))
        saved = {name: self._saved(plan) for name, plan in plans.items()}
        return Cell(
            len(self._past.items),
            capacity_bytes,
            budget_bytes,
            self._marks,
            self._cold,
            self._never_restarted,
            self._hits(oracle),
            {name: self._hits(positions) for name, positions in saved.items()},
            self._seconds({"oracle": oracle, **saved}),
            self._curve(next(iter(plans.values()))) if plans and budget_bytes == capacity_bytes else (),
        )

    def _saved(self, plan: NDArray[np.int64]) -> NDArray[np.int64]:
        return saved_misses(self._window, plan, self._trace, self._past.capacity_bytes)

    def _hits(self, saved: NDArray[np.int64]) -> Hits:
        at = self._window.at[saved]
        won = [int(np.searchsorted(at, mark)) for mark in self._marks]
        return Hits(*map(sum, zip(self._cold, won, strict=True)))

    def _seconds(self, saved: Mapping[str, NDArray[np.int64]]) -> dict[str, float]:
        costs = self._trace.cost_seconds
        if costs is None:
            return {}
        return {name: float(costs[self._window.items[positions]].sum()) for name, positions in saved.items()}

    def _curve(self, plan: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
        ends = np.cumsum(self._trace.size_bytes[plan])
        capacity_bytes = self._past.capacity_bytes
        cuts = [capacity_bytes * step // CURVE_POINTS for step in range(CURVE_POINTS + 1)]
        parts = [plan[: np.searchsorted(ends, cut, side="right")] for cut in cuts]
        return tuple((cut, self._hits(self._saved(part)).whole) for cut, part in zip(cuts, parts, strict=True))

    def _check(self, name: str, plan: NDArray[np.int64], budget_bytes: int) -> None:
        """A warmer that cheats would make every figure worthless."""
        if len(plan) and not (plan.min() >= 0 and plan.max() < len(self._past.size_bytes)):
            raise ValueError(f"{name} planned an item that was never asked for")
        if len(np.unique(plan)) != len(plan):
            raise ValueError(f"{name} planned an item twice")
        if self._past.size_bytes[plan].sum() > budget_bytes:
            raise ValueError(f"{name} planned more than the budget of {budget_bytes} bytes")
