"""What it costs in memory that the parent of four workers warms and they inherit, against each warming for itself.

python bench/prefork.py [--mb N] [--workers N]   exits with 1 if inheriting large bytes takes more than half

A reader writes to the page with the count of references of each object that it looks at: hardly anything of values of
100 kB, two fifths of values of 10 kB, and more of dicts.  Each worker reads every value once.  Printed: the sum of the
proportional shares (PSS) of all processes over what the same processes take where nothing is warm, and the ratio of
the two ways.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

TARGET_RATIO = 0.5
PROGRAM = """
import asyncio, gc, json, os, sys
from preheat import CacheWarmupService, warm
from preheat.adapters.mapping import MappingCache
from preheat.startup.prefork import warm_before_fork
from preheat.startup.terms import agree

kind, way, workers, items = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
load = {
    "large bytes": lambda key: os.urandom(100_000),
    "small bytes": lambda key: os.urandom(10_000),
    "dicts": lambda key: {f"{key} {n}": n + 0.5 for n in range(75)},
}[kind]
cache = MappingCache({}, load, name="values")
keys = [str(n) for n in range(items)]

def pss():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Pss:")) * 1024

def read():
    for key in keys:
        value = cache.get(key)
        if kind == "dicts":
            sum(value.values())

if sys.argv[5] == "record":
    async def record():
        async with CacheWarmupService() as service:
            service.register(cache)
            for _ in range(2):
                read()
    asyncio.run(record())
    sys.exit()

before = pss()
service = warm_before_fork([cache], agree(workers=1, deadline_seconds=600)) if way == "inherit" else None
told, tell = os.pipe()
go_on, release = os.pipe()
warmed, is_warm = os.pipe()
leave, end = os.pipe()
for _ in range(workers):
    if os.fork() == 0:
        if way == "each":
            block = warm([cache], gate="all", deadline_seconds=600, workers=workers)
            block.__enter__()
        if way != "cold":
            read()
        os.write(is_warm, b".")
        os.read(go_on, 1)
        os.write(tell, json.dumps(pss()).encode() + b"\\n")
        os.read(leave, 1)
        os._exit(0)
seen = b""
while len(seen) < workers:
    seen += os.read(warmed, workers)
os.write(release, b"." * workers)
shares = b""
while shares.count(b"\\n") < workers:
    shares += os.read(told, 65536)
total = pss() + sum(json.loads(line) for line in shares.splitlines())
os.write(end, b"." * workers)
for _ in range(workers):
    os.wait()
print(json.dumps(total - before))
os._exit(0)
"""


def grown_bytes(kind: str, way: str, workers: int, items: int) -> int:
    with tempfile.TemporaryDirectory() as state:
        env = os.environ | {"CACHE_WARMUP_STATE_DIR": state, "CACHE_WARMUP_HOLDOUT_RATIO": "0"}
        command = [sys.executable, "-c", PROGRAM, kind, way, str(workers), str(items)]
        subprocess.run([*command, "record"], env=env, check=True)
        shown = subprocess.run([*command, "measure"], env=env, check=True, capture_output=True, text=True)
        return int(json.loads(shown.stdout))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=100, help="MB of values (default 100)")
    parser.add_argument("--workers", type=int, default=4, help="processes (default 4)")
    told = parser.parse_args()
    ratios = {}
    for kind, per_mb in {"large bytes": 10, "small bytes": 100, "dicts": 100}.items():
        items = told.mb * per_mb
        cold, *warm = (grown_bytes(kind, way, told.workers, items) for way in ("cold", "inherit", "each"))
        grown = {way: size - cold for way, size in zip(("inherit", "each"), warm, strict=True)}
        ratios[kind] = grown["inherit"] / grown["each"]
        amounts = ", ".join(f"{way} {size / 1e6:.0f} MB" for way, size in grown.items())
        print(f"{kind}: {items} values, {told.workers} workers: {amounts}, ratio {ratios[kind]:.2f}")
    is_met = ratios["large bytes"] <= TARGET_RATIO
    print(f"target: large bytes that are inherited take at most {TARGET_RATIO}: {'met' if is_met else 'not met'}")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
