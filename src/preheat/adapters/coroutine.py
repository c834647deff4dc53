"""Coroutine functions whose results are kept; the counterpart of `preheat.adapters.function`.

Each load is a task of its own, so that who waits for it can be cancelled without taking it from the others.  Calls in
several event loops share results, not loads: there is one at a time in each loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from preheat._log import is_quiet, quietly
from preheat._model import ItemResult, ItemStatus, WarmupItem
from preheat.adapters.function import _ABSENT, CachedResults

V = TypeVar("V")


class _Load:
    """One call under way, in a task; it is None before that has begun."""

    __slots__ = ("is_wanted", "is_warm_up", "result", "task")

    def __init__(self, *, is_warm_up: bool) -> None:
        self.is_warm_up, self.is_wanted = is_warm_up, False
        self.result = ItemResult(ItemStatus.RESIDENT)  # of a warm-up
        self.task: asyncio.Task[Any] | None = None

    @property
    def is_over(self) -> bool:
        return self.task is not None and self.task.done()

    @property
    def has_failed_by_itself(self) -> bool:
        """Whether it ended for a reason that is none for whoever else waited: cancelled, or a failed warm-up."""
        task = self.task
        return task is not None and task.done() and (task.cancelled() or (self.is_warm_up and bool(task.exception())))


class CachedCoroutine(CachedResults[V]):
    """The results of a coroutine function; what it raises is kept for nobody, and reaches all who wait."""

    async def call(self, *arguments: Any, **named: Any) -> V:
        """The result of the function: the resident one, or one that is made now."""
        key = self._key(arguments, named)
        found = self._look(key)
        result: V = await self._load_missing(key, arguments, named) if found is _ABSENT else found
        return result

    async def warmup_item(self, item: WarmupItem) -> ItemResult:  # type: ignore[override]
        """Call the function as a miss would; see `preheat.abc.WarmableCache`."""
        key = item.ref.key
        if key in self.results or self._under_way(key) is not None:
            return ItemResult(ItemStatus.RESIDENT)
        load = self._take_off(key, partial(self._warm, item), is_warm_up=True)
        try:
            await _end_of(load)
        except asyncio.CancelledError:
            if not load.is_wanted and load.task is not None:
                load.task.cancel()
            raise
        return load.result

    async def _warm(self, item: WarmupItem, load: _Load) -> Any:
        started = time.perf_counter()
        with quietly():
            value = await self._call_again(item.ref.key)
        may_keep = partial(self._is_flying, item.ref.key, load)
        load.result = self._admit(item, value, time.perf_counter() - started, may_keep)
        return value

    async def _load_missing(self, key: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """The result of a call for which none is resident; made once however many ask at the same time."""
        self._begin()
        while not is_quiet():
            load = self._under_way(key)
            if load is None:
                found = self._look(key)
                if found is not _ABSENT:
                    return found
                self._count_miss(key)
                return await _end_of(self._take_off(key, lambda load: self._make(key, load, arguments, named)))
            if load.task is None or load.task is asyncio.current_task():  # the function calls itself
                break
            load.is_wanted = True
            try:
                result = await _end_of(load)
            except BaseException:
                if load.has_failed_by_itself and not _is_cancelled():
                    continue
                self._count_miss(key, rides_along=True)
                raise
            self._count_miss(key, rides_along=True)
            self._note_used(key)
            return result
        return await self.function(*arguments, **named)

    async def _make(self, key: str, load: _Load, arguments: Sequence[Any], named: Mapping[str, Any]) -> Any:
        started = time.perf_counter()
        try:
            value = await self.function(*arguments, **named)
        except BaseException:
            self._report_miss(key, -1, -1.0)
            raise
        self._keep(key, value, time.perf_counter() - started, partial(self._is_flying, key, load))
        return value

    def _under_way(self, key: str) -> _Load | None:
        load: _Load | None = self._flights.get((key, asyncio.get_running_loop()))
        return None if load is None or load.is_over else load

    def _take_off(
        self, key: str, make: Callable[[_Load], Coroutine[Any, Any, Any]], *, is_warm_up: bool = False
    ) -> _Load:
        load = _Load(is_warm_up=is_warm_up)
        self._flights[key, asyncio.get_running_loop()] = load
        load.task = asyncio.get_running_loop().create_task(make(load))
        load.task.add_done_callback(lambda task: self._leave(key, load))
        return load

    def _is_flying(self, key: str, load: _Load) -> bool:
        """Whether what `load` makes is to be kept: not if it was invalidated since."""
        return self._flights.get((key, asyncio.get_running_loop())) is load

    def _leave(self, key: str, load: _Load) -> None:
        with self._lock:
            if self._is_flying(key, load):
                del self._flights[key, asyncio.get_running_loop()]


async def _end_of(load: _Load) -> Any:
    """What `load` makes; who waits for it can be cancelled, and it goes on."""
    assert load.task is not None  # noqa: S101 - it has begun
    return await asyncio.shield(load.task)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
