"""What a kept item weighs: estimates against the real growth of a process.

For each kind a fresh process keeps many items in a dict and measures how its private memory grows; then a sample of
them is estimated.  `python bench/sizes.py [--items N] [--kind NAME ...]`
"""

import argparse
import json
import random
import statistics
import string
import subprocess
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SAMPLE = 20_000
TEXT = string.ascii_letters + string.digits + "    .,_"
CYRILLIC = "абвгдежзийклмнопрстуфхцчшщъыьэюя "


def text(rng: random.Random, low: int, high: int, alphabet: str = TEXT) -> str:
    return "".join(rng.choices(alphabet, k=rng.randint(low, high)))


@dataclass(slots=True)
class SlottedRow:
    name: str
    language: str
    size: int
    score: float
    seen: bool


@dataclass
class PlainRow:
    name: str
    language: str
    size: int
    score: float
    seen: bool


class NamedRow(NamedTuple):
    name: str
    size: int
    score: float


@dataclass(slots=True)
class Symbol:
    name: str
    kind: str
    line: int
    end: int
    children: list["Symbol"]


@dataclass(slots=True)
class ParsedFile:
    path: str
    text: str
    symbols: list[Symbol]


def symbol(rng: random.Random, depth: int) -> Symbol:
    line = rng.randint(1, 5000)
    children = [symbol(rng, depth - 1) for _ in range(rng.randint(0, 4))] if depth else []
    kind = "class" if children else "function"
    return Symbol(text(rng, 5, 30), kind, line, line + rng.randint(1, 300), children)


def parsed_file(rng: random.Random, n: int) -> ParsedFile:
    symbols = [symbol(rng, 2) for _ in range(rng.randint(2, 10))]
    return ParsedFile(f"src/package_{n}/module.py", text(rng, 500, 4000), symbols)


def document(rng: random.Random) -> str:
    return json.dumps(
        {
            "id": rng.randrange(10**9),
            "title": text(rng, 20, 80),
            "tags": [text(rng, 4, 12) for _ in range(rng.randint(0, 8))],
            "author": {"name": text(rng, 8, 30), "mail": None, "active": True},
            "revisions": [
                {"at": rng.random() * 1e9, "by": text(rng, 5, 12), "size": rng.randrange(10**6)}
                for _ in range(rng.randint(1, 20))
            ],
            "body": text(rng, 200, 3000),
        }
    )


def search_result(rng: random.Random) -> list[dict[str, object]]:
    return [
        {
            "path": f"src/{text(rng, 5, 20)}/{text(rng, 5, 20)}.py",
            "line": rng.randint(1, 5000),
            "score": rng.random(),
            "language": "python",
            "snippet": text(rng, 40, 200),
        }
        for _ in range(rng.randint(3, 20))
    ]


def fields(rng: random.Random) -> dict[str, object]:
    return {
        "name": text(rng, 5, 40),
        "language": "python",
        "size": rng.randrange(10**6),
        "score": rng.random(),
        "seen": True,
    }


COLUMNS = ["identifier", "name", "weight"]  # as a reader of rows shares them: neither interned nor of one item
SLAB = np.zeros((1, 384), np.float32)

# kind: (items per item asked for, how one is made)
KINDS: dict[str, tuple[float, Callable[[random.Random, int], object]]] = {
    "ASCII text": (1, lambda r, n: text(r, 20, 600)),
    "non-ASCII text": (1, lambda r, n: text(r, 20, 400, CYRILLIC)),
    "bytes": (1, lambda r, n: b"x" * r.randint(50, 2000)),
    "bytes of 100-400 KB": (0.01, lambda r, n: b"x" * r.randint(100_000, 400_000)),
    "list of 96 floats": (0.5, lambda r, n: [r.random() for _ in range(96)]),
    "list of 50 ints": (0.5, lambda r, n: [r.randrange(10**6) for _ in range(50)]),
    "numpy array of its own": (1, lambda r, n: np.full(384, 1.0, np.float32)),
    "numpy row of a slab": (2, lambda r, n: SLAB[n % len(SLAB)]),
    "dict of fields": (1, lambda r, n: fields(r)),
    "dict of shared columns": (1, lambda r, n: dict(zip(COLUMNS, (n, text(r, 5, 40), r.random()), strict=True))),
    "dict by number": (0.2, lambda r, n: {r.randrange(10**9): r.random() for _ in range(r.randint(1, 40))}),
    "slotted dataclass": (1, lambda r, n: SlottedRow(text(r, 5, 40), "python", n, r.random(), True)),
    "plain dataclass": (1, lambda r, n: PlainRow(text(r, 5, 40), "python", n, r.random(), True)),
    "named tuple": (1, lambda r, n: NamedRow(text(r, 5, 40), n, r.random())),
    "tuple of texts": (1, lambda r, n: tuple(text(r, 5, 40) for _ in range(5))),
    "set of texts": (0.2, lambda r, n: {text(r, 5, 40) for _ in range(r.randint(1, 40))}),
    "nested JSON document": (0.1, lambda r, n: json.loads(document(r))),
    "flat JSON record": (1, lambda r, n: json.loads(json.dumps(fields(r)))),
    "tree of a parsed file": (0.05, parsed_file),
    "search result": (0.1, lambda r, n: search_result(r)),
    "ordered dict": (0.5, lambda r, n: OrderedDict((f"{k}_{n}", r.random()) for k in range(8))),
    "deque of floats": (0.2, lambda r, n: deque(r.random() for _ in range(60))),
}


def private_bytes() -> int:
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private_"))


def measure(kind: str, items: int) -> dict[str, float]:
    """Runs in a process of its own."""
    import gc

    from pympler import asizeof

    from preheat._size import estimate_item_memory_usage

    global SLAB, COLUMNS
    share, make = KINDS[kind]
    count = max(200, int(items * share))
    if "slab" in kind:
        SLAB = np.ones((count, 384), np.float32)
    COLUMNS = ["".join((name, "_")) for name in COLUMNS]
    rng = random.Random(1)
    asizeof.asizeof([])  # its first call is slow
    # fills the holes that importing left, which would take in the first items for nothing
    filling = {f"fill-{n:08d}": make(rng, n) for n in range(count // 20)}
    gc.collect()
    before = private_bytes()
    kept = {}
    for n in range(count):
        kept[f"item-{n:08d}"] = make(rng, n)
    gc.collect()
    grown = (private_bytes() - before) / count
    sample = [(k, kept[k]) for k in rng.sample(list(kept), min(SAMPLE, count))]
    del filling

    slot = 104
    estimators = {
        "ours": lambda key, value: estimate_item_memory_usage(value, key=key),
        "getsizeof": lambda key, value: slot + sys.getsizeof(value),
        "pympler": lambda key, value: slot + asizeof.asizeof(value),
    }
    row: dict[str, float] = {"items": count, "bytes": grown}
    for name, estimate in estimators.items():
        started = time.perf_counter()
        try:
            mean = statistics.fmean(estimate(key, value) for key, value in sample)
        except ValueError:  # pympler on views of a slab
            mean = float("nan")
        row[f"{name} us"] = (time.perf_counter() - started) / len(sample) * 1e6
        row[f"{name} %"] = (mean / grown - 1) * 100
    return row


def run(kind: str, items: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", kind, "--items", str(items)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000, help="of the smallest kinds; fewer of big ones")
    parser.add_argument("--kind", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.items)))
        return
    print(f"{'':24}{'':>8}{'':>10}   error, %{'':25}us per item")
    names = ("ours", "getsizeof", "pympler")
    head = "".join(f"{name:>11}" for name in names)
    print(f"{'kind':24}{'items':>8}{'bytes':>10} {head} {head}")
    errors: dict[str, list[float]] = {name: [] for name in names}
    for kind in options.kind:
        row = run(kind, options.items)
        for name in names:
            errors[name].append(abs(row[f"{name} %"]))
        print(
            f"{kind:24}{row['items']:8.0f}{row['bytes']:10.1f} "
            + "".join(f"{row[f'{name} %']:11.1f}" for name in names)
            + " "
            + "".join(f"{row[f'{name} us']:11.1f}" for name in names),
            flush=True,
        )
    for label, summary in (("median of |error|", statistics.median), ("worst", max)):
        known = {name: [error for error in errors[name] if error == error] for name in names}
        print(f"{label:43}" + "".join(f"{summary(known[name]):11.1f}" for name in names))


if __name__ == "__main__":
    main()
