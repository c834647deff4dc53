"""What the contracts of caches on servers have in common, where their operations block."""

from __future__ import annotations

from typing import Any

from preheat import create_warmup_item
from preheat.testing import WarmableCacheContract


def value_of(key: str) -> bytes:
    return f"value of {key}".encode()


class BlockingCacheContract(WarmableCacheContract):
    """A subclass has `make_cache(load=value_of, **options)` and, to see lives, `left_seconds`."""

    def make_cache_loading(self, loading):
        return self.make_cache(lambda key: (loading(), value_of(key))[1])

    def make_cache_of_life(self, seconds):
        return self.make_cache(ttl_seconds=seconds)

    def make_item(self, n):
        return create_warmup_item("pages", f"page {n}")

    def read(self, cache: Any, item):
        return cache.get(item.ref.key)

    def replace(self, cache: Any, item):
        assert cache.put(item.ref.key, b"newer")
        return b"newer"

    def delete(self, cache: Any, item):
        return cache.delete(item.ref.key)
