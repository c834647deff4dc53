"""What other distributions add, by entry points: looked for when it is asked for by its name, and not before.

    preheat.adapters      a type's qualified name -> what `preheat.heat.watch` calls for objects of that type
    preheat.strategies    a strategy's name -> its rules, a mapping
    preheat.predictors    a predictor's name -> a `preheat.abc.Predictor`
    preheat.candidates    a source's name -> a `preheat.abc.CandidateSource`

One that can't be loaded costs what it would have added, and one line in the log.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

from preheat.errors import BrokenPlugin, InvalidSetting, nearest

GROUPS = ("adapters", "strategies", "predictors", "candidates")
MOST_PLUGINS = 1_000  # of a group


class Plugin(NamedTuple):
    """One entry point.

    Attributes:
        group: The last part of its group: "adapters", "strategies", "predictors" or "candidates".
        name: What it is called there.
        place: Where it is, as module:attribute.
        distribution: Who brings it, with its version.
    """

    group: str
    name: str
    place: str
    distribution: str

    def load(self) -> Any:
        """What it names.

        Raises:
            BrokenPlugin: It can't be had, whatever the reason; one sentence.
        """
        module, _, attribute = self.place.partition(":")
        try:
            found: Any = import_module(module.strip())
            for part in attribute.split("[")[0].strip().split("."):
                found = getattr(found, part) if part else found
        except Exception as error:
            raise self.broken(f"{type(error).__name__}: {error}") from None
        return found

    def broken(self, why: str) -> BrokenPlugin:
        """What is wrong with it."""
        return BrokenPlugin(
            f"{self.name!r} of preheat.{self.group}, which {self.distribution} brings as {self.place}, can't be used: "
            f"{' '.join(why.split())}"
        )


def find_plugins(group: str) -> list[Plugin]:
    """What is installed for `group`, by name; of two with a name the one that Python would import first."""
    from importlib.metadata import entry_points  # only who asks for plugins has to pay for it

    found: dict[str, Plugin] = {}
    for entry in list(entry_points(group=f"preheat.{group}"))[:MOST_PLUGINS]:
        told = getattr(entry, "dist", None)
        distribution = f"{told.name} {told.version}" if told is not None else "a distribution without a name"
        found.setdefault(entry.name, Plugin(group, entry.name, entry.value, distribution))
    return [found[name] for name in sorted(found)]


def find_plugin(group: str, name: str) -> Plugin:
    """The one called `name`.

    Raises:
        InvalidSetting: There is none; names the nearest one and all there are.
    """
    known = {plugin.name: plugin for plugin in find_plugins(group)}
    if name not in known:
        there = ", ".join(known) or "none is installed"
        raise InvalidSetting(
            f"there is no {name!r} among the entry points of preheat.{group}; {nearest(name, known)}there are: {there}"
        )
    return known[name]


def load_or_tell(plugin: Plugin) -> Any | None:
    """What `plugin` names; None, and a line in the log, if it is broken."""
    try:
        return plugin.load()
    except BrokenPlugin as error:
        tell_broken(error)
        return None


def tell_broken(error: BrokenPlugin) -> None:
    """Log that a plugin is left out."""
    import logging

    logging.getLogger("preheat").error("%s; it is left out", error)
