"""What is named by text: a target as `module:attribute`, and saved plans."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from preheat._model import WarmupPlan
from preheat._plan.saved import MOST_TEXT_BYTES, plan_from_json, plan_to_json
from preheat._service import CacheWarmupService
from preheat._whole_file import write_whole
from preheat.abc import WarmableCache
from preheat.errors import InvalidPlan, InvalidSetting, InvalidTarget, nearest


async def load_service(target: str) -> CacheWarmupService:
    """The service that `target` names or, where it names caches, a new one that warms them.

    Raises:
        InvalidTarget: It can't be imported, or is nothing that can be warmed.
    """
    found = await called(find_target(target))
    if isinstance(found, CacheWarmupService):
        return found
    service = CacheWarmupService()
    for cache in caches_in(found, target):
        service.register(cache)
    return service


async def called(found: Any) -> Any:
    """What `found` gives if it is a function or coroutine function, else itself."""
    if not callable(found) or isinstance(found, WarmableCache | CacheWarmupService):
        return found
    given = found()
    return await given if inspect.isawaitable(given) else given


def caches_in(found: Any, name: str) -> list[WarmableCache]:
    """The caches that `found` is, or has; `name` is what a message calls it.

    Raises:
        InvalidTarget: It has none.
    """
    if isinstance(found, WarmableCache):
        return [found]
    caches = found.values() if isinstance(found, Mapping) else found
    if not isinstance(caches, Iterable) or isinstance(caches, str | bytes):
        raise InvalidTarget(f"{name} is a {type(found).__name__}; it has to be a CacheWarmupService or caches")
    return list(caches)


def find_target(target: str) -> Any:
    """What `target`, a `module:attribute`, names; modules are looked for in the current folder too.

    Raises:
        InvalidTarget: It can't be imported.
    """
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise InvalidTarget(f"{target!r} has to be module:attribute, as in shop.caches:caches")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InvalidTarget(f"{module_name} can't be imported: {error} (looked in {os.getcwd()} too)") from None
    except Exception as error:  # whatever an application does on import is not ours to show a traceback of
        raise InvalidTarget(f"{module_name} failed to import: {type(error).__name__}: {error}") from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            hint = nearest(part, (name for name in dir(found) if not name.startswith("_")))
            raise InvalidTarget(f"{module_name} has no {attribute!r}; {hint}".rstrip("; "))
        found = getattr(found, part)
    return found


def write_plan(plan: WarmupPlan, path: str) -> None:
    """Save `plan` at `path`: whole or, if that fails, not at all.

    Raises:
        InvalidSetting: Nothing can be written there.
    """
    try:
        write_whole(path, [plan_to_json(plan).encode()])
    except OSError as error:
        raise InvalidSetting(f"the plan can't be saved as {path}: {error.strerror}") from None


def read_plan(path: str) -> WarmupPlan:
    """The plan saved at `path`.

    Raises:
        InvalidPlan: It can't be read, or is no plan that can be loaded.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_TEXT_BYTES + 1)
    except OSError as error:
        raise InvalidPlan(f"{path} can't be read: {error.strerror}") from None
    return plan_from_json(text, path)
