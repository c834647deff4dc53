"""What can be warmed at the start of an application, and the service that warms it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias

from preheat._process import service_of_process
from preheat._service import CacheWarmupService
from preheat._target import caches_in, called, find_target
from preheat.abc import WarmableCache
from preheat.errors import InvalidTarget

Caches: TypeAlias = WarmableCache | Iterable[WarmableCache] | Mapping[str, WarmableCache]
Found: TypeAlias = CacheWarmupService | Caches
Warmed: TypeAlias = Found | Callable[[], Found | Awaitable[Found]] | str | None
"""What can be warmed: a service, caches, a function (also a coroutine function) that returns one of these, all this by
name as `module:attribute`, or None: what belongs to the service of this process."""


async def open_service(warmed: Warmed) -> CacheWarmupService:
    """The service that warms `warmed`: itself where it is one, else that of this process.

    Functions are called in this thread; history is read in another one.

    Raises:
        InvalidTarget: It is nothing that can be warmed, or a service that was closed.
        UsageError: A setting can't be used.
    """
    found = await called(await asyncio.to_thread(find_target, warmed) if isinstance(warmed, str) else warmed)
    if isinstance(found, CacheWarmupService):
        if found.is_closed:
            raise InvalidTarget("the service to warm has been closed; give a function that makes one instead")
        return found
    caches = [] if found is None else caches_in(found, warmed if isinstance(warmed, str) else "what is to be warmed")
    return await asyncio.to_thread(_with_caches, caches)


def _with_caches(caches: Iterable[WarmableCache]) -> CacheWarmupService:
    service = service_of_process()
    for cache in caches:
        service.register(cache)
    return service
