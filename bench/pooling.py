"""What it costs to make the histories of many replicas one: time, memory, and whether order or repetition matter.

A hundred replicas tell 100,000 items each, which they share as traffic by Zipf's law shares them; all of it is
written to files, merged, and added up.  One line per target says whether it is met; the script fails if one isn't.
Beside the time stands what `np.sort` of as many 64-bit words takes in the same run.  `python bench/pooling.py
[--replicas N] [--items N]`
"""

import argparse
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from preheat._columns import TextColumn
from preheat._history import GAPS, HALF_LIVES
from preheat._model import History
from preheat._pool import contribute
from preheat._pool.files import Told, fold_pool, join_told, read_pool, told, write_pool

MOST_SECONDS = 5.0
MOST_MIB = 256.0
NOW = 1.7e9 + 1e5


def history_of(replica: int, items: int) -> History:
    """What one replica has recorded: items of a universe three times as large, the popular ones likelier."""
    draw = np.random.default_rng(replica)
    universe = 3 * items
    weight = 1.0 / np.arange(1, universe + 1) ** 0.8
    chosen = np.argpartition(draw.exponential(size=universe) / weight, items)[:items]
    none = TextColumn(np.empty(0, np.uint8), np.zeros(items + 1, np.int64))
    return History(
        at=NOW,
        since=NOW - 1e6,
        half_lives=HALF_LIVES,
        caches=("pages", "search"),
        cache=(chosen % 2).astype(np.int16),
        keys=TextColumn.of(f"product:{key:012d}" for key in chosen.tolist()),
        counts=draw.random((items, len(HALF_LIVES)), np.float32) * 9,
        last_at=NOW - draw.random(items) * 1e5,
        gaps=np.full((items, GAPS), np.nan, np.float32),
        size_bytes=draw.integers(100, 10_000, items),
        load_seconds=draw.random(items, np.float32),
        versions=none,
        recipes=none,
        hits=np.array([items, items]),
        misses=np.array([items, items]),
    )


def merged(pools: list[list[Told]], path: str) -> list[Told]:
    write_pool(path, join_told(pools))
    return read_pool(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--replicas", type=int, default=100)
    parser.add_argument("--items", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for n in range(options.replicas):
            files.append(str(Path(folder) / f"{n}.pool"))
            write_pool(files[-1], [told(contribute(f"replica-{n:04d}", n + 1, history_of(n, options.items)))])
        size_mib = sum(Path(file).stat().st_size for file in files) / 2**20
        before = peak_mib()
        started = time.perf_counter()
        pool = merged([read_pool(file) for file in files], str(Path(folder) / "all.pool"))
        merging = time.perf_counter() - started
        started, cpu = time.perf_counter(), time.process_time()
        folded = fold_pool(pool, NOW, max_items=1_000_000)
        adding, cpu = time.perf_counter() - started, time.process_time() - cpu
        grown = peak_mib() - before
        assert folded is not None
        shuffled = random.Random(1).sample(files, len(files)) + files[: len(files) // 3]
        half = merged([read_pool(file) for file in shuffled[: len(files) // 2]], str(Path(folder) / "half.pool"))
        again = merged([read_pool(file) for file in shuffled] + [half], str(Path(folder) / "again.pool"))
        same_file = (Path(folder) / "all.pool").read_bytes() == (Path(folder) / "again.pool").read_bytes()
        other = fold_pool(again, NOW, max_items=1_000_000)
        same = same_file and other is not None and np.array_equal(other.history.counts, folded.history.counts)
    words = np.random.default_rng(0).integers(0, 2**63, options.replicas * options.items, np.uint64)
    started = time.perf_counter()
    words.sort()
    sorting = time.perf_counter() - started
    rows = options.replicas * options.items
    print(f"{options.replicas} replicas of {options.items:,} items: {size_mib:.0f} MiB; merging files {merging:.2f} s")
    print(f"adding up {rows:,} rows to {len(folded.history):,} items: {adding:.2f} s, of them {cpu:.2f} s computing")
    print(f"np.sort of as many words: {sorting:.2f} s; adding up is {adding / sorting:.1f} x that")
    print(f"counts too low by at most {folded.missed:.1f} accesses")
    checks = [
        (f"seconds to merge and add up: {merging + adding:.2f} <= {MOST_SECONDS}", merging + adding <= MOST_SECONDS),
        (f"peak memory beside what stood before: {grown:.0f} MiB <= {MOST_MIB:.0f}", grown <= MOST_MIB),
        ("another order, and a third of them twice: the same history to the last bit", same),
    ]
    for text, met in checks:
        print(f"{'met    ' if met else 'NOT MET'} {text}")
    return 0 if all(met for _, met in checks) else 1


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
