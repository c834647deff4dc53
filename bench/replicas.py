"""What replicas do to an origin that they start to fill one shared cache from together; what a shared cache costs.

    python bench/replicas.py [--keys 1000] [--replicas 8] [--rate 120]

Starts its own Redis or Valkey servers and one process per replica.  The origin is a TCP server that notes every fetch.
Rates are the most in any whole second, from the origin's notes; in a phase shorter than that, over the phase.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "faults"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from test_shared_cache import FAULTS, Scene, fill

from preheat import create_warmup_item
from preheat.adapters.redis import RedisCache, connect
from replicas import CountingOrigin, Replicas
from servers import running_server

FETCHES, RATE, TWICE, PAUSE_SECONDS, BULK = 1.1, 1.05, 0.01, 1.0, 0.8


KEYS = 2400  # of a shared cache in trouble: what is in flight when its server loses everything is loaded again


def tell(what: str, value: float, limit: float, unit: str = "", *, at_least: bool = False) -> None:
    is_met = value >= limit if at_least else value <= limit
    sign = ">=" if at_least else "<="
    print(f"{what}: {value:.3f}{unit}, target {sign} {limit:g}{unit}: {'met' if is_met else 'NOT MET'}", flush=True)


async def start_together(options: argparse.Namespace, name: str) -> None:
    """All replicas begin in the same second; halfway something happens to their coordinator, or to one of them."""
    with contextlib.ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        cache, together = (stack.enter_context(running_server(folder)) for folder in folders)
        origin = CountingOrigin()
        extra = {"apart": True} if name == "nothing shared (control)" else {}
        replicas = Replicas(
            options.replicas,
            cache.url,
            None if name == "no coordinator at all" else together.url,
            await origin.start(),
            keys=options.keys,
            rate=options.rate,
            **extra,
        )
        await replicas.begin()
        begun = changed = time.monotonic()
        while len({key for _, key in origin.asked}) < options.keys / 2:
            await asyncio.sleep(0.02)
        if name == "coordinator killed":
            together.kill()
        elif name == "coordinator frozen":
            together.freeze()
        elif name == "replica killed":
            replicas.kill(0)
        elif name == "coordinator killed and back":
            together.kill()
            await asyncio.sleep(1.5)
            together.start()
        changed = time.monotonic()
        reports = await replicas.reports()
        ended = origin.asked[-1][0]
        replicas.stop()
        origin.stop()
    done = min(report["loaded"] + report["resident"] for report in reports)
    print(
        f"-- {name}: {options.replicas} replicas, {options.keys} keys, {done} resident for each, {ended - begun:.1f} s"
    )
    if extra:
        print(f"   fetches per distinct key: {origin.per_key():.3f}, and no rate is kept")
    else:
        tell("   fetches per distinct key", origin.per_key(), FETCHES)
        tell("   rate before, of the cap", origin.most_per_second(begun, changed) / options.rate, RATE)
        tell("   rate after, of the cap", origin.most_per_second(changed, ended) / options.rate, RATE)


def trouble(fault: object) -> None:
    """One process and its application, while something happens to the server of the cache."""
    name = getattr(fault, "__name__", str(fault)).replace("_", " ")
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as server:
        scene = Scene(server, KEYS)
        report, application = scene.play(lambda: fault(scene))  # type: ignore[operator]
        with contextlib.closing(server.client()) as client:
            evicted = client.info("stats")["evicted_keys"]
        scene.close()
    done = report.counts["loaded"] + report.counts["resident"]
    print(f"-- server: {name}: {done} of {KEYS} resident, {report.counts['rejected']} rejected")
    tell("   errors in the application", len(application.errors) + application.wrong, 0)
    tell("   longest read of the application", application.longest_seconds, PAUSE_SECONDS, " s")
    tell("   keys loaded twice", sum(scene.loads.values()) / len(scene.loads) - 1, TWICE)
    tell("   evicted", evicted, 0)


def bulk(items: int = 100_000, batch: int = 512) -> None:
    """Warming a lot, against pipelines that only set, in turn."""
    value, warmups = b"v" * 100, [create_warmup_item("pages", f"key {n}") for n in range(items)]
    ratios = []
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as server:  # noqa: SIM117
        with contextlib.closing(server.client()) as client:
            for _ in range(3):
                client.flushall()
                begun = time.perf_counter()
                for start in range(0, items, batch):
                    pipeline = client.pipeline(transaction=False)
                    for n in range(start, min(items, start + batch)):
                        pipeline.set(f"pages:key {n}", value)
                    pipeline.execute()
                bare = time.perf_counter() - begun
                client.flushall()
                cache = RedisCache(
                    connect(server.url), value.join, name="pages", load_many=lambda keys: [value] * len(keys)
                )
                begun = time.perf_counter()
                for start in range(0, items, batch):
                    cache.warmup_items(warmups[start : start + batch])
                ratios.append(bare / (time.perf_counter() - begun))
                assert client.dbsize() == items + 1
    print(f"-- {items} items in batches of {batch}, three times in turn")
    tell("   speed, of bare pipelined SETs", statistics.median(ratios), BULK, at_least=True)


SCENES = [
    "coordinator there",
    "coordinator killed",
    "coordinator frozen",
    "coordinator killed and back",
    "replica killed",
    "no coordinator at all",
    "nothing shared (control)",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--rate", type=float, default=120.0)
    options = parser.parse_args()
    bulk()
    for fault in (*FAULTS, fill):
        trouble(fault)
    for name in SCENES:
        asyncio.run(start_together(options, name))
    assert threading.active_count() == 1


if __name__ == "__main__":
    main()
