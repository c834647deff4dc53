"""`functools.lru_cache` once more, recorded and warmable: same arguments, attributes and order of eviction.

What a call is kept under is what the standard library takes: its arguments as they are, with their types if `typed`.
So any that can be hashed will do.  A call whose arguments are text, numbers, True, False and None can be made again
from its key, so it is recorded and warmed; any other, such as a method's with its `self`, is kept and counted only.

A hit takes no lock: it is a look and a move to the end of the order, each one call of C.  Without the interpreter's
lock an order can't be moved in by several threads, so there a hit takes the cache's.  Loads are not serialised, as in
the standard library: two threads may make the same call at once, and the first result stays.  A result of a load that
`cache_clear` overtakes is not kept.
"""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any, Generic, TypeVar

from preheat._log import HAS_GIL, CacheLog, is_quiet
from preheat._model import DEFAULT_PRIORITY, MemoryEventKind
from preheat._size import estimate_item_memory_usage
from preheat.adapters.function import CacheInfo, RecordedCalls, call_of, key_of
from preheat.errors import InvalidSetting

V = TypeVar("V")

_NAMED = object()  # stands between arguments and named ones
_PLAIN = frozenset({int, str})


class _Call(list[Any]):
    """A key of several parts, whose hash is taken once."""

    __slots__ = ("_hash",)

    def __init__(self, parts: tuple[Any, ...]) -> None:
        super().__init__(parts)
        self._hash = hash(parts)

    def __hash__(self) -> int:  # type: ignore[override]
        return self._hash


def call_key(arguments: tuple[Any, ...], named: Mapping[str, Any], *, typed: bool) -> Hashable:
    """What a call is kept under.

    Raises:
        TypeError: An argument can't be hashed.
    """
    parts = arguments
    if named:
        parts += (_NAMED, *itertools.chain.from_iterable(sorted(named.items())))
    if typed:
        return _Call((*parts, _NAMED, *map(type, arguments), *(type(named[name]) for name in sorted(named))))
    return parts[0] if len(parts) == 1 and type(parts[0]) in _PLAIN else _Call(parts)


class _Entry(Generic[V]):
    __slots__ = ("text", "used", "value")

    def __init__(self, value: V, text: str | None, *, used: bool) -> None:
        self.value, self.text, self.used = value, text, used


class Calls(MutableMapping[str, V]):
    """Results by the text that their call can be made from; in `entries` all of them, what goes next first."""

    def __init__(self, maxsize: int | None, *, typed: bool) -> None:
        self.maxsize, self.typed = maxsize, typed
        self.entries: OrderedDict[Hashable, _Entry[V]] = OrderedDict()

    def key_of_text(self, text: str) -> Hashable:
        """What the call that `text` stands for is kept under."""
        arguments, named = call_of(text)
        return call_key(tuple(arguments), named, typed=self.typed)

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and self._find(text) is not None

    def __getitem__(self, text: str) -> V:
        entry = self._find(text)
        if entry is None:
            raise KeyError(text)
        return entry.value

    def _find(self, text: str) -> _Entry[V] | None:
        try:
            return self.entries.get(self.key_of_text(text))
        except (TypeError, ValueError):  # lists can't be hashed, so no such call is kept; or no call at all
            return None

    def __setitem__(self, text: str, value: V) -> None:
        self.entries[self.key_of_text(text)] = _Entry(value, text, used=False)

    def __delitem__(self, text: str) -> None:
        del self.entries[self.key_of_text(text)]

    def __iter__(self) -> Iterator[str]:
        entries = list(dict.values(self.entries))  # at once and in any order, since hits move in that without a lock
        return iter([entry.text for entry in entries if entry.text is not None])

    def __len__(self) -> int:
        return len(self.entries)


class LruCache(RecordedCalls[V]):
    """The results of a function, of its most recent `maxsize` calls; thread-safe.

    Args:
        function: The function.
        name: Name of the cache in history and reports.
        log: Where accesses go until `record_to` names another.
        maxsize: Results kept at most; None for all.
        typed: Whether arguments of different types are different calls.
        priority: The operator's word for its items, 1 to 10.
        connect: Called once, before the first call that is no hit.
    """

    mapping: Calls[V]

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        log: CacheLog,
        *,
        maxsize: int | None,
        typed: bool,
        priority: int = DEFAULT_PRIORITY,
        connect: Callable[[], object] | None = None,
    ) -> None:
        calls: Calls[V] = Calls(maxsize, typed=typed)
        self._move_to_end = calls.entries.move_to_end if HAS_GIL else self._move_in_turn
        super().__init__(calls, function, name, log, priority=priority, connect=connect)

    def call(self, *arguments: Any, **named: Any) -> V:
        """The result of the function: the resident one, or one that is made now."""
        entries = self.mapping.entries
        key = call_key(arguments, named, typed=self.mapping.typed)
        try:
            entry = entries[key]
            self._move_to_end(key)
        except KeyError:
            return self._call_now(key, arguments, named)
        if entry.text is None:
            if not is_quiet():
                with self._lock:
                    self._hits += 1
        elif not is_quiet():
            entry.used = True
            self.hit(entry.text)
        return entry.value

    def cache_info(self) -> CacheInfo:
        """Hits and misses since the last `cache_clear`, the most results kept, and how many are."""
        return CacheInfo(self._counted_hits(), self._misses, self.mapping.maxsize, len(self.mapping))

    def cache_clear(self) -> None:
        """Forget all results, and count from 0; no call under way will be kept."""
        with self._lock:
            self._loading.clear()
            self._forget(list(self._weights), MemoryEventKind.RELEASE, "cleared")
            self.mapping.entries.clear()
            self._warmed.clear()
            self._expected_items = self._hits = self._misses = 0
            self._hits_before -= self._counted_hits()
        self._memory.tell()

    def cache_parameters(self) -> dict[str, Any]:
        """`maxsize` and `typed`, for information."""
        return {"maxsize": self.mapping.maxsize, "typed": self.mapping.typed}

    clear = cache_clear

    # ------------------------------------------------------------------------------------------------- within

    def _move_in_turn(self, key: Hashable) -> None:
        with self._lock:
            self.mapping.entries.move_to_end(key)

    def _call_now(self, key: Hashable, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> V:
        if is_quiet():  # a warm-up of another cache: what it did not plan is not kept
            quiet: V = self.function(*arguments, **named)
            return quiet
        self._begin()
        with self._lock:
            self._misses += 1
        text = text_of(self.name, arguments, named)
        place: Any = key if text is None else text
        started, load = time.perf_counter(), self._begin_load(place)
        try:
            value: V = self.function(*arguments, **named)
        except BaseException:
            self._end_load(place, load)
            if text is not None:
                self._report_miss(text, -1, -1.0)
            raise
        seconds = time.perf_counter() - started
        return self._keep_call(key, text, value, seconds, partial(self._may_keep, place, load))

    def _keep_call(self, key: Hashable, text: str | None, value: V, seconds: float, may_keep: Callable[[], bool]) -> V:
        size_bytes = None if text is None else estimate_item_memory_usage(value, key=text)
        entries = self.mapping.entries
        with self._lock:
            if may_keep() and key not in entries and self._make_room():
                if text is None:
                    entries[key] = _Entry(value, None, used=True)
                    self._expected_items += 1
                else:
                    self._put(text, value, size_bytes, "traffic")
                    entries[key].used = True
        self._memory.tell()
        if text is not None and size_bytes is not None:
            self._report_miss(text, size_bytes, seconds)
        return value

    def _make_room(self) -> bool:
        """Drop what was used least recently, if there has to be room for one more; False if none is kept at all."""
        maxsize, entries = self.mapping.maxsize, self.mapping.entries
        while maxsize is not None and len(entries) >= max(1, maxsize):
            _, oldest = entries.popitem(last=False)
            self._expected_items -= 1
            if oldest.text is not None:
                self._warmed.pop(oldest.text, None)
                self._forget([oldest.text], MemoryEventKind.EVICTION, "to make room")
        return maxsize != 0

    def _move_to_cold_end(self, key: str) -> None:
        """Before all others: a run loads the most valuable first, so the least valuable goes first."""
        self.mapping.entries.move_to_end(self.mapping.key_of_text(key), last=False)

    def _is_used(self, key: str) -> bool:
        entry = self.mapping.entries.get(self.mapping.key_of_text(key))
        return entry is None or entry.used

    def _counted_hits(self) -> int:
        return self._hits + super()._counted_hits()


def text_of(name: str, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> str | None:
    """The text from which a call can be made again; None if there is none."""
    try:
        return key_of(name, arguments, named)
    except InvalidSetting:
        return None
