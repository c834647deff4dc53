"""The service of this process: made at the first call, configured by the environment, closed at exit."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from preheat._model import WarmupProgress, WarmupReport, WarmupStrategy
from preheat._service import CacheWarmupService, name_taken
from preheat._settings import resolve_settings
from preheat.abc import RecordsAccesses, WarmableCache

_shared: CacheWarmupService | None = None
_making = threading.RLock()
_of_process: dict[str, RecordsAccesses] = {}
_configuration: dict[str, Any] = {}


def configure_process(table: Mapping[str, Any]) -> None:
    """Have the service of this process, when it is made, take its settings from `table` too; the environment wins.

    Raises:
        InvalidSetting: A setting is not known, or can't be used.
    """
    resolve_settings({}, table)
    _configuration.clear()
    _configuration.update(table)


def service_of_process() -> CacheWarmupService:
    """The service of this process, made at the first call, with everything that belongs to the process.

    Raises:
        InvalidSetting, UnknownStrategy: The environment can't be used.
    """
    global _shared
    with _making:
        if _shared is None or _shared.is_closed:
            service = CacheWarmupService(resolve_settings(os.environ, _configuration))
            for name, recorded in _of_process.items():
                take_on(service, name, recorded)
            _shared = service
            atexit.register(_close_at_exit, service, os.getpid())
        return _shared


def _close_at_exit(service: CacheWarmupService, process: int) -> None:
    """Save what was recorded where nobody has closed the service; not in a child, whose folder it is not."""
    if service is _shared and process == os.getpid():
        service.save_at_exit()


def belong_to_process(name: str, recorded: RecordsAccesses) -> None:
    """Have the service of this process take on `recorded`: now, if there is one, and whenever one is made.

    Raises:
        InvalidSetting: Something else has that name.
    """
    with _making:
        if name in _of_process:
            raise name_taken(name)
        if _shared is not None and not _shared.is_closed:
            take_on(_shared, name, recorded)
        _of_process[name] = recorded


def take_on(service: CacheWarmupService, name: str, recorded: RecordsAccesses) -> None:
    """Have `service` record `recorded`, and warm it if it can be warmed.

    Raises:
        InvalidSetting: Something else has that name.
    """
    if isinstance(recorded, WarmableCache):
        service.register(recorded)
    elif name in service.caches:
        raise name_taken(name)
    else:
        recorded.record_to(service.ledger.log(name))


def is_taken(name: str) -> bool:
    """Whether something that belongs to this process, or is registered with its service, has that name."""
    return name in _of_process or (_shared is not None and not _shared.is_closed and name in _shared.caches)


async def get_cache_warmup_service() -> CacheWarmupService:
    """The service of this process, made at the first call and configured by the environment.

    Raises:
        InvalidSetting, UnknownStrategy: The environment can't be used.
    """
    return service_of_process()


async def execute_memory_aware_warmup(
    strategy: WarmupStrategy | str | None = None,
    memory_budget_mb: float | None = None,
    on_progress: Callable[[WarmupProgress], None] | None = None,
    *,
    join: bool = False,
) -> WarmupReport:
    """Plan and run a warm-up of the caches registered with the service of this process.

    Args:
        strategy: By default the configured one.
        memory_budget_mb: MiB; only ever lowers the budget that the free memory gives.
        on_progress: Called at most ten times a second, and once at the end.
        join: Whether to wait for a run that is active in this process, and return its report.

    Raises:
        UsageError: An argument or setting can't be used.
        WarmupInProgress: A run is active, and is not to be joined.
        WarmupBrokenOff: The run that was joined ended without a report.
    """
    service = await get_cache_warmup_service()
    plan = await service.create_warmup_plan(strategy, memory_budget_mb)
    return await service.execute_warmup_plan(plan, on_progress, join=join)
