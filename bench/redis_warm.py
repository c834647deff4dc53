"""What warming a Redis server in bulk costs against raw pipelined SETs of the same values, in the same run.

    python bench/redis_warm.py [--items 100000] [--bytes 200] [--rounds 3]

Starts its own server.  Both send batches of the same size; the raw one does nothing else.  The time of the loader is
what it takes to look a value up that is there already, and counts for the warm-up.  Rounds alternate; the best of each
counts.  The same on three servers as a cluster is told without a target.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from preheat import create_warmup_item
from preheat.adapters.redis import RedisCache
from servers import Cluster, running_server

BULK, BATCH = 0.8, 512


def tell(what: str, value: float, least: float) -> bool:
    is_met = value >= least
    print(f"{what}: {value:.2f}, target >= {least:g}: {'met' if is_met else 'NOT MET'}", flush=True)
    return is_met


def raw_seconds(client: Any, values: dict[str, bytes]) -> float:
    """Pipelines as everybody writes them."""
    pairs = list(values.items())
    begun = time.perf_counter()
    for start in range(0, len(pairs), BATCH):
        pipeline = client.pipeline() if hasattr(client, "keyslot") else client.pipeline(transaction=False)
        for key, value in pairs[start : start + BATCH]:
            pipeline.set(key, value)
        pipeline.execute()
    return time.perf_counter() - begun


def rawest_seconds(client: Any, values: dict[str, bytes]) -> float:
    """The same without the client's own work on each command; told without a target."""
    pairs = list(values.items())
    begun = time.perf_counter()
    for start in range(0, len(pairs), BATCH):
        pipeline = client.pipeline() if hasattr(client, "keyslot") else client.pipeline(transaction=False)
        for key, value in pairs[start : start + BATCH]:
            pipeline.execute_command("SET", key, value)
        pipeline.execute()
    return time.perf_counter() - begun


def warm_seconds(client: Any, values: dict[str, bytes]) -> float:
    cache = RedisCache(
        client,
        values.__getitem__,
        name="warm",
        load_many=lambda keys: [values[key] for key in keys],
    )
    items = [create_warmup_item("warm", key, size_bytes=len(value)) for key, value in values.items()]
    begun = time.perf_counter()
    for start in range(0, len(items), BATCH):
        results = cache.warmup_items(items[start : start + BATCH])
        assert results[0].status == "loaded"
    return time.perf_counter() - begun


def compare(make: Callable[[], Any], flush: Callable[[Any], object], values: dict[str, bytes], rounds: int) -> float:
    """Raw seconds over those of the warm-up."""
    best: dict[Callable[[Any, dict[str, bytes]], float], float] = {}
    for n in range(rounds * 3):
        way = (raw_seconds, warm_seconds, rawest_seconds)[n % 3]
        client = make()
        flush(client)
        gc.collect()
        best[way] = min(best.get(way, 1e9), way(client, values))
        client.close()
    raw, warm, rawest = best[raw_seconds], best[warm_seconds], best[rawest_seconds]
    print(f"against bare commands in a pipeline: {rawest / warm:.2f}")
    print(
        f"{len(values)} values: raw {raw:.2f} s, warm-up {warm:.2f} s ({len(values) / warm:,.0f} values/s)", flush=True
    )
    return raw / warm


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    values = {f"page {n}": b"%09d" % n + b"x" * (options.bytes - 9) for n in range(options.items)}
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(4)]
        server = stack.enter_context(running_server(folders[0]))
        ratio = compare(server.client, lambda client: client.flushall(), values, options.rounds)
        met = tell("bulk warm against raw pipelined SETs", ratio, BULK)
        cluster = Cluster(folders[1:])
        stack.callback(cluster.stop)
        some = dict(list(values.items())[: options.items // 4])  # the client's own pipeline takes its time there
        ratio = compare(
            cluster.client, lambda client: client.flushall(target_nodes=client.PRIMARIES), some, options.rounds
        )
        print(f"the same on a cluster of three, against its client's pipeline: {ratio:.2f}")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
