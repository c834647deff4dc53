"""A cache of theine (W-TinyLFU), recorded and warmed: a mapping with its own rules, and no list of its keys.

What a warm-up could load is what history knows and a look does not find.  theine takes each look for a use of that
key, also in its own count of hits.  Where it is full, a warm-up inserts nothing; which of the entries that traffic
inserts are kept, theine decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from preheat._model import DEFAULT_PRIORITY, ItemRef
from preheat.adapters.mapping import MappingCache
from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat._columns import TextColumn

__all__ = ["TheineCache"]

V = TypeVar("V")


class TheineCache(MappingCache[V]):
    """A `theine.Cache` that loads what is missing, reports its traffic and can be warmed; read through it.

    See `preheat.adapters.mapping.MappingCache`, also for `invalidate` and `clear`.

    Args:
        cache: The cache, of text keys.
        load: Makes the value of a key.
        name: Name of the cache in history and reports.
        ttl_seconds: How long what is loaded lives; for ever if None.
        priority: The operator's word for its items, 1 to 10.
        needs: For a key, what has to be resident before its value is loaded.
        lock: What serialises access to the cache, where the application has something that does.

    Raises:
        InvalidSetting: It is no cache of theine 2 or newer, or the time is none.
    """

    def __init__(
        self,
        cache: Any,
        load: Callable[[str], V],
        *,
        name: str,
        ttl_seconds: float | None = None,
        priority: int = DEFAULT_PRIORITY,
        needs: Callable[[str], Iterable[ItemRef]] | None = None,
        lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        if not all(hasattr(cache, member) for member in ("get", "set", "delete", "max_size", "clear")):
            raise InvalidSetting(f"cache {name!r}: a {type(cache).__name__} is no Cache of theine 2 or newer")
        if ttl_seconds is not None and not 1 <= ttl_seconds < 2**31:
            raise InvalidSetting(f"ttl_seconds is {ttl_seconds!r}; theine keeps values for whole seconds, from 1 on")
        life = None if ttl_seconds is None else timedelta(seconds=ttl_seconds)
        super().__init__(_Entries(cache, life), load, name=name, priority=priority, needs=needs, lock=lock)

    def clear(self) -> None:
        """Delete everything; no load under way will be kept."""
        with self._lock:
            self._loading.clear()
            self.mapping.clear()
            self._warmed.clear()
            self._forget_dropped()
        self._memory.tell()

    def _find_absent(self, keys: TextColumn) -> NDArray[np.bool_]:
        return np.array([key not in self.mapping for key in keys], np.bool_)


class _Entries(MutableMapping[str, V]):
    """A cache of theine as a mapping, but for the list of its keys."""

    def __init__(self, cache: Any, life: timedelta | None) -> None:
        self._cache, self._life = cache, life
        self.maxsize = int(cache.max_size)

    @property
    def currsize(self) -> int:
        """How many entries there are."""
        return len(self)

    def __contains__(self, key: object) -> bool:
        return bool(self._cache.get(key)[1])

    def __getitem__(self, key: str) -> V:
        value, is_there = self._cache.get(key)
        if not is_there:
            raise KeyError(key)
        found: V = value
        return found

    def get(self, key: str, default: Any = None) -> Any:
        value, is_there = self._cache.get(key)
        return value if is_there else default

    def __setitem__(self, key: str, value: V) -> None:
        self._cache.set(key, value, self._life)

    def __delitem__(self, key: str) -> None:
        self._cache.delete(key)  # it may have ended its life since it was looked for

    def __iter__(self) -> Iterator[str]:
        raise TypeError("a cache of theine has no list of its keys")

    def __len__(self) -> int:
        return len(self._cache)

    def clear(self) -> None:
        """Drop everything."""
        self._cache.clear()
