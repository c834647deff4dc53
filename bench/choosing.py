"""Choosing what to warm out of a million histories with a trained model, as a ratio to sorting in the same run.

`python bench/choosing.py [--accesses N] [--items N] [--runs N]`      exits with 1 if a target is missed

The trail is a synthetic one: items asked for independently, by a power of their rank, with lognormal sizes, and a
cache that holds a tenth of all bytes.  What is measured begins with a trail that nobody has looked at yet and ends with
the order in which its items are to be loaded, at a budget of the whole capacity.
"""

import argparse
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from preheat._choose import _select
from preheat._predict.blend import Model, pool_name, present, train_model
from preheat._predict.forecast import number_by_appearance
from preheat._predict.trail import Trail

MOST_SECONDS = 2.0
MOST_BYTES = 10**9
EXPONENT = 0.8
CAPACITY_RATIO = 0.1


class Case(NamedTuple):
    """What was asked for, and the cache."""

    items: np.ndarray
    times: np.ndarray
    size_bytes: np.ndarray
    capacity_bytes: int

    def trail(self) -> Trail:
        """A trail that has not been looked at."""
        return Trail(self.items, self.times, self.size_bytes)


def case(accesses: int, population: int, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    shares = np.cumsum(np.arange(1, population + 1) ** -EXPONENT)
    ranks = np.searchsorted(shares, rng.random(accesses) * shares[-1])
    items, order = number_by_appearance(ranks, population)
    size_bytes = np.maximum(1, rng.lognormal(8.0, 1.5, len(order))).astype(np.int64)
    times = np.cumsum(rng.exponential(0.1, accesses))
    return Case(items, times, size_bytes, int(CAPACITY_RATIO * size_bytes.sum()))


def choose_trained(given: Case, model: Model) -> np.ndarray:
    """The items to load, in order."""
    trail = given.trail()
    moment = present(trail, given.capacity_bytes)
    return _select(moment.last, trail.size_bytes, model.chance(moment), given.capacity_bytes)


def seconds(act: Callable[[], object], times: int) -> float:
    """The shortest of `times` runs: what others do at the time only ever adds to it."""
    best = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        act()
        best = min(best, time.perf_counter() - began)
    return best


def peak_bytes(act: Callable[[], object]) -> int:
    """The most memory held at once beyond what was there before."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    act()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak - before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accesses", type=int, default=4_000_000, help="length of the trail (default 4,000,000)")
    parser.add_argument(
        "--items", type=int, default=1_500_000, help="items that could be asked for (default 1,500,000)"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs, of which the shortest counts (default 3)")
    arguments = parser.parse_args()
    given = case(arguments.accesses, arguments.items)
    print(f"{len(given.items):,} accesses to {len(given.size_bytes):,} items")

    began = time.perf_counter()
    model = train_model(given.trail(), given.capacity_bytes)
    training = time.perf_counter() - began
    print(f"training: {training:.1f} s; the pool is {pool_name(model.pool)}")

    column = np.random.default_rng(1).random(1_000_000)
    sorting = seconds(lambda: np.argsort(column), 7)
    choosing = seconds(lambda: choose_trained(given, model), arguments.runs)
    peak = peak_bytes(lambda: choose_trained(given, model))
    print(f"choosing: {choosing:.2f} s, {choosing / sorting:.0f} x np.argsort of 1M float64; target {MOST_SECONDS:g} s")
    print(f"choosing: {peak / 1e6:.0f} MB beyond the input; target {MOST_BYTES / 1e6:.0f} MB")
    return 0 if choosing <= MOST_SECONDS and peak <= MOST_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
