"""Bulk warm-ups whose scheduler, or whose board, is killed midway: every key is loaded, and hardly any twice.

`PREHEAT_FAULT_RUNS` asks for more rounds of each.
"""

import asyncio
import contextlib
import importlib.util
import os
import signal
import subprocess
from functools import partial

import pytest

from bulk_running import KEYS, adds_up, begun, celery_worker, origin, python, resident, until, worker  # noqa: F401
from bulk_target import CACHE, PAUSE
from preheat._bulk import steps
from preheat.bulk import work
from preheat.bulk.processes import run_workers
from preheat.errors import BoardUnavailable, WorkersLost
from servers import free_port, running_server, server  # noqa: F401

ROUNDS = range(max(1, int(os.environ.get("PREHEAT_FAULT_RUNS", "1")) // 100))
IN_FLIGHT = 2 * 16 * 2  # of two workers, sixteen batches of two each
MANY = 100 * IN_FLIGHT


@pytest.fixture
def start(origin, monkeypatch):
    """Starts processes in groups of their own; whatever is left of them is killed after the test."""
    monkeypatch.setenv("CACHE_WARMUP_BATCH_SIZE", "2")
    monkeypatch.setenv(PAUSE, "0.01")
    started = []

    def start(make, *arguments, **options):
        started.append(make(*arguments, start_new_session=True, **options))
        return started[-1]

    yield start
    for process in started:
        kill_all(process)


def kill_all(process):
    """Kill a process and those that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def scheduler(kind, bulk, **options):
    return python("bulk_scheduler.py", kind, bulk.bulk_id, bulk.url, **options)


def demand(library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"the library {library} is not installed")


def is_whole(report, server, origin) -> bool:
    """Whether every key is there, at most what was in flight was loaded twice, and the report says so."""
    assert adds_up(report, MANY)
    assert resident(server, MANY) == len(set(origin.asked())) == MANY
    assert origin.loaded_twice() <= MANY / 100
    return report.is_complete


async def is_over(bulk):
    return (await bulk.wait(90.0)).is_over


# ------------------------------------------------------------------------------------------------ schedulers


@pytest.mark.parametrize("kind", ["processes", "dask"])
@pytest.mark.parametrize("_", ROUNDS)
def test_a_scheduler_is_killed_and_started_again(_, kind, server, origin, start):
    """Processes go on by themselves; those of a local Dask cluster die with it."""
    if kind == "dask":
        demand("distributed")

    async def play():
        bulk = await begun(server, keys=MANY)
        one = start(scheduler, kind, bulk)
        await until(lambda: len(origin.asked()) > MANY / 3, 90.0)
        one.kill()
        one.wait()
        before = await bulk.report()
        start(scheduler, kind, bulk)
        assert await is_over(bulk)
        return before, await bulk.report()

    before, report = asyncio.run(play())
    assert adds_up(before, MANY)
    assert not before.is_complete
    assert is_whole(report, server, origin)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_scheduler_of_a_dask_cluster_is_killed_and_started_again(server, origin, start):
    demand("distributed")
    from distributed import Client

    from preheat.bulk import dask

    port = str(free_port())
    address = f"tcp://127.0.0.1:{port}"

    def cluster():
        one_of_it = partial(start, python, "-m", stderr=subprocess.DEVNULL)
        one_of_it("distributed.cli.dask_worker", address, "--nthreads", "1", "--nworkers", "2", "--no-dashboard")
        return one_of_it("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")

    async def on_cluster(bulk):
        with await asyncio.to_thread(Client, address, timeout=90) as client:
            await asyncio.to_thread(client.wait_for_workers, 2, 90)
            return await dask.run_workers(bulk, client)

    async def play():
        bulk = await begun(server, keys=MANY)
        first = cluster()
        running = asyncio.ensure_future(on_cluster(bulk))
        await until(lambda: len(origin.asked()) > MANY / 3, 90.0)
        kill_all(first)
        with pytest.raises(WorkersLost, match="what they did stands"):
            await running
        cluster()
        return await on_cluster(bulk)

    assert is_whole(asyncio.run(play()), server, origin)


def test_celery_s_workers_and_who_has_sent_them_their_tasks_are_killed_and_started_again(
    server, origin, start, monkeypatch
):
    demand("celery")
    monkeypatch.setenv("BULK_TEST_BROKER", server.url.replace("/0", "/1"))

    async def play():
        bulk = await begun(server, keys=MANY)
        everybody = start(celery_worker, "prefork"), start(scheduler, "celery", bulk)
        await until(lambda: len(origin.asked()) > MANY / 3, 90.0)
        for each in everybody:
            kill_all(each)
        start(celery_worker, "prefork")
        last = start(scheduler, "celery", bulk)
        assert await is_over(bulk)
        assert await asyncio.to_thread(last.wait, 30) == 0
        return await bulk.report()

    assert is_whole(asyncio.run(play()), server, origin)


def test_what_a_scheduler_hands_out_of_its_memory_is_loaded_again_from_the_beginning(server, origin, start):
    """The control: killed with a third done, and started again."""

    async def play():
        bulk = await begun(server)
        one = start(scheduler, "from_memory", bulk)
        await until(lambda: len(origin.asked()) > KEYS / 3, 90.0)
        kill_all(one)
        assert await asyncio.to_thread(start(scheduler, "from_memory", bulk).wait, 90) == 0

    asyncio.run(play())
    assert origin.loaded_twice() >= KEYS / 3


# ---------------------------------------------------------------------------------------------------- boards


@pytest.fixture
def cache_server(tmp_path, monkeypatch, origin):
    """Another server than that of the board."""
    folder = tmp_path / "cache"
    folder.mkdir()
    with running_server(folder) as started:
        monkeypatch.setenv(CACHE, started.url)
        yield started


@pytest.fixture
def lasting_board(tmp_path, monkeypatch):
    """A server that keeps what it was told, whatever happens to it."""
    folder = tmp_path / "board"
    folder.mkdir()
    with running_server(folder, "--appendonly", "yes", "--appendfsync", "always") as started:
        monkeypatch.setenv("CACHE_WARMUP_COORDINATOR_URL", started.url)
        yield started


@pytest.mark.parametrize("_", ROUNDS)
def test_a_board_that_lasts_is_killed_and_started_again_and_nobody_has_to_do_anything(
    _, start, cache_server, lasting_board, origin
):
    async def play():
        bulk = await begun(lasting_board, keys=MANY)
        running = asyncio.ensure_future(run_workers(bulk, 2))
        await until(lambda: len(origin.asked()) > MANY / 3, 60.0)
        lasting_board.kill()
        await asyncio.sleep(1.5)
        await asyncio.to_thread(lasting_board.start)
        return await running

    assert is_whole(asyncio.run(play()), cache_server, origin)


def test_a_board_that_forgets_is_killed_and_its_bulk_warm_up_begun_again(start, cache_server, server, origin):
    async def play():
        bulk = await begun(server, keys=MANY)
        ones = [start(worker, bulk, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        await until(lambda: len(origin.asked()) > MANY / 3, 60.0)
        server.kill()
        await asyncio.to_thread(server.start)
        told = [(await asyncio.to_thread(one.communicate))[1] for one in ones]
        again = await begun(server, keys=MANY)
        return told, [one.returncode for one in ones], await run_workers(again, 2)

    told, codes, report = asyncio.run(play())
    assert codes == [2, 2]
    assert all("the server has lost it; begin it again" in each and "Traceback" not in each for each in told)
    assert is_whole(report, cache_server, origin)
    assert report.counts["resident"] > MANY / 4


def test_workers_that_take_an_empty_board_for_a_finished_one_leave_keys_out(
    start, cache_server, server, origin, monkeypatch
):
    """The control: nothing is left there, so it is over."""
    line = b"if redis.call('EXISTS', head) == 0 then return {'gone'} end\n"
    assert line in steps.CLAIM
    monkeypatch.setattr(steps, "CLAIM", steps.CLAIM.replace(line, b""))

    async def play():
        bulk = await begun(server)
        working = asyncio.ensure_future(work(bulk.url, bulk.bulk_id))
        await until(lambda: len(origin.asked()) > KEYS / 3, 60.0)
        server.kill()
        await asyncio.to_thread(server.start)
        return await working

    tally = asyncio.run(play())
    assert tally.lost == 1
    assert resident(cache_server) < KEYS


def test_a_board_that_stays_away_is_one_sentence_after_a_while(start, cache_server, server, origin, monkeypatch):
    monkeypatch.setattr("preheat._bulk.board.PATIENCE_SECONDS", 1.0)

    async def play():
        bulk = await begun(server)
        working = asyncio.ensure_future(work(bulk.url, bulk.bulk_id))
        await until(lambda: len(origin.asked()) > KEYS / 3, 60.0)
        server.kill()
        with pytest.raises(BoardUnavailable, match="has not answered for 1 s"):
            await working
        loaded = resident(cache_server)
        await asyncio.to_thread(server.start)
        return loaded, await run_workers(await begun(server), 2)

    loaded, report = asyncio.run(play())
    assert loaded >= KEYS / 3
    assert report.counts == {"loaded": KEYS - loaded, "resident": loaded}
    assert origin.loaded_twice() == 0
