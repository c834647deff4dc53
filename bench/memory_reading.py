"""The cost of one memory reading, as a ratio to what a plain reading of the same figures costs.

(a) /proc/meminfo opened, read and parsed into a dict of numbers, and one cgroup usage file opened and read;
(b) `psutil.virtual_memory()`, which knows no cgroups.  In turn, in one process; medians of the rounds.

python bench/memory_reading.py [--rounds N]        exits with 1 if the ratio to (a) is above 1
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import psutil

from preheat._cgroup import discover_layout
from preheat._memory import SystemMemory

TARGET_RATIO = 1.0
READINGS = 500


def plainly(usage_path: str) -> Callable[[], dict[str, int]]:
    """What (a) does; where there is no cgroup the second file is /proc/self/statm."""

    def read() -> dict[str, int]:
        figures = {}
        with open("/proc/meminfo") as file:
            for line in file:
                name, _, rest = line.partition(":")
                figures[name] = int(rest.split()[0]) * 1024
        with open(usage_path) as file:
            figures["usage"] = int(file.read().split()[0])
        return figures

    return read


def microseconds(read: Callable[[], object]) -> float:
    started = time.perf_counter()
    for _ in range(READINGS):
        read()
    return (time.perf_counter() - started) / READINGS * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help=f"rounds of {READINGS} readings each (default 15)")
    rounds = parser.parse_args().rounds
    groups = discover_layout("/").groups
    reads = (SystemMemory(), plainly(groups[0].used.path if groups else "/proc/self/statm"), psutil.virtual_memory)
    times = [tuple(microseconds(read) for read in reads) for _ in range(rounds + 1)][1:]  # the first fills caches
    ours, plain, with_psutil = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = [statistics.median(row[0] / row[other] for row in times) for other in (1, 2)]
    print(f"ours {ours:.0f} us, plain parse {plain:.0f} us, psutil {with_psutil:.0f} us")
    print(f"median ratio to the plain parse {ratios[0]:.2f}, to psutil {ratios[1]:.2f}")
    print(f"target: at most {TARGET_RATIO} to the plain parse")
    return 0 if ratios[0] <= TARGET_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
