"""Where the settings, the service and the state folder of a command come from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from preheat.errors import UnknownCache, UsageError, nearest

if TYPE_CHECKING:
    from preheat import CacheWarmupService

MEMORY_SHARE = 12  # a history being gathered takes this part of the memory that is free; reading it takes the rest
LEAST_BYTES, MOST_BYTES = 2**23, 2**32


def configure(state_dir: str | None) -> dict[str, Any]:
    """Bring the settings of the file and of the command line into the environment, where every service reads them."""
    from preheat._settings import PREFIX, resolve_settings
    from preheat._target import read_configuration

    configuration = read_configuration(os.getcwd())
    target = configuration.pop("target", None)
    resolve_settings({}, configuration)
    for name, value in configuration.items():
        os.environ.setdefault(f"{PREFIX}{name.upper()}", _as_text(value))
    if state_dir is not None:
        os.environ[f"{PREFIX}STATE_DIR"] = state_dir
    resolve_settings(os.environ)
    return {"target": target}


def _as_text(value: Any) -> str:
    """A setting as the environment holds it; what JSON has no word for, as a date, is refused where it is used."""
    import json

    return json.dumps(value, default=str) if isinstance(value, dict) else str(value)


def on_service(target: str | None, state_dir: str | None, only: tuple[str, ...], act: Any) -> Any:
    """What `act` returns for the service that `target` names."""
    import asyncio

    from preheat._target import load_service

    configured = configure(state_dir)
    name = target or configured["target"]
    if not name:
        raise UsageError("nothing says what to warm; name it as module:attribute, or set `target` under [tool.preheat]")

    async def work() -> Any:
        async with await load_service(str(name)) as service:
            _keep_only(service, only)
            return await act(service)

    return asyncio.run(work())


def _keep_only(service: CacheWarmupService, only: Iterable[str]) -> None:
    wanted = set(only)
    for name in wanted - set(service.caches):
        known = ", ".join(service.caches) or "none"
        raise UnknownCache(f"no cache is registered as {name!r}; {nearest(name, service.caches)}there are: {known}")
    for name in [name for name in service.caches if wanted and name not in wanted]:
        service.unregister(name)


def state_folder(state_dir: str | None) -> str:
    """The configured state folder, which need not be there."""
    from preheat._settings import resolve_settings

    configure(state_dir)
    return resolve_settings(os.environ).state_dir


def most_items() -> int:
    """How many items a history may have, as configured."""
    from preheat._settings import resolve_settings

    return resolve_settings(os.environ).max_history_items


def most_history_bytes() -> int:
    """How large a history may become that is read from a file, going by the memory that is free now."""
    from preheat._memory import SystemMemory

    return min(MOST_BYTES, max(LEAST_BYTES, SystemMemory()().available_bytes // MEMORY_SHARE))


def open_store(state_dir: str | None) -> Any:
    """The store in the configured state folder, to be read only; closes itself as a context.

    Raises:
        UsageError: There is no such folder.
    """
    from contextlib import closing

    from preheat._store import SqliteStore

    folder = state_folder(state_dir)
    if not os.path.isdir(folder):
        raise UsageError(f"there is no state folder {folder}; name it with --state-dir or CACHE_WARMUP_STATE_DIR")
    return closing(SqliteStore(folder, read_only=True))
