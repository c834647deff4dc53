"""The children that `test_memory.py` squeezes: `python memory_scenarios.py SCENARIO JSON`.

Each prints JSON lines, the first before it takes any risk, so that a killed one has said something too.  All read
time with `time.monotonic`, which the parent shares.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import os
import random
import resource
import sys
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import preheat._run  # noqa: F401 - what only a run imports would count as growth
from preheat import (
    CacheWarmupService,
    WarmupItem,
    WarmupPlan,
    WarmupReport,
    create_warmup_item,
    estimate_item_memory_usage,
    load_limit_bytes,
)
from preheat._memory import SystemMemory, release_free_memory
from preheat._model import MIB, ItemResult, ItemStatus, MemoryReading
from preheat.adapters.mapping import MappingCache
from preheat.errors import ItemTooLarge

CACHE = "squeezed"
PIECE_BYTES = MIB
PLENTY_BYTES = 2**40

Load = Callable[[str], Any]


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def pages(column: int) -> int:
    """Bytes of this process: mapped (0) or resident (1)."""
    return int(os.pread(_statm, 200, 0).split()[column]) * resource.getpagesize()


# opened once and read as bytes: an open() leaves objects behind that pin the memory whose release is measured
_statm = os.open("/proc/self/statm", os.O_RDONLY)


# ----------------------------------------------------------------------------------------------------------- loading


@dataclasses.dataclass
class Origin:
    """Makes values as a slow source would: a request, then the bytes.

    Attributes:
        size_bytes: What the value of a key really weighs.
        seconds: What a request takes.
        how: "whole" makes the value at once; "bounded" reads it in pieces and stops at the limit of the warm-up;
            "endless" reads in pieces and never stops; "copied" holds everything twice for a moment.
        begun: When each load began.
        memory_errors: Loads that found no memory: what a kill is under an address space limit.
    """

    size_bytes: Callable[[str], int]
    seconds: float = 0.0
    how: str = "whole"
    begun: list[float] = dataclasses.field(default_factory=list)
    memory_errors: int = 0

    def __call__(self, key: str) -> Any:
        self.begun.append(time.monotonic())
        if self.seconds:
            time.sleep(self.seconds)
        try:
            return self._make(self.size_bytes(key))
        except MemoryError:
            self.memory_errors += 1
            raise

    def _make(self, size_bytes: int) -> Any:
        if self.how == "whole":
            return b"\x01" * size_bytes
        pieces = []
        for start in range(0, size_bytes, PIECE_BYTES):
            limit_bytes = load_limit_bytes()
            if self.how == "bounded" and limit_bytes is not None and start >= limit_bytes:
                raise ItemTooLarge(f"more than {limit_bytes} bytes")
            pieces.append(b"\x01" * min(PIECE_BYTES, size_bytes - start))
            time.sleep(0.0005)  # as a network would
        if self.how == "copied":
            return b"".join(pieces)
        return tuple(pieces)


class WatchedCache(MappingCache[Any]):
    """A dict that can be warmed, and says what was undone when.

    Keeps no object per item, since those would pin the memory whose release is measured.
    """

    def __init__(self, load: Load, count: int) -> None:
        super().__init__({}, load, name=CACHE)
        self.position = array("q", bytes(8 * count))
        self.warmed = 0
        self.forget()

    def forget(self) -> None:
        """Count from nothing again."""
        self.undone_items = self.undone_bytes = self.newest_first = 0
        self.first_undo: float | None = None
        self.busy_before_undoing = 0.0  # the processor's seconds until then
        self._last_position = sys.maxsize

    def warmup_item(self, item: WarmupItem) -> ItemResult:
        result = super().warmup_item(item)
        if result.status is ItemStatus.LOADED:
            self.warmed += 1
            self.position[int(item.ref.key)] = self.warmed
        return result

    def undo_warmup(self, key: str) -> int:
        if self.first_undo is None:
            self.first_undo, self.busy_before_undoing = time.monotonic(), time.process_time()
        released = super().undo_warmup(key)
        if released:
            self.undone_items += 1
            self.undone_bytes += released
            position = self.position[int(key)]
            self.newest_first += position < self._last_position
            self._last_position = position
        return released


def items(sizes: Sequence[int]) -> list[WarmupItem]:
    """An item for each of the expected `sizes`, all equally good."""
    return [
        create_warmup_item(CACHE, f"{n:06}", size_bytes=size, usage_frequency=1.0, warmup_cost=1.0)
        for n, size in enumerate(sizes)
    ]


def plenty() -> MemoryReading:
    """A memory monitor that never sees a problem."""
    return MemoryReading(time.time(), PLENTY_BYTES, 0, 0, pages(1), 0.0, "script")


class ShortAtWill:
    """The memory monitor `memory` until `run_short`; from then on there is none left, until `recover`."""

    def __init__(self, memory: Callable[[], MemoryReading]) -> None:
        self._memory = memory
        self._short_since: float | None = None

    def __call__(self) -> MemoryReading:
        reading = self._memory()
        if self._short_since is None:
            return reading
        return reading._replace(used_bytes=reading.limit_bytes, reclaimable_bytes=0)

    def run_short(self) -> None:
        self._short_since = time.monotonic()

    def recover(self) -> None:
        self._short_since = None

    def wait_until_seen(self) -> None:
        """What the last loads do, so that the run does not end before it has looked at memory again."""
        while self._short_since is not None and time.monotonic() < self._short_since + 0.06:
            time.sleep(0.005)


def service_of(args: dict[str, Any], cache: WatchedCache, sizes: Sequence[int], **more: Any) -> CacheWarmupService:
    service = CacheWarmupService(
        state_dir=args["state_dir"],
        holdout_ratio=0.0,
        concurrency_limit=args.get("loaders", 8),
        memory_budget_mb=args.get("budget_mb"),
        **more,
    )
    service.register(cache)
    candidates = items(sizes)
    service.register_candidate_source(lambda _: candidates)
    return service


def outcome(report: WarmupReport) -> dict[str, Any]:
    return {
        "counts": {str(status): n for status, n in report.counts.items() if n},
        "stopped": report.stopped,
        "accounted_bytes": report.accounted_bytes,
        "target_ratio": report.accounted_bytes / max(1, report.plan.size_bytes),
        "rolled_back_bytes": report.rolled_back_bytes,
        "released_bytes": report.released_bytes,
        "events": [(event.at, str(event.kind), event.size_bytes, event.items) for event in report.events[-20:]],
        "process_bytes": pages(1),
        "run_seconds": report.seconds,
        "attempts": report.attempts,
        "reasons": sorted(set(report.reasons.values()))[:5],
    }


# ------------------------------------------------------------------------------------------------ squeezed by a limit


def squeeze_address_space(limit_bytes: int) -> None:
    """Where there is no cgroup: as much address space more as a cgroup of `limit_bytes` would have left."""
    threading.stack_size(256 * 1024)
    left = limit_bytes - pages(1)
    resource.setrlimit(resource.RLIMIT_AS, (pages(0) + left, pages(0) + left))


def grow(app: list[bytes], bytes_per_second: int, until_bytes: int) -> None:
    """The application: it takes what it takes, whatever a warm-up does."""
    begun = time.monotonic()
    while len(app) * MIB < until_bytes:
        due = min(until_bytes, (time.monotonic() - begun) * bytes_per_second)
        app.extend(b"\x01" * MIB for _ in range(int(due / MIB) - len(app)))
        time.sleep(0.01)


def warm(args: dict[str, Any]) -> None:
    """Plan and load, by preheat or by what people write first (`policy`, see `naively`)."""
    giants = set(random.Random(args["seed"]).sample(range(args["items"]), args.get("giants", 0)))
    giant_keys = {f"{n:06}" for n in giants}
    origin = Origin(
        lambda key: args["giant_bytes"] if key in giant_keys else args["real_bytes"],
        args.get("load_seconds", 0.005),
        args.get("how", "whole"),
    )
    cache = WatchedCache(origin, args["items"])
    if args.get("address_space_bytes"):
        squeeze_address_space(args["address_space_bytes"])
    memory = plenty if args.get("blind") else SystemMemory()
    used = (lambda: int(Path(args["usage_path"]).read_text())) if args.get("usage_path") else (lambda: pages(0))
    service = service_of(args, cache, [args["estimated_bytes"]] * args["items"], memory=memory)
    asyncio.run(warm_with(args, service, cache, origin, giants, used))


async def warm_with(
    args: dict[str, Any],
    service: CacheWarmupService,
    cache: WatchedCache,
    origin: Origin,
    giants: set[int],
    used: Callable[[], int],
) -> None:
    gc.collect()
    start_bytes = used()
    plan = await service.create_warmup_plan("aggressive")
    say(
        start_bytes=start_bytes,
        granted_bytes=plan.budget.granted_bytes,
        in_flight_bytes=plan.budget.in_flight_bytes,
        planned_items=len(plan),
        planned_bytes=plan.size_bytes,
        planned_giants=len(giants.intersection(plan.order.tolist())),
        reason=plan.budget.reason,
    )
    app: list[bytes] = []
    growth = threading.Thread(
        target=grow, args=(app, args.get("app_bytes_per_second", 1), args.get("app_until_bytes", 0))
    )
    begun = time.monotonic()
    growth.start()
    if args["policy"] == "preheat":
        ended = outcome(await service.execute_warmup_plan(plan))
    else:
        ended = await asyncio.to_thread(naively, args["policy"], plan, origin, used, start_bytes, args["loaders"])
    say(**ended, seconds=time.monotonic() - begun, app_bytes=len(app) * MIB)  # what follows may be the end
    await asyncio.to_thread(growth.join)
    await service.close()
    say(
        loads=len(origin.begun),
        first_load=min(origin.begun, default=None),
        last_load=max(origin.begun, default=None),
        first_undo=cache.first_undo,
        undone_items=cache.undone_items,
        undone_bytes=cache.undone_bytes,
        memory_errors=origin.memory_errors,
        peak_bytes=peak_mapped_bytes(),
    )


def naively(
    policy: str, plan: WarmupPlan, load: Load, used: Callable[[], int], start_bytes: int, loaders: int
) -> dict[str, Any]:
    """Load what the plan says in a pool of threads.

    "trust" trusts its sizes; "check" looks at memory before each load; "count" weighs each value and drops what is
    beyond the budget.
    """
    values: dict[str, Any] = {}
    counting, loaded_bytes = threading.Lock(), 0

    def load_one(item: WarmupItem) -> None:
        nonlocal loaded_bytes
        if policy == "check" and used() - start_bytes + item.size_bytes > plan.budget.granted_bytes:
            return
        value = load(item.ref.key)
        size_bytes = estimate_item_memory_usage(value)
        with counting:
            if policy == "count" and loaded_bytes + size_bytes > plan.budget.granted_bytes:
                return
            loaded_bytes += size_bytes
            values[item.ref.key] = value

    with ThreadPoolExecutor(loaders) as pool:
        for _ in pool.map(load_one, plan.candidates.take(plan.order)):
            pass
    return {"counts": {"loaded": len(values)}, "process_bytes": pages(1)}


def peak_mapped_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmPeak:")[2].split()[0]) * 1024


# ------------------------------------------------------------------------------------------------------- rolling back


def make_value(kind: str, draw: random.Random) -> Any:
    """A value of `kind`: "large" is 0.5 to 1.5 MB, "blobs" 200 B to 12 KB, "objects" a few small Python objects."""
    match kind:
        case "large":
            return b"\x01" * draw.randint(512 * 1024, 1536 * 1024)
        case "blobs":
            return b"\x01" * int(200 * 60 ** draw.random())
        case "objects":
            return {"id": draw.getrandbits(60), "name": f"name {draw.random()}", "tags": [draw.random() for _ in "abc"]}
    raise ValueError(kind)


def rollback(args: dict[str, Any]) -> None:
    """Load `items`, use the oldest tenth and overwrite some, run out of memory; then undo everything again."""
    asyncio.run(roll_back(args))


async def roll_back(args: dict[str, Any]) -> None:
    draw, count = random.Random(args["seed"]), args["items"]
    kind, at_risk = args["kind"], threading.Lock()
    memory = ShortAtWill(plenty)
    loads = 0
    before: dict[str, Any] = {}

    def load(key: str) -> Any:
        nonlocal loads
        with at_risk:
            loads += 1
            if loads == count // 8:
                app = threading.Thread(target=lambda: before.update(use_the_oldest_tenth(cache, count)))
                app.start()  # a thread of its own: what a loader reads is no traffic
                app.join()
            if loads == count - max(1, count // 100):
                gc.collect()
                release_free_memory()  # what is free already is nobody's merit
                before["rss_before"] = pages(1)
                memory.run_short()
            value = make_value(kind, draw)
        memory.wait_until_seen()
        return value

    cache = WatchedCache(load, count)
    typical = {"large": MIB, "blobs": 3000, "objects": 600}[kind]
    service = service_of(args, cache, [typical] * count, memory=memory, batch_size=args.get("batch_size", 32))
    plan = await service.create_warmup_plan("aggressive")
    say(planned_items=len(plan))
    report = await service.execute_warmup_plan(plan)
    busy_seconds, rss_after = time.process_time(), pages(1)
    used, replaced = before.pop("used", []), before.pop("replaced", [])
    undone = {
        "undone_items": cache.undone_items,
        "undone_bytes": cache.undone_bytes,
        "undo_seconds": busy_seconds - cache.busy_before_undoing,  # the processor's: a busy machine is no fault
        "newest_first": cache.newest_first / max(1, cache.undone_items),
    }
    left = dict(cache.mapping)
    again = sum(cache.undo_warmup(f"{n:06}") for n in range(count))
    say(
        **outcome(report),
        **before,
        **undone,
        rss_after=rss_after,
        used_items=len(used),
        used_dropped=sum(key not in left for key in used),
        replaced_dropped=sum(left.get(key) != f"replaced {key}" for key in replaced),
        left_items=len(left),
        undone_again_bytes=again,
        changed_again=left != cache.mapping,
    )
    await service.close()


def use_the_oldest_tenth(cache: WatchedCache, count: int) -> dict[str, Any]:
    """What the application does while the rest is loaded."""
    oldest = list(cache.mapping)[: count // 10]
    used, replaced = oldest[::2], oldest[1::2]
    for key in used:
        cache.get(key)
    cache.mapping.update((key, f"replaced {key}") for key in replaced)
    time.sleep(0.6)  # until it is history
    return {"used": used, "replaced": replaced}


def drop(args: dict[str, Any]) -> None:
    """Drop nine tenths of a dict of values: the newest, or any (`order` "random"); what that releases."""
    draw, count = random.Random(args["seed"]), args["items"]
    values = {n: make_value(args["kind"], draw) for n in range(count)}
    doomed = array("q", range(count - 1, count // 10 - 1, -1))
    if args["order"] == "random":
        doomed = array("q", random.Random(args["seed"]).sample(range(count), count - count // 10))
    accounted_bytes = sum(estimate_item_memory_usage(values[n], key=str(n)) for n in doomed)
    gc.collect()
    release_free_memory()
    before = pages(1)
    for n in doomed:
        del values[n]
    gc.collect()
    release_free_memory()
    say(accounted_bytes=accounted_bytes, released_bytes=before - pages(1), left_items=len(values))


# -------------------------------------------------------------------------------------------------------------- cycles


class LeakyCache(WatchedCache):
    """A cache that says it dropped everything and keeps the last of each run."""

    def __init__(self, load: Load, count: int) -> None:
        super().__init__(load, count)
        self.graveyard: list[Any] = []

    def undo_warmup(self, key: str) -> int:
        value = self.mapping.get(key)
        released = super().undo_warmup(key)
        if key.endswith("07"):
            self.graveyard.append(value)
        return released


def cycles(args: dict[str, Any]) -> None:
    """Warm up and run out of memory, again and again."""
    asyncio.run(cycle(args))


async def cycle(args: dict[str, Any]) -> None:
    draw = random.Random(args["seed"])
    large, small = args["large_items"], args["small_items"]
    memory = ShortAtWill(SystemMemory())
    lock, loads = threading.Lock(), 0
    runs: list[Any] = []

    def load(key: str) -> Any:
        nonlocal loads
        with lock:
            loads += 1
            if loads == 1:
                runs[:] = [service._runs.active]
            if loads == large + small - 5:
                memory.run_short()
            value = make_value("large" if int(key) < large else "blobs", draw)
        memory.wait_until_seen()
        return value

    cache = (LeakyCache if args.get("leaky") else WatchedCache)(load, large + small)
    service = service_of(args, cache, [MIB] * large + [3000] * small, memory=memory)
    rows = []
    for _ in range(args["cycles"]):
        loads = 0
        memory.recover()
        cache.forget()
        report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
        gc.collect()  # the interpreter's own business, and chance; so is free heap, while what leaks is not free
        release_free_memory()
        rows.append(
            {
                "rss": pages(1),
                "threads": threading.active_count(),
                "fds": len(os.listdir("/proc/self/fd")),
                "in_flight_bytes": in_flight_bytes(runs[0]),
                "left_items": len(cache.mapping),
                "stopped": report.stopped,
                "rolled_back": report.count(ItemStatus.ROLLED_BACK),
                "planned": len(report.plan),
            }
        )
    await service.close()
    say(cycles=rows)


def in_flight_bytes(run: Any) -> int:
    """What a run that has ended still has reserved."""
    guard = getattr(run._execution, "guard", run._execution)
    return guard.reserved_bytes


SCENARIOS = {"warm": warm, "rollback": rollback, "drop": drop, "cycles": cycles}

if __name__ == "__main__":
    SCENARIOS[sys.argv[1]](json.loads(sys.argv[2]))
