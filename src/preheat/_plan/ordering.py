"""Dependencies: which rows need which, in what order they can be loaded, and whether an order exists."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from preheat._model import CandidateTable
from preheat.errors import DependencyCycle

Needs = Mapping[int, Sequence[int]]

EXACT_BUNDLE = 64
MOST = 1e300  # sums over shared ways can double with each level


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
    path = {start: iter(needs[start])}
    while path:
        row, rest = next(reversed(path.items()))
        waiting = next((n for n in rest if n in needs and n not in levels), None)
        if waiting is None:
            levels.setdefault(row, 1 + max((levels.get(n, 0) for n in needs[row]), default=-1))
            del path[row]
        elif waiting in path:
            rows = list(path)
            raise DependencyCycle([str(n) for n in [*rows[rows.index(waiting) :], waiting]])
        else:
            path[waiting] = iter(needs[waiting])


def name_cycle(cycle: DependencyCycle, candidates: CandidateTable) -> DependencyCycle:
    """`cycle` with the items' names in place of the row numbers."""
    return DependencyCycle([str(candidates.ref(int(row))) for row in cycle.cycle])


def bundle(row: int, needs: Needs, taken: Container[int], admit: Callable[[int], bool] | None = None) -> list[int]:
    """`row` and all that it needs, directly or not, less what is `taken`, in loading order.

    Where `admit` refuses one of them, the walk ends and the bundle is empty.
    """
    path = {row: iter(needs.get(row, ()))}
    found: dict[int, None] = {}
    if admit is not None and not admit(row):
        return []
    while path:
        at, rest = next(reversed(path.items()))
        waiting = next((n for n in rest if n not in found and n not in taken), None)
        if waiting is None:
            found[at] = None
            del path[at]
        elif admit is not None and not admit(waiting):
            return []
        else:
            path[waiting] = iter(needs.get(waiting, ()))
    return list(found)


def bundle_totals(
    needs: Needs, levels: Mapping[int, int], value: Sequence[float], size_bytes: Sequence[int]
) -> dict[int, tuple[float, float]]:
    """For each row of `needs`, the value and the bytes of it and all that it needs.

    Exact for chains, and for all that needs up to `EXACT_BUNDLE` others; what larger bundles share is counted
    once per way that leads to it, since the exact sets would take quadratic memory.
    """
    totals: dict[int, tuple[float, float]] = {}
    sets: dict[int, frozenset[int]] = {}
    for row in sorted(needs, key=lambda r: levels[r]):
        direct = dict.fromkeys(needs[row])
        if all(n in sets or n not in needs for n in direct):
            reached = frozenset(direct).union(*(sets[n] for n in direct if n in needs))
            if len(reached) <= EXACT_BUNDLE:
                sets[row] = reached
                parts = [(value[n], size_bytes[n]) for n in (row, *sorted(reached))]
                totals[row] = sum(p[0] for p in parts), float(sum(p[1] for p in parts))
                continue
        parts = [(value[row], size_bytes[row]), *(totals.get(n, (value[n], size_bytes[n])) for n in direct)]
        totals[row] = min(sum(p[0] for p in parts), MOST), min(float(sum(p[1] for p in parts)), MOST)
    return totals


def needed_by_others(rows: Iterable[int], needs: Needs) -> set[int]:
    """Those rows that some row of `rows` needs directly."""
    return {n for row in rows for n in needs.get(row, ())}
