"""How fast history that people already have is taken in: `preheat record` and `preheat history import`, in lines/s.

Beside `wc -l` and a bare loop of the standard library over the same lines, in the same run.

    python bench/importing.py [LINES]
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from preheat._columns import TextColumn
from preheat._history.merging import merge_histories
from preheat._model import History

LINES = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
LEAST_LINES_PER_SECOND = 50_000
MOST_MERGE_RATIO = 8.0  # of a merge of 1M + 1M keys, against numpy's argsort of as many numbers
KEYS = 1_000_000


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        print(f"{LINES:,} lines, {os.cpu_count()} cores")
        for file in ("access.log", "a.csv", "a.jsonl", "a.jsonl.gz"):
            record(folder, file)
        transfer(folder)
    merge()


def write_files(folder: Path) -> None:
    rng, at = random.Random(1), 1.78e9
    with (
        (folder / "access.log").open("w") as log,
        (folder / "a.csv").open("w") as csv,
        (folder / "a.jsonl").open("w") as js,
    ):
        csv.write("t,key,size\n")
        for _ in range(LINES):
            at += rng.expovariate(20.0)
            key, stamp = f"/shop/item/{int(LINES / 10 * rng.random() ** 3)}", time.gmtime(at)
            log.write(time.strftime("203.0.113.9 - - [%d/%b/%Y:%H:%M:%S +0000] ", stamp))
            log.write(f'"GET {key}?from=home HTTP/1.1" 200 {1000 + len(key)} "https://shop.example/" "Mozilla/5.0"\n')
            csv.write(f"{at:.3f},{key},{1000 + len(key)}\n")
            js.write(f'{{"t": {at:.3f}, "key": "{key}", "size": {1000 + len(key)}}}\n')
    subprocess.run(["gzip", "-k", "a.jsonl"], cwd=folder, check=True)


def record(folder: Path, file: str) -> None:
    seconds = seconds_of(
        lambda: preheat(folder, "record", "--from", file, "--cache", "c", "--state-dir", f"state-{file}")
    )
    told = f"record {file}: {LINES / seconds:,.0f} lines/s, {compared(folder / file, seconds)}"
    verdict(told, f"at least {LEAST_LINES_PER_SECOND:,} lines/s", LINES / seconds >= LEAST_LINES_PER_SECOND)


def compared(path: Path, seconds: float) -> str:
    counting = seconds_of(lambda: subprocess.run(["wc", "-l", path], check=True, capture_output=True))
    text = f"{seconds / counting:,.0f} x wc -l"
    if path.suffix == ".jsonl":
        text += (
            f", {seconds / seconds_of(lambda: [json.loads(line) for line in path.open()]):.1f} x a loop of json.loads"
        )
    return text


def transfer(folder: Path) -> None:
    preheat(folder, "history", "export", "h.jsonl", "--state-dir", "state-a.csv")
    lines = sum(1 for _ in (folder / "h.jsonl").open())
    seconds = seconds_of(lambda: preheat(folder, "history", "import", "h.jsonl", "--state-dir", "other"))
    loop = seconds_of(lambda: [json.loads(line) for line in (folder / "h.jsonl").open()])
    print(f"import: {lines:,} lines in {seconds:.2f} s, start included, {seconds / loop:.1f} x a loop of json.loads")


def merge() -> None:
    older, newer = history(0, 1), history(KEYS // 2, 2)
    numbers = np.random.default_rng(3).integers(0, 2**60, 2 * KEYS)
    sorting = min(seconds_of(lambda: np.argsort(numbers)) for _ in range(3))
    merging = min(seconds_of(lambda: merge_histories(older, newer, max_items=2 * KEYS)) for _ in range(3))
    told = f"merge of twice {KEYS:,} keys, half of them the same: {merging:.2f} s, {merging / sorting:.1f} x argsort"
    verdict(told, f"at most {MOST_MERGE_RATIO:g} x", merging / sorting <= MOST_MERGE_RATIO)


def history(first: int, seed: int) -> History:
    rng, at = np.random.default_rng(seed), 2e9 + seed
    return History(
        at=at,
        since=1.0,
        half_lives=(600.0, 21_600.0, 604_800.0),
        caches=("c",),
        cache=np.zeros(KEYS, np.int16),
        keys=TextColumn.of(f"item/{7919 * n}/page" for n in range(first, first + KEYS)),
        counts=rng.random((KEYS, 3), np.float32),
        last_at=at - 1e5 * rng.random(KEYS),
        gaps=rng.random((KEYS, 4), np.float32),
        size_bytes=rng.integers(1, 10**6, KEYS),
        load_seconds=rng.random(KEYS, np.float32),
        versions=TextColumn.of("v1" for _ in range(KEYS)),
        recipes=TextColumn.of("" for _ in range(KEYS)),
        hits=np.array([1]),
        misses=np.array([1]),
        trail=rng.integers(0, KEYS, 2**20).astype(np.int32),
        trail_at=np.sort(at - 1e5 * rng.random(2**20)),
    )


def preheat(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "preheat.cli", *arguments], cwd=folder, check=True, capture_output=True)


def seconds_of(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def verdict(told: str, target: str, met: bool) -> None:
    print(f"{told}  [target: {target}: {'met' if met else 'not met'}]")


if __name__ == "__main__":
    main()
