"""Functions whose results are kept: bounded, one call however many ask for the same, recorded, warmable.

The key of a call is its argument where that is one text, else the JSON of its arguments; either way it is all that is
needed to make the call again.  So arguments are text, numbers, True, False, None, and lists and dicts of those.

Which result has to go where there is no room is decided by CLOCK [1]: results stand in the order in which they came;
of the oldest the first goes that was not asked for since it was last looked at.  A hit has to set one flag for that and
takes no lock.  What a warm-up loaded stands before all others until it is asked for.

[1] F. J. Corbató, "A Paging Experiment with the Multics System", 1968.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from functools import partial
from inspect import Signature, signature
from typing import Any, Generic, NamedTuple, TypeVar

from preheat._log import CacheLog, is_quiet, quietly
from preheat._model import DEFAULT_PRIORITY, CacheStatistics, ItemResult, ItemStatus, MemoryEventKind, WarmupItem
from preheat.abc import AccessLog
from preheat.adapters.mapping import MappingCache
from preheat.errors import InvalidSetting

V = TypeVar("V")

_CALL = "[["
"""How the JSON of a call begins.  A text that begins so is no key itself: the call with it has one in JSON."""


class CacheInfo(NamedTuple):
    """What a cached function has done; fields as those of `functools.lru_cache`."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


# -------------------------------------------------------------------------------------------------------------- keys


def key_of(name: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> str:
    """The key of a call of the function called `name`.

    Raises:
        InvalidSetting: An argument is not what JSON can hold, or not the same when it comes back.
    """
    if len(arguments) == 1 and not named and isinstance(arguments[0], str) and not arguments[0].startswith(_CALL):
        return arguments[0]
    import msgspec

    call = [list(arguments), dict(named)]
    try:
        text = msgspec.json.encode(call, order="sorted")
        if msgspec.json.decode(text) == call:
            return text.decode()
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError):  # UnicodeEncodeError is a ValueError
        pass
    raise InvalidSetting(
        f"{name} was called with {_shortened(arguments, named)}; arguments of a cached function have to be text,"
        " numbers, True, False, None, or lists and dicts of those, so that the call can be made again"
    )


def _shortened(arguments: Sequence[Any], named: Mapping[str, Any]) -> str:
    kinds = [type(value).__name__ for value in (*arguments, *named.values())]
    return f"arguments of the types {', '.join(kinds[:8])}"


def call_of(key: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the call that `key` stands for."""
    if not key.startswith(_CALL):
        return [key], {}
    import msgspec

    arguments, named = msgspec.json.decode(key, type=tuple[list[Any], dict[str, Any]])
    return arguments, named


# ------------------------------------------------------------------------------------------------------------- store


class _Entry(Generic[V]):
    __slots__ = ("until", "used", "value", "was_used")

    def __init__(self, value: V, until: float) -> None:
        self.value, self.until = value, until
        self.used = self.was_used = False  # since it was last looked at; before


class Results(MutableMapping[str, V]):
    """At most `maxsize` results, none of them older than `ttl_seconds`.

    Reads take no lock; who writes holds one.

    Attributes:
        of_texts: What was returned for one text.
        of_calls: What was returned for other arguments, by the JSON of the call.
        order: Their keys; what goes next, first.
    """

    def __init__(self, maxsize: int, ttl_seconds: float | None) -> None:
        self.maxsize, self._ttl_seconds = maxsize, ttl_seconds
        self.of_texts: dict[str, _Entry[V]] = {}
        self.of_calls: dict[str, _Entry[V]] = {}
        self.order: OrderedDict[str, None] = OrderedDict()

    def entry(self, key: str) -> _Entry[V] | None:
        """What is known for `key` and not too old."""
        entry = self.known(key)
        return None if entry is None or entry.until <= time.monotonic() else entry

    def known(self, key: str) -> _Entry[V] | None:
        """What is known for `key`, however old."""
        return self._entries(key).get(key)

    def _entries(self, key: str) -> dict[str, _Entry[V]]:
        return self.of_calls if key.startswith(_CALL) else self.of_texts

    def __getitem__(self, key: str) -> V:
        entry = self.entry(key)
        if entry is None:
            raise KeyError(key)
        return entry.value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.entry(key) is not None

    def __setitem__(self, key: str, value: V) -> None:
        if key not in self.order and len(self.order) >= self.maxsize:
            del self[self._next_to_go()]
        until = float("inf") if self._ttl_seconds is None else time.monotonic() + self._ttl_seconds
        self._entries(key)[key] = _Entry(value, until)
        self.order[key] = None

    def _next_to_go(self) -> str:
        for _ in range(len(self.order)):
            key = next(iter(self.order))
            entry = self._entries(key)[key]
            if not entry.used or entry.until <= time.monotonic():
                return key
            entry.used, entry.was_used = False, True
            self.order.move_to_end(key)
        return next(iter(self.order))  # all were asked for since

    def __delitem__(self, key: str) -> None:
        del self._entries(key)[key]
        del self.order[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)


# ------------------------------------------------------------------------------------------------------------- calls

_ABSENT: Any = object()
_Place = tuple[str, object]  # of what is under way: the key, and the event loop that makes it or None


class _Flight(Generic[V]):
    """One call under way; others that want the same wait for it."""

    __slots__ = ("done", "error", "is_wanted", "is_warm_up", "owner", "value")

    def __init__(self, *, is_warm_up: bool = False) -> None:
        self.done = threading.Event()
        self.owner = threading.get_ident()
        self.is_warm_up, self.is_wanted = is_warm_up, False
        self.value: V | None = None
        self.error: BaseException | None = None


class RecordedCalls(MappingCache[V]):
    """Results of calls that their keys say how to make again, and whose hits the log counts.

    Args:
        mapping: Where the results are, by those keys.
        function: What is called.
        name: Name of the cache in history and reports.
        log: Where accesses go until `record_to` names another.
        priority: The operator's word for its items, 1 to 10.
        connect: Called once, before the first call that is no hit.
    """

    hit: Callable[[str], None]

    def __init__(
        self,
        mapping: MutableMapping[str, V],
        function: Callable[..., Any],
        name: str,
        log: CacheLog,
        *,
        priority: int,
        connect: Callable[[], object] | None,
    ) -> None:
        super().__init__(mapping, self._call_again, name=name, priority=priority)
        self.function, self._connect = function, connect
        self._hits_before = 0
        self.record_to(log)

    def record_to(self, log: AccessLog) -> None:
        """From now on report every access to `log`."""
        former, self._log = self._log, log
        if isinstance(former, CacheLog):
            former.follow(None)
        if isinstance(log, CacheLog):
            self._hits_before -= log.recorded_hits
            log.follow(self._take_hit)
        else:
            self._take_hit(log.hit)
        if isinstance(former, CacheLog):
            if former is not log:
                former.pass_on(log)
            self._hits_before += former.recorded_hits  # without those passed on

    def get_warmup_statistics(self) -> CacheStatistics:
        """What is kept; see `MappingCache`."""
        with self._lock:
            for key in [key for key in self._warmed if self._is_used(key)]:
                del self._warmed[key]
        return super().get_warmup_statistics()._replace(hits=self._counted_hits())

    def _begin(self) -> None:
        connect, self._connect = self._connect, None
        if connect is not None:
            connect()

    def _call_again(self, key: str) -> Any:
        arguments, named = call_of(key)
        return self.function(*arguments, **named)

    def _counted_hits(self) -> int:
        return self._hits_before + (self._log.recorded_hits if isinstance(self._log, CacheLog) else 0)

    def _take_hit(self, hit: Callable[[str], None]) -> None:
        self.hit = hit


class CachedResults(RecordedCalls[V]):
    """What the results of plain functions and those of coroutine functions have in common.

    Args:
        function: The function.
        name: Name of the cache in history and reports.
        log: Where accesses go until `record_to` names another.
        max_items: Results kept at most.
        ttl_seconds: How long a result is good for; None for ever.
        priority: The operator's word for its items, 1 to 10.
        connect: Called once, before the first call that is no hit.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        log: CacheLog,
        *,
        max_items: int,
        ttl_seconds: float | None = None,
        priority: int = DEFAULT_PRIORITY,
        connect: Callable[[], object] | None = None,
    ) -> None:
        self.results: Results[V] = Results(max_items, ttl_seconds)
        self._signature = _signature(function)
        self._flights: dict[_Place, Any] = {}
        self._told: Callable[[Callable[[str], None]], None] | None = None
        super().__init__(self.results, function, name, log, priority=priority, connect=connect)

    def invalidate(self, *arguments: Any, **named: Any) -> None:
        """Forget the result for these arguments; a call for it that is under way will not be kept."""
        key = self._key(arguments, named)
        with self._lock:
            self._drop([key])
        self._memory.tell()

    def clear(self) -> None:
        """Forget all results; no call under way will be kept."""
        with self._lock:
            self._drop([*self.results.order, *(key for key, _ in list(self._flights))])
        self._memory.tell()

    def cache_clear(self) -> None:
        """Forget all results, and count from 0."""
        with self._lock:
            self._drop([*self.results.order, *(key for key, _ in list(self._flights))])
            self._hits_before -= self._counted_hits()
            self._misses = 0
        self._memory.tell()

    def cache_info(self) -> CacheInfo:
        """Hits and misses since the last `cache_clear`, the most results kept, and how many are."""
        return CacheInfo(self._counted_hits(), self._misses, self.results.maxsize, len(self.results))

    def follow(self, told: Callable[[Callable[[str], None]], None]) -> None:
        """Call `told` with what records a hit, now and whenever that changes."""
        self._told = told
        told(self.hit)

    # ------------------------------------------------------------------------------------------------- within

    def _key(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> str:
        """The key of a call; what can be given by place is, so that `f(1)` and `f(x=1)` are one call."""
        if named and self._signature is not None:
            bound = self._signature.bind(*arguments, **named)
            arguments, named = bound.args, bound.kwargs
        return key_of(self.name, arguments, named)

    def _look(self, key: str) -> Any:
        """The resident result, as a hit; `_ABSENT` if there is none."""
        entry = self.results.entry(key)
        if entry is None:
            return _ABSENT
        if not is_quiet():
            entry.used = True
            self.hit(key)
        return entry.value

    def _count_miss(self, key: str, *, rides_along: bool = False) -> None:
        with self._lock:
            self._misses += 1
        if rides_along:
            self._report_miss(key, -1, -1.0)

    def _drop(self, keys: Iterable[str]) -> None:
        for key in dict.fromkeys(keys):
            for place in [place for place in list(self._flights) if place[0] == key]:
                self._flights.pop(place, None)  # whoever asks from now on must not ride along on it
            self._warmed.pop(key, None)
            if key in self.results.order:
                del self.results[key]
                self._expected_items -= 1
                self._forget([key], MemoryEventKind.RELEASE, "invalidated")

    def _is_used(self, key: str) -> bool:
        entry = self.results.known(key)
        return entry is None or entry.used or entry.was_used

    def _note_used(self, key: str) -> None:
        entry = self.results.known(key)
        if entry is not None:
            entry.used = True

    def _take_hit(self, hit: Callable[[str], None]) -> None:
        super()._take_hit(hit)
        if self._told is not None:
            self._told(hit)


def _signature(function: Callable[..., Any]) -> Signature | None:
    try:
        return signature(function)
    except ValueError:  # some that are written in C tell nothing
        return None


class CachedFunction(CachedResults[V]):
    """The results of a function; what it raises is kept for nobody, and reaches all who wait.  Thread-safe."""

    def call(self, *arguments: Any, **named: Any) -> V:
        """The result of the function: the resident one, or one that is made now."""
        key = self._key(arguments, named)
        found = self._look(key)
        result: V = self._load_missing(key, arguments, named) if found is _ABSENT else found
        return result

    def warmup_item(self, item: WarmupItem) -> ItemResult:
        """Call the function as a miss would; see `preheat.abc.WarmableCache`."""
        key = item.ref.key
        flight, is_mine = self._board(key, is_warm_up=True)
        if flight is None or not is_mine:
            return ItemResult(ItemStatus.RESIDENT)
        started = time.perf_counter()
        try:
            with quietly():
                flight.value = value = self._call_again(key)
            result = self._admit(item, value, time.perf_counter() - started, partial(self._is_flying, key, flight))
        except BaseException as error:
            self._land(key, flight, error)
            raise
        self._land(key, flight)
        return result

    def _load_missing(self, key: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """The result of a call for which none is resident; made once however many ask at the same time."""
        self._begin()
        while not is_quiet():
            flight, is_mine = self._board(key)
            if flight is None:
                found = self._look(key)
                if found is not _ABSENT:
                    return found
            elif is_mine:
                return self._fly(key, flight, arguments, named)
            elif flight.owner == threading.get_ident():  # the function calls itself
                break
            else:
                flight.done.wait()
                if flight.error is None or (isinstance(flight.error, Exception) and not flight.is_warm_up):
                    return self._ride_along(key, flight)
        return self.function(*arguments, **named)

    def _board(self, key: str, *, is_warm_up: bool = False) -> tuple[_Flight[V] | None, bool]:
        """The flight for `key`, and whether it is the caller's to fly; None if there is a result."""
        with self._lock:
            if key in self.results:
                return None, False
            flight = self._flights.get((key, None))
            if flight is None:
                flight = self._flights[key, None] = _Flight(is_warm_up=is_warm_up)
                return flight, True
            flight.is_wanted |= not is_warm_up
            return flight, False

    def _fly(self, key: str, flight: _Flight[V], arguments: Sequence[Any], named: Mapping[str, Any]) -> V:
        self._count_miss(key)
        started = time.perf_counter()
        try:
            flight.value = value = self.function(*arguments, **named)
            self._keep(key, value, time.perf_counter() - started, partial(self._is_flying, key, flight))
        except BaseException as error:
            self._report_miss(key, -1, -1.0)
            self._land(key, flight, error)
            raise
        self._land(key, flight)
        result: V = value
        return result

    def _ride_along(self, key: str, flight: _Flight[V]) -> Any:
        self._count_miss(key, rides_along=True)
        if flight.error is not None:
            raise flight.error
        return flight.value

    def _is_flying(self, key: str, flight: _Flight[V]) -> bool:
        return self._flights.get((key, None)) is flight

    def _land(self, key: str, flight: _Flight[V], error: BaseException | None = None) -> None:
        with self._lock:
            if self._is_flying(key, flight):
                del self._flights[key, None]
            if flight.is_wanted:
                self._note_used(key)
            # for whom waits only: an error leads to the frames it passed, and those back to the flight
            flight.error = error if flight.is_wanted else None
        flight.done.set()
