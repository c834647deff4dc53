"""Where the settings, the service and the state folder of a command come from."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preheat.errors import InvalidSetting, UnknownCache, UsageError, nearest

if TYPE_CHECKING:
    from preheat import CacheWarmupService
    from preheat._settings import Settings
    from preheat.cli.settings_file import SettingsFile

MEMORY_SHARE = 12  # a history being gathered takes this part of the memory that is free; reading it takes the rest
LEAST_BYTES, MOST_BYTES = 2**23, 2**32


def configure(state_dir: str | None) -> Settings:
    """Bring the settings of the file and of the command line into the environment, where every service reads them.

    Raises:
        InvalidSetting: One of them can't be used; the message names where it stands.
    """
    from preheat._settings import PREFIX, resolve_settings
    from preheat.cli.settings_file import find_settings_file

    found = find_settings_file(os.getcwd())
    try:
        resolve_settings({}, found.table)
    except UsageError as error:
        raise InvalidSetting(f"{found.path}: {error}") from None
    for name, value in {**found.table, **_places(found)}.items():
        os.environ.setdefault(f"{PREFIX}{name.upper()}", _as_text(value))
    if state_dir is not None:
        os.environ[f"{PREFIX}STATE_DIR"] = state_dir
    return resolve_settings(os.environ)


def _places(found: SettingsFile) -> dict[str, str]:
    """What counts from the folder of the file, and not from the current one."""
    from preheat._settings import resolve_settings

    if found.path is None or found.path.parent == Path.cwd():
        return {}
    if str(found.path.parent) not in sys.path:
        sys.path.insert(0, str(found.path.parent))
    return {"state_dir": str(found.path.parent / resolve_settings({}, found.table).state_dir)}


def _as_text(value: Any) -> str:
    """A setting as the environment holds it; what JSON has no word for, as a date, is refused where it is used."""
    import json

    return json.dumps(value, default=str) if isinstance(value, dict) else str(value)


def on_service(target: str | None, state_dir: str | None, only: tuple[str, ...], act: Any) -> Any:
    """What `act` returns for the service that `target` names."""
    import asyncio

    from preheat._target import load_service

    configured = configure(state_dir)
    name = target or configured.target
    if not name:
        raise UsageError("nothing says what to warm; name it as module:attribute, or set `target` under [tool.preheat]")

    async def work() -> Any:
        async with await load_service(name) as service:
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
    return configure(state_dir).state_dir


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
