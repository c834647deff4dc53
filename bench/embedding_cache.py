"""What an entry of an embedding cache costs, and how fast it is read, against other ways to keep vectors.

python bench/embedding_cache.py [--entries N] [--repeats N]       exits with 1 if a target is missed

Each kind is filled in a process of its own, whose growth (RSS) is divided by its entries; keys are texts, and belong
to what an entry costs where the kind keeps them.  Reads are medians of interleaved repeats over texts that are made
anew for each, as requests bring them.  A raw gather is `matrix.take(rows)` with known rows, the limit for a batch.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from functools import partial

import numpy as np

from preheat.caches import EmbeddingCache

WIDTH, BATCH = 384, 1000
RAW_BYTES = 4 * WIDTH
LISTS = 10_000  # entries of lists of floats, which are eight times as large
KINDS = ["dict of lists", "dict of arrays", "cachetools", "theine", "float32", "float16", "int8"]
missed: list[str] = []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(growth(options.measure, options.entries)))
        return 0
    memory(options.entries)
    errors()
    reads(options.entries, options.repeats)
    return bool(missed)


def text(n: int) -> str:
    return f"the text of item {n} of the corpus, as long as a short question is"


def encode(texts) -> np.ndarray:
    return np.stack([np.random.default_rng(len(t)).standard_normal(WIDTH, np.float32) for t in texts])


def fill(kind: str, entries: int):
    """A cache of `entries` vectors, and what reads one and many of them."""
    vectors = ((text(n), np.full(WIDTH, n, np.float32)) for n in range(entries))
    if kind in ("float32", "float16", "int8"):
        cache = EmbeddingCache(
            lambda texts: np.full((len(texts), WIDTH), 0.5, np.float32),
            model="m",
            capacity_bytes=2 * RAW_BYTES * entries,
            dtype=kind,
        )
        for start in range(0, entries, BATCH):
            cache.get_many([text(n) for n in range(start, min(start + BATCH, entries))])
        return cache, cache.get, cache.get_many
    if kind == "dict of lists":
        held = {key: vector.tolist() for key, vector in vectors}
        return held, held.get, lambda texts: np.array([held[t] for t in texts], np.float32)
    if kind == "dict of arrays":
        held = dict(vectors)
        return held, held.get, lambda texts: np.stack([held[t] for t in texts])
    if kind == "cachetools":
        import cachetools

        held = cachetools.LRUCache(entries)
        held.update(vectors)
        return held, held.__getitem__, lambda texts: np.stack([held[t] for t in texts])
    from theine import Cache

    held = Cache(entries + entries // 10)
    for key, vector in vectors:
        held.set(key, vector)
    return held, lambda t: held.get(t)[0], lambda texts: np.stack([held.get(t)[0] for t in texts])


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def growth(kind: str, entries: int) -> float:
    fill(kind, 2 * BATCH)  # what a batch needs for a moment is no part of the entries
    before = resident_bytes()
    held = fill(kind, entries)
    grown = resident_bytes() - before
    items = len(held[0])
    return grown / items


def memory(entries: int) -> None:
    print(f"bytes per entry of {WIDTH} numbers, keys included ({RAW_BYTES} of them are a raw float32 vector)")
    for kind in KINDS:
        count = LISTS if kind == "dict of lists" else entries
        command = [sys.executable, __file__, "--measure", kind, "--entries", str(count)]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        if shown.returncode:
            print(f"  {kind:16} not measured: {(shown.stderr.strip().splitlines() or ['?'])[-1]}")
            continue
        per_entry = json.loads(shown.stdout)
        print(f"  {kind:16} {per_entry:9.0f}   {per_entry / RAW_BYTES:5.2f} x")
        if kind in TARGETS:
            tell(f"{kind}: bytes per entry over those of a raw float32 vector", per_entry / RAW_BYTES, TARGETS[kind])


TARGETS = {"float32": 1.15, "float16": 0.65, "int8": 0.4}


def errors() -> None:
    original = np.random.default_rng(1).standard_normal((2000, WIDTH)).astype(np.float32)
    original /= np.linalg.norm(original, axis=1, keepdims=True)
    for dtype, most in (("float16", 1e-6), ("int8", 1e-4)):
        cache = EmbeddingCache(lambda texts: original, model="m", capacity_bytes=10**8, dtype=dtype)
        read = cache.get_many([text(n) for n in range(len(original))])
        lengths = np.linalg.norm(read, axis=1) * np.linalg.norm(original, axis=1)
        cosine = ((read * original).sum(axis=1) / lengths).min()
        largest = (np.abs(read - original).max(axis=1) / np.abs(original).max(axis=1)).max()
        print(f"  {dtype}: largest error of a number {largest:.5f} of the vector's largest, worst cosine {cosine:.7f}")
        tell(f"{dtype}: 1 - worst cosine to the original", float(1 - cosine), most)


def reads(entries: int, repeats: int) -> None:
    matrix = np.full((entries, WIDTH), 0.5, np.float32)
    kinds = [kind for kind in KINDS if kind != "dict of lists"]
    caches, single, many = {}, {}, {"raw gather": []}
    for kind in kinds:
        try:
            caches[kind] = fill(kind, entries)
        except ImportError:
            print(f"  {kind}: not installed")
            continue
        single[kind], many[kind] = [], []
    draw = random.Random(1)
    for _ in range(repeats):
        rows = draw.sample(range(entries), BATCH)
        many["raw gather"].append(seconds(partial(matrix.take, np.array(rows), 0)))
        for kind, (_, get, _) in caches.items():
            fresh = [text(n) for n in rows]
            single[kind].append(seconds(lambda get=get, fresh=fresh: [get(t) for t in fresh]) / BATCH)
        rows = draw.sample(range(entries), BATCH)
        for kind, (_, _, get_many) in caches.items():
            fresh = [text(n) for n in rows]
            many[kind].append(seconds(partial(get_many, fresh)))
    raw = statistics.median(many["raw gather"])
    print(f"reads: one at a time, and {BATCH:,} at once over a raw gather")
    for kind in caches:
        one, batch = statistics.median(single[kind]), statistics.median(many[kind])
        print(f"  {kind:16} {1 / one:11,.0f} lookups/s   {batch / raw:6.2f} x")
    tell(f"float32: {BATCH:,} keys at once over a raw gather", statistics.median(many["float32"]) / raw, 3.2)
    if "theine" in single:
        ratio = statistics.median(single["float32"]) / statistics.median(single["theine"])
        tell("float32: one key over a get of theine", ratio, 3.0)


def seconds(act) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def tell(what: str, value: float, most: float) -> None:
    if value > most:
        missed.append(what)
    print(f"{'met    ' if value <= most else 'NOT MET'}  {what}: {value:.3g} (at most {most:g})")


if __name__ == "__main__":
    raise SystemExit(main())
