"""What other distributions add to a service: strategies, predictors and candidate sources, by their names.

A name that nobody has is the caller's mistake and raises.  Something that is there and broken costs itself alone: a
line in the log, and the service goes on as if it had not been named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from preheat._model import WarmupStrategy
from preheat._plan.strategy import STRATEGIES, StrategyProfile, find_fallback, find_strategy, strategy_row
from preheat._plugins import GROUPS, Plugin, find_plugin, find_plugins, tell_broken
from preheat.abc import CandidateSource, Predictor
from preheat.errors import BrokenPlugin, UnknownStrategy, UsageError


def find_or_add_strategy(name: str, strategies: MutableMapping[str, StrategyProfile]) -> StrategyProfile:
    """The row of `strategies` called `name`; if there is none, the one that a distribution adds, which becomes one.

    Raises:
        UnknownStrategy: There is none; names the nearest one and all there are.
        BrokenPlugin: What the distribution adds is no strategy.
    """
    try:
        return find_strategy(name, strategies)
    except UnknownStrategy as error:
        added = {plugin.name: plugin for plugin in find_plugins("strategies")}
        if name not in added:
            others = f"; and, by other distributions: {', '.join(added)}" if added else ""
            raise UnknownStrategy(f"{error}{others}") from None
        strategies[name] = _row(added[name], strategies)
        return strategies[name]


def configured_strategy(name: str, strategies: MutableMapping[str, StrategyProfile]) -> StrategyProfile:
    """The same of a name in the settings; where it is broken, the application goes on with the default.

    Raises:
        UnknownStrategy: There is none.
    """
    try:
        return find_or_add_strategy(name, strategies)
    except BrokenPlugin as error:
        tell_broken(error)
        return find_strategy(WarmupStrategy.BALANCED, strategies)


def _row(plugin: Plugin, strategies: Mapping[str, StrategyProfile]) -> StrategyProfile:
    rules = plugin.load()
    if not isinstance(rules, Mapping):
        raise plugin.broken(f"it is a {type(rules).__name__}; it has to be a mapping of the rules of a strategy")
    try:
        row = strategy_row(plugin.name, rules)
        find_fallback(row, strategies)
    except UsageError as error:
        raise plugin.broken(str(error)) from None
    return row


def added_predictor(name: str) -> Predictor | None:
    """The predictor called `name`; None if it is broken.

    Raises:
        InvalidSetting: There is none.
    """
    return _callable(find_plugin("predictors", name))


def added_source(name: str) -> CandidateSource | None:
    """The candidate source called `name`; None if it is broken.

    Raises:
        InvalidSetting: There is none.
    """
    return _callable(find_plugin("candidates", name))


def _callable(plugin: Plugin) -> Callable[..., Any] | None:
    """What `plugin` names; None, and a line in the log, if it is broken."""
    try:
        _demand_usable(plugin)
    except BrokenPlugin as error:
        tell_broken(error)
        return None
    found: Callable[..., Any] = plugin.load()
    return found


def check_plugins() -> Iterator[tuple[Plugin, str]]:
    """Everything that is added, and what is wrong with it, "" if it can be used; loads it all."""
    for group in GROUPS:
        for plugin in find_plugins(group):
            try:
                _demand_usable(plugin)
            except BrokenPlugin as error:
                yield plugin, str(error)
            else:
                yield plugin, ""


def _demand_usable(plugin: Plugin) -> None:
    if plugin.group == "strategies":
        _row(plugin, STRATEGIES)
        return
    found = plugin.load()
    if not callable(found):
        raise plugin.broken(f"it is a {type(found).__name__}; it has to be callable")
