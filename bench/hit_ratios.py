"""Hit ratios of what the ready caches evict by, against LRU, theine and the clairvoyant bound; and what a hit costs.

python bench/hit_ratios.py [DIR] [--requests N] [--control NAME ...]       exits with 1 if a target is missed

DIR is a folder of traces (docs/reference/traces.md); without it, two made traces are played.  Of each trace the first N
requests are played (by default all of them), with caches of 1, 5 and 10 % of the bytes of all that they ask for.
cachetools' LRUCache is bounded in bytes as ours is; theine (W-TinyLFU) counts items, and gets as many as fit at their
mean size.  The bound: where sizes are equal, Belady's algorithm, which may also not keep what it was asked for; else
PFOO-L (Berger, Beckmann, Harchol-Balter, *Practical Bounds on Optimal Caching with Variable Object Sizes*, SIGMETRICS
2018): the cheapest gaps between requests of an item, in bytes times requests, as many as the cache has space and time
for.  No policy is above either.  Controls are shown, and left out of the means.  In the made trace that drifts, LRU is
about the best there is, and finding that out costs a little.
"""

import argparse
import heapq
import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from cachetools import LRUCache
from xxhash import xxh3_64_intdigest

from preheat._replay import Trace
from preheat._trace import read_trace
from preheat.caches import LoadingCache
from preheat.caches._loading import Request
from preheat.caches._policy import MOST_USES, WATCHED, Policy

SHARES = (0.01, 0.05, 0.10)
FORMATS = (".parquet", ".csv", ".jsonl", ".csv.gz", ".jsonl.gz")
OURS, LRU, THEINE, BOUND = "preheat", "LRU", "theine", "bound"
missed: list[str] = []

Played = tuple[list[int], list[int]]  # the item of each request, and the bytes of each item


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--requests", type=int, default=0, metavar="N")
    parser.add_argument("--control", nargs="*", default=["corda_vault"])
    options = parser.parse_args()
    traces = read(options.folder) if options.folder else made()
    policies = {OURS: ours, LRU: lru, **({THEINE: theine} if has_theine() else {}), BOUND: bound}
    print(f"{'hits in % of the requests':24}{'cache':>6}" + "".join(f"{name:>10}" for name in policies))
    cells: list[dict[str, float]] = []
    for name, trace in traces:
        played = shortened(trace, options.requests)
        for share in SHARES:
            row = play(policies, played, share)
            shown = "".join(f"{row[policy]:10.2f}" for policy in policies)
            print(f"{name:24}{share:6.0%}{shown}", flush=True)
            if name not in options.control:
                cells.append(row)
    judge(cells, 0.0 if options.folder else -0.5)
    hit_costs()
    return bool(missed)


def read(folder: str):
    for file in sorted(os.listdir(folder)):
        if file.endswith(FORMATS):
            yield file.split(".")[0], read_trace(os.path.join(folder, file)).trace


def made():
    rng = np.random.default_rng(1)
    n = 200_000
    popular = np.minimum(rng.zipf(1.1, n), 50_000)
    for name, keys in (
        ("made, popular and scans", np.where(np.arange(n) // 5000 % 4 == 3, 10**6 + np.arange(n), popular)),
        ("made, drifting", popular + np.arange(n) // 50),
    ):
        _, items = np.unique(keys, return_inverse=True)
        sizes = (
            np.ones(items.max() + 1, np.int64) if "drift" in name else 500 + np.arange(items.max() + 1) * 7919 % 30_000
        )
        yield name, Trace(name, np.arange(n, dtype=np.float64), items, sizes)


def shortened(trace: Trace, requests: int) -> Played:
    items = trace.items[: requests or None]
    known, numbers = np.unique(items, return_inverse=True)
    return numbers.tolist(), trace.size_bytes[known].tolist()


def play(policies: dict[str, Callable[[Played, int], int]], played: Played, share: float) -> dict[str, float]:
    capacity_bytes = max(1, int(sum(played[1]) * share))
    return {name: 100 * hits(played, capacity_bytes) / len(played[0]) for name, hits in policies.items()}


def judge(cells: list[dict[str, float]], lead_over_lru: float) -> None:
    means = {name: statistics.fmean(cell[name] for cell in cells) for name in cells[0]}
    print(f"{'mean':30}" + "".join(f"{mean:10.2f}" for mean in means.values()))
    worst = min(cell[OURS] - cell[LRU] for cell in cells)
    tell("points above LRU, in the worst of all cells", worst, lead_over_lru, at_least=True)
    if THEINE in means:
        tell("points above theine, on average", means[OURS] - means[THEINE], 0.0, at_least=True)
    else:
        print("        theine is not installed: no comparison")


# ---------------------------------------------------------------------------------------------------- the policies


def ours(played: Played, capacity_bytes: int) -> int:
    items, sizes = played
    policy, slots, owners, free = Policy(capacity_bytes), {}, [], []
    uses, used_bytes, hits = policy.uses, 0, 0
    for item in items:
        slot = slots.get(item)
        if slot is not None:
            hits += 1
            count = uses[slot]
            if count < MOST_USES:
                uses[slot] = count + 1
            elif count >= WATCHED:
                policy.use(slot)
            continue
        size_bytes = sizes[item]
        if size_bytes > capacity_bytes:
            continue
        for victim in policy.evict(used_bytes + size_bytes - capacity_bytes):
            used_bytes -= policy.size_bytes[victim]
            del slots[owners[victim]]
            free.append(victim)
        if free:
            slot = free.pop()
            owners[slot] = item
        else:
            slot = len(owners)
            owners.append(item)
        slots[item] = slot
        used_bytes += size_bytes
        policy.add(slot, xxh3_64_intdigest(str(item)), size_bytes)
    return hits


def lru(played: Played, capacity_bytes: int) -> int:
    items, sizes = played
    cache = LRUCache(capacity_bytes, getsizeof=sizes.__getitem__)
    hits = 0
    for item in items:
        if item in cache:
            hits += cache[item] >= 0
        elif sizes[item] <= capacity_bytes:
            cache[item] = item
    return hits


def has_theine() -> bool:
    try:
        import theine  # noqa: F401
    except ImportError:
        return False
    return True


def theine(played: Played, capacity_bytes: int) -> int:
    from theine import Cache

    items, sizes = played
    cache = Cache(max(1, int(capacity_bytes / statistics.fmean(sizes))))
    hits = 0
    for item in items:
        if cache.get(item)[1]:
            hits += 1
        else:
            cache.set(item, item)
    cache.close()
    return hits


def bound(played: Played, capacity_bytes: int) -> int:
    sizes = np.array(played[1], np.int64)
    if sizes.min() == sizes.max():
        return belady(played[0], max(1, capacity_bytes // int(sizes[0])))
    return pfoo(np.array(played[0]), sizes, capacity_bytes)


def next_requests(items: np.ndarray) -> np.ndarray:
    """(n,) the number of the next request for the same item; n if there is none."""
    order = np.argsort(items, kind="stable")
    following = np.full(len(items), len(items))
    same = items[order[1:]] == items[order[:-1]]
    following[order[:-1][same]] = order[1:][same]
    return following


def belady(items: list[int], capacity: int) -> int:
    following = next_requests(np.array(items)).tolist()
    never, held, farthest, hits = len(items), {}, [], 0
    for item, after in zip(items, following, strict=True):
        hits += item in held
        held[item] = after
        heapq.heappush(farthest, (-after, item))
        while len(held) > capacity:
            at, candidate = heapq.heappop(farthest)
            if held.get(candidate) == -at:
                del held[candidate]
        if after == never and held.get(item) == never:
            del held[item]
    return hits


def pfoo(items: np.ndarray, sizes: np.ndarray, capacity_bytes: int) -> int:
    following = next_requests(items)
    comes_back = (following < len(items)) & (sizes[items] <= capacity_bytes)
    areas = np.sort((sizes[items] * (following - np.arange(len(items)))).astype(np.float64)[comes_back])
    return int(np.searchsorted(np.cumsum(areas), float(capacity_bytes) * len(items), side="right"))


# ------------------------------------------------------------------------------------------------------- of one hit


class Plain(LoadingCache[str]):
    """The machinery, with nothing on top of it."""

    def get(self, key: str) -> str:
        return self._get(Request(key, "", ""), lambda: key)


def hit_costs() -> None:
    keys = [f"the key of item {n}" for n in range(1000)]
    cache, least = Plain("plain", capacity_bytes=10**8), LRUCache(2000)
    for key in keys:
        cache.get(key)
        least[key] = key
    gets: dict[str, Callable[[str], object]] = {OURS: cache.get, LRU: least.__getitem__}
    if has_theine():
        from theine import Cache

        counted = Cache(2000)
        for key in keys:
            counted.set(key, key)
        gets[THEINE] = counted.get
    taken: dict[str, list[float]] = {name: [] for name in gets}
    for _ in range(30):
        for name, get in gets.items():
            started = time.perf_counter()
            for key in keys:
                get(key)
            taken[name].append((time.perf_counter() - started) / len(keys))
    costs = {name: statistics.median(seconds) for name, seconds in taken.items()}
    print("a hit, thread-safe and counted but for LRU: " + ", ".join(f"{n} {1e9 * c:.0f} ns" for n, c in costs.items()))
    if THEINE in costs:
        tell("a hit, over one of theine", costs[OURS] / costs[THEINE], 1.5)


def tell(what: str, value: float, limit: float, *, at_least: bool = False) -> None:
    is_met = value >= limit if at_least else value <= limit
    if not is_met:
        missed.append(what)
    print(f"{'met    ' if is_met else 'NOT MET'}  {what}: {value:.2f} (at {'least' if at_least else 'most'} {limit:g})")


if __name__ == "__main__":
    sys.exit(main())
