"""What a run of the service gets where replicas warm up together."""

import asyncio

import pytest

from preheat import CacheWarmupService, create_warmup_item
from preheat._bulk.sharding import shard_plan
from preheat._coordination import Coordination
from preheat._joint import JointCache
from preheat._replicas import Replicas
from preheat._settings import Settings
from preheat.adapters.mapping import MappingCache

MOST = 10_000
PAGES = {"pages": MappingCache({}, str, name="pages")}


def loads_per_second(gate, seconds=20.0, step=0.01):
    """How many single loads that take no time a gate lets start, per second."""
    loads = 0
    for n in range(int(seconds / step)):
        while gate.opens_at(n * step) <= n * step and loads < MOST:
            loads += gate.admit(n * step, [1])
            gate.loaded(n * step, 1e-6, 1)
    return loads / seconds


def test_who_is_alone_gets_its_caches_as_they_are_and_the_whole_rate():
    alone = Replicas(Settings(rate_limits={"pages": 40.0}))
    assert alone.prepare(PAGES) is PAGES
    assert 39.0 <= loads_per_second(alone.gates(PAGES, 1)["pages"]) <= 41.0


def test_replicas_without_a_coordinator_have_their_share_of_the_rate_in_the_gate():
    eight = Replicas(Settings(rate_limits={"pages": 40.0}, replicas=8))
    assert type(eight.prepare(PAGES)["pages"]) is MappingCache
    assert 4.5 <= loads_per_second(eight.gates(PAGES, 1)["pages"]) <= 5.5


def test_with_a_coordinator_the_rate_is_kept_by_it_alone():
    fleet = Replicas(Settings(rate_limits={"pages": 40.0}, replicas=8, coordinator_url="redis://127.0.0.1:1/0"))
    assert type(fleet.prepare(PAGES)["pages"]) is JointCache
    assert loads_per_second(fleet.gates(PAGES, 1)["pages"], seconds=1.0) == MOST


@pytest.mark.parametrize(("shards", "is_shared_out"), [(1, True), (3, False)])
def test_of_a_shard_nobody_else_loads_anything_so_nothing_is_shared_out(shards, is_shared_out, monkeypatch):
    async def go() -> None:
        async with CacheWarmupService(replicas=3, start_jitter_seconds=0.0) as service:
            service.register(MappingCache({}, str, name="pages"))
            service.register_candidate_source(lambda history: [create_warmup_item("pages", f"{n}") for n in range(30)])
            plan = await service.create_warmup_plan("aggressive")
            await service.execute_warmup_plan(plan if shards == 1 else shard_plan(plan, 0, shards))

    class Seen(Coordination):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            seen.append(self.shares_keys)

    seen = []
    monkeypatch.setattr("preheat._coordination.Coordination", Seen)
    asyncio.run(go())
    assert seen == [is_shared_out]


def test_with_a_coordinator_a_bandwidth_is_kept_by_it_alone():
    settings = {"bandwidth_limits_mb": {"pages": 1e-3}, "replicas": 8}
    apart = Replicas(Settings(**settings))
    assert type(apart.prepare(PAGES)["pages"]) is MappingCache
    assert loads_per_second(apart.gates(PAGES, 1)["pages"], seconds=10.0) < 2 * 2**20 / 1000 / 8
    together = Replicas(Settings(**settings, coordinator_url="redis://127.0.0.1:1/0"))
    assert type(together.prepare(PAGES)["pages"]) is JointCache
    assert loads_per_second(together.gates(PAGES, 1)["pages"], seconds=1.0) == MOST


def test_waits_by_a_rate_that_the_coordinator_keeps_are_told_of_its_origin():
    async def go(fleet):
        joint = fleet.prepare(PAGES)["pages"]
        gate = fleet.gates(PAGES, 1)["pages"]
        await joint.warmup_items([create_warmup_item("pages", f"{n}") for n in range(6)])
        return gate.record().limited_seconds

    settings = {"rate_limits": {"pages": 200.0}, "replicas": 2, "coordinator_url": "redis://127.0.0.1:1/0"}
    assert asyncio.run(go(Replicas(Settings(**settings)))) >= 4 / 100.0 * 0.9


def test_a_run_begins_with_what_the_one_before_has_learned():
    alone = Replicas(Settings(concurrency_limit=64))
    loads_per_second(first := alone.gates(PAGES, 1)["pages"], seconds=1.0)
    second = alone.gates(PAGES, 2)["pages"]
    assert second is not first
    assert second.learned_limit == first.learned_limit


class Scene:
    """A run that notes when it is performed."""

    is_stopping = is_holding = False

    def __init__(self):
        self.was_stopping = None

    def wait_for(self, what):
        raise AssertionError("nobody hands out places")

    async def perform(self):
        self.was_stopping = self.is_stopping
        return "report"


def test_a_run_is_performed_after_the_wait_for_the_start_which_its_end_cuts_short():
    async def go():
        fleet, run = Replicas(Settings(replicas=2, start_jitter_seconds=600.0)), Scene()
        fleet.prepare(PAGES)
        performing = asyncio.ensure_future(fleet.perform(run))
        await asyncio.sleep(0.1)
        before, run.is_stopping = run.was_stopping, True
        return before, await performing, run.was_stopping

    assert asyncio.run(go()) == (None, "report", True)
