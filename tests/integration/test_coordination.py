"""Replicas and their coordinator: numbers, leases and the rate, on a real server; and no server at all."""

import asyncio
import contextlib
import re
import time
from pathlib import Path

import pytest

from preheat import CacheWarmupService
from preheat._coordination import Coordination
from preheat._fleet import LEASE_SECONDS
from preheat.adapters.mapping import MappingCache
from preheat.errors import InvalidSetting
from servers import free_port, server, some_name  # noqa: F401 - one is a fixture

KEYS = [f"key {n}" for n in range(40)]


@contextlib.asynccontextmanager
async def members(url, count, **options):
    made = [Coordination(url, replicas=count, wait_seconds=2.0, **options) for _ in range(count)]
    for each in made:
        await each.begin()
    try:
        yield made
    finally:
        for each in made:
            await each.end()


def test_each_replica_gets_a_number_and_leaves_it_to_others_when_it_ends(server):
    async def numbers():
        async with members(server.url, 4) as all_of_them:
            first = [each._number for each in all_of_them]
            await all_of_them[2].end()
            async with members(server.url, 1) as (late,):
                return first, late._number, late.replicas

    assert asyncio.run(numbers()) == ([0, 1, 2, 3], 2, 4)


def test_replicas_take_all_keys_between_them_and_none_twice(server):
    async def taken():
        async with members(server.url, 4) as all_of_them:
            return [await each.take("pages", KEYS) for each in all_of_them]

    found = asyncio.run(taken())
    assert all(found)
    assert sorted(n for each in found for n in each) == list(range(len(KEYS)))


def test_what_was_not_loaded_goes_to_the_next_and_what_was_stays_leased(server):
    async def after():
        async with members(server.url, 2) as (one, other):
            mine = [KEYS[n] for n in await one.take("pages", KEYS)]
            await one.give_back("pages", mine, loaded=mine[:3])
            own = [KEYS[n] for n in await other.take("pages", KEYS)]
            await other.give_back("pages", own, loaded=own)
            left = [mine[n] for n in await other.take("pages", mine)]
            return mine, left

    mine, left = asyncio.run(after())
    assert left
    assert set(left) <= set(mine[3:])


def test_a_lease_ends_by_itself_within_ten_seconds(server):
    async def hold():
        async with members(server.url, 1) as (one,):
            await one.take("pages", KEYS)
            with contextlib.closing(server.client()) as client:
                return [client.pttl(place) for place in client.keys("*lease*")]

    lives = asyncio.run(hold())
    assert len(lives) == len(KEYS)
    assert 0 < max(lives) <= LEASE_SECONDS * 1000


def test_replicas_keep_one_rate_together(server):
    """However fast they ask, so many loads take at least so long."""

    async def loads(each):
        for _ in range(20):
            await each.wait_for_turn("pages", 1)

    async def go():
        async with members(server.url, 3, rates={"pages": 100.0}) as all_of_them:
            begun = time.monotonic()
            await asyncio.gather(*map(loads, all_of_them))
            return time.monotonic() - begun

    assert asyncio.run(go()) >= (3 * 20 - 1) / 100.0 * 0.95


BANDWIDTH = 600_000.0
SIZES = (10_000, 100, 100, 29_800) * 3
LEAST_SECONDS = (3 * sum(SIZES) - SIZES[-1]) / BANDWIDTH * 0.95


async def seconds_of_loads(replicas):
    """How long it takes all of them to load `SIZES` each."""

    async def loads(each):
        for size_bytes in SIZES:
            await each.wait_for_turn("pages", 1, size_bytes)

    begun = time.monotonic()
    await asyncio.gather(*map(loads, replicas))
    return time.monotonic() - begun


def test_replicas_keep_one_bandwidth_together_whatever_their_loads_weigh(server):
    async def go():
        async with members(server.url, 3, rates={"pages": 1e4}, bandwidths={"pages": BANDWIDTH}) as replicas:
            return await seconds_of_loads(replicas)

    assert asyncio.run(go()) >= LEAST_SECONDS


def test_replicas_that_know_nothing_of_each_other_take_the_bandwidth_each():
    """The control."""

    async def go():
        return await seconds_of_loads([Coordination(bandwidths={"pages": BANDWIDTH}) for _ in range(3)])

    assert asyncio.run(go()) < LEAST_SECONDS


def test_after_a_large_load_the_rate_is_still_kept(server):
    """What waits for the bytes of others may not begin all at once then."""

    async def go():
        async with members(server.url, 2, rates={"pages": 50.0}, bandwidths={"pages": 1e6}) as (one, other):
            await one.wait_for_turn("pages", 1, 500_000)
            begun = time.monotonic()
            await asyncio.gather(*(each.wait_for_turn("pages", 1, 1) for each in (one, other) for _ in range(10)))
            return time.monotonic() - begun

    assert asyncio.run(go()) >= (0.5 + 18 / 50.0) * 0.95


def test_who_is_alone_keeps_to_its_share_of_the_bandwidth_and_of_the_rate():
    async def go():
        one = Coordination(replicas=5, rates={"pages": 1000.0}, bandwidths={"pages": 5000.0})
        begun = time.monotonic()
        for _ in range(6):
            await one.wait_for_turn("pages", 1, 100)
        return time.monotonic() - begun

    assert asyncio.run(go()) >= 5 * 100 / 1000.0 * 0.95


def test_who_is_alone_keeps_to_its_share_of_the_rate():
    async def go():
        one = Coordination(replicas=5, rates={"pages": 100.0})
        begun = time.monotonic()
        for _ in range(11):
            await one.wait_for_turn("pages", 1)
        return time.monotonic() - begun

    assert asyncio.run(go()) >= 10 / 20.0 * 0.95


@pytest.mark.parametrize("trouble", ["killed", "frozen", "forbidden"])
def test_trouble_with_the_coordinator_leaves_each_to_its_share_without_an_error(server, trouble):
    async def go():
        made = [Coordination(server.url, replicas=2, wait_seconds=0.2) for _ in range(2)]
        for each in made:
            await each.begin()
        with contextlib.closing(server.client()) as client:
            if trouble == "forbidden":
                client.acl_setuser("default", commands=["-set", "-evalsha", "-eval"])
        if trouble != "forbidden":
            {"killed": server.kill, "frozen": server.freeze}[trouble]()
        taken = [await each.take("pages", KEYS) for each in made]
        for each in made:
            await each.end()
        return taken, [each.is_alone for each in made]

    taken, alone = asyncio.run(go())
    assert alone == [True, True]
    assert sorted(n for each in taken for n in each) == list(range(len(KEYS)))


def test_the_rights_that_the_documents_name_are_enough(server):
    with contextlib.closing(server.client()) as admin:
        page = (Path(__file__).parents[2] / "docs/how-to/many-replicas.md").read_text("utf-8")
        commands = " ".join(re.findall(r"^    (\+.*)$", page, re.MULTILINE)).split()
        admin.acl_setuser("fleet", enabled=True, nopass=True, commands=commands, keys=["preheat*"])

    async def go():
        url = server.url.replace("//", "//fleet:any@")
        async with members(url, 2, rates={"pages": 1000.0}, at_once=2) as (one, other):
            await one.wait_for_turn("pages", 1)
            taken = [await each.take("pages", KEYS) for each in (one, other)]
            with contextlib.closing(server.client()) as client:
                assert client.zcard("preheat\x00fleet places") == 2
            return taken, one.is_alone or other.is_alone

    taken, is_alone = asyncio.run(go())
    assert not is_alone
    assert sorted(n for each in taken for n in each) == list(range(len(KEYS)))


def warm_pages(tmp_path, **settings):
    """Record, then warm a fresh cache in a second life; its report."""

    async def live(cache):
        service = CacheWarmupService(state_dir=str(tmp_path / "state"), holdout_ratio=0.0, **settings)
        async with service:
            service.register(cache)
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            for n in range(12):
                cache.get(f"{n}")
            return report

    asyncio.run(live(MappingCache({}, str, name="pages")))
    return asyncio.run(live(MappingCache({}, str, name="pages")))


@pytest.mark.parametrize("is_there", [True, False])
def test_a_service_warms_up_with_a_coordinator_and_with_none_there(server, tmp_path, caplog, is_there):
    port = server.port if is_there else free_port()
    report = warm_pages(
        tmp_path,
        coordinator_url=f"redis://:canary@127.0.0.1:{port}/0" if not is_there else server.url,
        replicas=3,
        start_jitter_seconds=0.05,
        rate_limits={"pages": 500.0},
    )
    assert (report.counts["loaded"], report.stopped) == (12, None)
    assert "canary" not in caplog.text


def test_a_coordinator_that_is_none_is_refused_when_the_service_is_made():
    with pytest.raises(InvalidSetting, match="the URL of a Redis or Valkey server"):
        CacheWarmupService(coordinator_url=some_name())
