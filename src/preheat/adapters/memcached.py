"""A cache on memcached servers, shared by processes: it loads what is missing and is warmed without harm.

What it does is in `preheat._sharing.leases`, whose rules say why no value is ever stale.  A server that is away has
none of its keys kept, and is asked again about once a second; nothing that a server does raises an error in the
application.  A warm-up fills servers to nine tenths, as their size classes stand, and nothing is evicted for it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from preheat._memcached import Lines, connect, demand_usable
from preheat._model import DEFAULT_PRIORITY, CacheStatistics, ItemRef
from preheat._reach import Door
from preheat._sharing.leases import LeaseRules, Leases
from preheat._sharing.rules import FULL_RATIO, Life
from preheat.adapters.shared import BlockingCache, codec_of, failed_load
from preheat.errors import InvalidSetting

__all__ = ["MemcachedCache", "connect"]

V = TypeVar("V")


class MemcachedCache(BlockingCache[V]):
    """A cache over a client of pymemcache; thread-safe.

    A key that memcached would not take, longer than 250 bytes or not plain ASCII, is kept under its digest.

    Args:
        client: A `PooledClient`, `HashClient` or `Client` with a `timeout`; `connect(address, ...)` makes one.
        load: Makes the value of a key; what it raises passes to the reader.
        name: Name of the cache in history and reports.
        namespace: What its keys on the servers begin with; all processes that share it give the same.
        load_many: Makes the values of many keys at once, in their order: what a warm-up uses where there is one.
        encode: Makes bytes of a value; by default values have to be bytes or text, and come back as bytes.
        decode: Makes a value of those bytes.
        ttl_seconds: How long values live, in whole seconds; a warm-up's by up to a tenth more or less.
        remaining_seconds: What is left of a value's own life, instead; None for ever.
        load_deadline_seconds: What took longer to load is not put.
        patience_seconds: How long a warm-up waits for a server that is away, before an item fails and is tried later.
        priority: The operator's word for its items, 1 to 10.
        needs: For a key, what has to be resident before its value is loaded.

    Raises:
        InvalidSetting: A value can't be used, or the client would wait for ever or unpickle what it reads.
    """

    def __init__(
        self,
        client: Any,
        load: Callable[[str], Any],
        *,
        name: str,
        namespace: str | None = None,
        load_many: Callable[[Sequence[str]], Any] | None = None,
        encode: Callable[[V], bytes] | None = None,
        decode: Callable[[bytes], V] | None = None,
        ttl_seconds: float | None = None,
        remaining_seconds: Callable[[str, V], float | None] | None = None,
        load_deadline_seconds: float = 30.0,
        patience_seconds: float = 5.0,
        priority: int = DEFAULT_PRIORITY,
        needs: Callable[[str], Iterable[ItemRef]] | None = None,
    ) -> None:
        demand_usable(client)
        if ttl_seconds is not None and not 1 <= ttl_seconds <= 2**30:
            raise InvalidSetting(f"ttl_seconds is {ttl_seconds!r}; it has to be from 1 to {2**30}")
        self.shared_as = namespace or f"preheat:{name}"
        rng = random.Random()
        leases: Leases[V] = Leases(
            LeaseRules(self.shared_as, load_deadline_seconds, patience_seconds),
            codec_of(encode, decode),
            Life(ttl_seconds, remaining_seconds),
            clock=time.monotonic,
            rng=rng,
            failed=failed_load,
        )
        self._lines = Lines(client, lambda: Door(rng))
        super().__init__(leases, self._lines, load, load_many, name=name, priority=priority, needs=needs)

    def get_warmup_statistics(self) -> CacheStatistics:
        """Items and bytes are those of the whole servers that answer, all else of this process.

        The capacity is nine tenths of the servers' limits, for no warm-up goes beyond.
        """
        told = self._lines.statistics()
        items, used_bytes, limit_bytes = (
            sum(int(each.get(name, 0)) for each in told) for name in ("curr_items", "bytes", "limit_maxbytes")
        )
        return self._statistics(items, used_bytes, int(limit_bytes * FULL_RATIO) or None)
