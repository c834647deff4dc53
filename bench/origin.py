"""What a warm-up does to its origin, under a virtual clock: the run itself, and what it would be without a protection.

`python bench/origin.py [--seeds N] [--full] [--live SHARE]`

An origin serves in the order of arrival with exponential times (`tests/origins.py`).  Beside it live traffic takes
60 % of its capacity, with a brownout of 20 s in which everything takes 1.4 times as long.  One line per target; the
controls are the same run without the part in question.  `--full` plays all capacities, and prints each of them.
`--live` is the share of the live requests that the process itself makes, and so hears of.
"""

import argparse
import math
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from origins import FAILED, LOADED, SimulatedOrigin, Traffic, VirtualRun, execution_of
from preheat._execution import machine
from preheat._model import ItemResult, ItemStatus
from preheat._origin import Limits, Origin, breaker, limit

CELLS = [(servers, mean) for mean in (0.005, 0.02, 0.05, 0.1) for servers in (4, 8, 16, 32, 64)]
SOME_CELLS = [(4, 0.05), (4, 0.1), (16, 0.05), (64, 0.05)]
MOST_PER_SECOND = 4000.0
"""Capacities above are left out: a minute of them is a minute here too."""

STEADY, BROWNOUT, WHOLE = (0.0, 50.0), (50.0, 70.0), (0.0, 90.0)
ITEMS = 10_000

LIVE_REQUESTS = 10_000
"""Live requests in all brownouts of a capacity, at least: of fewer, the slowest hundredth would be a matter of luck."""


# -------------------------------------------------------------------------------------------------------- controls


class FixedGate(Origin):
    """So many loads at a time, whatever they take."""

    __slots__ = ("_fixed",)

    def __init__(self, fixed: int) -> None:
        super().__init__("fixed", Limits(fixed))
        self._fixed = fixed

    def opens_at(self, at: float) -> float:
        return at if self._under_way < self._fixed else math.inf


class AdditiveGate(Origin):
    """One more load at a time after each round, half as many after a failure: what follows losses, not latency."""

    __slots__ = ("_allowed", "_good")

    def __init__(self, most: int = 64) -> None:
        super().__init__("aimd", Limits(most))
        self._allowed, self._good = 1.0, 0

    def opens_at(self, at: float) -> float:
        return at if self._under_way < int(self._allowed) else math.inf

    def loaded(self, at: float, load_seconds: float, items: int, fewer: int = 1) -> None:
        super().loaded(at, load_seconds, items, fewer)
        self._allowed = min(64.0, self._allowed + items / self._allowed)

    def ended(self, at: float, load_seconds: float, results: list[ItemResult | None], fewer: int = 1) -> None:
        super().ended(at, load_seconds, results, fewer)
        if any(result is not None and result.status is ItemStatus.FAILED for result in results):
            self._allowed = max(1.0, self._allowed / 2)


class Spendthrift(Origin):
    """Without a budget: whatever fails is tried again at once, three times."""

    __slots__ = ()

    def retry_at(self, at: float, tries: int) -> float | None:
        return at + 0.1 if tries < 3 else None


class Stubborn(Origin):
    """Without a breaker."""

    __slots__ = ()

    def ended(self, at: float, load_seconds: float, results: list[ItemResult | None], fewer: int = 1) -> None:
        super().ended(at, load_seconds, results, fewer)
        self._breaker.is_open, self._breaker._failures = False, 1
        self._out_since = math.inf


# ------------------------------------------------------------------------------------------------------ live traffic


def beside(traffic: Traffic, gate: Origin | None, tells_live: float) -> tuple[VirtualRun, SimulatedOrigin]:
    origin = SimulatedOrigin(
        traffic.servers, traffic.mean_seconds, traffic.seed + 7, lambda at, _: (LOADED, traffic.slowness(at))
    )
    items = int(1.2 * traffic.spare_loads(*WHOLE)) + 1000
    execution = execution_of(items, {"shop": gate}, concurrency_limit=64, seed=traffic.seed) if gate else None
    run = VirtualRun(
        execution, ["shop"] * items, {"shop": origin}, traffic=traffic, tells_live=tells_live if gate else 0.0
    )
    return run.perform(until=traffic.seconds), origin


def live_cell(servers: int, mean: float, make, seeds: int, tells_live: float) -> dict[str, float]:
    """Live p99 with the warm-up over that without, latencies of all seeds pooled; use of the spare; worst seed."""
    latency: dict[str, list[np.ndarray]] = {name: [] for name in ("steady", "brownout", "steady0", "brownout0")}
    used, spare, worst = Counter(), Counter(), {"steady": 0.0, "brownout": 0.0}
    least = math.inf
    in_brownout = Traffic(servers, mean).rate * (BROWNOUT[1] - BROWNOUT[0])
    for seed in range(max(seeds, math.ceil(LIVE_REQUESTS / in_brownout))):
        traffic = Traffic(servers, mean, seed=seed)
        alone, _ = beside(traffic, None, 0.0)
        warmed, origin = beside(traffic, make(), tells_live)
        starts = np.array(origin.requests)
        for name, (start, stop) in (("steady", STEADY), ("brownout", BROWNOUT)):
            span = (alone.heard.at >= start) & (alone.heard.at < stop)
            latency[name].append(warmed.heard.latency[span])
            latency[name + "0"].append(alone.heard.latency[span])
            worst[name] = max(worst[name], warmed.heard.p99(start, stop) / alone.heard.p99(start, stop))
        for name, (start, stop) in (("steady", STEADY), ("brownout", BROWNOUT), ("whole", WHOLE)):
            used[name] += int(((starts >= start) & (starts < stop)).sum())
            spare[name] += traffic.spare_loads(start, stop)
        least = min(least, int((starts < STEADY[1]).sum()) / traffic.spare_loads(*STEADY))
    p99 = {name: float(np.percentile(np.concatenate(all_), 99)) for name, all_ in latency.items()}
    return {
        "steady": p99["steady"] / p99["steady0"],
        "brownout": p99["brownout"] / p99["brownout0"],
        "worst steady": worst["steady"],
        "worst brownout": worst["brownout"],
        "least": least,
        **{f"use {name}": used[name] / spare[name] for name in used},
    }


def show_cell(servers: int, mean: float, cell: dict[str, float], name: str) -> None:
    print(
        f"   {name:9} {servers:2} servers {mean * 1000:3.0f} ms   p99 steady x{cell['steady']:.2f}"
        f" (worst seed {cell['worst steady']:.2f})   brownout x{cell['brownout']:.2f}"
        f" ({cell['worst brownout']:.2f})   of the spare: steady {cell['use steady']:4.0%}"
        f" (least {cell['least']:.0%}), brownout {cell['use brownout']:.0%}, all {cell['use whole']:.0%}",
        flush=True,
    )


def play_live(seeds: int, cells: list[tuple[int, float]], tells_live: float) -> None:
    print(f"live traffic at 60 % of the capacity, {seeds} seeds or more; the run hears of {tells_live:.0%} of it")
    found = []
    for servers, mean in cells:
        found.append(live_cell(servers, mean, lambda: Origin("shop", Limits(64)), seeds, tells_live))
        show_cell(servers, mean, found[-1], "preheat")
    for name, make in (("fixed 32", lambda: FixedGate(32)), ("AIMD", AdditiveGate)):
        show_cell(16, 0.05, live_cell(16, 0.05, make, 2, 0.0), name)
    least, limit.LEAST = limit.LEAST, 1.0
    for mean in (0.05, 0.1):
        show_cell(4, mean, live_cell(4, mean, lambda: Origin("shop", Limits(64)), seeds, tells_live), "least 1")
    limit.LEAST = least
    steady, brownout = max(cell["steady"] for cell in found), max(cell["brownout"] for cell in found)
    target(f"live p99, steady: worst capacity x{steady:.2f}", "<= 1.25", steady <= 1.25)
    target(f"live p99, brownout: worst capacity x{brownout:.2f}", "<= 1.25", brownout <= 1.25)
    use = min(cell["use steady"] for cell in found)
    target(f"use of the spare, steady: worst capacity {use:.0%}", ">= 40 %", use >= 0.4)


# ------------------------------------------------------------------------------------------------- errors and outages


def warm(make, answer, *, seed: int, timeout: float = math.inf, servers: int = 16):
    """A run over ITEMS, the requests made so far by the end of its first pass, and what was loaded by then."""
    origin = SimulatedOrigin(servers, 0.05, seed, answer, timeout_seconds=timeout)
    execution = execution_of(ITEMS, {"shop": make(seed)}, seed=seed)
    run = VirtualRun(execution, ["shop"] * ITEMS, {"shop": origin})
    passed = [ITEMS, 0]
    begin = execution.phases.begin_later_pass

    def begin_later_pass() -> None:
        passed[:] = len(origin.requests), count(execution, ItemStatus.LOADED)
        begin()

    execution.phases.begin_later_pass = begin_later_pass
    run.perform()
    if passed == [ITEMS, 0]:
        passed = [len(origin.requests), count(execution, ItemStatus.LOADED)]
    return run, origin, passed


def count(execution, status: ItemStatus) -> int:
    return sum(result is not None and result.status is status for result in execution.results)


def half_fail(until: float):
    return lambda at, chance: (FAILED if at < until and chance.random() < 0.5 else LOADED, 1.0)


def play_errors(seeds: int) -> None:
    print(f"half of all loads fail until the 65th second, {ITEMS} items, {seeds} seeds")
    per_item, loaded, healed, tries = 0.0, 1.0, 1.0, 0
    for seed in range(seeds):
        run, origin, (requests, first) = warm(lambda s: Origin("shop", seed=s), half_fail(65.0), seed=seed)
        early = sum(at < 65.0 for at in origin.requests)
        per_item, loaded = max(per_item, early / ITEMS), min(loaded, first / ITEMS)
        healed = min(healed, count(run.execution, ItemStatus.LOADED) / ITEMS)
        tries = max(tries, *run.execution._retries._failures)
        print(f"   seed {seed}: {requests} requests in the first pass, {early} before it healed, {first} loaded in it")
    target(f"requests per item while it is ill: {per_item:.3f}", "<= 1.12", per_item <= 1.12)
    target(f"attempts that failed, of one item: {tries}", "<= 3", tries <= 3)
    target(f"loaded in the first pass: {loaded:.1%}", ">= 50 %", loaded >= 0.5)
    target(f"loaded after it healed: {healed:.1%}", ">= 99 %", healed >= 0.99)
    _, origin, (requests, _) = warm(lambda s: Spendthrift("shop", seed=s), half_fail(1e9), seed=0)
    print(f"   control, no budget: {requests / ITEMS:.2f} requests per item")


OUTAGES = {
    "refuses": (lambda at, chance: (LOADED if at >= 600.0 else FAILED, 0.02), math.inf),
    "hangs": (lambda at, chance: (LOADED, 1.0 if at >= 600.0 else 1e6), 30.0),
    "sends a byte per second": (lambda at, chance: (LOADED, 1.0 if at >= 600.0 else 2e5), 30.0),
    "fails nine times in ten": (
        lambda at, chance: (FAILED if at < 600.0 and chance.random() < 0.9 else LOADED, 1),
        30.0,
    ),
}


def play_outages(seeds: int) -> None:
    print(f"an origin that is dead for ten minutes, {ITEMS} items, {seeds} seeds; patience until it is back")
    machine.PATIENCE_SECONDS = machine.LEAST_PATIENCE_SECONDS = 1200.0
    for name, (answer, timeout) in OUTAGES.items():
        worst, least, opened = 0, 1.0, 0
        for seed in range(seeds):
            run, origin, _ = warm(lambda s: Origin("shop", seed=s), answer, seed=seed, timeout=timeout, servers=10_000)
            worst = max(worst, sum(at < 600.0 for at in origin.requests))
            least = min(least, count(run.execution, ItemStatus.LOADED) / ITEMS)
            opened = max(opened, run.execution.origins[0].opened)
        target(f"{name}: {worst} requests in ten minutes, {least:.1%} loaded in the end", "<= 700", worst <= 700)
    _, origin, _ = warm(lambda s: Stubborn("shop", seed=s), OUTAGES["refuses"][0], seed=0)
    print(f"   control, no breaker: {sum(at < 600.0 for at in origin.requests)} requests")
    breaker.CLOSES_AFTER = breaker.STRICT_CLOSES_AFTER = 1
    run, origin, _ = warm(lambda s: Origin("shop", seed=s), OUTAGES["fails nine times in ten"][0], seed=0)
    early = sum(at < 600.0 for at in origin.requests)
    print(f"   control, closes after one good probe: nine in ten fail, {early} requests", end="")
    print(f", opened {run.execution.origins[0].opened} times")


# ---------------------------------------------------------------------------------------------------------- overhead


class Bare:
    """A call that counts, to compare with."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def take(self, items: int) -> None:
        self.count += items


def fastest(work, repeats: int = 9) -> float:
    """Seconds of the fastest of so many."""
    best = math.inf
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begun)
    return best


def play_overhead() -> None:
    calls, bare = 20_000, Bare()
    call = fastest(lambda: [bare.take(1) for _ in range(calls)]) / calls

    def play(items: int) -> float:
        origin, sizes = Origin("shop", Limits(64)), (1,) * items

        def work() -> None:
            for _ in range(calls):
                if origin.opens_at(1.0) <= 1.0:
                    origin.admit(1.0, sizes, items)
                origin.loaded(1.0, 0.02, items)

        return fastest(work) / calls / items

    print(f"what a gate costs per item while all is well; a bare call costs {call * 1e6:.3f} us")
    for items in (1, 8):
        print(f"   in runs of {items} loads: {play(items) * 1e6:.3f} us, {play(items) / call:.1f} calls")
    spent = play(64)
    target(f"in runs of 64 loads: {spent * 1e6:.3f} us, {spent / call:.1f} calls", "<= 6 calls", spent <= 6 * call)


def target(found: str, wanted: str, is_met: bool) -> None:
    print(f"{'met    ' if is_met else 'NOT MET'}  {found}   (target {wanted})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--live", type=float, default=0.0)
    parser.add_argument("--full", action="store_true")
    given = parser.parse_args()
    cells = [cell for cell in CELLS if cell[0] / cell[1] <= MOST_PER_SECOND] if given.full else SOME_CELLS
    play_errors(given.seeds)
    play_overhead()
    play_live(given.seeds, cells, given.live)
    play_outages(given.seeds)


if __name__ == "__main__":
    main()
