"""Which adapter an object is for: by the names of its class and of those that it inherits from.

Nothing is imported to find that out, and then the one adapter alone.  Other distributions add theirs by an entry point
of the group `preheat.adapters`, whose name is that of the class; see `preheat._plugins`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, MutableMapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from preheat._plugins import find_plugins, load_or_tell
from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    from preheat.abc import RecordsAccesses

Watch = Callable[..., "tuple[Any, RecordsAccesses]"]

ADAPTERS = {
    "aiocache.base.BaseCache": "aiocache",
    "cashews.wrapper.Cache": "cashews",
    "django.core.cache.backends.base.BaseCache": "django",
    "django.utils.connection.ConnectionProxy": "django",
    "dogpile.cache.region.CacheRegion": "dogpile",
    "joblib.memory.MemorizedFunc": "joblib",
    "joblib.memory.NotMemorizedFunc": "joblib",
    "langchain_classic.embeddings.cache.CacheBackedEmbeddings": "langchain",
}
"""By the class, the module of `preheat.adapters` that has a `watch` for it, which is also the name of its extra."""


def find_adapter(thing: Any, name: str) -> Watch:
    """What records a `thing` and makes it warmable: called with it, `name`, `log`, `load`, `priority` and options.

    Raises:
        InvalidSetting: There is no adapter for it.
    """
    classes = [f"{each.__module__}.{each.__qualname__}" for each in type(thing).__mro__]
    known = next((ADAPTERS[each] for each in classes if each in ADAPTERS), None)
    if known is not None:
        return _watch_of(known, name)
    if type(thing).__module__ not in {"builtins", "collections"}:
        added = _added_adapter(classes)
        if added is not None:
            return added
    if isinstance(thing, MutableMapping):
        return _watch_of("watched", name)
    raise _no_adapter(type(thing), name)


def _watch_of(module: str, name: str) -> Watch:
    try:
        watch: Watch = import_module(f"preheat.adapters.{module}").watch
    except ImportError as error:
        raise InvalidSetting(
            f"cache {name!r}: its adapter can't be imported: {error}; pip install 'preheat[{module}]'"
        ) from None
    return watch


def _added_adapter(classes: Iterable[str]) -> Watch | None:
    added = {plugin.name: plugin for plugin in find_plugins("adapters")}
    for each in classes:
        watch: Watch | None = load_or_tell(added[each]) if each in added else None
        if watch is not None:
            return watch
    return None


def _no_adapter(kind: type, name: str) -> InvalidSetting:
    extras = ", ".join(sorted(set(ADAPTERS.values())))
    added = ", ".join(plugin.name for plugin in find_plugins("adapters"))
    others = f", or of {added}" if added else ""
    return InvalidSetting(
        f"cache {name!r}: a {kind.__qualname__} can't be watched; what can be is a mapping that can be written to, or "
        f"a cache of {extras}{others}; for a function use preheat.heat.cached"
    )


def demand_options(watch: Watch, name: str, options: dict[str, Any]) -> None:
    """Demand that `watch` has the `options`.

    Raises:
        InvalidSetting: It lacks one; names those that it has.
    """
    parameters = inspect.signature(watch).parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return
    unknown = [option for option in options if option not in parameters]
    if unknown:
        usual = {"name", "log", "load", "priority"}
        known = [each for each in list(parameters)[1:] if each not in usual]
        raise InvalidSetting(
            f"cache {name!r}: its adapter has no option {unknown[0]}; there are: {', '.join(known) or 'none'}"
        )
