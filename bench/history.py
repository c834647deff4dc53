"""What remembering costs: folding accesses beside a million and ten million known items, starting, and bytes held.

Batches of 10,000 accesses, by Zipf's law over items in a random order, go into a history and the same keys into a
`collections.Counter`, which remembers nothing but numbers.  Starting is measured up to the first fold and with it,
against `np.argsort` of as many hashes; bytes are what the process grew by.  All in one run; needs about 5 GB.
`python bench/history.py [--items N,N] [--accesses N] [--exponent X]`
"""

import argparse
import gc
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import psutil

from preheat._columns import TextColumn
from preheat._history import HALF_LIVES, HistoryBuilder, empty_history
from preheat._model import AccessBatch, History

BATCH = 10_000
LEAST_RATE = 3e6  # accesses per second
MOST_START_SECONDS_PER_ITEM = 3e-7


def keys_of(items: np.ndarray) -> TextColumn:
    """`project/module_12345.py` for each of `items`."""
    head, tail, digits = b"project/module_", b".py", 8
    blob = np.tile(np.frombuffer(head + b"0" * digits + tail, np.uint8), (len(items), 1))
    for place in range(digits):
        blob[:, len(head) + place] += (items // 10 ** (digits - 1 - place) % 10).astype(np.uint8)
    needed = np.ones(blob.shape, np.bool_)
    for place in range(digits - 1):
        needed[:, len(head) + place] = items >= 10 ** (digits - 1 - place)
    offsets = np.zeros(len(items) + 1, np.int64)
    np.cumsum(np.count_nonzero(needed, axis=1), out=offsets[1:])
    return TextColumn(blob[needed], offsets)


def known(items: int) -> History:
    """A history of `items` items as it is after a load."""
    random = np.random.default_rng(0)
    none = TextColumn(np.empty(0, np.uint8), np.zeros(items + 1, np.int64))
    past = empty_history()
    return History(
        at=1e9,
        since=1e9 - 1e6,
        half_lives=past.half_lives,
        caches=("files",),
        cache=np.zeros(items, np.int16),
        keys=keys_of(np.arange(items)),
        counts=random.random((items, len(HALF_LIVES)), np.float32),
        last_at=1e9 - 1e6 * random.random(items),
        gaps=np.full((items, past.gaps.shape[1]), np.nan, np.float32),
        size_bytes=np.full(items, 1000),
        load_seconds=np.full(items, 0.01, np.float32),
        versions=none,
        recipes=none,
        hits=np.array([items]),
        misses=np.array([items]),
    )


def batches(items: int, accesses: int, exponent: float) -> Iterator[AccessBatch]:
    random = np.random.default_rng(1)
    shares = np.cumsum(np.arange(1.0, items + 1) ** -exponent)
    item_of = random.permutation(items)
    for n in range(accesses // BATCH):
        ranks = np.searchsorted(shares, random.random(BATCH) * shares[-1])
        asked, row = np.unique(item_of[ranks], return_inverse=True)
        first = np.argsort(random.random(len(asked)))  # keys come in the order of their first access, not sorted
        place = np.empty_like(first)
        place[first] = np.arange(len(first))
        keys = list(dict.fromkeys(keys_of(asked[first])))  # as a drain hands them over: their hashes are known
        blank = [""] * len(keys)
        none = np.full(len(keys), -1)
        hits = np.ones(BATCH, np.bool_)
        yield AccessBatch("files", 1e9 + n / 300, keys, place[row], hits, none, none.astype(np.float64), blank, blank)


def seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def resident_bytes() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


class Pulse:
    """A thread that does nothing but see how long it is kept from doing it."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._going = True
        self._thread = threading.Thread(target=self._beat)

    def __enter__(self) -> "Pulse":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._going = False
        self._thread.join()

    def _beat(self) -> None:
        last = time.perf_counter()
        while self._going:
            now = time.perf_counter()
            self.longest, last = max(self.longest, now - last), now


def verdict(met: bool) -> str:
    return "met" if met else "not met"


def measure(items: int, accesses: int, exponent: float) -> bool:
    past = known(items)
    before = resident_bytes()
    holder: list[HistoryBuilder] = []
    start = seconds(lambda: holder.append(HistoryBuilder(past, max_items=items)))
    builder = holder[0]
    counter = Counter[str]()
    taken, counting, distinct, first = [], [], [], 0.0
    for batch in batches(items, accesses, exponent):
        asked = [batch.keys[row] for row in batch.row.tolist()]
        took = seconds(lambda b=batch: builder.fold(b))
        if not first:
            first = took
            grown = resident_bytes() - before
            continue
        taken.append(took)
        counting.append(seconds(lambda a=asked: counter.update(a)))
        distinct.append(len(batch.keys))
    rate = BATCH * len(taken) / sum(taken)
    print(
        f"fold beside {items:,} items, {statistics.mean(distinct):,.0f} distinct of {BATCH:,}: {rate / 1e6:.2f} M/s,"
        f" {sum(taken) / sum(counting):.2f} x Counter.update, median {statistics.median(taken) * 1e3:.1f} ms, longest"
        f" {max(taken) * 1e3:.1f} ms (target: at least {LEAST_RATE / 1e6:g} M/s): {verdict(rate >= LEAST_RATE)}"
    )
    numbers = np.random.default_rng(2).integers(0, 2**63, items)
    sorting = seconds(lambda: np.argsort(numbers))
    most = MOST_START_SECONDS_PER_ITEM * items
    print(
        f"start with {items:,} items: {start * 1e3:.2f} ms, with the first fold {start + first:.2f} s,"
        f" {(start + first) / sorting:.1f} x np.argsort (target: at most {most:g} s): {verdict(start + first <= most)}"
    )
    shown = seconds(builder.history)
    print(f"bytes per item: {grown / items:.0f} more; history() takes {shown * 1e3:.2f} ms")
    return rate >= LEAST_RATE and start + first <= most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", default="1000000,10000000")
    parser.add_argument("--accesses", type=int, default=10_000_000)
    parser.add_argument("--exponent", type=float, default=1.0, help="of Zipf's law")
    options = parser.parse_args()
    met = [measure(int(items), options.accesses, options.exponent) for items in options.items.split(",")]
    sys.exit(not all(met))


if __name__ == "__main__":
    main()
