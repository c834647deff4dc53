"""Dependencies as arrays: which rows need which, in what order they can be loaded, and whether an order exists.

Only rows that need others or are needed are in it, numbered anew from 0: `nodes`.  What goes along the edges goes
level by level, a level being one numpy call.  Graphs as deep as a long chain have as many levels as rows; those are
walked edge by edge instead, which is as fast there.

Levels are found by removing, again and again, what nothing is left to wait for [1].

[1] Kahn, "Topological sorting of large networks", Communications of the ACM 5(11), 1962; here a whole level at a time.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from preheat._model import CandidateTable
from preheat._plan.identity import ItemIndex
from preheat._plan.sorting import distinct, sorting_order
from preheat.errors import DependencyCycle

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_WAVES = 64
"""Levels that are worth a numpy call each."""

NARROW_WAVE = 32


class Dependencies:
    """Which of `n` rows need which.

    Attributes:
        nodes: (m,) rows that need another or are needed, ascending.
        dependants, needs: (e,) int32, an edge each, as places in `nodes`; ordered by the level of the dependant.
        levels: (m,) int32, one above the highest level that the node needs; 0 where it needs nothing.

    Raises:
        DependencyCycle: No order exists; carries the rows of one cycle as text.
    """

    __slots__ = ("_starts", "dependants", "levels", "needs", "nodes")

    def __init__(self, n: int, dependants: NDArray[np.int64], needs: NDArray[np.int64]) -> None:
        is_node = np.zeros(n, np.bool_)
        is_node[dependants] = is_node[needs] = True
        self.nodes = np.flatnonzero(is_node)
        place = np.empty(n, np.int32)
        place[self.nodes] = np.arange(len(self.nodes))
        above, below = place[dependants], place[needs]
        self.levels = _levels(len(self.nodes), above, below).astype(np.int32)
        if (self.levels < 0).any():
            raise DependencyCycle([str(row) for row in self.nodes[_cycle(self.levels < 0, above, below)].tolist()])
        if self.depth > 1:
            order = sorting_order(self.levels[above])
            above, below = above[order], below[order]
        self.dependants, self.needs = above, below
        self._starts = np.searchsorted(self.levels[self.dependants], np.arange(1, self.depth + 2))

    def __len__(self) -> int:
        return len(self.dependants)

    @property
    def depth(self) -> int:
        """The highest level."""
        return int(self.levels.max(initial=0))

    def edges_of_level(self, level: int) -> slice:
        """The edges whose dependant is at `level`, 1 or above."""
        return slice(int(self._starts[level - 1]), int(self._starts[level]))

    def _upwards(self) -> list[slice]:
        return [self.edges_of_level(level) for level in range(1, self.depth + 1)]

    def mark_dependants(self, marked: NDArray[np.bool_]) -> None:
        """Mark, in `marked` (m,), whatever needs something marked, directly or not."""
        if self.depth > MOST_WAVES:
            marks = marked.tolist()
            for dependant, need in zip(self.dependants.tolist(), self.needs.tolist(), strict=True):
                if marks[need]:
                    marks[dependant] = True
            marked[:] = marks
            return
        for edges in self._upwards():
            marked[self.dependants[edges][marked[self.needs[edges]]]] = True

    def mark_needs(self, marked: NDArray[np.bool_]) -> None:
        """Mark, in `marked` (m,), whatever something marked needs, directly or not."""
        if self.depth > MOST_WAVES:
            marks = marked.tolist()
            for dependant, need in zip(self.dependants[::-1].tolist(), self.needs[::-1].tolist(), strict=True):
                if marks[dependant]:
                    marks[need] = True
            marked[:] = marks
            return
        for edges in reversed(self._upwards()):
            marked[self.needs[edges][marked[self.dependants[edges]]]] = True

    def lift_needs(self, keys: NDArray[np.int64], counts: NDArray[np.bool_]) -> None:
        """Raise `keys` (m,) so that each is above those of its dependants for which `counts` (m,) holds."""
        if self.depth > MOST_WAVES:
            lifted, counting = keys.tolist(), counts.tolist()
            for dependant, need in zip(self.dependants[::-1].tolist(), self.needs[::-1].tolist(), strict=True):
                if counting[dependant] and lifted[need] <= lifted[dependant]:
                    lifted[need] = lifted[dependant] + 1
            keys[:] = lifted
            return
        for edges in reversed(self._upwards()):
            above, below = self.dependants[edges], self.needs[edges]
            counting = counts[above]
            np.maximum.at(keys, below[counting], keys[above[counting]] + 1)

    def lower_dependants(self, keys: NDArray[np.int64]) -> None:
        """Lower `keys` (m,) so that each is below those of what it needs."""
        if self.depth > MOST_WAVES:
            lowered = keys.tolist()
            for dependant, need in zip(self.dependants.tolist(), self.needs.tolist(), strict=True):
                lowered[dependant] = min(lowered[dependant], lowered[need] - 1)
            keys[:] = lowered
            return
        for edges in self._upwards():
            np.minimum.at(keys, self.dependants[edges], keys[self.needs[edges]] - 1)

    def sum_ways(self, amounts: NDArray[np.float64]) -> NDArray[np.float64]:
        """`amounts` (m,) with those of what is needed added, once per way that leads there, up to `MOST`."""
        if self.depth > MOST_WAVES:
            totals = amounts.tolist()
            for dependant, need in zip(self.dependants.tolist(), self.needs.tolist(), strict=True):
                totals[dependant] = min(totals[dependant] + totals[need], MOST)
            return np.array(totals)
        sums = amounts.copy()
        for edges in self._upwards():
            np.add.at(sums, self.dependants[edges], sums[self.needs[edges]])
            np.minimum(sums, MOST, out=sums)
        return sums


MOST = 1e300  # sums over shared ways can double with each level


def _levels(m: int, above: NDArray[np.int32], below: NDArray[np.int32]) -> NDArray[np.int64]:
    """The level of each of `m` nodes; -1 for those on a cycle, or above one."""
    waiting = np.bincount(above, minlength=m)
    if not waiting[below].any():  # as is usual: nothing that is needed needs anything
        return np.minimum(waiting, 1)
    levels = np.where(waiting == 0, 0, -1)
    by_need = sorting_order(below)
    dependants = above[by_need]
    starts = np.concatenate([[0], np.cumsum(np.bincount(below, minlength=m))])
    wave, level, narrow = np.flatnonzero(waiting == 0), 0, 0
    while len(wave):
        narrow += len(wave) < NARROW_WAVE
        if narrow > MOST_WAVES:
            return _levels_one_by_one(levels, waiting, dependants, starts, wave)
        level += 1
        told = dependants[ranges(starts[wave], starts[wave + 1])]
        np.subtract.at(waiting, told, 1)
        wave = distinct(told[waiting[told] == 0])
        levels[wave] = level
    return levels


def _levels_one_by_one(
    levels: NDArray[np.int64],
    waiting: NDArray[np.int64],
    dependants: NDArray[np.int32],
    starts: NDArray[np.int64],
    wave: NDArray[np.int64],
) -> NDArray[np.int64]:
    found, left, tell, at = levels.tolist(), waiting.tolist(), dependants.tolist(), starts.tolist()
    queue = wave.tolist()
    for node in queue:
        for dependant in tell[at[node] : at[node + 1]]:
            left[dependant] -= 1
            if not left[dependant]:
                found[dependant] = found[node] + 1
                queue.append(dependant)
    return np.array(found)


def _cycle(stuck: NDArray[np.bool_], above: NDArray[np.int32], below: NDArray[np.int32]) -> list[int]:
    """One cycle among the nodes that are `stuck`, the first node again at its end.

    Each stuck node needs another stuck one, so whoever follows such needs comes back.
    """
    inside = stuck[above] & stuck[below]
    need = dict(zip(above[inside].tolist(), below[inside].tolist(), strict=True))
    node, place = next(iter(need)), dict[int, int]()
    while node not in place:
        place[node] = len(place)
        node = need[node]
    return [*list(place)[place[node] :], node]


def ranges(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of all ranges, one range after another."""
    lengths = stops - starts
    ends = np.cumsum(lengths)
    numbers: NDArray[np.int64] = np.arange(ends[-1] if len(ends) else 0)
    numbers += np.repeat(starts - ends + lengths, lengths)
    return numbers


def resolve_edges(candidates: CandidateTable, index: ItemIndex) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Dependants and what they need: rows of `candidates`, an edge each.

    A dependency that is not among `candidates` is taken to be resident already.
    """
    needs = candidates.needs
    lengths = np.fromiter(map(len, needs.values()), np.int64, len(needs))
    dependants = np.repeat(np.fromiter(needs, np.int64, len(needs)), lengths)
    found = index.find(list(chain.from_iterable(needs.values())))
    return dependants[found >= 0], found[found >= 0]


def resolve_needs(candidates: CandidateTable) -> dict[int, tuple[int, ...]]:
    """For each row with dependencies among `candidates`, their rows."""
    needs: dict[int, list[int]] = {}
    if candidates.needs:
        dependants, needed = resolve_edges(candidates, ItemIndex(candidates))
        for dependant, need in zip(dependants.tolist(), needed.tolist(), strict=True):
            needs.setdefault(dependant, []).append(need)
    return {row: tuple(rows) for row, rows in needs.items()}


def resolve_dependencies(candidates: CandidateTable, index: ItemIndex | None = None) -> Dependencies:
    """The dependencies among `candidates`, whose items are distinct.

    Raises:
        DependencyCycle: No order exists; carries the items of one cycle.
    """
    if not candidates.needs:
        return Dependencies(0, np.empty(0, np.int64), np.empty(0, np.int64))
    edges = resolve_edges(candidates, index or ItemIndex(candidates))
    try:
        return Dependencies(len(candidates), *edges)
    except DependencyCycle as cycle:
        raise DependencyCycle([str(candidates.ref(int(row))) for row in cycle.cycle]) from None
