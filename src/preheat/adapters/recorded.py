"""Objects of other libraries that record themselves: the same object, of a subclass made for it, as `in_place` does it.

What a method tells is a generator: it is given the arguments of the call, yields those for the method as it was, is
sent what that returned, and returns what the caller gets.  So one description serves a method that blocks and one that
is a coroutine.  While the former method runs, what it calls of its own object is not told once more.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from preheat.adapters.in_place import RECORDED, _copies
from preheat.adapters.library import reset_deaf, set_deaf
from preheat.errors import InvalidSetting

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Steps = Generator[Arguments, Any, Any]
Telling = Callable[..., Steps]


def given(*arguments: Any, **named: Any) -> Arguments:
    """The arguments for the method as it was."""
    return arguments, named


def recorded_class(former: type, tellings: Mapping[str, Telling]) -> type:
    """A subclass of `former` of which the methods named in `tellings` tell, as far as it has them."""
    known = {name: telling for name, telling in tellings.items() if hasattr(former, name)}
    methods = {name: _told(getattr(former, name), telling) for name, telling in known.items()}
    members: dict[str, Any] = {"__module__": former.__module__, "__qualname__": former.__qualname__, "__slots__": ()}
    return type(former)(former.__name__, (former,), members | {RECORDED: True} | methods | _copies(former))


def record_object(thing: Any, name: str, tellings: Mapping[str, Telling]) -> None:
    """Make `thing` of such a class.

    Raises:
        InvalidSetting: It is recorded already.
    """
    demand_unrecorded(thing, name)
    thing.__class__ = recorded_class(type(thing), tellings)


def demand_unrecorded(thing: Any, name: str) -> None:
    """Demand that `thing` is not recorded already.

    Raises:
        InvalidSetting: It is.
    """
    if hasattr(type(thing), RECORDED):
        raise InvalidSetting(f"cache {name!r}: this {type(thing).__name__} is being watched already")


def _told(former: Callable[..., Any], telling: Telling) -> Callable[..., Any]:
    if iscoroutinefunction(former):

        @wraps(former)
        async def method_async(self: Any, *arguments: Any, **named: Any) -> Any:
            return await follow_async(telling(self, *arguments, **named), former, self)

        return method_async

    @wraps(former)
    def method(self: Any, *arguments: Any, **named: Any) -> Any:
        steps = telling(self, *arguments, **named)  # written out: this is what every recorded read takes longer
        positional, rest = next(steps)
        try:
            before = set_deaf(True)
            try:
                result = former(self, *positional, **rest)
            finally:
                reset_deaf(before)
        except BaseException as error:
            return _fail(steps, error)
        return _finish(steps, result)

    return method


async def follow_async(steps: Steps, former: Callable[..., Any], *first: Any) -> Any:
    """What the caller of `former`, which is awaited, gets where `steps` tell of the call."""
    positional, named = next(steps)
    try:
        before = set_deaf(True)
        try:
            result = await former(*first, *positional, **named)
        finally:
            reset_deaf(before)
    except BaseException as error:
        return _fail(steps, error)
    return _finish(steps, result)


def _finish(steps: Steps, result: Any) -> Any:
    try:
        steps.send(result)
    except StopIteration as end:
        return end.value
    raise RuntimeError("what a method tells has to end with its result")


def _fail(steps: Steps, error: BaseException) -> Any:
    """Let `steps` tell of `error`, which then goes on."""
    try:
        steps.throw(error)
    except StopIteration as end:
        return end.value
    raise error
