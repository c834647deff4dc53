"""Short ways to the values that tests start from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from preheat._history import HistoryBuilder
from preheat._model import (
    MIB,
    AccessBatch,
    CacheStatistics,
    CandidateTable,
    History,
    ItemRef,
    MemoryBudget,
    MemoryPressureLevel,
    MemoryReading,
    WarmupItem,
    WarmupPlan,
)
from preheat._plan import create_plan
from preheat._plan.strategy import STRATEGIES, StrategyProfile

GIB = 1024 * MIB
EVERYTHING = StrategyProfile(name="everything", share=1.0, why="takes what there is")


def reading(available_bytes: int = 4 * GIB, limit_bytes: int = 8 * GIB, process_bytes: int = 0) -> MemoryReading:
    return MemoryReading(0.0, limit_bytes, limit_bytes - available_bytes, 0, process_bytes, 0.0, "a test")


def budget(granted_bytes: int) -> MemoryBudget:
    return MemoryBudget(granted_bytes, 0, 0, MemoryPressureLevel.LOW, None, "a test")


class HeldCache:
    """What fake caches share: a dict of what each key weighs, and no candidates of their own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.held: dict[str, int] = {}

    def get_warmup_candidates(self, history: Any, rates: Any) -> Sequence[WarmupItem]:
        return []

    def estimate_item_size(self, item: WarmupItem) -> Any:
        return item.size_bytes

    def get_warmup_statistics(self) -> CacheStatistics:
        return CacheStatistics(len(self.held), sum(self.held.values()), None, 0, 0, 0)


def ref(name: str) -> ItemRef:
    """`"cache:key"`, or `"key"` of the cache `c`."""
    cache, colon, key = name.partition(":")
    return ItemRef(cache, key) if colon else ItemRef("c", name)


def item(
    name: str, *needs: str, size: int = 100, rate: float = 1.0, cost: float = 1.0, priority: int = 5
) -> WarmupItem:
    return WarmupItem(ref(name), priority, size, rate, cost, tuple(map(ref, needs)))


def plan_of(
    items: Iterable[WarmupItem],
    granted_bytes: int = 10**9,
    profile: StrategyProfile | str = EVERYTHING,
    **changes: Any,
) -> WarmupPlan:
    """A plan whose horizon is one second in each cache, so that `rate` alone says how likely a request is."""
    table = CandidateTable.of(items)
    row = STRATEGIES[profile] if isinstance(profile, str) else profile
    arguments: dict[str, Any] = {"horizon_seconds": dict.fromkeys(table.caches, 1.0), "free_bytes": {}}
    return create_plan(table, budget(granted_bytes), row, **(arguments | changes))


def planned(plan: WarmupPlan) -> list[str]:
    """Keys in loading order."""
    return [plan.candidates.keys[row] for row in plan.order.tolist()]


def reasons(plan: WarmupPlan) -> dict[str, str]:
    """For each key left out, the name of the reason."""
    return {
        plan.candidates.keys[row]: plan.reasons[code].name
        for row, code in enumerate(plan.left_out.tolist())
        if code >= 0
    }


def batch(
    accesses: Sequence[str],
    at: float = 1000.0,
    cache: str = "c",
    *,
    hits: Sequence[bool] | None = None,
    loads: dict[str, tuple[int, float, str, str]] | None = None,
) -> AccessBatch:
    """The accesses of keys in order; `loads` says size, seconds, version and recipe of those that were loaded."""
    keys = list(dict.fromkeys(accesses))
    known = loads or {}
    last = [known.get(key, (-1, -1.0, "", "")) for key in keys]
    return AccessBatch(
        cache=cache,
        at=at,
        keys=keys,
        row=np.array([keys.index(key) for key in accesses], np.int64),
        hit=np.array(hits if hits is not None else [False] * len(accesses), np.bool_),
        size_bytes=np.array([size for size, *_ in last], np.int64),
        load_seconds=np.array([load[1] for load in last], np.float64),
        versions=[load[2] for load in last],
        recipes=[load[3] for load in last],
    )


def history_of(*batches: AccessBatch, max_items: int = 1_000_000) -> History:
    builder = HistoryBuilder(max_items=max_items)
    for each in batches:
        builder.fold(each)
    return builder.history()


def same_history(a: History, b: History) -> bool:
    return (
        (a.at, a.since, a.half_lives, a.caches) == (b.at, b.since, b.half_lives, b.caches)
        and all(getattr(a, name) == getattr(b, name) for name in ("keys", "versions", "recipes"))
        and all(
            np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name in ("gaps", "load_seconds"))
            and getattr(a, name).dtype == getattr(b, name).dtype
            for name in (
                *("cache", "counts", "last_at", "gaps", "size_bytes", "load_seconds", "hits", "misses"),
                *("trail", "trail_at", "hours", "hourly"),
            )
        )
    )


def same_hours(a: History, b: History) -> bool:
    return np.array_equal(a.hours, b.hours) and np.array_equal(a.hourly, b.hourly)


def trail_of(history: History) -> list[tuple[str, str, float]]:
    """Cache, key and instant of the newest accesses, oldest first."""
    return [
        (history.caches[history.cache[row]], history.keys[row], at)
        for row, at in zip(history.trail.tolist(), history.trail_at.tolist(), strict=True)
    ]
