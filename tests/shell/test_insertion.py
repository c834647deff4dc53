"""Where a warm-up inserts into somebody else's mapping: what is worth least is evicted first."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from cachetools import FIFOCache, LRUCache

from preheat._model import ItemRef, ItemStatus, WarmupItem
from preheat.adapters.mapping import MOST_PASSED, MappingCache


def evict(mapping):
    return mapping.popitem(last=False)[0] if isinstance(mapping, OrderedDict) else mapping.popitem()[0]


def evicted(mapping):
    """All keys in the order in which the mapping would drop them."""
    return [evict(mapping) for _ in range(len(mapping))]


def over(mapping):
    return MappingCache(mapping, lambda key: key, name="c")


def warm(cache, n, **changes):
    item = WarmupItem(ItemRef("c", str(n)), value_seconds=1.0 / (n + 1))._replace(**changes)
    assert cache.warmup_item(item).status is ItemStatus.LOADED


MAPPINGS = [OrderedDict, lambda: LRUCache(maxsize=1000)]


@pytest.mark.parametrize("make", MAPPINGS)
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_the_most_valuable_is_the_last_of_what_was_warmed_to_go_and_traffic_s_own_goes_later(make, order):
    mapping = make()
    cache = over(mapping)
    cache.get("traffic")
    for n in order:
        warm(cache, n)
    assert evicted(mapping) == ["3", "2", "1", "0", "traffic"]


def test_a_mapping_without_an_order_of_use_inserts_as_it_does():
    mapping = FIFOCache(maxsize=10)
    cache = over(mapping)
    for n in (1, 0):
        warm(cache, n)
    assert evicted(mapping) == ["1", "0"]


@pytest.mark.parametrize("make", MAPPINGS)
def test_what_traffic_has_used_is_no_longer_behind(make):
    mapping = make()
    cache = over(mapping)
    for n in range(3):
        warm(cache, n)
    cache.get("2")
    warm(cache, 3)
    keys = evicted(mapping)
    assert keys.index("3") < keys.index("1") < keys.index("0")


@pytest.mark.parametrize("make", MAPPINGS)
def test_many_that_come_in_the_worst_order_are_put_right_by_the_next_read(make):
    mapping = make()
    cache = over(mapping)
    count = 2 * MOST_PASSED + 20
    for n in reversed(range(count)):
        warm(cache, n)
    cache.get("traffic")
    assert evicted(mapping)[:count] == [str(n) for n in reversed(range(count))]


def test_critical_items_stay_longest():
    mapping = OrderedDict()
    cache = over(mapping)
    warm(cache, 9, priority=8)
    warm(cache, 1)
    assert evicted(mapping) == ["1", "9"]


def test_what_no_plan_has_valued_is_valued_by_frequency_and_cost():
    mapping = OrderedDict()
    cache = over(mapping)
    warm(cache, 1, value_seconds=0.0, usage_frequency=1.0, warmup_cost=2.0)
    warm(cache, 2, value_seconds=0.0, usage_frequency=9.0, warmup_cost=2.0)
    assert evicted(mapping) == ["1", "2"]
