"""How the items of a cache are loaded."""

from __future__ import annotations

import inspect
from typing import NamedTuple

from preheat.abc import LoadsInBulk, WarmableCache


class Way(NamedTuple):
    """How the items of a cache are loaded: on the loop or in threads, in batches or one by one."""

    is_on_loop: bool
    is_in_bulk: bool


def way_of(cache: WarmableCache) -> Way:
    """The way that `cache` offers: in batches if it has them of the same kind, coroutine functions or not."""
    is_on_loop = inspect.iscoroutinefunction(cache.warmup_item)
    is_in_bulk = isinstance(cache, LoadsInBulk) and inspect.iscoroutinefunction(cache.warmup_items) == is_on_loop
    return Way(is_on_loop, is_in_bulk)
