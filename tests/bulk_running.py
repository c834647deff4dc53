"""Bulk warm-ups of a small plan, for tests: a server, an origin that notes what it is asked, and workers."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bulk_target import CACHE, NOTES
from preheat.bulk import Bulk, start_bulk
from replicas import plan_of
from servers import server, some_name  # noqa: F401

HERE = Path(__file__).parent
TARGET = "bulk_target:on_redis"
KEYS = 2000


class Origin:
    """What the loads have noted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def asked(self) -> list[str]:
        return [line.partition("\t")[0] for line in self.path.read_text().splitlines()]

    def times(self) -> list[float]:
        return [float(line.partition("\t")[2]) for line in self.path.read_text().splitlines()]

    def loaded_twice(self) -> int:
        return sum(count - 1 for count in Counter(self.asked()).values())


@pytest.fixture
def origin(server, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE, server.url)
    monkeypatch.setenv(NOTES, str(tmp_path / "notes"))
    monkeypatch.setenv("CACHE_WARMUP_BATCH_SIZE", "20")
    monkeypatch.setenv("CACHE_WARMUP_COORDINATOR_URL", server.url)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parent / "src"), str(HERE)]))
    monkeypatch.chdir(HERE)
    return Origin(tmp_path / "notes")


def resident(server, keys=KEYS):
    client = server.client()
    found = client.mget([f"preheat:pages:page {n}" for n in range(keys)])
    client.close()
    return sum(value is not None for value in found)


def worker(bulk: Bulk, **options) -> subprocess.Popen:
    return python("-m", "preheat.cli", "bulk", "work", bulk.bulk_id, **options)


def python(*arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, *arguments], **{"stdout": subprocess.DEVNULL, **options})


def celery_worker(pool: str, **options) -> subprocess.Popen:
    """The workers of `bulk_celery`."""
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR")
    arguments = ("-m", "celery", "-A", "bulk_celery", "worker", "--pool", pool, "--concurrency", "2", *quiet)
    return python(*arguments, **{"stderr": subprocess.DEVNULL, **options})


async def begun(server, **options) -> Bulk:
    options = {"shards": 10, "lease_seconds": 1.0} | options
    plan = plan_of(options.pop("keys", KEYS), options.pop("size_bytes", 100))
    return await start_bulk(plan, options.pop("target", TARGET), server.url, bulk_id=some_name(), **options)


async def until(condition, seconds=30.0):
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came to that")


def adds_up(report, keys=KEYS) -> bool:
    return sum(report.counts.values()) == report.items == keys
