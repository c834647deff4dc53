"""Dependencies: which rows need which, in what order they can be loaded, and whether an order exists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from preheat._model import CandidateTable
from preheat.errors import DependencyCycle

Needs = Mapping[int, Sequence[int]]


def resolve_needs(candidates: CandidateTable) -> dict[int, tuple[int, ...]]:
    """For each row with dependencies among `candidates`, their rows.

    A dependency that is not among them is taken to be resident already.
    """
    if not candidates.needs:
        return {}
    row_of = {ref: row for row, ref in enumerate(candidates.refs())}
    found = {row: tuple(row_of[ref] for ref in refs if ref in row_of) for row, refs in candidates.needs.items()}
    return {row: rows for row, rows in found.items() if rows}


def dependency_levels(needs: Needs) -> dict[int, int]:
    """The level of each row that needs another: one above the highest it needs.  Rows absent are at level 0.

    Raises:
        DependencyCycle: No order exists; carries the rows of one cycle as text.
    """
    levels: dict[int, int] = {}
    for start in needs:
        _visit(start, needs, levels)
    return levels


def _visit(start: int, needs: Needs, levels: dict[int, int]) -> None:
    """Depth first without recursion: chains may be longer than Python's stack."""
    path: list[int] = [start]
    on_path = {start}
    while path:
        row = path[-1]
        waiting = next((n for n in needs.get(row, ()) if n in needs and n not in levels), None)
        if row in levels or waiting is None:
            levels.setdefault(row, 1 + max((levels.get(n, 0) for n in needs[row]), default=-1))
            on_path.discard(path.pop())
        elif waiting in on_path:
            raise DependencyCycle([str(n) for n in [*path[path.index(waiting) :], waiting]])
        else:
            path.append(waiting)
            on_path.add(waiting)


def name_cycle(cycle: DependencyCycle, candidates: CandidateTable) -> DependencyCycle:
    """`cycle` with the items' names in place of the row numbers."""
    return DependencyCycle([str(candidates.ref(int(row))) for row in cycle.cycle])


def closures(needs: Needs, levels: Mapping[int, int]) -> dict[int, tuple[int, ...]]:
    """For each row of `needs`, all that it needs, directly or not, in loading order."""
    found: dict[int, tuple[int, ...]] = {}
    for row in sorted(needs, key=lambda r: levels[r]):
        reached = {n for direct in needs[row] for n in (*found.get(direct, ()), direct)}
        found[row] = tuple(sorted(reached, key=lambda r: (levels.get(r, 0), r)))
    return found


def needed_by_others(rows: Iterable[int], needs: Needs) -> set[int]:
    """Those rows that some row of `rows` needs directly."""
    return {n for row in rows for n in needs.get(row, ())}
