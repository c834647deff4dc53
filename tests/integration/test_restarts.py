"""Applications over caching libraries, restarted: recorded, planned, warmed, and served without a miss."""

import asyncio

import pytest

from preheat import CacheWarmupService, heat
from preheat.abc import ItemStatus

VISITS = [n % 7 for n in range(40)]


def dogpile_shop():
    dogpile = pytest.importorskip("dogpile.cache", reason="dogpile.cache is not installed")
    region = dogpile.make_region().configure("dogpile.cache.memory", expiration_time=300)

    @region.cache_on_arguments()
    @heat.loader
    def product(number):
        return {"number": number}

    async def visit(number):
        return product(number)

    return region, visit


def aiocache_shop():
    aiocache = pytest.importorskip("aiocache", reason="aiocache is not installed")

    @aiocache.cached(ttl=300)
    @heat.loader
    async def product(number):
        return {"number": number}

    return product.cache, product


def cashews_shop():
    cashews = pytest.importorskip("cashews", reason="cashews is not installed")
    cache = cashews.Cache()
    cache.setup("mem://?check_interval=0")

    @cache(ttl="5m", key="product:{number}")
    @heat.loader
    async def product(number):
        return {"number": number}

    return cache, product


@pytest.mark.parametrize("make", [dogpile_shop, aiocache_shop, cashews_shop])
def test_after_a_restart_every_visit_is_a_hit(make, tmp_path):
    async def live(*, is_warmed):
        cache, visit = make()
        async with CacheWarmupService(state_dir=str(tmp_path), holdout_ratio=0) as service:
            heat.watch(cache, name="shop", service=service)
            loaded = 0
            if is_warmed:
                report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
                loaded = report.count(ItemStatus.LOADED)
            for number in VISITS:
                assert await visit(number) == {"number": number}
            statistics = service.caches["shop"].get_warmup_statistics()
            return loaded, statistics.hits, statistics.misses

    assert asyncio.run(live(is_warmed=False)) == (0, 33, 7)
    assert asyncio.run(live(is_warmed=False)) == (0, 33, 7)  # the control: a restart forgets all
    assert asyncio.run(live(is_warmed=True)) == (7, 40, 0)


def test_a_run_that_is_rolled_back_gives_back_what_nobody_asked_for(tmp_path):
    async def live():
        cache, visit = aiocache_shop()
        async with CacheWarmupService(state_dir=str(tmp_path), holdout_ratio=0) as service:
            heat.watch(cache, name="shop", service=service)
            for number in VISITS:
                await visit(number)
            await cache.clear()
            await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            known = service.caches["shop"]
            keys = list(cache._cache)
            await visit(0)
            return [known.undo_warmup(key) > 0 for key in keys].count(True), len(cache._cache)

    assert asyncio.run(live()) == (6, 1)
