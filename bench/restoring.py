"""Restoring a snapshot: vectors and documents, against copying memory, pickle, and reading the file cold.

python bench/restoring.py [--mb N]          exits with 1 if a target is missed

Every figure is the median of five runs, each beside its peer in the same run; checksums are verified in all of them.
"Lazily" verifies every block and decodes nothing; "eagerly" finds and decodes every value, one by one, as reads and
warm-ups ask for them.  Beside dicts stands what they cost whoever makes them: the decoder alone, and dicts made of
parts that are there already, which no decoder can go below.
"""

import argparse
import os
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from preheat._model import HeldValue
from preheat._snapshot import CacheSnapshot, Rules, SnapshotFolder
from preheat.codecs import DocumentCodec, VectorCodec

WIDTH = 384
RUNS = 5
RULES = Rules(limit_bytes=2**40)


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def medians(*works: Callable[[], object]) -> list[float]:
    """The median time of each, one after the other in each run."""
    runs = [[seconds_of(work) for work in works] for _ in range(RUNS)]
    return [statistics.median(times) for times in zip(*runs, strict=True)]


def vectors(size_bytes: int) -> list[HeldValue]:
    rng = np.random.default_rng(0)
    held = []
    for n in range(size_bytes // (4 * WIDTH)):
        vector = rng.random(WIDTH, np.float32)
        vector.flags.writeable = False
        held.append(HeldValue(f"{n:032x}", "model 1", vector, 1721, time.time()))
    return held


@dataclass(slots=True)
class Hit:
    path: str
    line: int
    score: float
    text: str


@dataclass(slots=True)
class Results:
    query: str
    hits: list[Hit]


def documents(size_bytes: int) -> list[HeldValue]:
    rng = np.random.default_rng(0)
    words = ["".join(chr(97 + letter) for letter in rng.integers(0, 26, 6)) for _ in range(5000)]

    def hit(n: int) -> Hit:
        text = " ".join([words[k] for k in rng.integers(0, len(words), 10).tolist()])
        return Hit(f"src/module_{n % 997}.py", n, float(rng.random()), text)

    each = 10 * 110
    return [
        HeldValue(f"query {n}", "7", Results(f"query {n}", [hit(10 * n + k) for k in range(10)]), 4000, time.time())
        for n in range(size_bytes // each)
    ]


def as_plain(held: list[HeldValue]) -> list[HeldValue]:
    """The same as dicts."""
    return [value._replace(value=asdict(value.value)) for value in held]


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.values"))


def drop_from_page_cache(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def read_through(path: Path) -> None:
    """A sequential read into one buffer, as fast as the page cache or the disk gives it."""
    buffer = bytearray(1 << 20)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


class Saved:
    """A snapshot in a folder, and how it is opened anew."""

    def __init__(self, folder: Path, codec: Any, held: list[HeldValue]) -> None:
        self.folder, self.codec = folder, codec
        self.open().save(lambda: held)
        (self.file,) = files_of(folder)
        self.size_bytes = self.file.stat().st_size
        read_through(self.file)

    def open(self) -> CacheSnapshot:
        return CacheSnapshot(SnapshotFolder(self.folder), "bench", self.codec, RULES)

    def verify(self) -> None:
        assert self.open().verify() == 0

    def find_all(self, keys: list[str], version: str) -> None:
        snapshot = self.open()
        for key in keys:
            assert snapshot.find(key, version) is not None

    def copier(self) -> Callable[[], None]:
        """Copies as many bytes from memory to memory, both warm."""
        source, target = np.ones(self.size_bytes, np.uint8), np.ones(self.size_bytes, np.uint8)
        return lambda: np.copyto(target, source)


def line(what: str, measured: float, target: float, detail: str) -> bool:
    print(
        f"{what:58} {measured:8.2f} >= {target:5.2f}  {'met' if measured >= target else 'NOT MET':7} {detail}",
        flush=True,
    )
    return measured >= target


def cold(saved: Saved) -> list[float]:
    def times() -> Iterator[tuple[float, float]]:
        for _ in range(RUNS):
            drop_from_page_cache(saved.file)
            read = seconds_of(lambda: read_through(saved.file))
            drop_from_page_cache(saved.file)
            yield read, seconds_of(saved.verify)

    return [statistics.median(column) for column in zip(*times(), strict=True)]


def of_vectors(folder: Path, size_bytes: int) -> bool:
    held = vectors(size_bytes)
    saved = Saved(folder, VectorCodec(np.float32), held)
    copied, verified, opened = medians(saved.copier(), saved.verify, saved.open)
    speed = f"{saved.size_bytes / verified / 1e9:.1f} GB/s, opened in {opened * 1e3:.2f} ms"
    good = line("vectors, restored and verified, to a warm memcpy", copied / verified, 0.9, speed)
    keys = [value.key for value in held[:: max(1, len(held) // 50_000)]]
    (each,) = medians(lambda: saved.find_all(keys, "model 1"))
    print(f"{'':58} one by one: {each / len(keys) * 1e6:.1f} us for each of {len(keys)}, its block's checksum included")
    read, restored = cold(saved)
    speed = f"{saved.size_bytes / restored / 1e9:.2f} GB/s"
    return line("vectors, cold, to a cold sequential read", read / restored, 0.85, speed) and good


def of_documents(folder: Path, kind: str, codec: DocumentCodec, held: list[HeldValue], eager_target: float) -> bool:
    saved = Saved(folder, codec, held)
    keys = [value.key for value in held]
    pickled = pickle.dumps({value.key: value.value for value in held}, pickle.HIGHEST_PROTOCOL)
    del held
    copied, lazily, eagerly, unpickled = medians(
        saved.copier(), saved.verify, lambda: saved.find_all(keys, "7"), lambda: pickle.loads(pickled)
    )
    speed = f"{saved.size_bytes / lazily / 1e9:.1f} GB/s"
    good = line(f"{kind}, lazily, to a warm memcpy", copied / lazily, 0.5, speed)
    good &= line(f"{kind}, lazily, to pickle", unpickled / lazily, 50, f"{len(keys)} values")
    good &= line(
        f"{kind}, eagerly, to pickle", unpickled / eagerly, eager_target, f"{eagerly / len(keys) * 1e6:.1f} us each"
    )
    read, restored = cold(saved)
    speed = f"{saved.size_bytes / restored / 1e9:.2f} GB/s"
    return line(f"{kind}, cold, to a cold sequential read", read / restored, 0.85, speed) and good


def rebuilt(document: dict[str, Any]) -> dict[str, Any]:
    """An equal document of other dicts and the same parts."""
    hits = [
        {"path": hit["path"], "line": hit["line"], "score": hit["score"], "text": hit["text"]}
        for hit in document["hits"]
    ]
    return {"query": document["query"], "hits": hits}


def tell_of_dicts(held: list[HeldValue]) -> None:
    """What finding adds to decoding, and decoding to making dicts."""
    codec, documents = DocumentCodec(), [value.value for value in held]
    encoded = [memoryview(codec.encode(document)) for document in documents]
    pickled = [pickle.dumps(document, pickle.HIGHEST_PROTOCOL) for document in documents]

    def each(make: Callable[[Any], Any], of: list[Any]) -> Callable[[], None]:
        def act() -> None:
            for one in of:
                make(one)

        return act

    works = each(codec.decode, encoded), each(rebuilt, documents), each(pickle.loads, pickled)
    decoded, remade, unpickled = (seconds / len(held) * 1e6 for seconds in medians(*works))
    print(
        f"{'':58} each, found already: decoded {decoded:.1f} us, made of parts that are there {remade:.1f} us,"
        f" unpickled by itself {unpickled:.1f} us"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=256, help="size of the vectors, and of the documents, in MB")
    parser.add_argument("--folder", help="where to write; by default a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        good = of_vectors(Path(folder) / "vectors", arguments.mb * 10**6)
        held = documents(arguments.mb * 10**6 // 4)
        good &= of_documents(Path(folder) / "typed", "documents of a type", DocumentCodec(Results), held, 3)
        plain = as_plain(held)
        del held
        good &= of_documents(Path(folder) / "plain", "documents of dicts", DocumentCodec(), plain, 1)
        tell_of_dicts(plain[:10_000])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
