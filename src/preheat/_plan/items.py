"""Rows at the door: items that people make, rank and group by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from preheat._model import DEFAULT_PRIORITY, CandidateTable, ItemRef, WarmupItem
from preheat._plan import request_probability
from preheat._plan.bundles import Bundles
from preheat._plan.filling import by_falling_keys
from preheat._plan.ordering import resolve_dependencies
from preheat._plan.pricing import loading_keys
from preheat.errors import InvalidSetting

PRIORITY_HORIZON_SECONDS = 3600.0


def create_warmup_item(
    cache: str,
    key: str,
    *,
    priority: int = DEFAULT_PRIORITY,
    size_bytes: int = 0,
    usage_frequency: float = 0.0,
    warmup_cost: float = 0.0,
    dependencies: Iterable[tuple[str, str]] = (),
    recipe: str = "",
    covers: Iterable[tuple[str, str]] = (),
) -> WarmupItem:
    """An item, checked.

    Args:
        cache: Name of its cache.
        key: Its key there.
        priority: 1 to 10; 8 and above is critical and loaded first.
        size_bytes: What the value will occupy; see `estimate_item_memory_usage`.
        usage_frequency: Accesses per second expected.
        warmup_cost: Seconds that a miss would cost.
        dependencies: (cache, key) of what has to be resident first.
        recipe: What the loader needs, where the key doesn't say it.
        covers: (cache, key) of what nobody asks for but to make this item and others that cover it.

    Raises:
        InvalidSetting: A value can't be used; names it and what was expected.
    """
    where = f"item {cache}:{key}"
    if not isinstance(priority, int) or isinstance(priority, bool) or not 1 <= priority <= 10:
        raise InvalidSetting(f"{where}: priority is {priority!r}; it has to be a whole number from 1 to 10")
    if not isinstance(size_bytes, int) or isinstance(size_bytes, bool) or not 0 <= size_bytes < 2**63:
        raise InvalidSetting(f"{where}: size_bytes is {size_bytes!r}; it has to be a whole number, 0 or more")
    for name, number in {"usage_frequency": usage_frequency, "warmup_cost": warmup_cost}.items():
        if not (isinstance(number, int | float) and 0 <= number < math.inf):
            raise InvalidSetting(f"{where}: {name} is {number!r}; it has to be a number, 0 or more")
    for name, text in {"cache": cache, "key": key, "recipe": recipe}.items():
        _check_text(where, name, text)
    needs, parts = _refs(where, "dependency", dependencies), _refs(where, "covers", covers)
    numbers = priority, size_bytes, float(usage_frequency), float(warmup_cost)
    return WarmupItem(ItemRef(cache, key), *numbers, needs, recipe, covers=parts)


def _refs(where: str, name: str, pairs: Iterable[tuple[str, str]]) -> tuple[ItemRef, ...]:
    return tuple(dict.fromkeys(_ref(where, name, pair) for pair in pairs))


def _ref(where: str, name: str, pair: tuple[str, str]) -> ItemRef:
    if isinstance(pair, str) or len(pair) != 2:
        raise InvalidSetting(f"{where}: {name} {pair!r}; it has to be a pair of cache and key")
    return ItemRef(*pair)


def _check_text(where: str, name: str, text: object) -> None:
    try:
        assert isinstance(text, str)  # noqa: S101 - the same sentence serves both faults
        text.encode()
    except (AssertionError, UnicodeEncodeError):
        raise InvalidSetting(f"{where}: {name} is {text!r}; it has to be text that UTF-8 can hold") from None


def prioritize_warmup_items(
    items: Sequence[WarmupItem], *, horizon_seconds: float = PRIORITY_HORIZON_SECONDS
) -> list[WarmupItem]:
    """`items` in the order in which they are best loaded.

    Higher priority first; among equals, more seconds saved per byte first, what an item needs being priced with
    it.  Frequency is decayed, so recent use counts more.  A dependency always comes before its dependants.

    Raises:
        DependencyCycle: No order exists.
    """
    table = CandidateTable.of(items)
    graph = resolve_dependencies(table)
    value = request_probability(table, dict.fromkeys(table.caches, horizon_seconds)) * table.warmup_cost
    keys = loading_keys(table.priority.astype(np.int64), value / np.maximum(table.size_bytes, 1))
    bundles = Bundles.of(graph, table.size_bytes, np.ones(len(table), np.bool_))
    keys[graph.nodes] = bundles.bringing_keys(keys[graph.nodes], value).among(bundles.deserves)
    return [items[row] for row in by_falling_keys(np.arange(len(table)), keys).tolist()]


def group_items_by_dependencies(items: Sequence[WarmupItem]) -> list[list[WarmupItem]]:
    """Split `items` into groups, each loadable once the groups before it are.

    Order within a group is the order of `items`.  A dependency that is not itself among `items` is taken to be
    resident already.

    Raises:
        DependencyCycle: No order exists; carries the cycle.
    """
    graph = resolve_dependencies(CandidateTable.of(items))
    level_of = dict(zip(graph.nodes.tolist(), graph.levels.tolist(), strict=True))
    groups: list[list[WarmupItem]] = [[] for _ in range(graph.depth + 1)] if items else []
    for row, item in enumerate(items):
        groups[level_of.get(row, 0)].append(item)
    return groups
