"""What the engine costs: runs of the product, all guards on, against the bare minimum in the same run.

python bench/engine.py [--repeats N]        exits with 1 if a target is missed

Each line is the median over interleaved repeats of a ratio to a peer that does nothing but load: as many tasks of a
TaskGroup over one iterator, as many threads over one iterator, or a loop over batches.  Peers load the rows of the
same plan, one made after another, as every engine has to whose plan is not a list of objects.  The first line says
what the ratio is where those rows lie ready for the peer alone.  Ready loads, and those that wait, are so many that
each side takes a second or more: what a run costs at its start and end, some 20 ms, is none of an item's.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from preheat._columns import TextColumn
from preheat._memory import SystemMemory
from preheat._model import (
    CacheStatistics,
    CandidateTable,
    ItemResult,
    ItemStatus,
    MemoryBudget,
    MemoryPressureLevel,
    WarmupItem,
    WarmupPlan,
)
from preheat._plan import create_plan
from preheat._plan.strategy import StrategyProfile
from preheat._pressure import pressure_level
from preheat._run import Run
from preheat._watch import MemoryWatch

GIB = 2**30
LOADED = ItemResult(ItemStatus.LOADED, 100)
TIMEOUT_SECONDS = 30.0


class Cache:
    name = "c"

    def get_warmup_candidates(self, history: Any, rates: Any) -> Sequence[WarmupItem]:
        return []

    def estimate_item_size(self, item: WarmupItem) -> int:
        return item.size_bytes

    def get_warmup_statistics(self) -> CacheStatistics:
        return CacheStatistics(0, 0, None, 0, 0, 0)


class Ready(Cache):
    async def warmup_item(self, item: WarmupItem) -> ItemResult:
        return LOADED


class SuspendsOnce(Cache):
    async def warmup_item(self, item: WarmupItem) -> ItemResult:
        await asyncio.sleep(0)
        return LOADED


class Sleeps(Cache):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def warmup_item(self, item: WarmupItem) -> ItemResult:
        await asyncio.sleep(self.seconds)
        return LOADED


class Blocks(Cache):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def warmup_item(self, item: WarmupItem) -> ItemResult:
        if self.seconds:
            time.sleep(self.seconds)
        return LOADED


class Bulk(Cache):
    def warmup_item(self, item: WarmupItem) -> ItemResult:
        return LOADED

    def warmup_items(self, items: Sequence[WarmupItem]) -> Sequence[ItemResult]:
        return [LOADED] * len(items)


class AsyncBulk(Cache):
    async def warmup_item(self, item: WarmupItem) -> ItemResult:
        return LOADED

    async def warmup_items(self, items: Sequence[WarmupItem]) -> Sequence[ItemResult]:
        return [LOADED] * len(items)


def plan_of(n: int) -> WarmupPlan:
    table = CandidateTable(
        caches=("c",),
        cache=np.zeros(n, np.int16),
        keys=TextColumn.of(f"key:{i:08}" for i in range(n)),
        recipes=TextColumn(np.zeros(0, np.uint8), np.zeros(n + 1, np.int64)),
        priority=np.full(n, 5, np.int8),
        size_bytes=np.full(n, 100, np.int64),
        usage_frequency=np.linspace(2.0, 1.0, n),
        warmup_cost=np.full(n, 1.0),
    )
    budget = MemoryBudget(GIB, 0, 0, MemoryPressureLevel.LOW, None, "a benchmark")
    everything = StrategyProfile(name="everything", share=1.0, why="takes what there is")
    return create_plan(table, budget, everything, horizon_seconds={"c": 1.0}, free_bytes={})


PLANS: dict[int, WarmupPlan] = {}


def plan(n: int) -> WarmupPlan:
    if n not in PLANS:
        PLANS[n] = plan_of(n)
    return PLANS[n]


SETUP: list[float] = []


def engine(cache: Any, n: int, concurrency: int, batch_size: int = 32) -> float:
    making = time.perf_counter()
    run = Run(
        plan(n),
        {"c": cache},
        watch=MemoryWatch(SystemMemory(), pressure_level),
        concurrency_limit=concurrency,
        batch_size=batch_size,
        deadline_seconds=3600.0,
        item_timeout_seconds=TIMEOUT_SECONDS,
        on_progress=lambda progress: None,
    )
    SETUP.append((time.perf_counter() - making) / n)

    async def scene() -> float:
        began = time.perf_counter()
        report = await run.perform()
        seconds = time.perf_counter() - began
        assert report.count(ItemStatus.LOADED) == n, report
        return seconds

    return asyncio.run(scene())


def rows(n: int) -> Iterator[WarmupItem]:
    return iter(plan(n).candidates.take(plan(n).order))


def bare_tasks(cache: Any, items: Iterator[WarmupItem], concurrency: int) -> float:
    async def work(left: Iterator[WarmupItem]) -> None:
        load = cache.warmup_item
        for item in left:
            await load(item)

    async def scene() -> float:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work(items))
        return time.perf_counter() - began

    return asyncio.run(scene())


def bare_threads(cache: Any, items: Iterator[WarmupItem], concurrency: int) -> float:
    lock = threading.Lock()

    def work() -> None:
        load = cache.warmup_item
        while True:
            with lock:  # two threads can't be inside one iterator
                item = next(items, None)
            if item is None:
                return
            load(item)

    began = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def bare_batches(cache: Any, items: Iterator[WarmupItem], batch_size: int) -> float:
    began = time.perf_counter()
    while batch := list(itertools.islice(items, batch_size)):
        cache.warmup_items(batch)
    return time.perf_counter() - began


def naive(cache: Any, items: Sequence[WarmupItem]) -> float:
    """Ten items at a time, three of them side by side, and a rest after each ten."""

    async def scene() -> float:
        began = time.perf_counter()
        allowed = asyncio.Semaphore(3)

        async def load(item: WarmupItem) -> None:
            async with allowed:
                await cache.warmup_item(item)

        for start in range(0, len(items), 10):
            await asyncio.gather(*map(load, items[start : start + 10]))
            await asyncio.sleep(0.1)
        return time.perf_counter() - began

    return asyncio.run(scene())


Pair = tuple[Callable[[], float], Callable[[], float]]


def medians(pair: Pair, repeats: int) -> tuple[float, float, float]:
    """Of the ratio, and of both sides in seconds."""
    ours, theirs = [], []
    for _ in range(repeats):
        gc.collect()
        theirs.append(pair[1]())
        gc.collect()
        ours.append(pair[0]())
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return ratio, statistics.median(ours), statistics.median(theirs)


def show(name: str, figure: str, target: str, met: bool | None) -> bool:
    verdict = {True: "met", False: "NOT MET", None: ""}[met]
    print(f"{name:58} {figure:>32}  {target:>12}  {verdict}", flush=True)
    return met is not False


def ratio_line(name: str, n: int, target: float | None, pair: Pair, repeats: int) -> bool:
    ratio, ours, theirs = medians(pair, repeats)
    figure = f"{ratio:.2f} x ({ours / n * 1e6:.2f} / {theirs / n * 1e6:.2f} us)"
    return show(name, figure, f"<= {target} x" if target else "", ratio <= target if target else None)


def memory_line(n: int) -> bool:
    """What a run holds at its peak beyond its arrays, for each load in flight."""
    held = plan(n)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    run = Run(
        held,
        {"c": SuspendsOnce()},
        watch=MemoryWatch(SystemMemory(), pressure_level),
        concurrency_limit=64,
        batch_size=32,
    )
    up_front = tracemalloc.get_traced_memory()[0] - before
    most_tasks = 0

    async def scene() -> None:
        nonlocal most_tasks
        task = asyncio.create_task(run.perform())
        while not task.done():
            most_tasks = max(most_tasks, len(asyncio.all_tasks()))
            await asyncio.sleep(0.01)

    asyncio.run(scene())
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    met = up_front / n <= 128 and most_tasks <= 64 + 3
    figure = f"{up_front / n:.0f} B, {(peak - up_front) / 2**20:.1f} MiB, {most_tasks} tasks"
    return show(f"{n} items: per item up front, beyond that at the peak", figure, "128 B, 67", met)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="lines whose name contains this")
    chosen = parser.parse_args()
    repeats = chosen.repeats
    lines: list[tuple[str, int, float | None, Pair]] = []
    most, many, some, blocking, few = 2_000_000, 1_000_000, 500_000, 160_000, 40_000
    lying_ready = list(rows(many))
    for c in (64, 256):
        lines += [
            (f"ready loader, rows lying ready for the peer, {c}", many, None,
             (lambda c=c: engine(Ready(), many, c), lambda c=c: bare_tasks(Ready(), iter(lying_ready), c))),
            (f"ready loader, {c}", most, 1.5,
             (lambda c=c: engine(Ready(), most, c), lambda c=c: bare_tasks(Ready(), rows(most), c))),
            (f"loader that suspends once, {c}", some, 1.3,
             (lambda c=c: engine(SuspendsOnce(), some, c), lambda c=c: bare_tasks(SuspendsOnce(), rows(some), c))),
            (f"1 ms loader, {c}", n := 2000 * c, 1.15,
             (lambda c=c, n=n: engine(Sleeps(0.001), n, c), lambda c=c, n=n: bare_tasks(Sleeps(0.001), rows(n), c))),
        ]  # fmt: skip
    for seconds in (0.0, 0.001):
        n = many if not seconds else blocking
        lines.append((f"blocking loader of {seconds * 1000:.0f} ms against threads, 64", n, 1.15,
                      (lambda s=seconds, n=n: engine(Blocks(s), n, 64),
                       lambda s=seconds, n=n: bare_threads(Blocks(s), rows(n), 64))))  # fmt: skip
    good = True
    for name, n, target, pair in lines:
        if chosen.only in name:
            good &= ratio_line(name, n, target, pair, repeats)
    for name, cache in (("batch", Bulk()), ("batch on the loop", AsyncBulk())):
        if chosen.only in name:
            pair = (lambda cache=cache: engine(cache, many, 4, 100), lambda: bare_batches(Bulk(), rows(many), 100))
            _, ours, theirs = medians(pair, repeats)
            over = (ours - theirs) / many * 1e6
            good &= show(f"{name} loader: over a loop over batches", f"{over:.2f} us", "<= 0.5 us", over <= 0.5)
    if chosen.only in "naive":
        sleeper, head = Sleeps(0.01), lying_ready[:200]
        rate = few / engine(sleeper, few, 64)
        times = rate / (len(head) / naive(sleeper, head))
        good &= show(
            "10 ms loader: times as fast as a naive engine", f"{times:.0f} x, {rate:.0f} /s", ">= 35 x", times >= 35
        )
    if SETUP:
        show("making a run of a plan, once, in a thread", f"{statistics.median(SETUP) * 1e6:.2f} us per item", "", None)
    if chosen.only in "memory":
        good &= memory_line(many)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
