"""What a cache needs where coroutines read from it; asyncio itself is imported when one does."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

V = TypeVar("V")


def is_coroutine_function(load: Callable[..., Any]) -> bool:
    """Whether what `load` returns has to be awaited."""
    call = getattr(load, "__call__", None)  # noqa: B004 - of an object that is called like a function
    return inspect.iscoroutinefunction(load) or inspect.iscoroutinefunction(call)


async def in_thread(call: Callable[[], V]) -> V:
    """What `call` returns, called in a thread, in the context of the caller."""
    import asyncio  # it is there where a coroutine runs

    return await asyncio.to_thread(call)


def begin(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run `coroutine` in a task of its own; whatever it raises is nobody's but its own."""
    import asyncio

    task = asyncio.get_running_loop().create_task(coroutine)
    _under_way.add(task)
    task.add_done_callback(_forget)


async def listed(made: Awaitable[V]) -> list[V]:
    """What was to be awaited, in a list."""
    return [await made]


_under_way: set[Any] = set()  # the loop itself refers to its tasks weakly


def _forget(task: Any) -> None:
    _under_way.discard(task)
    if not task.cancelled():
        task.exception()  # it has been seen
