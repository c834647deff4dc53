"""Planning, as ratios against peers measured in the same run: speed, memory, and value against the LP bound.

`python bench/planning.py [--rows N] [--large N]`; the bound needs scipy (HiGHS) and is left out, with a word, where
there is none.

A case is what a service would plan from: value = rank^-a x cost of a miss, lognormal sizes, several caches of which
each has room of its own, and 5 % of the items needing one or two others.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from graphlib import TopologicalSorter

import numpy as np

from preheat._columns import TextColumn
from preheat._model import CandidateTable, ItemRef, MemoryBudget, MemoryPressureLevel, WarmupPlan
from preheat._plan import create_plan
from preheat._plan.ordering import Dependencies
from preheat._plan.strategy import StrategyProfile
from preheat.errors import DependencyCycle

CACHES = ("files", "vectors", "searches", "projects")
EVERYTHING = StrategyProfile("everything", 1.0, "takes what there is")
DEPENDENT = 0.05
HORIZON = dict.fromkeys(CACHES, 1.0)


def numbered(n: int, width: int) -> TextColumn:
    """Keys that cost no Python object each: `n` numbers of `width` digits."""
    digits = np.arange(n)[:, None] // 10 ** np.arange(width - 1, -1, -1) % 10
    return TextColumn((digits + 48).astype(np.uint8).ravel(), np.arange(n + 1) * width)


def case(n: int, seed: int = 0, *, exponent: float = 0.9, dependent: float = DEPENDENT) -> CandidateTable:
    """`n` candidates; what is needed lies in the first cache and is needed by items of the others."""
    rng = np.random.default_rng(seed)
    cache = rng.integers(0, len(CACHES), n).astype(np.int16)
    sizes = np.maximum(1, rng.lognormal(8.0, 1.5, n)).astype(np.int64)
    rank = rng.permutation(n) + 1.0
    needed, others = np.flatnonzero(cache == 0), np.flatnonzero(cache > 0)
    dependants = rng.choice(others, int(n * dependent), replace=False)
    counts = rng.integers(1, 3, len(dependants))
    keys = numbered(n, 12)
    needs = {}
    for row, count in zip(dependants.tolist(), counts.tolist(), strict=True):
        chosen = needed[rng.integers(0, len(needed), count)].tolist()
        needs[row] = tuple(ItemRef("files", f"{need:012d}") for need in dict.fromkeys(chosen))
    return CandidateTable(
        caches=CACHES,
        cache=cache,
        keys=keys,
        recipes=TextColumn(np.empty(0, np.uint8), np.zeros(n + 1, np.int64)),
        priority=np.full(n, 5, np.int8),
        size_bytes=sizes,
        usage_frequency=rank**-exponent,
        warmup_cost=rng.lognormal(-4.0, 1.0, n),
        needs=needs,
    )


def plan(table: CandidateTable, share: float = 0.3, *, quotas: bool = True) -> WarmupPlan:
    """A plan of `share` of all bytes, in which two caches have less room than would be filled."""
    granted = int(table.size_bytes.sum() * share)
    free = {name: int(granted / len(CACHES) * (0.8 + 0.2 * n)) if quotas else None for n, name in enumerate(CACHES)}
    budget = MemoryBudget(granted, 0, 0, MemoryPressureLevel.LOW, None, "")
    return create_plan(table, budget, EVERYTHING, horizon_seconds=HORIZON, free_bytes=free)


def seconds(act: Callable[[], object], times: int = 7) -> float:
    """The shortest of `times` runs: what others do at the time only ever adds to it."""
    best = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        act()
        best = min(best, time.perf_counter() - began)
    return best


@dataclass(slots=True)
class Row:
    """A candidate as an object, for the peer that plans with objects."""

    ref: ItemRef
    cache: int
    size_bytes: int
    density: float
    needs: tuple[int, ...]


def rows_of(table: CandidateTable) -> list[Row]:
    density = table.usage_frequency * table.warmup_cost / np.maximum(table.size_bytes, 1)
    columns = zip(table.refs(), table.cache.tolist(), table.size_bytes.tolist(), density.tolist(), strict=True)
    rows = [Row(ref, cache, size, value, ()) for ref, cache, size, value in columns]
    for row, refs in table.needs.items():
        rows[row].needs = tuple(int(ref.key) for ref in refs)
    return rows


def plan_with_objects(rows: list[Row], granted: int) -> list[Row]:
    """Objects sorted by density and taken in a loop, each with what it needs."""
    chosen: dict[int, Row] = {}
    room = [granted // len(CACHES)] * len(CACHES)
    for row in sorted(rows, key=lambda row: -row.density):
        wanted = [*(rows[need] for need in row.needs if id(rows[need]) not in chosen), row]
        if id(row) not in chosen and all(each.size_bytes <= room[each.cache] for each in wanted):
            for each in wanted:
                room[each.cache] -= each.size_bytes
                chosen[id(each)] = each
    return list(chosen.values())


def upper_bound(table: CandidateTable, made: WarmupPlan) -> float:
    """The most value that the fractional relaxation allows, by linear programming: no plan has more."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_matrix

    n, edges = len(table), [(row, int(ref.key)) for row, refs in table.needs.items() for ref in refs]
    above, below = np.array(edges).reshape(-1, 2).T
    number = np.arange(1, len(edges) + 1)
    data = np.concatenate([table.size_bytes, np.ones(len(edges)), -np.ones(len(edges))])
    places = (np.concatenate([np.zeros(n, int), number, number]), np.concatenate([np.arange(n), above, below]))
    limits = np.concatenate([[made.budget.granted_bytes], np.zeros(len(edges))])
    found = linprog(-made.value, csr_matrix((data, places)), limits, bounds=(0, 1), method="highs")
    return -float(found.fun)


def tell(name: str, figure: float, target: str, peer: str, *, reached: bool) -> None:
    """One line for one target."""
    print(f"{'reached' if reached else 'MISSED ':7}  {name:58} {figure:9.3f}  target {target:8} {peer}", flush=True)


def speed(n: int) -> None:
    """Time of a plan against sorting and against objects."""
    table, numbers = case(n), np.random.default_rng(1).random(n)
    ratios = []
    for _ in range(5):  # peer and plan turn by turn, so that both meet the same machine
        ratios.append(seconds(lambda: plan(table), 3) / seconds(lambda: np.argsort(numbers), 3))
    ratio = float(np.median(ratios))
    tell(f"plan of {n:,} / np.argsort of as many", ratio, "<= 3", f"least {min(ratios):.2f}", reached=ratio <= 3.0)
    rows = rows_of(table)
    objects = seconds(lambda: plan_with_objects(rows, int(table.size_bytes.sum() * 0.3)), 1)
    faster = objects / seconds(lambda: plan(table))
    tell(f"sorted dataclasses / plan, of {n:,}", faster, ">= 8", "", reached=faster >= 8)


def large(n: int) -> None:
    """Time and memory of a large plan."""
    table, numbers = case(n, dependent=0.0), np.random.default_rng(1).random(n)
    ratio = seconds(lambda: plan(table), 2) / seconds(lambda: np.argsort(numbers), 2)
    tell(f"plan of {n:,} / np.argsort of as many", ratio, "<= 1.5", "no dependencies", reached=ratio <= 1.5)
    held = sum(getattr(table, c).nbytes for c in ("cache", "priority", "size_bytes", "usage_frequency", "warmup_cost"))
    for dependent in (0.0, DEPENDENT):
        if dependent:
            table = case(n, dependent=dependent)
        tracemalloc.start()
        plan(table)
        each = (held + tracemalloc.get_traced_memory()[1]) / n
        tracemalloc.stop()
        name = f"bytes per candidate, columns and work, of {n:,}, {dependent:.0%} dependent"
        tell(name, each, "<= 64", f"columns {held / n:.0f}", reached=each <= 64)


def order(n: int) -> None:
    """Time of finding levels against graphlib, and of finding a cycle."""
    rng = np.random.default_rng(2)
    few, chained = np.sort(rng.choice(np.arange(1, n), n // 20, replace=False)), np.arange(n)[np.arange(n) % 10 > 0]
    for name, above, below in (
        ("5 % need an earlier one", few, (rng.random(len(few)) * few).astype(np.int64)),
        ("all in chains of ten", chained, chained - 1),
    ):
        predecessors: dict[int, list[int]] = {row: [] for row in range(n)}
        for row, need in zip(above.tolist(), below.tolist(), strict=True):
            predecessors[row].append(need)
        peer = seconds(lambda known=predecessors: list(TopologicalSorter(known).static_order()), 1)
        ratio = seconds(lambda a=above, b=below: Dependencies(n, a, b)) / peer
        tell(f"levels of {n:,} / graphlib, {name}", ratio, "<= 0.04", "", reached=ratio <= 0.04)
    nodes = 100_000
    above, below = rng.integers(0, nodes, (2, 10 * nodes))
    taken = seconds(lambda: _find_cycle(nodes, above, below), 1)
    tell(f"seconds to find a cycle, {nodes:,} nodes, {10 * nodes:,} edges", taken, "<= 2", "", reached=taken <= 2)


def _find_cycle(n: int, above: np.ndarray, below: np.ndarray) -> list[str]:
    try:
        Dependencies(n, above, below)
    except DependencyCycle as cycle:
        return cycle.cycle
    raise AssertionError("a random graph as dense as this has cycles")


def worth() -> None:
    """Value of plans against the bound."""
    try:
        import scipy  # noqa: F401
    except ImportError:
        print("left out  value against the LP bound: it takes scipy (HiGHS), which is not installed here")
        return
    for n, share, dependent, target in (
        (100, 0.1, 0.3, 0.0),
        (300, 0.1, 0.3, 0.0),
        (1_000, 0.1, 0.3, 0.0),
        (10_000, 0.1, 0.05, 0.99),
        (10_000, 0.3, 0.05, 0.99),
        (10_000, 0.3, 0.3, 0.99),
        (30_000, 0.2, 0.05, 0.99),
    ):
        shares = []
        for seed in range(5):
            table = case(n, seed, dependent=dependent)
            made = plan(table, share, quotas=False)
            shares.append(float(made.value[made.order].sum()) / upper_bound(table, made))
        name = f"value / LP bound, {n:,} rows, {share:.0%} of the bytes, {dependent:.0%} dependent"
        aim = f">= {target}" if target else "-"
        tell(name, min(shares), aim, f"least of 5, mean {np.mean(shares):.4f}", reached=min(shares) >= target)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=10_000_000)
    parser.add_argument("--only", choices=["speed", "large", "order", "worth"], action="append")
    chosen = parser.parse_args()
    parts = {"speed": lambda: speed(chosen.rows), "order": lambda: order(chosen.rows), "worth": worth}
    parts["large"] = lambda: large(chosen.large)
    for name, part in parts.items():
        if not chosen.only or name in chosen.only:
            part()


if __name__ == "__main__":
    main()
