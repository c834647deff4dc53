"""What a plan saves that knows which parts its results make superfluous, against one that does not: a replay.

    python bench/covering.py [--requests N] [--seeds N]        exits with 1 if a target is missed

Search results, each made from the vector of its query, which nothing else asks for, and from the facts of its project,
which are asked for directly too.  Both plans are made from the same history, for the same budget; then the requests
after a restart are played against what each has chosen, with nothing evicted: a miss costs its own time and that of
the parts that are missing.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import numpy as np

from preheat._model import CandidateTable, ItemRef, MemoryBudget, MemoryPressureLevel, WarmupItem
from preheat._plan import create_plan
from preheat._plan.strategy import STRATEGIES

QUERIES, PROJECTS = 5000, 50
HISTORY = 100_000
SHARES = (0.05, 0.1, 0.2, 0.4)  # of the bytes of everything
LEAST_GAIN = 0.0


class World:
    """Queries by popularity, their projects, and what everything costs and weighs."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        self.project_of = self.draw.integers(0, PROJECTS, QUERIES)
        self.seconds = {"search": 0.004, "vector": 0.006, "project": 0.05}
        self.bytes = {"search": self.draw.integers(800, 4000, QUERIES), "vector": np.full(QUERIES, 1700),
                      "project": self.draw.integers(5_000, 50_000, PROJECTS)}  # fmt: skip

    def requests(self, count: int) -> list[ItemRef]:
        """Searches, and every fifth time a project."""
        queries = (self.draw.zipf(1.15, count * 4) - 1).astype(np.int64)
        queries = queries[queries < QUERIES][:count]
        return [
            ItemRef("project", str(self.draw.integers(PROJECTS))) if n % 5 == 0 else ItemRef("search", str(query))
            for n, query in enumerate(queries.tolist())
        ]

    def needs(self, ref: ItemRef) -> tuple[ItemRef, ...]:
        if ref.cache != "search":
            return ()
        return ItemRef("vector", ref.key), ItemRef("project", str(self.project_of[int(ref.key)]))

    def candidates(self, history: list[ItemRef]) -> CandidateTable:
        """What the history knows: a vector is asked for when its query is."""
        counts: dict[ItemRef, int] = {}
        for ref in history:
            for asked in (ref, *self.needs(ref)):
                counts[asked] = counts.get(asked, 0) + 1
        return CandidateTable.of(
            WarmupItem(
                ref,
                size_bytes=int(self.bytes[ref.cache][int(ref.key)]),
                usage_frequency=count / len(history),
                warmup_cost=self.seconds[ref.cache],
                dependencies=self.needs(ref),
                covers=self.needs(ref)[:1],
            )
            for ref, count in counts.items()
        )

    def waited(self, requests: list[ItemRef], resident: set[ItemRef]) -> float:
        """Seconds that the requests wait for, where `resident` is there at first."""
        there, seconds = set(resident), 0.0
        for ref in requests:
            if ref in there:
                continue
            missing = [part for part in self.needs(ref) if part not in there]
            seconds += self.seconds[ref.cache] + sum(self.seconds[part.cache] for part in missing)
            there.update([ref, *missing])
        return seconds


def chosen(table: CandidateTable, budget_bytes: int, horizon: float) -> set[ItemRef]:
    budget = MemoryBudget(budget_bytes, 0, 0, MemoryPressureLevel.LOW, None, "bench")
    plan = create_plan(
        table, budget, STRATEGIES["aggressive"], horizon_seconds=dict.fromkeys(table.caches, horizon), free_bytes={}
    )
    return {plan.candidates.ref(row) for row in plan.order.tolist()}


def gains(seed: int, requests: int) -> list[tuple[float, float]]:
    """By share of all bytes, the parts of the cold waiting that a plan without and one with covers save."""
    world = World(seed)
    table, future = world.candidates(world.requests(HISTORY)), world.requests(requests)
    cold = world.waited(future, set())
    found = []
    for share in SHARES:
        budget_bytes = int(share * table.size_bytes.sum())
        plans = (chosen(each, budget_bytes, float(requests)) for each in (replace(table, covers={}), table))
        without, knowing = (1 - world.waited(future, plan) / cold for plan in plans)
        found.append((without, knowing))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000, help="after the restart (default 5000)")
    parser.add_argument("--seeds", type=int, default=5, help="worlds (default 5)")
    options = parser.parse_args()
    runs = np.array([gains(seed, options.requests) for seed in range(options.seeds)])
    print(f"{'budget':>8}{'saved without':>15}{'saved knowing':>15}{'points':>9}{'least':>8}")
    met = True
    for n, share in enumerate(SHARES):
        without, knowing = runs[:, n, 0], runs[:, n, 1]
        points = 100 * (knowing - without)
        met &= bool((points > LEAST_GAIN).all())
        print(f"{share:8.0%}{without.mean():15.1%}{knowing.mean():15.1%}{points.mean():+9.1f}{points.min():+8.1f}")
    print(f"{'met    ' if met else 'NOT MET'}  it saves more for every budget and seed")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
