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
    path = [(start, iter(needs[start]))]
    on_path = {start}
    while path:
        row, rest = path[-1]
        waiting = next((n for n in rest if n in needs and n not in levels), None)
        if waiting is None:
            levels.setdefault(row, 1 + max((levels.get(n, 0) for n in needs[row]), default=-1))
            on_path.discard(path.pop()[0])
        elif waiting in on_path:
            rows = [n for n, _ in path]
            raise DependencyCycle([str(n) for n in [*rows[rows.index(waiting) :], waiting]])
        else:
            path.append((waiting, iter(needs[waiting])))
            on_path.add(waiting)


def resolve_dependencies(candidates: CandidateTable) -> tuple[dict[int, tuple[int, ...]], dict[int, int]]:
    """What `resolve_needs` finds, and the level of each row that needs another.

    Raises:
        DependencyCycle: No order exists; carries the items of one cycle.
    """
    needs = resolve_needs(candidates)
    try:
        return needs, dependency_levels(needs)
    except DependencyCycle as cycle:
        raise DependencyCycle([str(candidates.ref(int(row))) for row in cycle.cycle]) from None


def bundle(row: int, needs: Needs, taken: Container[int]) -> list[int]:
    """`row` and all that it needs, directly or not, less what is `taken`, in loading order."""
    return try_bundle(row, needs, taken, lambda _: True)[0]


def try_bundle(
    row: int, needs: Needs, taken: Container[int], admit: Callable[[int], bool]
) -> tuple[list[int], list[int]]:
    """The bundle of `row` and nothing; or, where `admit` refuses one of it, nothing and the way to that one."""
    path = [(row, iter(needs.get(row, ())))]
    found: dict[int, None] = {}
    if not admit(row):
        return [], [row]
    while path:
        at, rest = path[-1]
        waiting = next((n for n in rest if n not in found and n not in taken), None)
        if waiting is None:
            found[at] = None
            path.pop()
        elif not admit(waiting):
            return [], [*(n for n, _ in path), waiting]
        else:
            path.append((waiting, iter(needs.get(waiting, ()))))
    return list(found), []


def least_bundle_bytes(needs: Needs, levels: Mapping[int, int], size_bytes: Sequence[int]) -> dict[int, int]:
    """For each row of `needs`, bytes that it and all that it needs take at least: the dearest single way down."""
    least: dict[int, int] = {}
    for row in sorted(needs, key=lambda r: levels[r]):
        least[row] = size_bytes[row] + max((least.get(n, size_bytes[n]) for n in needs[row]), default=0)
    return least


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
        ways = [(value[row], float(size_bytes[row]))]
        ways += [totals.get(n, (value[n], float(size_bytes[n]))) for n in direct]
        totals[row] = min(sum(way[0] for way in ways), MOST), min(sum(way[1] for way in ways), MOST)
    return totals


def cache_ranks(candidates: CandidateTable, needs: Needs) -> list[int]:
    """For each cache, one more than the highest rank of the caches that items of it need; 0 if they need none.

    A loader tends to read the caches that its items need for more than was declared, so a cache is best loaded after
    them.  Where caches need each other there is no such order, and all ranks are 0.
    """
    above: dict[int, set[int]] = {}
    for row, needed in needs.items():
        own = int(candidates.cache[row])
        others = {int(candidates.cache[n]) for n in needed} - {own}
        if others:
            above.setdefault(own, set()).update(others)
    try:
        ranks = dependency_levels({own: tuple(sorted(others)) for own, others in above.items()})
    except DependencyCycle:
        ranks = {}
    return [ranks.get(code, 0) for code in range(len(candidates.caches))]


def needed_by_others(rows: Iterable[int], needs: Needs) -> set[int]:
    """Those rows that some row of `rows` needs directly."""
    return {n for row in rows for n in needs.get(row, ())}
