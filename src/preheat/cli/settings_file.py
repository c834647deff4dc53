"""The file of settings that the command line reads: `preheat.toml`, or the table [tool.preheat] of `pyproject.toml`."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from preheat.errors import InvalidSetting

PLACES: tuple[tuple[str, tuple[str, ...]], ...] = (("preheat.toml", ()), ("pyproject.toml", ("tool", "preheat")))
MOST_FILE_BYTES = 2**20


class SettingsFile(NamedTuple):
    """Where it is, and the table in it; None and empty where there is none."""

    path: Path | None = None
    table: Mapping[str, Any] = MappingProxyType({})


def find_settings_file(folder: str | os.PathLike[str]) -> SettingsFile:
    """`preheat.toml`, or the table [tool.preheat] of `pyproject.toml`: the nearest one, in `folder` or above it.

    A folder above into which others may write ends the search, for a target is code that is run.

    Raises:
        InvalidSetting: The nearest file can't be read, is not TOML, or its table is no table.
    """
    here = Path(folder).absolute()
    for place in (here, *takewhile(_is_ours, here.parents)):
        for name, path in PLACES:
            table = _table(place / name, path)
            if table:
                return SettingsFile(place / name, table)
    return SettingsFile()


def _is_ours(folder: Path) -> bool:
    """Whether nobody but this user and root can write into `folder`."""
    try:
        status = folder.stat()
    except OSError:
        return False
    return status.st_uid in {os.getuid(), 0} and not status.st_mode & stat.S_IWOTH


def _table(file: Path, path: tuple[str, ...]) -> Mapping[str, Any]:
    """The table under `path` of `file`; empty if there is none."""
    if not file.is_file():
        return {}
    try:
        with file.open("rb") as opened:
            text = opened.read(MOST_FILE_BYTES + 1)
        table: Any = tomllib.loads(text.decode()) if len(text) <= MOST_FILE_BYTES else None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{file} is not TOML: {error}") from None
    except OSError as error:
        raise InvalidSetting(f"{file} can't be read: {error.strerror}") from None
    if table is None:
        raise InvalidSetting(f"{file} is larger than {MOST_FILE_BYTES >> 20} MiB; it has to be a file of settings")
    for part in path:
        table = table.get(part, {}) if isinstance(table, dict) else table
    if not isinstance(table, dict):
        raise InvalidSetting(f"{file}: [tool.preheat] has to be a table")
    return table
