"""Functions and methods that cachetools keeps the results of (`@cached`, `@cachedmethod`), recorded and warmed.

The cache, its keys and its lock stay those that the decorator was given; a warm-up inserts under `cache_key(...)` what
the undecorated function returns.  A call is recorded if its arguments are text, numbers, True, False, None and lists
and dicts of those, from which it can be made again.  For a cache of cachetools by itself there is `heat.watch`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from preheat._log import is_quiet
from preheat._model import DEFAULT_PRIORITY, ItemRef
from preheat._size import estimate_item_memory_usage
from preheat.adapters.function import call_of
from preheat.adapters.lru import text_of
from preheat.adapters.mapping import MappingCache, order_of_use
from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat._columns import TextColumn

__all__ = ["DecoratedFunction"]

V = TypeVar("V")


class DecoratedFunction(MappingCache[V]):
    """A function or bound method decorated by cachetools; call it through this.

    Args:
        function: What the decorator made; of a method, that of one object, `thing.method`.
        name: Name of the cache in history and reports.
        priority: The operator's word for its items, 1 to 10.
        needs: For a key, what has to be resident before its value is loaded.

    Raises:
        InvalidSetting: It was not decorated by cachetools, or is without a cache.
    """

    mapping: _ByCall[V]

    def __init__(
        self,
        function: Callable[..., V],
        *,
        name: str,
        priority: int = DEFAULT_PRIORITY,
        needs: Callable[[str], Iterable[ItemRef]] | None = None,
    ) -> None:
        decorated: Any = function
        cache = getattr(decorated, "cache", None)
        if not isinstance(cache, MutableMapping) or not hasattr(decorated, "cache_key"):
            raise InvalidSetting(
                f"cache {name!r}: this is no function, or bound method, with a cache of cachetools; decorate it with "
                "@cached"
            )
        super().__init__(
            _ByCall(cache, decorated.cache_key),
            self._make,
            name=name,
            priority=priority,
            needs=needs,
            lock=decorated.cache_lock or threading.RLock(),
        )
        self.function, self._undecorated = function, _undecorated(decorated)

    def __call__(self, *arguments: Any, **named: Any) -> V:
        """The result for these arguments, as the decorated function gives it; recorded."""
        text = None if is_quiet() else text_of(self.name, arguments, named)
        if text is None:
            return self.function(*arguments, **named)
        with self._lock:
            is_there = text in self.mapping
            self._hits += is_there
            self._misses += not is_there
            self._warmed.pop(text, None)
        started = time.perf_counter()
        try:
            value = self.function(*arguments, **named)
        except BaseException:
            self._report_miss(text, -1, -1.0)
            raise
        if self._log is not None and is_there:
            self._log.hit(text)
        elif self._log is not None:
            seconds = time.perf_counter() - started
            self._report_miss(text, estimate_item_memory_usage(value, key=text), seconds)
        return value

    def _make(self, text: str) -> V:
        arguments, named = call_of(text)
        value: V = self._undecorated(*arguments, **named)
        return value

    def _move_to_cold_end(self, key: str) -> None:
        self.mapping.move_to_cold_end(key)

    def _find_absent(self, keys: TextColumn) -> NDArray[np.bool_]:
        return np.array([key not in self.mapping for key in keys], np.bool_)


def _undecorated(decorated: Any) -> Callable[..., Any]:
    """What the decorator was put on; of a method, bound to the object that its keys are bound to."""
    function, key = decorated.__wrapped__, decorated.cache_key
    return partial(function, *key.args) if isinstance(key, partial) else function


class _ByCall(MutableMapping[str, V]):
    """The cache of a function, by the text that each call can be made from; without a list of those."""

    def __init__(self, cache: Any, key: Callable[..., Any]) -> None:
        self._cache, self._key = cache, key

    def _key_of(self, text: str) -> Any:
        arguments, named = call_of(text)
        return self._key(*arguments, **named)

    def __contains__(self, text: object) -> bool:
        try:
            return isinstance(text, str) and self._key_of(text) in self._cache
        except TypeError:  # arguments that can't be hashed, or that the function does not take
            return False

    def __getitem__(self, text: str) -> V:
        value: V = self._cache[self._key_of(text)]
        return value

    def __setitem__(self, text: str, value: V) -> None:
        self._cache[self._key_of(text)] = value

    def __delitem__(self, text: str) -> None:
        del self._cache[self._key_of(text)]

    def __iter__(self) -> Iterator[str]:
        raise TypeError("from the keys of a decorated function its calls can't be told")

    def __len__(self) -> int:
        return len(self._cache)

    def __getattr__(self, name: str) -> Any:
        if name not in ("maxsize", "currsize", "getsizeof"):
            raise AttributeError(name)
        return getattr(self._cache, name)

    def move_to_cold_end(self, text: str) -> None:
        """Have `text` go first, if that can be said to the cache."""
        order = order_of_use(self._cache)
        if order is not None:
            order.move_to_end(self._key_of(text), last=False)

    def clear(self) -> None:
        """Drop everything."""
        self._cache.clear()
