"""Replicas of which only so many warm up at once: places and the queue for them, on a real server."""

import asyncio
import contextlib
import logging

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from preheat import CacheWarmupService
from preheat._coordination import Coordination
from preheat._rolling import PLACES, Act, Standing, place_arguments
from preheat.adapters.mapping import MappingCache
from servers import server, shared_server  # noqa: F401 - fixtures

KEYS = tuple(f"preheat\x00fleet {what}" for what in ("places", "queue", "waiting"))
LONG_AGO = 1


class Places(RuleBasedStateMachine):
    """Replicas that ask, leave, are killed and forgotten in any order, against a list and a set."""

    client = None

    def __init__(self):
        super().__init__()
        self.client.flushall()
        self.most, self.known = 2, 0
        self.queue, self.taken, self.dead = [], set(), set()

    def act(self, act, who):
        has_place, taken, ahead = self.client.eval(PLACES, 3, *KEYS, *place_arguments(act, who, self.most))
        return Standing(bool(has_place), taken, ahead)

    @rule()
    def arrive(self):
        who = f"{self.known:03}"
        self.known += 1
        self.ask_as(who)

    @rule(data=st.data())
    @precondition(lambda self: self.alive())
    def ask(self, data):
        self.ask_as(data.draw(st.sampled_from(self.alive())))

    def ask_as(self, who):
        if who not in self.taken and who not in self.queue:
            self.queue.append(who)
        ahead = self.queue.index(who) if who in self.queue else 0
        may_enter = who in self.taken or len(self.taken) + ahead < self.most
        if may_enter and who in self.queue:
            self.queue.remove(who)
            self.taken.add(who)
        assert self.act(Act.ASK, who) == Standing(may_enter, len(self.taken), ahead)

    @rule(data=st.data())
    @precondition(lambda self: self.alive())
    def leave(self, data):
        who = data.draw(st.sampled_from(self.alive()))
        self.act(Act.LEAVE, who)
        self.drop(who)

    @rule(data=st.data())
    @precondition(lambda self: self.alive())
    def be_killed(self, data):
        self.dead.add(data.draw(st.sampled_from(self.alive())))

    @rule()
    def let_leases_of_the_dead_run_out(self):
        for who in self.dead:
            for key in (KEYS[0], KEYS[2]):
                self.client.zadd(key, {who: LONG_AGO}, xx=True)
            self.drop(who)
        self.dead = set()

    @rule(data=st.data())
    @precondition(lambda self: self.taken - self.dead)
    def keep(self, data):
        assert self.act(Act.KEEP, data.draw(st.sampled_from(sorted(self.taken - self.dead)))).has_place

    @invariant()
    def never_more_than_there_are_places(self):
        assert self.client.zcard(KEYS[0]) <= self.most

    def teardown(self):
        """Everyone gets in, in the order in which they came."""
        self.let_leases_of_the_dead_run_out()
        while self.queue:
            for who in sorted(self.taken):
                self.leave_as(who)
            self.ask_as(self.queue[0])

    def leave_as(self, who):
        self.act(Act.LEAVE, who)
        self.drop(who)

    def alive(self):
        return sorted({*self.queue, *self.taken} - self.dead)

    def drop(self, who):
        self.taken.discard(who)
        if who in self.queue:
            self.queue.remove(who)


def test_places_are_handed_out_in_turn_and_never_too_many(shared_server):
    with contextlib.closing(shared_server.client()) as client:
        Places.client = client
        run_state_machine_as_test(
            Places,
            settings=settings(max_examples=60, stateful_step_count=40, deadline=None, database=None,
                              suppress_health_check=list(HealthCheck)),
        )  # fmt: skip


def test_who_keeps_a_place_that_the_server_has_forgotten_has_it_and_nobody_else_gets_it(server):
    with contextlib.closing(server.client()) as client:
        told = [
            client.eval(PLACES, 3, *KEYS, *place_arguments(act, who, 1))
            for act, who in ((Act.KEEP, "one"), (Act.KEEP, "other"), (Act.ASK, "third"))
        ]
    assert told == [[1, 1, 0], [1, 2, 0], [0, 2, 0]]


@contextlib.asynccontextmanager
async def warming(url, **options):
    """One replica that has a place, or goes on without one."""
    together = Coordination(url, replicas=3, wait_seconds=0.25, at_once=1, **options)
    try:
        await together.begin()
        yield together
    finally:
        await together.end()


def test_the_next_begins_when_the_first_has_ended(server):
    async def go():
        told, began = [], []
        other = Coordination(server.url, at_once=1)
        async with warming(server.url):
            beginning = asyncio.ensure_future(other.begin(told.append))
            await asyncio.sleep(1.0)
            began.append(beginning.done())
        await beginning
        await other.end()
        return told, began

    told, began = asyncio.run(go())
    assert began == [False]
    assert set(told) == {"waiting for a place: 1 of 1 taken"}


@pytest.mark.parametrize("trouble", ["killed", "frozen", "forbidden"])
def test_a_coordinator_in_trouble_lets_everybody_begin(server, trouble):
    async def go():
        other = Coordination(server.url, at_once=1, wait_seconds=0.2)
        async with warming(server.url):
            beginning = asyncio.ensure_future(other.begin())
            await asyncio.sleep(0.5)
            assert not beginning.done()
            if trouble == "forbidden":
                with contextlib.closing(server.client()) as client:
                    client.acl_setuser("default", commands=["-evalsha", "-eval"])
            else:
                {"killed": server.kill, "frozen": server.freeze}[trouble]()
            async with asyncio.timeout(20):
                await beginning
        await other.end()

    asyncio.run(go())


def test_a_coordinator_that_was_away_for_a_moment_lets_nobody_in(server):
    async def go():
        other = Coordination(server.url, at_once=1, wait_seconds=0.2)
        async with warming(server.url):
            beginning = asyncio.ensure_future(other.begin())
            await asyncio.sleep(0.5)
            server.freeze()
            await asyncio.sleep(0.3)
            server.thaw()
            await asyncio.sleep(2.5)
            is_in = beginning.done()
        await beginning
        await other.end()
        return is_in

    assert asyncio.run(go()) is False


def test_who_began_without_a_place_takes_one_when_the_server_is_back(server):
    async def go():
        server.kill()
        async with warming(server.url):
            server.start()
            with contextlib.closing(server.client()) as client:
                async with asyncio.timeout(20):
                    while client.zcard(KEYS[0]) == 0:
                        await asyncio.sleep(0.05)

    asyncio.run(go())


# -------------------------------------------------------------------------------------------------- of a service


@contextlib.asynccontextmanager
async def waiting(url, folder, **settings):
    """A service whose run waits for the one place, which another replica has, and the task of that run."""
    options = {"replicas": 2, "replicas_at_once": 1, "start_jitter_seconds": 0.0, "state_dir": str(folder), **settings}
    async with warming(url), CacheWarmupService(coordinator_url=url, **options) as service:
        service.register(MappingCache({}, str, name="pages"))
        log = service.ledger.log("pages")
        for n in range(12):
            log.miss(f"{n}", 1000, 0.01, "", "")
        plan = await service.create_warmup_plan("aggressive")
        run = asyncio.ensure_future(service.execute_warmup_plan(plan))
        async with asyncio.timeout(20):
            while service.progress is None or not service.progress.waits_for:
                await asyncio.sleep(0.02)
        yield service, run


def test_a_run_that_waits_says_so_and_is_not_ready(server, tmp_path, caplog):
    async def go():
        async with waiting(server.url, tmp_path) as (service, run):
            status, standing = await service.get_warmup_status(), service.standing
            await service.cancel_warmup()
            return status["progress"], standing, await run

    caplog.set_level(logging.INFO)
    progress, standing, report = asyncio.run(go())
    assert (progress["waits_for"], progress["done"]) == ("waiting for a place: 1 of 1 taken", 0)
    assert (standing.is_active, dict(standing.outcomes)) == (True, {})
    assert "the warm-up is waiting for a place: 1 of 1 taken" in caplog.messages
    assert (report.stopped, report.counts["loaded"]) == ("cancelled", 0)


def test_a_wait_is_part_of_the_time_that_a_run_may_take(server, tmp_path):
    async def go():
        async with waiting(server.url, tmp_path, deadline_seconds=1.0) as (_, run):
            return await run

    report = asyncio.run(go())
    assert (report.stopped, report.counts["skipped"]) == ("deadline", len(report.plan))


def test_places_without_a_coordinator_are_told_of_and_hold_nobody_up(tmp_path, caplog):
    async def go():
        async with CacheWarmupService(state_dir=str(tmp_path), replicas_at_once=1) as service:
            service.register(MappingCache({}, str, name="pages"))
            service.ledger.log("pages").miss("1", 1000, 0.01, "", "")
            return await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))

    assert asyncio.run(go()).stopped is None
    assert any("set coordinator_url too" in message for message in caplog.messages)
