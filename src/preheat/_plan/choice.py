"""The choice of a plan, with what its items make superfluous left out of it.

First as if every item counted for itself; then once more, each item at what it is worth beside those: its parts to its
credit, parts that the chosen save anyway at what is left of them, and no item waiting for its own parts.  What saves
more in the end is the plan; of equals what takes fewer bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preheat._model import CandidateTable, Reason
from preheat._plan.covering import Coverage
from preheat._plan.ordering import Dependencies, resolve_dependencies
from preheat._plan.selection import Selection, select_items
from preheat._plan.strategy import StrategyProfile
from preheat._plan.thresholds import CHOSEN, REASONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDS = 2


class Room(NamedTuple):
    """What a choice has to keep within: the strategy, the budget, and by cache the room that it has."""

    profile: StrategyProfile
    budget_bytes: int
    free_bytes: Mapping[str, int | None]


class Choice(NamedTuple):
    """What was chosen of `candidates`, which `value` (n,) goes with: seconds that each is expected to save."""

    candidates: CandidateTable
    value: NDArray[np.float64]
    selection: Selection

    @property
    def chosen(self) -> NDArray[np.bool_]:
        """(n,) what was chosen."""
        chosen = np.zeros(len(self.candidates), np.bool_)
        chosen[self.selection.order] = True
        return chosen

    def rank(self, coverage: Coverage, value: NDArray[np.float64]) -> tuple[float, int]:
        """What ranks choices: the seconds that it saves, to nine digits, and of equals the fewer bytes."""
        saved_seconds = coverage.total(value, self.chosen)
        return float(f"{saved_seconds:.9g}"), -int(self.candidates.size_bytes[self.selection.order].sum())


def choose_items(
    candidates: CandidateTable,
    graph: Dependencies,
    value: NDArray[np.float64],
    left_out: NDArray[np.int8],
    room: Room,
) -> Choice:
    """The best choice found.

    Args:
        candidates: Distinct items.
        graph: Which of them need which.
        value: (n,) seconds saved by each, by itself.
        left_out: (n,) what `apply_thresholds` gave; why others are left out is written there too, or into a copy.
        room: What the choice has to keep within.
    """
    coverage = Coverage.of(candidates) if candidates.covers and not room.profile.by_priority else None
    if not coverage:
        return _choose(candidates, graph, value, left_out, room)
    best = last = _choose(candidates, graph, value, left_out.copy(), room)
    critical = best.selection.order[: best.selection.critical]
    freed = coverage.without_part_needs(candidates)
    freed_graph = resolve_dependencies(freed)
    for _ in range(ROUNDS):
        worth = coverage.marginal(value, last.chosen)
        last = _choose(freed, freed_graph, worth, _left_out_beside(left_out, value, worth), room)
        if last.chosen[critical].all() and last.rank(coverage, value) > best.rank(coverage, value):
            best = last
    return best


def _choose(
    candidates: CandidateTable,
    graph: Dependencies,
    value: NDArray[np.float64],
    left_out: NDArray[np.int8],
    room: Room,
) -> Choice:
    selection = select_items(candidates, graph, value, left_out, room.profile, room.budget_bytes, room.free_bytes)
    return Choice(candidates, value, selection)


def _left_out_beside(
    left_out: NDArray[np.int8], value: NDArray[np.float64], worth: NDArray[np.float64]
) -> NDArray[np.int8]:
    """`left_out` (n,) for rows that are worth `worth` (n,) beside what is chosen, and `value` (n,) by themselves."""
    beside = left_out.copy()
    beside[(beside == CHOSEN) & (value > 0) & (worth <= 0)] = REASONS.index(Reason.COVERED)
    beside[(beside == REASONS.index(Reason.WORTHLESS)) & (worth > 0)] = CHOSEN
    return beside
