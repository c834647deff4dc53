"""The cost of importing preheat, as ratios to `import numpy` alone: whole processes, in turn, medians.

python bench/import_time.py [--runs N]        exits with 1 if the service takes 1.5 times as long or more

`import preheat` brings nothing yet; `from preheat import CacheWarmupService` is what an application pays.
"""

import argparse
import statistics
import subprocess
import sys
import time

TARGET_RATIO = 1.5
PLAIN, SERVICE, PEER = "import preheat", "from preheat import CacheWarmupService", "import numpy"


def seconds(statement: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=21, help="runs of each, in turn (default 21)")
    runs = parser.parse_args().runs
    statements = (PLAIN, SERVICE, PEER)
    for statement in statements:
        seconds(statement)  # fill the page cache and the byte code
    rounds = [{statement: seconds(statement) for statement in statements} for _ in range(runs)]
    ratios = {each: statistics.median(took[each] / took[PEER] for took in rounds) for each in statements}
    for each, ratio in ratios.items():
        print(f"{each}: {statistics.median(took[each] for took in rounds) * 1000:.0f} ms, median ratio {ratio:.2f}")
    is_met = ratios[SERVICE] < TARGET_RATIO
    print(f"target: {SERVICE} under {TARGET_RATIO}: {'met' if is_met else 'not met'}")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
