"""Bulk warm-ups on real servers, by real workers: every key is there, hardly any twice, and the report adds up."""

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
from pathlib import Path

from bulk_running import KEYS, TARGET, adds_up, begun, origin, resident, until, worker  # noqa: F401
from preheat._bulk.steps import KEEP_SECONDS
from preheat.bulk import Bulk, start_bulk, work
from preheat.bulk.processes import run_workers
from replicas import plan_of
from servers import server  # noqa: F401


def test_one_worker_loads_every_key_once(server, origin):
    async def play():
        bulk = await begun(server)
        tally = await work(server.url, bulk.bulk_id)
        return tally, await bulk.report(), await bulk.progress()

    tally, report, progress = asyncio.run(play())
    assert tally == (10, 0, KEYS)
    assert report.counts == {"loaded": KEYS}
    assert report.is_complete
    assert (progress.done, progress.is_over) == (KEYS, True)
    assert (resident(server), origin.loaded_twice()) == (KEYS, 0)


def test_processes_load_every_key_once_and_keep_one_rate(server, origin):
    async def play():
        bulk = await begun(server, rates={"pages": 1000.0})
        return await run_workers(bulk, 2)

    report = asyncio.run(play())
    assert report.counts == {"loaded": KEYS}
    assert report.is_complete
    assert (resident(server), origin.loaded_twice()) == (KEYS, 0)
    times = sorted(origin.times())
    assert times[-1] - times[0] >= 0.9 * KEYS / 1000.0


def test_processes_keep_one_bandwidth(server, origin):
    async def play():
        bulk = await begun(server, bandwidths_mb={"pages": 0.1})
        return await run_workers(bulk, 2)

    report = asyncio.run(play())
    assert report.counts == {"loaded": KEYS}
    times = sorted(origin.times())
    assert times[-1] - times[0] >= 0.9 * KEYS * 100 / (0.1 * 2**20)


def test_what_is_resident_is_not_loaded_again(server, origin):
    async def play():
        for _ in range(2):
            bulk = await begun(server)
            await work(server.url, bulk.bulk_id)
        return await bulk.report()

    report = asyncio.run(play())
    assert report.counts == {"resident": KEYS}
    assert origin.loaded_twice() == 0


def test_a_worker_and_the_scheduler_are_killed_and_nothing_is_lost(server, origin, monkeypatch):
    """The scheduler dies with its work half done, and its workers; the next scheduler needs only the name.

    What is loaded twice is what two workers had in flight: sixteen batches of five each.
    """
    keys = 2 * 16 * 5 * 100
    monkeypatch.setenv("CACHE_WARMUP_BATCH_SIZE", "5")

    async def play():
        bulk = await begun(server, keys=keys)
        first, second = worker(bulk), worker(bulk)
        await until(lambda: len(origin.asked()) > keys / 5)
        first.send_signal(signal.SIGKILL)
        first.wait()
        await until(lambda: len(origin.asked()) > keys / 2)
        second.send_signal(signal.SIGKILL)
        second.wait()
        before = await bulk.report()
        again = Bulk(server.url, bulk.bulk_id)
        await again.resume()
        return before, await run_workers(again, 2)

    before, report = asyncio.run(play())
    assert adds_up(before, keys)
    assert not before.is_complete
    assert adds_up(report, keys)
    assert report.is_complete
    assert 1 <= report.taken_over <= 2
    assert resident(server, keys) == keys
    assert len(set(origin.asked())) == keys
    assert origin.loaded_twice() <= keys / 100


def test_a_shard_is_taken_over_by_one_other(server, origin):
    from preheat._bulk.board import Board

    async def play():
        bulk = await begun(server, shards=1, lease_seconds=0.5)
        async with Board(server.url, bulk.bulk_id) as board:
            taken = [(await board.claim(name, 0.5)).state for name in ("first", "second")]
            await asyncio.sleep(0.6)
            taken += [(await board.claim(name, 0.5)).state for name in ("third", "fourth")]
            return taken, await board.renew(0, "first", 0.5, 1, 1), await board.renew(0, "third", 0.5, 1, 1)

    assert asyncio.run(play()) == (["shard", "wait", "shard", "wait"], "lost", "yours")


def test_without_a_lease_that_runs_out_what_a_dead_worker_had_is_never_loaded(server, origin, monkeypatch):
    """The control: shards that are only taken, as a plain queue has them."""
    monkeypatch.setenv("BULK_TEST_PAUSE", "0.005")

    async def play():
        bulk = await begun(server, lease_seconds=3600.0)
        first = worker(bulk)
        await until(lambda: len(origin.asked()) > KEYS / 5)
        first.send_signal(signal.SIGKILL)
        first.wait()
        stop = asyncio.Event()
        second = asyncio.ensure_future(work(server.url, bulk.bulk_id, stop))
        while (await bulk.progress()).ended < 9:
            await asyncio.sleep(0.05)
        stop.set()
        await second
        return await bulk.report()

    report = asyncio.run(play())
    assert adds_up(report)
    assert report.counts["unfinished"] > 0
    assert resident(server) < KEYS


def test_a_shard_at_which_every_worker_dies_is_abandoned(server, origin):
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
    assert states == ["shard"] * MOST_ATTEMPTS + ["ended"]
    assert adds_up(report)
    assert (report.abandoned, report.counts["unfinished"]) == (1, KEYS)
    assert progress.is_over


def test_it_is_cancelled_from_another_process_and_resumed(server, origin):
    async def play():
        bulk = await begun(server, rates={"pages": 400.0})  # so that the other process has time to start
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
    assert (after.is_complete, after.is_cancelled) == (True, False)
    assert (resident(server), origin.loaded_twice()) == (KEYS, 0)


def test_everything_on_a_board_is_forgotten_after_a_while(server, origin):
    async def play():
        bulk = await begun(server, rates={"pages": 1e5})
        await work(server.url, bulk.bulk_id)
        return bulk

    bulk = asyncio.run(play())
    client = server.client()
    lives = {place: client.ttl(place) for place in client.keys(f"*bulk*{bulk.bulk_id}*")}
    client.close()
    assert len(lives) >= 4
    assert min(lives.values()) > KEEP_SECONDS / 2


def test_the_rights_that_the_documents_name_are_enough(server, origin):
    page = (Path(__file__).parents[2] / "docs/how-to/bulk.md").read_text("utf-8")
    commands = re.findall(r"^    (\+.*)$", page, re.MULTILINE)[0].split()
    with contextlib.closing(server.client()) as admin:
        admin.acl_setuser("bulk", enabled=True, nopass=True, commands=commands, keys=["preheat*"])

    async def play():
        url = server.url.replace("//", "//bulk:any@")
        bulk = await start_bulk(plan_of(KEYS), TARGET, url, rates={"pages": 1e5}, shards=2)
        await bulk.cancel()
        await bulk.resume()
        await work(url, bulk.bulk_id)
        return await bulk.report()

    assert asyncio.run(play()).counts == {"loaded": KEYS}


def test_a_board_that_is_not_there_is_one_sentence(server, origin):
    done = subprocess.run(
        [sys.executable, "-m", "preheat.cli", "bulk", "status", "nothing"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "there is no bulk warm-up nothing" in done.stderr
    assert "Traceback" not in done.stderr
