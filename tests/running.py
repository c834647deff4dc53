"""Small caches, a memory that follows a script, and short ways to perform a run and to read its report."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

from builders import GIB, HeldCache, item, plan_of, reading
from preheat._model import (
    ItemResult,
    ItemStatus,
    MemoryPressureLevel,
    MemoryReading,
    WarmupItem,
    WarmupReport,
)
from preheat._pressure import pressure_level
from preheat._run import Run

LOW, MODERATE, HIGH, CRITICAL = MemoryPressureLevel


class Plain(HeldCache):
    """A cache of nothing but a dict, one item at a time."""

    def __init__(self, name: str = "c", load: Callable[[WarmupItem], Any] | None = None) -> None:
        super().__init__(name)
        self.calls: list[str] = []
        self.threads: set[str] = set()
        self._load = load

    def warmup_item(self, item: WarmupItem) -> Any:
        self.calls.append(item.ref.key)
        self.threads.add(threading.current_thread().name)
        result = self._load(item) if self._load else None
        if result is None:
            self.held[item.ref.key] = item.size_bytes
            return ItemResult(ItemStatus.LOADED, item.size_bytes)
        return result


class Undoable(Plain):
    def __init__(self, *arguments: Any, in_use: Sequence[str] = ()) -> None:
        super().__init__(*arguments)
        self.in_use, self.undone = in_use, []

    def undo_warmup(self, key: str) -> int:
        if key in self.in_use:
            return 0
        self.undone.append(key)
        return self.held.pop(key)


class Bulk(Plain):
    """One bad item spoils the whole batch."""

    def __init__(self, bad: Sequence[str] = (), answer: Callable[[list[ItemResult]], Any] = lambda results: results):
        super().__init__(load=self._refuse)
        self.bad, self.batches, self._answer = bad, [], answer

    def _refuse(self, item: WarmupItem) -> None:
        if item.ref.key in self.bad:
            raise ValueError(f"{item.ref.key} is bad")

    def warmup_items(self, items: Sequence[WarmupItem]) -> Any:
        self.batches.append([each.ref.key for each in items])
        for each in items:
            self._refuse(each)
        return self._answer([Plain.warmup_item(self, each) for each in items])


class Async(Plain):
    async def warmup_item(self, item: WarmupItem) -> Any:
        await asyncio.sleep(0)
        return super().warmup_item(item)


class Script:
    """Memory that gives one reading after another, the last one again and again."""

    def __init__(self, *available: int | BaseException) -> None:
        self._left = list(available) or [4 * GIB]

    def __call__(self) -> MemoryReading:
        now = self._left.pop(0) if len(self._left) > 1 else self._left[0]
        if isinstance(now, BaseException):
            raise now
        return reading(now, process_bytes=GIB - now // 8)


class Weather:
    """A watch without a thread: what the memory says, when it is asked."""

    def __init__(self, memory: Script) -> None:
        self._memory, self._level = memory, LOW
        self.subscribers: list[Callable[..., None]] = []

    def read(self) -> tuple[MemoryPressureLevel, MemoryReading | None]:
        try:
            now = self._memory()
        except OSError:
            return self._level, None
        self._level = pressure_level(now, self._level)
        return self._level, now

    def subscribe(self, tell: Callable[..., None], *, interval_seconds: float) -> Callable[[], None]:
        self.subscribers.append(tell)
        return lambda: self.subscribers.remove(tell)


def run_of(caches: Any, items: Sequence[WarmupItem], granted_bytes: int = 10**9, **changes: Any) -> Run:
    caches = caches if isinstance(caches, list) else [caches]
    arguments: dict[str, Any] = {
        "watch": Weather(changes.pop("memory", Script())),
        "concurrency_limit": 4,
        "batch_size": 1,
    }
    return Run(plan_of(items, granted_bytes), {cache.name: cache for cache in caches}, **(arguments | changes))


def perform(run: Run, seconds: float = 20.0) -> WarmupReport:
    async def within() -> WarmupReport:
        return await asyncio.wait_for(run.perform(), seconds)

    return asyncio.run(within())


def statuses(report: WarmupReport) -> dict[str, str]:
    keys = [report.plan.candidates.keys[row] for row in report.plan.order.tolist()]
    return dict(zip(keys, [list(ItemStatus)[code].value for code in report.status.tolist()], strict=True))


def reasons(report: WarmupReport) -> dict[str, str]:
    return {report.plan.candidates.keys[int(report.plan.order[n])]: why for n, why in report.reasons.items()}


def some(n: int, **columns: Any) -> list[WarmupItem]:
    return [item(f"{i:02}", **columns) for i in range(n)]
