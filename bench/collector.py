"""What Python's garbage collector costs a warm-up, with and without `calm_collector`.

Each row is a process of its own that warms a dict with small values, dicts and objects by turns, through the adapter
for mappings; one load in ten leaves a cycle behind.  Fails if the calm collector takes more than half of the time
that the untouched one takes, or if the process is larger after it.
`python bench/collector.py [--items N] [--thresholds N ...]`
"""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext

HIGHEST_RATIO = 0.5
GROWTH_RATIO = 1.02


class Row:
    def __init__(self, n: int) -> None:
        self.number, self.name, self.tags = n, f"row {n}", [n, n + 1]


class Cycle:
    waiting = highest = 0

    def __init__(self) -> None:
        self.itself = self
        self.content = bytes(1000)
        Cycle.waiting += 1
        Cycle.highest = max(Cycle.highest, Cycle.waiting)

    def __del__(self) -> None:
        Cycle.waiting -= 1


def load(key: str) -> object:
    n = int(key)
    if n % 10 == 0:
        Cycle()
    return {"number": n, "name": f"row {n}", "tags": [n, n + 1], "at": {"line": n}} if n % 2 else Row(n)


def memory(field: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


def measure(items: int, threshold: int) -> dict[str, float]:
    """Runs in a process of its own; a threshold of 0 leaves the collector alone."""
    import gc

    from preheat import _collector, create_warmup_item
    from preheat.adapters.mapping import MappingCache

    _collector.THRESHOLD = threshold
    spent, begun = [0.0, 0.0, 0.0], [0.0]
    counts = [0, 0, 0]

    def watch(phase: str, about: dict[str, int]) -> None:
        if phase == "start":
            begun[0] = time.thread_time()
        else:
            spent[about["generation"]] += time.thread_time() - begun[0]
            counts[about["generation"]] += 1

    cache = MappingCache({}, load, name="rows")
    before = gc.get_threshold()
    gc.callbacks.append(watch)
    started = time.perf_counter()
    with _collector.calm_collector() if threshold else nullcontext():
        for n in range(items):
            cache.warmup_item(create_warmup_item("rows", str(n)))
    seconds = time.perf_counter() - started
    gc.callbacks.remove(watch)
    highest, peak_bytes = Cycle.highest, memory("VmHWM")
    gc.collect()
    return {
        "restored": gc.get_threshold() == before,
        "gc_seconds": sum(spent),
        "seconds": seconds,
        **{f"generation_{n}": counts[n] for n in range(3)},
        "cycles": highest,
        "peak_bytes": peak_bytes,
        "after_bytes": memory("VmRSS"),
        "cycles_after": Cycle.waiting,
    }


def run(items: int, threshold: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", str(threshold), "--items", str(items)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout)


def median_of(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: sorted(row[name] for row in rows)[len(rows) // 2] for name in rows[0]}


def main() -> int:
    from preheat._collector import THRESHOLD

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--repeat", type=int, default=3, help="processes per row, of which the median counts")
    parser.add_argument("--thresholds", type=int, nargs="*", default=[THRESHOLD])
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.items, options.measure)))
        return 0
    head = ("threshold", "gc, s", "ratio", "all, s", "gen 0", "gen 1", "gen 2", "cycles", "peak MiB", "after MiB")
    print("".join(f"{name:>11}" for name in head))
    rows = {}
    for threshold in [0, *options.thresholds]:
        row = rows[threshold] = median_of([run(options.items, threshold) for _ in range(options.repeat)])
        ratio = row["gc_seconds"] / rows[0]["gc_seconds"]
        print(
            f"{threshold or 'untouched':>11}{row['gc_seconds']:11.3f}{ratio:11.2f}{row['seconds']:11.2f}"
            + "".join(f"{row[f'generation_{n}']:11.0f}" for n in range(3))
            + f"{row['cycles']:11.0f}{row['peak_bytes'] / 2**20:11.1f}{row['after_bytes'] / 2**20:11.1f}",
            flush=True,
        )
    ours, untouched = rows[options.thresholds[0]], rows[0]
    kept = {
        f"gc time at most {HIGHEST_RATIO} of the untouched": ours["gc_seconds"]
        <= HIGHEST_RATIO * untouched["gc_seconds"],
        "no growth after": ours["after_bytes"] <= GROWTH_RATIO * untouched["after_bytes"] and not ours["cycles_after"],
        "thresholds as before": bool(ours["restored"]),
    }
    for promise, is_kept in kept.items():
        print(f"{'kept  ' if is_kept else 'BROKEN'}  {promise}")
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
