"""A morning's visitors, as if they came over the network: `python traffic.py`.  Prints hits and misses."""

import asyncio
import os
import random

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

import django

django.setup()

from django.test import Client  # noqa: E402

from preheat import execute_memory_aware_warmup, get_cache_warmup_service  # noqa: E402
from preheat.abc import ItemStatus  # noqa: E402


async def main():
    """Warm what is in memory, which a server would not have kept; then serve, and say how it went."""
    service = await get_cache_warmup_service()
    if "warm" in os.environ.get("AT_START", ""):
        report = await execute_memory_aware_warmup()
        print(f"warmed {report.count(ItemStatus.LOADED)}")
    await asyncio.to_thread(serve)
    statistics = service.caches["default"].get_warmup_statistics()
    print(f"hits {statistics.hits} misses {statistics.misses}")
    await service.close()


def serve():
    """Visitors like some products better than others."""
    visitors, client = random.Random(1), Client()
    for _ in range(400):
        number = min(199, int(visitors.expovariate(1 / 12)))
        assert client.get(f"/product/{number}/").json()["number"] == number


asyncio.run(main())
