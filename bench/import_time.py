"""The cost of `import preheat`, as a ratio to `import numpy` alone: whole processes, in turn, medians.

python bench/import_time.py [--runs N]        exits with 1 if the ratio is 1.5 or more
"""

import argparse
import statistics
import subprocess
import sys
import time

TARGET_RATIO = 1.5


def seconds(module: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=21, help="runs of each, in turn (default 21)")
    runs = parser.parse_args().runs
    seconds("preheat"), seconds("numpy")  # fill the page cache and the byte code
    pairs = [(seconds("preheat"), seconds("numpy")) for _ in range(runs)]
    ours, numpy = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"import preheat {ours * 1000:.0f} ms, import numpy {numpy * 1000:.0f} ms, median ratio {ratio:.2f}")
    print(f"target: under {TARGET_RATIO}")
    return 0 if ratio < TARGET_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
