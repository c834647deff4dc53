"""Replicas in processes of their own that warm one shared cache from one origin, which counts what it is asked."""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from preheat import create_warmup_item
from preheat._coordination import Coordination
from preheat._joint import joint
from preheat._model import CandidateTable, MemoryBudget, MemoryPressureLevel
from preheat._plan import create_plan
from preheat._plan.strategy import STRATEGIES
from preheat._run import Run
from preheat.adapters.mapping import MappingCache

HERE = Path(__file__).parent


class CountingOrigin:
    """A TCP server that answers each line after `latency_seconds`, and notes who asked when."""

    def __init__(self, latency_seconds: float = 0.05) -> None:
        self.latency_seconds = latency_seconds
        self.asked: list[tuple[float, str]] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        try:
            while line := await reader.readline():
                self.asked.append((time.monotonic(), line.decode().strip()))
                await asyncio.sleep(self.latency_seconds)
                writer.write(b"value of " + line)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    def per_key(self) -> float:
        """Fetches per distinct key."""
        counts = Counter(key for _, key in self.asked)
        return sum(counts.values()) / max(1, len(counts))

    def most_per_second(self, since: float, until: float, window_seconds: float = 1.0) -> float:
        """The highest rate over any window within a time, in requests per second."""
        at = np.array([at for at, _ in self.asked if since <= at <= until])
        if len(at) == 0:
            return 0.0
        window_seconds = min(window_seconds, until - since)
        within = np.searchsorted(at, at + window_seconds) - np.arange(len(at))
        return float(within.max() / window_seconds)


class OriginClient:
    """Asks the origin over few connections."""

    def __init__(self, port: int) -> None:
        self._port, self._free = port, []

    async def load(self, key: str) -> bytes:
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(key.encode() + b"\n")
        value = await reader.readline()
        self._free.append((reader, writer))
        return value.strip()

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()


class EnoughMemory:
    def read(self):
        return MemoryPressureLevel.LOW, None

    def subscribe(self, tell, *, interval_seconds):
        return lambda: None


def plan_of(keys: int, size_bytes: int = 100):
    """A plan of so many items of the cache "pages", the same in every replica."""
    items = [
        create_warmup_item("pages", f"page {n}", size_bytes=size_bytes, usage_frequency=1.0, warmup_cost=0.01)
        for n in range(keys)
    ]
    budget = MemoryBudget(10**9, 0, 10**9, MemoryPressureLevel.LOW, None, "enough")
    return create_plan(
        CandidateTable.of(items),
        budget,
        STRATEGIES["aggressive"],
        horizon_seconds={"pages": 1e6},
        free_bytes={"pages": None},
        holdout_ratio=0.0,
        seed=1,
    )


async def load_and_set(options) -> dict:
    """The control: what is usually written for this, which neither looks nor asks."""
    from preheat.adapters.redis import connect

    origin, few = OriginClient(options.origin), asyncio.Semaphore(16)
    client = connect(options.cache, is_async=True, wait_seconds=10.0)
    print("ready", flush=True)
    sys.stdin.readline()

    async def one(key):
        async with few:
            await client.set(f"pages:{key}", await origin.load(key))

    await asyncio.gather(*(one(f"page {n}") for n in range(options.keys)))
    await client.aclose()
    origin.close()
    return {"loaded": options.keys, "resident": 0}


def load_slowly(key: str) -> str:
    """For a cache in the memory of its replica, which nobody else can fill."""
    time.sleep(0.04)
    return f"value of {key}"


async def be_replica(options) -> dict:
    """Warm up once, and tell how it went."""
    if options.apart:
        return await load_and_set(options)
    from preheat.adapters.redis import AsyncRedisCache, connect

    origin = OriginClient(options.origin)
    client = connect(options.cache, is_async=True)
    cache = (
        MappingCache({}, load_slowly, name="pages")
        if options.own
        else AsyncRedisCache(client, origin.load, name="pages", patience_seconds=options.patience)
    )
    together = Coordination(
        options.coordinator,
        replicas=options.replicas,
        jitter_seconds=options.jitter,
        at_once=options.at_once,
        rates={"pages": options.rate},
    )
    plan = plan_of(options.keys)
    run = Run(plan, joint({"pages": cache}, together), watch=EnoughMemory(), concurrency_limit=4, batch_size=32)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        await together.begin(run.wait_for)
        print("begun", time.monotonic(), flush=True)
        report = await run.perform()
        print("ended", time.monotonic(), flush=True)
    finally:
        await together.end()
        await client.aclose()
        origin.close()
    return dict(report.counts) | {"stopped": report.stopped, "seconds": report.seconds}


class Replicas:
    """So many processes that begin when told."""

    def __init__(self, count: int, cache: str, coordinator: str | None, origin: int, **options) -> None:
        command = [sys.executable, str(HERE / "replicas.py"), "--cache", cache, "--origin", str(origin)]
        command += ["--coordinator", coordinator] if coordinator else []
        for name, value in ({"replicas": count} | options).items():
            name = name.replace("_", "-")
            command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent / "src"), str(HERE)])}
        self.processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            for _ in range(count)
        ]

    async def begin(self) -> None:
        for process in self.processes:
            await asyncio.to_thread(process.stdout.readline)
        for process in self.processes:
            process.stdin.write("begin\n")
            process.stdin.flush()

    async def reports(self) -> list[dict]:
        texts = await asyncio.gather(*(asyncio.to_thread(process.communicate) for process in self.processes))
        return [json.loads(line) for text, _ in texts for line in text.splitlines() if line.startswith("{")]

    def kill(self, number: int) -> None:
        self.processes[number].send_signal(signal.SIGKILL)

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", required=True)
    parser.add_argument("--coordinator")
    parser.add_argument("--origin", type=int, required=True)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--jitter", type=float, default=0.0)
    parser.add_argument("--at-once", type=int)
    parser.add_argument("--patience", type=float, default=5.0)
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--own", action="store_true")
    print(json.dumps(asyncio.run(be_replica(parser.parse_args()))), flush=True)


if __name__ == "__main__":
    main()
