"""What remembering costs: starting and folding beside a million and ten million known items, and bytes held.

Batches of 10,000 accesses, a tenth of them misses, by Zipf's law over items in a random order, go into a history; the
same keys go into a `collections.Counter`, which remembers nothing but numbers.  The rate is the median of ten parts
of the run, and that of all is printed beside it: on a virtual machine whatever reads memory here and there may now
and then take ten times as long for a second, though nothing happens inside of it.  A start is measured with the first
fold, which has to find its rows, against `np.argsort` of as many hashes.  Seconds are the processor's, so that what
else the machine does counts little.  Memory is what the process grew by.  All in one run, of less than two minutes
and 6 GiB.
`python bench/history.py [--items N,N] [--accesses N] [--exponent X]`
"""

import argparse
import gc
import resource
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
from preheat._history.builder import GROWTH
from preheat._model import AccessBatch, History

BATCH = 10_000
PARTS = 10
MISS_RATIO = 0.1  # of the accesses, each with a load
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
        shuffled = random.permutation(len(asked))  # keys come as they are asked for, not sorted
        keys = list(dict.fromkeys(keys_of(asked[shuffled])))  # as a drain hands them over: their hashes are known
        yield batch_of(keys, np.argsort(shuffled)[row], random.random(BATCH) >= MISS_RATIO, 1e9 + n / 300)


def batch_of(keys: list[str], row: np.ndarray, hits: np.ndarray, at: float) -> AccessBatch:
    loaded = np.zeros(len(keys), np.bool_)
    loaded[row[~hits]] = True
    versions = ["1764153267000000000-5120" if is_loaded else "" for is_loaded in loaded.tolist()]
    recipes = [key if is_loaded else "" for key, is_loaded in zip(keys, loaded.tolist(), strict=True)]
    seconds = np.where(loaded, 0.02, -1.0)
    return AccessBatch("files", at, keys, row, hits, np.where(loaded, 5120, -1), seconds, versions, recipes)


def seconds(act: Callable[[], object]) -> float:
    started = time.thread_time()
    act()
    return time.thread_time() - started


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


def told(what: str, met: bool) -> bool:
    print(f"{what}: {'met' if met else 'not met'}", flush=True)
    return met


def measure_start(past: History) -> tuple[HistoryBuilder, bool]:
    """A builder that has folded once, and whether it got there in time."""
    items = len(past)
    batch = next(batches(items, BATCH, 1.0))
    started = time.thread_time()
    builder = HistoryBuilder(past, max_items=items)
    made = time.thread_time() - started
    builder.fold(batch)
    folded = time.thread_time() - started
    numbers = np.random.default_rng(2).integers(0, 2**63, items)
    sorting = seconds(lambda: np.argsort(numbers))
    most = MOST_START_SECONDS_PER_ITEM * items
    return builder, told(
        f"start with {items:,} items: {made * 1e3:.2f} ms, with the first fold {folded:.2f} s,"
        f" {folded / sorting:.1f} x np.argsort of as many (target: at most {most:g} s)",
        folded <= most,
    )


def measure_fold(builder: HistoryBuilder, accesses: int, exponent: float) -> bool:
    items, taken, counting, distinct = len(builder), [], [], []
    counter = Counter[str]()
    for batch in batches(items, accesses, exponent):
        asked = [batch.keys[row] for row in batch.row.tolist()]
        taken.append(seconds(lambda b=batch: builder.fold(b)))
        counting.append(seconds(lambda a=asked: counter.update(a)))
        distinct.append(len(batch.keys))
    rate = BATCH * statistics.median(len(part) / sum(part) for part in np.array_split(taken, PARTS))
    return told(
        f"fold of {accesses:,} accesses beside {items:,} items, {statistics.mean(distinct):,.0f} distinct in {BATCH:,}:"
        f" {rate / 1e6:.2f} M/s, {BATCH * len(taken) / sum(taken) / 1e6:.2f} M/s in all,"
        f" {sum(taken) / sum(counting):.2f} x Counter.update, median"
        f" {statistics.median(taken) * 1e3:.1f} ms, longest {max(taken) * 1e3:.0f} ms"
        f" (target: at least {LEAST_RATE / 1e6:g} M/s)",
        rate >= LEAST_RATE,
    )


def tell_of_looking(builder: HistoryBuilder) -> None:
    """What a flush, a plan, and the first fold after it pay."""
    changes = builder.changes()
    again = next(batches(len(builder), BATCH, 1.0))
    builder.fold(again)
    looked = seconds(builder.changes)
    texts = seconds(builder.history)
    shown = seconds(builder.history)
    moved = seconds(lambda: builder.fold(again))
    print(
        f"  changes() of {len(again.keys):,} rows {looked * 1e3:.1f} ms; history() {shown * 1e3:.2f} ms, {texts:.2f} s"
        f" where texts have changed; the fold after it {moved * 1e3:.0f} ms",
        flush=True,
    )
    del changes


def tell_of_dropping(past: History) -> None:
    """What it takes to drop a fifth of the items, and how long a thread that never rests is kept waiting meanwhile."""
    items = len(past)
    builder = HistoryBuilder(past, max_items=int(items / GROWTH) - 1)
    batch = next(batches(items, BATCH, 1.0))
    builder._index.find(0, batch.keys)  # sorted before, so that only dropping is timed
    with Pulse() as idle:
        time.sleep(1.0)
    with Pulse() as pulse:
        took = seconds(lambda: builder.fold(batch))
    print(
        f"  dropping {items - len(builder):,} of {items:,} items: {took:.2f} s beside a thread that never rests,"
        f" which waited {pulse.longest * 1e3:.0f} ms at most, {idle.longest * 1e3:.0f} ms alone",
        flush=True,
    )


def measure(items: int, accesses: int, exponent: float) -> bool:
    before = resident_bytes()
    past = known(items)
    builder, started = measure_start(past)
    key_bytes = len(past.keys.blob) / items
    del past
    grown = (resident_bytes() - before) / items
    print(f"  {grown:.0f} bytes per item in memory, of which {key_bytes:.0f} are its key", flush=True)
    folded = measure_fold(builder, accesses, exponent)
    tell_of_looking(builder)
    tell_of_dropping(builder.history())
    return started and folded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", default="1000000,10000000")
    parser.add_argument("--accesses", type=int, default=10_000_000)
    parser.add_argument("--exponent", type=float, default=1.0, help="of Zipf's law")
    options = parser.parse_args()
    met = [measure(int(items), options.accesses, options.exponent) for items in options.items.split(",")]
    print(f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB resident")
    sys.exit(not all(met))


if __name__ == "__main__":
    main()
