"""Bulk warm-ups on real servers, by real workers: every key is there, hardly any twice, and the report adds up."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bulk_target import CACHE_URL, NOTES
from preheat.bulk import Bulk, start_bulk, work
from preheat.bulk.processes import run_workers
from replicas import plan_of
from servers import server, some_name  # noqa: F401

HERE = Path(__file__).parent.parent
TARGET = "bulk_target:shared"
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
def origin(server, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv(CACHE_URL, server.url)
    monkeypatch.setenv(NOTES, str(tmp_path / "notes"))
    monkeypatch.setenv("CACHE_WARMUP_BATCH_SIZE", "20")
    monkeypatch.setenv("CACHE_WARMUP_COORDINATOR_URL", server.url)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parent / "src"), str(HERE)]))
    monkeypatch.chdir(HERE)
    return Origin(tmp_path / "notes")


def resident(server, keys=KEYS):  # noqa: F811
    client = server.client()
    found = client.mget([f"preheat:pages:page {n}" for n in range(keys)])
    client.close()
    return sum(value is not None for value in found)


def worker(bulk: Bulk) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "preheat.cli", "bulk", "work", bulk.bulk_id], stdout=subprocess.DEVNULL
    )


async def begun(server, **options) -> Bulk:  # noqa: F811
    options = {"shards": 10, "lease_seconds": 1.0} | options
    return await start_bulk(plan_of(KEYS), TARGET, server.url, bulk_id=some_name(), **options)


async def until(condition, seconds=30.0):
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came to that")


def adds_up(report) -> bool:
    return sum(report.counts.values()) == report.items == KEYS


def test_one_worker_loads_every_key_once(server, origin):  # noqa: F811
    async def play():
        bulk = await begun(server)
        tally = await work(server.url, bulk.bulk_id)
        return tally, await bulk.report(), await bulk.progress()

    tally, report, progress = asyncio.run(play())
    assert (10, 0, KEYS) == tally
    assert {"loaded": KEYS} == report.counts
    assert report.is_complete
    assert (KEYS, True) == (progress.done, progress.is_over)
    assert (KEYS, 0) == (resident(server), origin.loaded_twice())


def test_processes_load_every_key_once_and_keep_one_rate(server, origin):  # noqa: F811
    async def play():
        bulk = await begun(server, rates={"pages": 1000.0})
        return await run_workers(bulk, 2)

    report = asyncio.run(play())
    assert {"loaded": KEYS} == report.counts
    assert report.is_complete
    assert (KEYS, 0) == (resident(server), origin.loaded_twice())
    times = sorted(origin.times())
    assert times[-1] - times[0] >= 0.9 * KEYS / 1000.0


def test_what_is_resident_is_not_loaded_again(server, origin):  # noqa: F811
    async def play():
        for _ in range(2):
            bulk = await begun(server)
            await work(server.url, bulk.bulk_id)
        return await bulk.report()

    report = asyncio.run(play())
    assert {"resident": KEYS} == report.counts
    assert 0 == origin.loaded_twice()


def test_a_worker_and_the_scheduler_are_killed_and_nothing_is_lost(server, origin, monkeypatch):  # noqa: F811
    """The scheduler dies with its work half done, and so does a worker; the next scheduler needs only the name."""
    monkeypatch.setenv("BULK_TEST_PAUSE", "0.05")

    async def play():
        bulk = await begun(server)
        first, second = worker(bulk), worker(bulk)
        await until(lambda: len(origin.asked()) > KEYS / 5)
        first.send_signal(signal.SIGKILL)
        first.wait()
        await until(lambda: len(origin.asked()) > KEYS / 2)
        second.send_signal(signal.SIGKILL)
        second.wait()
        before = await bulk.report()
        again = Bulk(server.url, bulk.bulk_id)
        await again.resume()
        return before, await run_workers(again, 2)

    before, report = asyncio.run(play())
    assert adds_up(before)
    assert not before.is_complete
    assert adds_up(report)
    assert report.is_complete
    assert 1 <= report.taken_over <= 2
    assert KEYS == resident(server)
    assert KEYS == len(set(origin.asked()))
    in_flight = 2 * 16 * 20  # two workers, sixteen batches of twenty each: what they had loaded and not yet put
    assert origin.loaded_twice() <= in_flight


def test_a_shard_is_taken_over_by_one_other(server, origin):  # noqa: F811
    from preheat._bulk.board import Board

    async def play():
        bulk = await begun(server, shards=1, lease_seconds=0.5)
        async with Board(server.url, bulk.bulk_id) as board:
            taken = [(await board.claim(name, 0.5)).state for name in ("first", "second")]
            await asyncio.sleep(0.6)
            taken += [(await board.claim(name, 0.5)).state for name in ("third", "fourth")]
            return taken, await board.renew(0, "first", 0.5, 1, 1), await board.renew(0, "third", 0.5, 1, 1)

    assert (["shard", "wait", "shard", "wait"], "lost", "yours") == asyncio.run(play())


def test_without_leases_what_a_dead_worker_had_is_never_loaded(server, origin, monkeypatch):  # noqa: F811
    """The control: shards that are only taken from a list, as a plain queue has them."""
    from preheat._bulk import steps

    monkeypatch.setattr(
        steps,
        "CLAIM",
        steps.CLAIM.replace(b"redis.call('ZRANGEBYSCORE', leased,", b"({nil,").replace(
            b"'LIMIT', 0, 1)[1]", b"0, 1})[1]"
        ),
    )

    async def play():
        from preheat._bulk.board import Board

        bulk = await begun(server, lease_seconds=0.5)
        async with Board(server.url, bulk.bulk_id) as board:
            await board.claim("dead", 0.5)
            await asyncio.sleep(0.6)
            while (claim := await board.claim("next", 60.0)).state == "shard":
                pass
            return claim.state

    assert "wait" == asyncio.run(play())


def test_a_shard_at_which_every_worker_dies_is_abandoned(server, origin):  # noqa: F811
    from preheat._bulk.board import Board
    from preheat._bulk.steps import MOST_ATTEMPTS

    async def play():
        bulk = await begun(server, shards=1, lease_seconds=0.5)
        async with Board(server.url, bulk.bulk_id) as board:
            states = []
            for _ in range(MOST_ATTEMPTS + 1):
                states.append((await board.claim("mayfly", 0.001)).state)
                await asyncio.sleep(0.01)
        return states, await bulk.report(), await bulk.progress()

    states, report, progress = asyncio.run(play())
    assert ["shard"] * MOST_ATTEMPTS + ["ended"] == states
    assert adds_up(report)
    assert (1, KEYS) == (report.abandoned, report.counts["unfinished"])
    assert progress.is_over


def test_it_is_cancelled_from_another_process_and_resumed(server, origin, monkeypatch):  # noqa: F811
    monkeypatch.setenv("BULK_TEST_PAUSE", "0.05")

    async def play():
        bulk = await begun(server)
        one = worker(bulk)
        await until(lambda: len(origin.asked()) > KEYS / 10)
        subprocess.run([sys.executable, "-m", "preheat.cli", "bulk", "cancel", bulk.bulk_id], check=True)
        await asyncio.to_thread(one.wait, 30)
        cancelled = await bulk.report(), await bulk.progress()
        await bulk.resume()
        await work(server.url, bulk.bulk_id)
        return *cancelled, await bulk.report()

    report, progress, after = asyncio.run(play())
    assert adds_up(report)
    assert report.is_cancelled
    assert not report.is_complete
    assert progress.is_over
    assert adds_up(after)
    assert (True, False) == (after.is_complete, after.is_cancelled)
    assert (KEYS, 0) == (resident(server), origin.loaded_twice())


def test_a_board_that_is_not_there_is_one_sentence(server, origin):  # noqa: F811
    done = subprocess.run(
        [sys.executable, "-m", "preheat.cli", "bulk", "status", "nothing"], capture_output=True, text=True
    )
    assert 2 == done.returncode
    assert "there is no bulk warm-up nothing" in done.stderr
    assert "Traceback" not in done.stderr
