"""Ways to record what an application asks its caches for, and to let a warm-up fill them.

`watch` is for caches that it has already, `loader` for what makes their values, `cached` for functions, `record` for
all else.  Each belongs to the service of this process, or to the one that is given.  Nothing is opened and no thread
is started before the first access, or the first call of `preheat.get_cache_warmup_service()`, which has a warm-up know
what is there to be warmed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Mapping
from functools import update_wrapper
from inspect import Parameter, isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from types import MethodType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload
from weakref import WeakKeyDictionary

from preheat._log import CacheLog
from preheat._model import DEFAULT_PRIORITY
from preheat._process import belong_to_process, is_taken, service_of_process, take_on
from preheat._service import CacheWarmupService
from preheat.adapters.function import CachedFunction, CachedResults, CacheInfo
from preheat.adapters.registry import demand_options, find_adapter
from preheat.errors import InvalidSetting, UsageError

if TYPE_CHECKING:
    from preheat.abc import AccessLog, RecordsAccesses
    from preheat.adapters.lru import LruCache

__all__ = ["CacheInfo", "Cached", "LruCached", "cached", "loader", "log", "lru_cache", "record", "watch"]

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_MAX_ITEMS = 1024
LONGEST_NAME = 200


# -------------------------------------------------------------------------------------------------------------- watch


def watch(
    cache: C,
    *,
    name: str,
    load: Callable[[str], Any] | Mapping[str, Callable[..., Any]] | None = None,
    priority: int = DEFAULT_PRIORITY,
    service: CacheWarmupService | None = None,
    **options: Any,
) -> C:
    """Record what `cache` is asked for; with `load`, or with loaders that are registered, let a warm-up fill it.

    Returns what to use from now on: `cache` itself, but of a mapping that is not of cachetools one that reads and
    writes it.

    Args:
        cache: A mapping of text keys, or an object of a library that there is an adapter for.
        name: Name of the cache in history and reports.
        load: Makes the value of a key, for warm-ups; may be a coroutine function.  Reads go on as they did.  Where an
            adapter says so, also a mapping of patterns of keys to functions of their fields; see `loader`.
        priority: The operator's word for its items, 1 to 10.
        service: Where it belongs, instead of to the service of this process.
        options: Of the adapter.  Of a mapping, `lock`: what threads hold when they use it; a warm-up holds it too.  Not
            needed where one thread uses a mapping that nothing warms, or where the mapping bears several.  And `codec`:
            how values are kept in snapshots, if the service keeps any and there is a `load`; by default as plain data.

    Raises:
        InvalidSetting: There is no adapter for the cache, it can't be recorded, or another cache has its name.
    """
    _demand_usable(name, priority)
    _demand_free(name, service)
    unconnected, adapter = CacheLog(name), find_adapter(cache, name)
    demand_options(adapter, name, options)
    recorded, known = adapter(cache, name=name, log=unconnected, load=load, priority=priority, **options)
    _bind(name, known, service)
    if service is None:
        unconnected.begin_with(lambda: _first_use(known, unconnected))
    return recorded  # type: ignore[no-any-return]  # a mapping that is not of cachetools gets another type


# ------------------------------------------------------------------------------------------------------------- loader


@overload
def loader(function: F, /) -> F: ...
@overload
def loader(pattern: str, /, *, cache: str = "") -> Callable[[F], F]: ...
def loader(what: Any, /, *, cache: str = "") -> Any:
    """Have a function make the values that warm-ups put into watched caches; a coroutine function may.

    With a pattern of keys, such as "product:{id:int}", it makes what matches, called with the fields by name: `{id}` is
    text without a colon and without the character that follows, `{id:int}` a whole number, `{id:any}` any text.

    Without one it stands beneath the decorator of a caching library, whose cache is watched: a call that is made
    because a key is missing is recorded with its arguments, and a warm-up calls it again.  Arguments are as for
    `cached`; calls with others are recorded and not warmed.

    Args:
        what: The pattern, or the function itself.
        cache: Name of the cache that the pattern is for; by default any.

    Raises:
        InvalidSetting: The pattern can't be used, or does not fit the function.
    """
    from preheat.adapters.loaders import register_call, register_pattern

    if callable(what):
        return register_call(what)

    def register(function: F) -> F:
        register_pattern(what, function, cache)
        return function

    return register


# ------------------------------------------------------------------------------------------------------------- cached


class Cached(Protocol[P, R]):
    """A function whose results are kept.

    Attributes:
        cache: Its results, as a cache that can be warmed.
    """

    cache: CachedResults[Any]
    __wrapped__: Callable[P, R]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result for these arguments: the one kept, or one made now."""
        ...

    def cache_info(self) -> CacheInfo:
        """Hits and misses since the last `cache_clear`, the most results kept, and how many are."""
        ...

    def cache_clear(self) -> None:
        """Forget all results, and count from 0."""
        ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the result for these arguments; a call for it that is under way will not be kept."""
        ...


@overload
def cached(function: Callable[P, R], /) -> Cached[P, R]: ...
@overload
def cached(
    *,
    name: str | None = None,
    max_items: int = DEFAULT_MAX_ITEMS,
    ttl_seconds: float | None = None,
    priority: int = DEFAULT_PRIORITY,
    service: CacheWarmupService | None = None,
) -> Callable[[Callable[P, R]], Cached[P, R]]: ...
def cached(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    max_items: int = DEFAULT_MAX_ITEMS,
    ttl_seconds: float | None = None,
    priority: int = DEFAULT_PRIORITY,
    service: CacheWarmupService | None = None,
) -> Any:
    """Keep what a function or coroutine function returns, record what it is asked for, and let a warm-up call it.

    One call is made however many ask for the same at the same time, in threads or tasks; what it raises reaches all of
    them and is not kept.  Arguments are text, numbers, True, False, None, and lists and dicts of those; other ones
    raise `InvalidSetting`.  1, 1.0 and True are three arguments, `f(1)` and `f(x=1)` are one call.

    Args:
        function: The function.
        name: Name of the cache in history and reports; by default the function's qualified name.
        max_items: Results kept at most.
        ttl_seconds: How long a result is good for; by default for ever.
        priority: The operator's word for its results, 1 to 10.
        service: Where it belongs, instead of to the service of this process.

    Raises:
        InvalidSetting: An argument can't be used, or another cache has its name.
    """
    if function is None:
        return lambda decorated: _keep_results(decorated, name, max_items, ttl_seconds, priority, service)
    return _keep_results(function, name, max_items, ttl_seconds, priority, service)


def _keep_results(
    function: Callable[..., Any],
    name: str | None,
    max_items: int,
    ttl_seconds: float | None,
    priority: int,
    service: CacheWarmupService | None,
) -> Any:
    _demand_function(function)
    name = name or f"{function.__module__}.{function.__qualname__}"
    _demand_usable(name, priority)
    _demand_limits(name, max_items, ttl_seconds)
    _demand_free(name, service)
    cache = _cache_of(function)(
        function,
        name,
        CacheLog(name),
        max_items=max_items,
        ttl_seconds=ttl_seconds,
        priority=priority,
        connect=_connect if service is None else None,
    )
    _bind(name, cache, service)
    call: Any = update_wrapper(_caller(cache, ttl_seconds), function)
    call.cache, call.invalidate = cache, cache.invalidate
    call.cache_info, call.cache_clear = cache.cache_info, cache.cache_clear
    return call


def _cache_of(function: Callable[..., Any]) -> Any:
    if not iscoroutinefunction(function):
        return CachedFunction
    from preheat.adapters.coroutine import CachedCoroutine  # brings asyncio

    return CachedCoroutine


def _caller(cache: Any, ttl_seconds: float | None) -> Callable[..., Any]:
    function = cache.function
    if iscoroutinefunction(function):
        return _awaited(cache)
    only = _only_parameter(function)
    return _plain(cache) if only is None or ttl_seconds is not None else _direct(cache, only)


def _awaited(cache: Any) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def call(*arguments: Any, **named: Any) -> Any:
        return await cache.call(*arguments, **named)

    return call


def _plain(cache: Any) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        return cache.call(*arguments, **named)

    return call


def _direct(cache: CachedFunction[Any], only: Parameter) -> Callable[..., Any]:
    """For functions of one parameter: where the argument is a text whose result is there, no other Python runs."""
    there, nothing_there, call_cache = cache.results.of_texts, dict[str, Any](), cache.call
    entries, hit = there, cache.hit

    def call(argument: Any) -> Any:
        try:
            entry = entries[argument]
        except (KeyError, TypeError):  # absent; no text, or nothing that can be hashed
            return call_cache(argument)
        entry.used = True
        hit(argument)
        return entry.value

    def take_hit(new: Callable[[str], None]) -> None:
        nonlocal entries, hit
        # while each hit has to be looked at, none is found here
        entries, hit = nothing_there if isinstance(new, MethodType) else there, new

    cache.follow(take_hit)
    names = call.__code__.co_varnames
    call.__code__ = call.__code__.replace(co_varnames=(only.name, *names[1:]))  # so that it can be given by name
    if only.default is not Parameter.empty:
        call.__defaults__ = (only.default,)
    return call


def _only_parameter(function: Callable[..., Any]) -> Parameter | None:
    """The one parameter of `function`; None if it has several, or one of another kind."""
    try:
        parameters = list(signature(function).parameters.values())
    except ValueError:  # some that are written in C tell nothing
        return None
    if len(parameters) != 1 or parameters[0].kind is not Parameter.POSITIONAL_OR_KEYWORD:
        return None
    return parameters[0]


# ---------------------------------------------------------------------------------------------------------- lru_cache


class LruCached(Protocol[P, R]):
    """A function as `functools.lru_cache` makes one.

    Attributes:
        cache: Its results, as a cache that can be warmed.
    """

    cache: LruCache[Any]
    __wrapped__: Callable[P, R]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result for these arguments: the one kept, or one made now."""
        ...

    def cache_info(self) -> CacheInfo:
        """Hits and misses since the last `cache_clear`, the most results kept, and how many are."""
        ...

    def cache_clear(self) -> None:
        """Forget all results, and count from 0."""
        ...

    def cache_parameters(self) -> dict[str, Any]:
        """`maxsize` and `typed`, for information."""
        ...


@overload
def lru_cache(maxsize: Callable[P, R], typed: bool = False) -> LruCached[P, R]: ...
@overload
def lru_cache(
    maxsize: int | None = 128,
    typed: bool = False,
    *,
    name: str | None = None,
    priority: int = DEFAULT_PRIORITY,
    service: CacheWarmupService | None = None,
) -> Callable[[Callable[P, R]], LruCached[P, R]]: ...
def lru_cache(
    maxsize: Any = 128,
    typed: bool = False,
    *,
    name: str | None = None,
    priority: int = DEFAULT_PRIORITY,
    service: CacheWarmupService | None = None,
) -> Any:
    """`functools.lru_cache` once more, in the same words, recorded and warmed; for plain functions and methods.

    Any arguments will do that can be hashed.  Recorded and warmed are calls with text, numbers, True, False and None;
    others, such as a method's with its `self`, are kept and counted.

    Args:
        maxsize: Results kept at most; None for all of them, 0 for none.  Or the function itself.
        typed: Whether arguments of different types are different calls.
        name: Name of the cache in history and reports; by default the function's qualified name.
        priority: The operator's word for its results, 1 to 10.
        service: Where it belongs, instead of to the service of this process.

    Raises:
        TypeError: The first argument is neither a number, nor None, nor a function.
        InvalidSetting: Another argument can't be used, or another cache has its name.
    """
    if isinstance(maxsize, int) or maxsize is None:
        most = None if maxsize is None else max(0, maxsize)
        return lambda function: _keep_recent(function, most, typed, name, priority, service)
    if not callable(maxsize):
        raise TypeError("Expected first argument to be an integer, a callable, or None")
    return _keep_recent(maxsize, 128, typed, name, priority, service)


def _keep_recent(
    function: Callable[..., Any],
    maxsize: int | None,
    typed: bool,
    name: str | None,
    priority: int,
    service: CacheWarmupService | None,
) -> Any:
    from preheat.adapters.lru import LruCache

    name = name or f"{function.__module__}.{function.__qualname__}"
    _demand_usable(name, priority)
    _demand_free(name, service)
    connect = _connect if service is None else None
    cache: LruCache[Any] = LruCache(
        function, name, CacheLog(name), maxsize=maxsize, typed=bool(typed), priority=priority, connect=connect
    )
    _bind(name, cache, service)
    call: Any = update_wrapper(_plain(cache), function)
    call.cache, call.cache_info, call.cache_clear = cache, cache.cache_info, cache.cache_clear
    call.cache_parameters = cache.cache_parameters
    return call


# ------------------------------------------------------------------------------------------------------------- record


def log(cache: str, *, service: CacheWarmupService | None = None) -> AccessLog:
    """Where accesses of `cache` are recorded without being looked at first: `hit(key)` takes tens of nanoseconds.

    Accesses that are none, such as keys that are no text, are refused later, when they are folded.

    Raises:
        InvalidSetting: The name can't be used.
    """
    _demand_usable(cache, DEFAULT_PRIORITY)
    return (service or service_of_process()).ledger.log(cache)


def record(
    cache: str,
    key: str,
    *,
    hit: bool,
    size_bytes: int | None = None,
    load_seconds: float | None = None,
    version: str = "",
    recipe: str = "",
    service: CacheWarmupService | None = None,
) -> None:
    """Record that `cache` was asked for `key`.

    Args:
        cache: Name of the cache; need not be registered.
        key: What it was asked for.
        hit: Whether it was there.
        size_bytes: Of a miss: what the value that was loaded weighs.
        load_seconds: Of a miss: how long the load took; None if it failed, or is not known.
        version: Of a miss: the version of the value that was loaded.
        recipe: Of a miss: what is needed to load it again, if the key doesn't say it.
        service: Where it is recorded, instead of by the service of this process.

    Raises:
        InvalidSetting: An argument can't be used.
    """
    _demand_text("key", key)
    to = log(cache, service=service)
    if hit:
        if size_bytes is not None or load_seconds is not None or version or recipe:
            raise InvalidSetting("a hit loads nothing, so it has no size, seconds, version or recipe")
        to.hit(key)
        return
    _demand_text("version", version)
    _demand_text("recipe", recipe)
    _demand_load(size_bytes, load_seconds)
    to.miss(
        key, -1 if size_bytes is None else size_bytes, -1.0 if load_seconds is None else load_seconds, version, recipe
    )


# ------------------------------------------------------------------------------------------------------------ binding


def _bind(name: str, recorded: RecordsAccesses, service: CacheWarmupService | None) -> None:
    if service is not None:
        take_on(service, name, recorded)
        _names.setdefault(service, set()).add(name)
    else:
        belong_to_process(name, recorded)


_names: WeakKeyDictionary[CacheWarmupService, set[str]] = WeakKeyDictionary()


def _connect() -> None:
    """Make the service of this process, if there is none.  Its user's mistakes are told, and cost the record only."""
    try:
        service_of_process()
    except UsageError as error:
        import logging

        logging.getLogger("preheat").error("%s; until that is mended, nothing is recorded", error)


def _first_use(cache: Any, unconnected: CacheLog) -> CacheLog:
    """Where the first access of `cache`, and all after it, are recorded."""
    _connect()
    return cache.log if isinstance(cache.log, CacheLog) else unconnected


# ------------------------------------------------------------------------------------------------------------- checks


def _demand_free(name: str, service: CacheWarmupService | None) -> None:
    taken = is_taken(name) if service is None else name in service.caches or name in _names.get(service, ())
    if taken:
        raise InvalidSetting(f"another cache is recorded as {name!r}; give this one a name of its own")


def _demand_usable(name: str, priority: int) -> None:
    _demand_text("name of a cache", name)
    if not 0 < len(name) <= LONGEST_NAME:
        raise InvalidSetting(f"the name of a cache has {len(name)} characters; it has to have 1 to {LONGEST_NAME}")
    if not isinstance(priority, int) or not 1 <= priority <= 10:
        raise InvalidSetting(f"cache {name!r}: priority is {priority!r}; it has to be from 1 to 10")


def _demand_text(what: str, text: Any) -> None:
    if not isinstance(text, str):
        raise InvalidSetting(f"the {what} is {text!r}, a {type(text).__name__}; it has to be text")


def _demand_function(function: Any) -> None:
    if not callable(function) or not hasattr(function, "__qualname__"):
        raise InvalidSetting(f"{function!r} can't be cached; it has to be a function or a coroutine function")
    if isgeneratorfunction(function) or isasyncgenfunction(function):
        raise InvalidSetting(f"{function.__qualname__} is a generator, whose result can be used once; return a list")


def _demand_limits(name: str, max_items: Any, ttl_seconds: Any) -> None:
    if not isinstance(max_items, int) or max_items < 1:
        raise InvalidSetting(f"cache {name!r}: max_items is {max_items!r}; it has to be an int from 1")
    if ttl_seconds is not None and not (isinstance(ttl_seconds, int | float) and 0 < ttl_seconds < math.inf):
        raise InvalidSetting(f"cache {name!r}: ttl_seconds is {ttl_seconds!r}; it has to be a positive number or None")


def _demand_load(size_bytes: Any, load_seconds: Any) -> None:
    if size_bytes is not None and not (isinstance(size_bytes, int) and 0 <= size_bytes < 2**63):
        raise InvalidSetting(f"size_bytes is {size_bytes!r}; it has to be an int from 0")
    if load_seconds is not None and not (isinstance(load_seconds, int | float) and 0 <= load_seconds < math.inf):
        raise InvalidSetting(f"load_seconds is {load_seconds!r}; it has to be a number from 0")
    if size_bytes is not None and load_seconds is None:
        raise InvalidSetting("a size without load_seconds; what was loaded took some time, and what failed has no size")
