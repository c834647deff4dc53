"""Warm-ups of servers that fork: who warms, and who inherits.

The parent warms once, before it forks, and its children share the memory until one of them writes to it.  CPython
writes to the head of every object that is merely looked at, so children come to have copies of most of dicts and lists,
of a page of each bytes or array, and of hardly anything of large ones.  Hence the budget is divided by the number of
children, unless `workers=1` says that hardly anything is copied.

No thread survives a fork: what the deadline leaves unloaded stays so.  What a child changes or invalidates is its own;
neither the parent nor a child forked later sees it, so values that change need an expiry, as in every cache that
several processes have each for themselves.  For the same reason nothing is kept in snapshots here.
"""

from __future__ import annotations

import asyncio
import gc
import os
from dataclasses import replace
from functools import partial

from preheat._readiness import Gate
from preheat._service import CacheWarmupService
from preheat._settings import resolve_settings
from preheat.errors import InvalidSetting
from preheat.startup.terms import Terms
from preheat.startup.warmed import Warmed, open_service
from preheat.startup.warming import PATIENCE_SECONDS, Warming


def warm_before_fork(warmed: Warmed, terms: Terms) -> CacheWarmupService | None:
    """The service that has warmed `warmed`, for the children to inherit; None where it failed, which is logged.

    Returns when everything is warm or the deadline has passed, with no loop or loader at work any more.  What there is
    by then is moved out of the collector's sight (`gc.freeze`), so that no collection in a child writes to it.  The
    state folder is left to the children, who record.
    """
    warming = Warming(partial(_forkable, warmed), replace(terms, gate=Gate.ALL, listens_first=False))

    async def warm() -> None:
        await warming.begin()
        await warming.stop()

    asyncio.run(warm())
    if warming.service is not None:
        warming.service.ledger.give_up()
    gc.collect()
    gc.freeze()
    return warming.service


async def _forkable(warmed: Warmed) -> CacheWarmupService:
    """The service of `warmed`, if it may fork.

    Raises:
        InvalidSetting: It keeps values in snapshots.
    """
    if not isinstance(warmed, CacheWarmupService) and resolve_settings(os.environ).snapshots:
        raise _snapshots_refused()
    service = await open_service(warmed)
    if service.settings.snapshots:
        await service.close()
        raise _snapshots_refused()
    return service


def _snapshots_refused() -> InvalidSetting:
    return InvalidSetting(
        "snapshots can't be kept where children inherit the caches, for what a child invalidates would come back; "
        "set CACHE_WARMUP_SNAPSHOTS=false, or let each worker warm for itself"
    )


def save_in_child(service: CacheWarmupService | None) -> None:
    """In a child that ends: save what it was asked for.  The rest of the service is the parent's."""
    if service is not None:
        service.save_at_exit(patience_seconds=PATIENCE_SECONDS)


def close_in_parent(service: CacheWarmupService | None) -> None:
    """In the parent that ends: close the service."""
    if service is not None:
        asyncio.run(service.close(patience_seconds=PATIENCE_SECONDS))
