"""What recorded mappings tell their accesses to.

Only reads by key are accesses.  A miss is a read that found nothing, or a look whether the key is there; its cost is
the time until the same thread puts in that key, its size what is put in then.  A read whose value never comes is a
miss without a load, counted when the thread has missed `MOST_PENDING` other keys, or the same key once more; a look
after which nothing is put in is no access.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from preheat._log import CacheLog, is_quiet
from preheat._size import estimate_item_memory_usage

if TYPE_CHECKING:
    from preheat.abc import AccessLog

MOST_PENDING = 256  # misses of one thread whose value may still come: of as many tasks at once


class Change(Enum):
    """What a recorded mapping tells of its entries beside accesses."""

    WRITTEN = "written"
    DELETED = "deleted"
    EVICTED = "evicted"  # by the mapping itself, for want of room
    CLEARED = "cleared"  # all of them


class _Pending(NamedTuple):
    since: float
    is_read: bool  # or was it only looked whether it is there


class Ear:
    """What a recorded mapping tells its accesses to.

    Attributes:
        name: Name of the cache.
        log: Where accesses go.
        hit: Records a hit of a key there.
        changed: Told what the application has written and deleted, and what the mapping has evicted.
    """

    def __init__(self, name: str, log: CacheLog) -> None:
        self.name = name
        self.log: AccessLog | None = None
        self.changed: Callable[[Change, Any], None] = _nothing
        self._told: Callable[[Callable[[str], None]], None] | None = None
        self._of_thread = threading.local()
        self.record_to(log)

    def record_to(self, log: AccessLog) -> None:
        """From now on report every access to `log`."""
        former, self.log = self.log, log
        if isinstance(former, CacheLog):
            former.follow(None)
        if isinstance(log, CacheLog):
            log.follow(self._take_hit)
        else:
            self._take_hit(log.hit)
        if isinstance(former, CacheLog) and former is not log:
            former.pass_on(log)

    def follow(self, told: Callable[[Callable[[str], None]], None]) -> None:
        """Call `told` with `hit`, now and whenever it changes."""
        self._told = told
        told(self.hit)

    def _take_hit(self, hit: Callable[[str], None]) -> None:
        self.hit = hit
        if self._told is not None:
            self._told(hit)

    def missed(self, key: str) -> None:
        """`key` was asked for and is absent."""
        if is_quiet():
            return
        pending = self._pending()
        before = pending.pop(key, None)
        self._give_up(key, before)
        pending[key] = _Pending(before.since if before is not None else time.perf_counter(), True)
        if len(pending) > MOST_PENDING:
            oldest = next(iter(pending))
            self._give_up(oldest, pending.pop(oldest))

    def absent(self, key: str) -> None:
        """It was looked whether `key` is there, and it isn't: a miss if it is put in next."""
        if not is_quiet():
            pending = self._pending()
            if len(pending) < MOST_PENDING:
                pending.setdefault(key, _Pending(time.perf_counter(), False))

    def put(self, key: str, value: Any, recipe: str = "") -> None:
        """`value` was put in: the load of a miss, or a write, which is no access; `recipe` says how to make it."""
        self.changed(Change.WRITTEN, key)
        pending = self._pending()
        if pending:
            miss = pending.pop(key, None)
            if miss is not None:
                seconds = time.perf_counter() - miss.since
                self._tell(key, estimate_item_memory_usage(value, key=key), seconds, recipe)

    def _give_up(self, key: str, miss: _Pending | None) -> None:
        if miss is not None and miss.is_read:
            self._tell(key, -1, -1.0)

    def _tell(self, key: str, size_bytes: int, seconds: float, recipe: str = "") -> None:
        if self.log is not None:
            self.log.miss(key, size_bytes, seconds, "", recipe)

    def _pending(self) -> dict[str, _Pending]:
        try:
            pending: dict[str, _Pending] = self._of_thread.pending
        except AttributeError:
            pending = self._of_thread.pending = {}
        return pending


def _nothing(change: Change, key: Any) -> None:
    pass
