"""What folding accesses into history costs, with and without the trail of the newest accesses.

The same batches go into a history that keeps the trail, into one that keeps none, and into a `collections.Counter`.
Fails if the trail makes folding slower by more than a quarter.  The trail is full in half of the rounds, so that its
moves are among what is measured.
`python bench/history_fold.py [--accesses N] [--items N] [--rounds N]`
"""

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from preheat._history import TRAIL_LIMIT, HistoryBuilder
from preheat._model import AccessBatch

HIGHEST_RATIO = 1.25


def batch_of(drawn: np.ndarray, at: float) -> AccessBatch:
    items, row = np.unique(drawn, return_inverse=True)
    keys = [f"project/module_{n}.py" for n in items.tolist()]
    none = np.full(len(keys), -1)
    blank = [""] * len(keys)
    return AccessBatch("files", at, keys, row, np.ones(len(row), bool), none, none.astype(float), blank, blank)


def seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accesses", type=int, default=10_000, help="of one fold")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2 * TRAIL_LIMIT // 10_000)
    options = parser.parse_args()
    with_trail, without, counter = HistoryBuilder(), HistoryBuilder(max_trail=0), Counter[str]()
    random = np.random.default_rng(1)
    taken: dict[str, list[float]] = {"with": [], "without": [], "counter": []}
    for n in range(options.rounds):
        batch = batch_of((random.zipf(1.2, options.accesses) - 1) % options.items, float(n))
        keys = [batch.keys[row] for row in batch.row.tolist()]
        taken["with"].append(seconds(lambda b=batch: with_trail.fold(b)))
        taken["without"].append(seconds(lambda b=batch: without.fold(b)))
        taken["counter"].append(seconds(lambda k=keys: counter.update(k)))
    ratio = sum(taken["with"]) / sum(taken["without"])
    beside_counter = sum(taken["with"]) / sum(taken["counter"])
    print(
        f"fold of {options.accesses} accesses: {ratio:.2f} times that without the trail (target: at most"
        f" {HIGHEST_RATIO}), {beside_counter:.2f} times Counter.update; median"
        f" {statistics.median(taken['with']) * 1e3:.2f} ms, longest {max(taken['with']) * 1e3:.2f} ms"
    )
    sys.exit(ratio > HIGHEST_RATIO)


if __name__ == "__main__":
    main()
