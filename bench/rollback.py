"""What rolling back nine tenths of a warm-up gives back: bytes accounted for, bytes by which the process shrank.

python bench/rollback.py [--items N]        exits with 1 if a rollback releases less than its target

The last two columns are a plain dict beside it, its newest or any nine tenths dropped: what order alone is worth.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

SCENARIOS = Path(__file__).parent.parent / "tests/faults/memory_scenarios.py"
TARGETS = {"large": 0.85, "blobs": 0.80, "objects": 0.80}
SHARES = {"large": 1 / 200, "blobs": 1.0, "objects": 4.0}  # so that each kind makes about as many bytes
MB = 1e6


def scenario(name: str, **args: object) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        arguments = json.dumps({**args, "seed": 0, "state_dir": f"{folder}/state"})
        child = subprocess.run(
            [sys.executable, str(SCENARIOS), name, arguments], check=True, capture_output=True, text=True
        )
    said: dict[str, object] = {}
    for line in child.stdout.splitlines():
        said |= json.loads(line)
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=50_000, help="blobs; large values and objects accordingly")
    items = parser.parse_args().items
    heads = ("values", "items", "accounted", "measured", "ratio", "target", "seconds", "newest", "random")
    print("{:8} {:>7} {:>10} {:>10} {:>6} {:>6} {:>8}   {:>6} {:>6}".format(*heads))
    good = True
    for kind, target in TARGETS.items():
        count = max(100, int(items * SHARES[kind]))
        said = scenario("rollback", kind=kind, items=count)
        measured = said["released_bytes"]
        ratio = measured / said["undone_bytes"]
        dropped = {order: scenario("drop", kind=kind, items=count, order=order) for order in ("newest", "random")}
        newest, random = (d["released_bytes"] / d["accounted_bytes"] for d in dropped.values())
        print(
            f"{kind:8} {said['undone_items']:7} {said['undone_bytes'] / MB:7.1f} MB {measured / MB:7.1f} MB "
            f"{ratio:6.0%} {target:6.0%} {said['undo_seconds']:8.2f}   {newest:6.0%} {random:6.0%}"
        )
        good &= ratio >= target
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
