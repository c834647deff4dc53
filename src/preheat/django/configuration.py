"""What PREHEAT, in the settings of a Django project, says: which caches are watched, and the settings of the service.

    PREHEAT = {"CACHES": {"default": {"PRIORITY": 7}}, "STATE_DIR": BASE_DIR / ".preheat", "STRATEGY": "balanced"}

Without CACHES the one with the alias "default" is watched.  All else are settings by their names in capitals.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from preheat._model import DEFAULT_PRIORITY
from preheat._settings import resolve_settings
from preheat.errors import InvalidSetting, nearest

_OPTIONS = ("NAME", "LOAD", "PRIORITY")


class Watched(NamedTuple):
    """One cache of CACHES that is to be watched.

    Attributes:
        alias: Its alias.
        name: What it is called in history and reports.
        load: Makes the value of any key that no loader makes; or None.
        priority: The operator's word for its items, 1 to 10.
    """

    alias: str
    name: str
    load: Callable[[str], Any] | None
    priority: int


class Configuration(NamedTuple):
    """What PREHEAT says.

    Attributes:
        watched: The caches.
        settings: Those of the service, by name.
    """

    watched: tuple[Watched, ...]
    settings: dict[str, Any]


def read_configuration(raw: Any, aliases: Collection[str], import_path: Callable[[str], Any]) -> Configuration:
    """What `raw`, the value of PREHEAT, says.

    Args:
        raw: A mapping.
        aliases: Those of CACHES.
        import_path: Gives what a dotted path leads to.

    Raises:
        InvalidSetting: It can't be used; one sentence that names the place in PREHEAT.
    """
    table = _demand_mapping(raw, "PREHEAT")
    caches = _demand_mapping(table.get("CACHES", {"default": {}}), "PREHEAT['CACHES']")
    watched = tuple(_watched(alias, options, aliases, import_path) for alias, options in caches.items())
    settings = {str(name).lower(): _plain(value) for name, value in table.items() if name != "CACHES"}
    try:
        resolve_settings({}, settings)
    except InvalidSetting as error:
        raise InvalidSetting(f"PREHEAT can't be used: {error}") from None
    return Configuration(watched, settings)


def _watched(alias: Any, raw: Any, aliases: Collection[str], import_path: Callable[[str], Any]) -> Watched:
    place = f"PREHEAT['CACHES'][{alias!r}]"
    if alias not in aliases:
        hint = nearest(str(alias), aliases)
        raise InvalidSetting(f"{place}: CACHES has no such alias; {hint}there are: {', '.join(aliases)}")
    options = _demand_mapping(raw, place)
    for option in options:
        if option not in _OPTIONS:
            hint = nearest(str(option), _OPTIONS)
            raise InvalidSetting(f"{place} has no option {option!r}; {hint}there are: {', '.join(_OPTIONS)}")
    load = _load(options.get("LOAD"), place, import_path)
    return Watched(alias, options.get("NAME", alias), load, options.get("PRIORITY", DEFAULT_PRIORITY))


def _load(given: Any, place: str, import_path: Callable[[str], Any]) -> Callable[[str], Any] | None:
    if isinstance(given, str):
        try:
            given = import_path(given)
        except ImportError as error:
            raise InvalidSetting(f"{place}['LOAD'] can't be imported: {error}") from None
    if given is not None and not callable(given):
        raise InvalidSetting(
            f"{place}['LOAD'] is a {type(given).__name__}; it has to be a function of the key, or where to import one"
        )
    load: Callable[[str], Any] | None = given
    return load


def _demand_mapping(raw: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise InvalidSetting(f"{place} is a {type(raw).__name__}; it has to be a dict")
    return raw


def _plain(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value
