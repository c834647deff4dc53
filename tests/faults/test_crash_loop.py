"""A process that is killed whenever it warms up: nothing is lost, and the origin is asked for less than two plans."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

import pytest

from builders import GIB, reading
from preheat import _service
from preheat._service import CacheWarmupService
from preheat.adapters.mapping import MappingCache

ITEMS = 200
KILLS = 20


def service_of(folder, load: Callable[[str], str]) -> CacheWarmupService:
    service = CacheWarmupService(
        memory=lambda: reading(4 * GIB, 8 * GIB),
        state_dir=str(folder),
        holdout_ratio=0.0,
        seed=1,
        concurrency_limit=1,
    )
    service.register(MappingCache({}, load, name="c"))
    return service


async def planned_items(folder) -> int:
    async with service_of(folder, lambda key: key * 100) as service:
        plan = await service.create_warmup_plan("aggressive")
        return len(plan)


def record(folder) -> None:
    async def act() -> None:
        async with service_of(folder, lambda key: time.sleep(0.0001) or key * 100) as service:
            for _ in range(3):
                for n in range(ITEMS):
                    service.caches["c"].get(f"k{n}")

    asyncio.run(act())


def killed_in_its_warm_up(folder, share_of_run: float) -> int:
    """How many items the process asked its origin for before it was killed, in the middle of a load."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(read)
            asyncio.run(warm_until_stuck(folder, write, share_of_run))
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as asked:
        total = 0
        while said := asked.read(1):
            if said == b"!":
                break
            total += 1
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return total


async def warm_until_stuck(folder, write: int, share_of_run: float) -> None:
    left = [1.0]

    def load(key: str) -> str:
        os.write(write, b".")
        left[0] -= 1
        if left[0] <= 0:
            os.write(write, b"!")
            time.sleep(60.0)
        return key * 100

    service = service_of(folder, load)
    plan = await service.create_warmup_plan("aggressive")
    left[0] = max(1.0, share_of_run * len(plan))
    await service.execute_warmup_plan(plan)


@pytest.mark.parametrize("share_of_run", [1.0, 0.5])
def test_twenty_kills_in_a_row_ask_for_less_than_two_plans_and_cost_nothing_known(tmp_path, share_of_run):
    record(tmp_path / "state")
    whole = asyncio.run(planned_items(tmp_path / "state"))
    assert whole == ITEMS
    asked = [killed_in_its_warm_up(tmp_path / "state", share_of_run) for _ in range(KILLS)]
    assert asked[0] == share_of_run * whole
    assert sum(asked) <= 2 * whole
    assert max(asked[3:]) <= 0.1 * whole

    async def heal() -> tuple[list[str], list[str], int, str | None]:
        async with service_of(tmp_path / "state", lambda key: key * 100) as service:
            cautious = await service.create_warmup_plan("aggressive")
            told = await service.get_warmup_status()
            await service.execute_warmup_plan(cautious)
            return (
                list(cautious.adapted),
                [told["caution"]],
                len(await service.create_warmup_plan("aggressive")),
                (await service.get_warmup_status())["caution"],
            )

    adapted, told, healed, after = asyncio.run(heal())
    assert adapted == told == ["the last 20 warm-ups never ended, so 1% of the items are loaded until one ends"]
    assert after is None
    assert healed >= 0.95 * whole - 2  # those that are resident already are no candidates
    assert asyncio.run(planned_items(tmp_path / "state")) >= 0.95 * whole


def test_the_control_without_caution_asks_for_all_of_it_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(_service, "cut_plan", lambda plan, interrupted: plan)
    record(tmp_path / "state")
    asked = [killed_in_its_warm_up(tmp_path / "state", 1.0) for _ in range(4)]
    assert sum(asked) > 2 * ITEMS
