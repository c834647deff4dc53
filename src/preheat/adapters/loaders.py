"""What makes the values of a cache that does not load by itself: functions, found by the key or by the recorded call.

A loader with a pattern makes every key that matches it.  One without stands beneath the decorator of a caching library:
it notices with which arguments it was called because a key was missing, and that is recorded as the key's recipe, from
which a warm-up makes the call again.

A recipe also says how long the value was put in for, where that is not what its cache does by default.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from inspect import iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any, NamedTuple

from preheat.adapters.function import call_of, key_of
from preheat.adapters.patterns import Pattern
from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    from preheat.adapters.library import Recorder

USUAL = -1.0
"""A life of as many seconds as the cache gives by default; None is for ever."""

LONGEST_RECIPE = 10_000  # characters; what takes longer arguments is recorded, and not warmed

Load = Callable[[], Any]


class Recipe(NamedTuple):
    """How a value is made and kept.

    Attributes:
        loader: Name of the function that makes it; "" if the key says all.
        call: What it is called with, as `key_of` puts it.
        life_seconds: How long it lives; None for ever, `USUAL` as long as its cache says.
    """

    loader: str = ""
    call: str = ""
    life_seconds: float | None = USUAL

    @property
    def text(self) -> str:
        """The recipe as it is recorded; "" where there is nothing to say, or too much."""
        if self == Recipe():
            return ""
        import msgspec

        text = msgspec.json.encode(self).decode()
        if len(text) <= LONGEST_RECIPE:
            return text
        return Recipe(life_seconds=self.life_seconds).text if self.loader else ""


def read_recipe(text: str) -> Recipe:
    """The recipe that `text` is; one that says nothing if it is none."""
    if not text or len(text) > LONGEST_RECIPE:
        return Recipe()
    import msgspec

    try:
        return msgspec.json.decode(text, type=Recipe)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return Recipe()


# ----------------------------------------------------------------------------------------------------------- finding


class Loaders:
    """The loaders of one cache: its own, and those that are registered for any.

    Args:
        load: Makes the value of any key; or a mapping of patterns to what makes the value of keys that match, called
            with the fields by name; or None.
        cache: Name of the cache.
    """

    def __init__(self, load: Callable[[str], Any] | Mapping[str, Callable[..., Any]] | None, cache: str) -> None:
        self._load = load if callable(load) else None
        self._cache = cache
        self._own = [] if load is None or callable(load) else [_Made(Pattern(p), f) for p, f in load.items()]

    @property
    def make_all(self) -> bool:
        """Whether there is one that makes any key."""
        return self._load is not None

    def find(self, key: str, recipe: Recipe) -> Load | None:
        """What makes the value of `key`; None if nothing can."""
        for made in (*self._own, *_patterns.get(self._cache, ()), *_patterns.get("", ())):
            arguments = made.pattern.match(key)
            if arguments is not None:
                return functools.partial(made.function, **arguments)
        if recipe.loader in _calls:
            return _again(_calls[recipe.loader], recipe.call)
        return None if self._load is None else functools.partial(self._load, key)


def _again(function: Callable[..., Any], call: str) -> Load | None:
    """The `call` of `function` that was recorded; None if it is none."""
    import msgspec

    try:
        positional, named = call_of(call)
    except msgspec.MsgspecError:
        return None
    return functools.partial(function, *positional, **named)


class _Made(NamedTuple):
    pattern: Pattern
    function: Callable[..., Any]


_patterns: dict[str, list[_Made]] = {}  # by name of the cache, "" for all
_calls: dict[str, Callable[..., Any]] = {}  # by their qualified name


def register_pattern(pattern: str, function: Callable[..., Any], cache: str) -> None:
    """Have `function` make the keys that match `pattern`, in the cache of that name, or in all if it is "".

    Raises:
        InvalidSetting: The pattern can't be used, or does not fit the function.
    """
    made = _Made(Pattern(pattern), function)
    _demand_fitting(made)
    known = _patterns.setdefault(cache, [])
    known[:] = [other for other in known if other.pattern.text != pattern]
    known.append(made)


def _demand_fitting(made: _Made) -> None:
    fields = dict.fromkeys(made.pattern.names)
    try:
        signature(made.function).bind(**fields)
    except TypeError as error:
        raise InvalidSetting(
            f"the loader {_name(made.function)} can't be called with the fields of its pattern "
            f"{made.pattern.text!r}: {error}"
        ) from None


def register_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have calls of `function` be recorded as recipes; returns what is to be called instead."""
    name = _name(function)
    _calls[name] = function
    if iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(*arguments: Any, **named: Any) -> Any:
            asked = _take_asked()
            value = await function(*arguments, **named)
            _tell_call(asked, _Call(name, arguments, named), value)
            return value

        return call_async

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        asked = _take_asked()
        value = function(*arguments, **named)
        _tell_call(asked, _Call(name, arguments, named), value)
        return value

    return call


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"


# ------------------------------------------------------------------------------------------- which key a call is for

_Asked = tuple["Recorder", str]
_asked: ContextVar[_Asked | None] = ContextVar("preheat_asked", default=None)
"""The key that was missed last, in this thread or task, as long as no loader has been called since."""


class _Call(NamedTuple):
    name: str
    arguments: tuple[Any, ...]
    named: dict[str, Any]


def note_missed(recorder: Recorder, key: str) -> None:
    """The loader that is called next in this thread or task is called for `key`, if what it returns is put in there."""
    _asked.set((recorder, key))


def is_asked(recorder: Recorder, key: str) -> bool:
    """Whether `key` was missed last and no loader has been called since: who looks again asks the same once more."""
    asked = _asked.get()
    return asked is not None and asked[0] is recorder and asked[1] == key


def _take_asked() -> _Asked | None:
    asked = _asked.get()
    if asked is not None:
        _asked.set(None)
    return asked


def _tell_call(asked: _Asked | None, call: _Call, value: Any) -> None:
    if asked is None:
        return
    recorder, key = asked
    try:
        recipe = Recipe(call.name, key_of(call.name, call.arguments, call.named))
    except InvalidSetting:  # arguments that no later process could give: recorded, and not warmed
        return
    recorder.note_call(key, recipe, value)
