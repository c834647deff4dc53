"""What values from a warm peer save a replica that starts, against its origin and against a Redis, in one run.

    python bench/peers.py [--keys 1000] [--value-bytes 2000] [--load-ms 20]

The peer and the Redis are processes of their own.  All three warm the same cache with the same plan; only what makes a
value differs: a load that takes its time, a peer, a GET from a Redis that holds them all.  Medians of three, in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from peering import Pages, giving, warm_up  # noqa: E402 - of the tests
from servers import running_server  # noqa: E402

RUNS, OF_ORIGIN, OF_REDIS = 3, 0.2, 2.0


def value_of(key: str, size_bytes: int) -> str:
    return (key * size_bytes)[:size_bytes]


def keys_of(options: argparse.Namespace) -> list[str]:
    return [f"page {n}" for n in range(options.keys)]


class Loaded(Pages):
    """A cache whose values `make` makes."""

    def __init__(self, make: Callable[[str], str]) -> None:
        self._make = make
        super().__init__()

    def load(self, key: str) -> str:
        self.loads[key] += 1
        return self._make(key)


def be_peer(options: argparse.Namespace) -> None:
    """Be the warm replica, until told to end."""
    warm = Loaded(lambda key: value_of(key, options.value_bytes))
    with tempfile.TemporaryDirectory() as folder, giving(folder, warm, keys_of(options)) as port:
        print(port, flush=True)
        sys.stdin.readline()


@contextlib.contextmanager
def peer(options: argparse.Namespace) -> Iterator[str]:
    command = [sys.executable, __file__, "--as-peer", "--keys", str(options.keys)]
    command += ["--value-bytes", str(options.value_bytes)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.communicate("end\n")


def warm(options: argparse.Namespace, make: Callable[[str], str], *urls: str) -> tuple[float, int]:
    """The seconds of a warm-up, and how often it made a value."""
    cache = Loaded(make)
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(warm_up(folder, cache, *urls, keys=keys_of(options)))
    assert report.counts["loaded"] == options.keys
    assert cache.mapping == {key: value_of(key, options.value_bytes) for key in keys_of(options)}
    return report.seconds, sum(cache.loads.values())


def tell(what: str, value: float, limit: float) -> None:
    print(f"{what}: {value:.3f}, target <= {limit:g}: {'met' if value <= limit else 'NOT MET'}", flush=True)


def compare(options: argparse.Namespace, url: str, client: object) -> None:
    def from_origin(key: str) -> str:
        time.sleep(options.load_ms / 1000)
        return value_of(key, options.value_bytes)

    def from_redis(key: str) -> str:
        return client.get(key).decode()  # type: ignore[attr-defined, no-any-return]

    ways = {"origin": (from_origin,), "peer": (from_origin, url), "redis": (from_redis,)}
    told: dict[str, list[tuple[float, int]]] = {name: [] for name in ways}
    for _ in range(RUNS):
        for name, way in ways.items():
            told[name].append(warm(options, *way))
    seconds = {name: statistics.median(each for each, _ in runs) for name, runs in told.items()}
    fetches = max(loads for _, loads in told["peer"])
    for name, each in seconds.items():
        print(f"   from the {name}: {each:.2f} s, {options.keys / each:,.0f} items/s")
    tell("origin fetches with a warm peer, per key", fetches / options.keys, 0.0)
    tell("time with a warm peer, of that with the origin alone", seconds["peer"] / seconds["origin"], OF_ORIGIN)
    tell("time with a warm peer, of that from a Redis", seconds["peer"] / seconds["redis"], OF_REDIS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--value-bytes", type=int, default=2000)
    parser.add_argument("--load-ms", type=float, default=20.0)
    parser.add_argument("--as-peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_peer:
        be_peer(options)
        return
    print(f"-- {options.keys} values of {options.value_bytes} bytes, loads of {options.load_ms:g} ms")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        client = stack.enter_context(contextlib.closing(stack.enter_context(running_server(folder)).client()))
        for key in keys_of(options):
            client.set(key, value_of(key, options.value_bytes))
        compare(options, stack.enter_context(peer(options)), client)


if __name__ == "__main__":
    main()
