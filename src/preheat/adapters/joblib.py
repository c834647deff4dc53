"""Functions cached on disk by joblib's `Memory`: recorded in place, warmed by calling them as a miss would.

The key of a call is that of `preheat.adapters.function`: its argument where that is one text, else the JSON of its
arguments; calls with others, such as arrays, are neither recorded nor warmed.  Whether a result is there, and still
good, is joblib's decision: the code of the function, its `cache_validation_callback`, the arguments that it ignores.
A result depends on nothing else, so a warm-up can't put in an old one; what is cleared while it is being made is
dropped again.

Sizes are those on disk, so a plan fills the budget with what the system is to read, not with what stays in memory.
This module does not import joblib: what is unpickled is what the application's own calls unpickle.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from inspect import signature
from typing import Any

from preheat._log import CacheLog
from preheat._model import DEFAULT_PRIORITY, ItemResult, ItemStatus
from preheat._size import estimate_item_memory_usage
from preheat.adapters.function import call_of, key_of
from preheat.adapters.library import OVERTAKEN, LibraryCache, Recorder, complete
from preheat.adapters.loaders import Load, Recipe
from preheat.adapters.recorded import Steps, Telling, demand_unrecorded, given, record_object
from preheat.errors import InvalidSetting

__all__ = ["JoblibCache", "watch"]


class _Results:
    """The results of a function: see `preheat.adapters.library.Library`, as far as it is asked for."""

    def __init__(self, function: Any, name: str) -> None:
        self.function, self._name = function, name
        self._signature = signature(function.func)

    def key(self, arguments: Sequence[Any], named: dict[str, Any]) -> str | None:
        """The key of a call; None if it can't be made again from text."""
        try:
            if named:
                bound = self._signature.bind(*arguments, **named)
                arguments, named = bound.args, bound.kwargs
            return key_of(self._name, arguments, named)
        except (TypeError, InvalidSetting):  # the call itself will say what is wrong with it
            return None

    def holds(self, key: str) -> bool:
        arguments, named = call_of(key)
        return bool(self.function.check_call_in_cache(*arguments, **named))

    def find(self, keys: Sequence[str]) -> list[bool]:
        return [self.holds(key) for key in keys]

    def drop(self, key: str) -> None:
        self.function.store_backend.clear_item((self.function.func_id, self._hash(key)))

    def count(self) -> int | None:
        folder = self._folder()
        return None if folder is None else sum(entry.is_dir() for entry in _entries(folder))

    def size_bytes(self, key: str, value: Any) -> int:
        """What the result of a call occupies on disk; in memory, where its store is no folder."""
        folder = self._folder(self._hash(key))
        sizes = [] if folder is None else [entry.stat().st_size for entry in _entries(folder)]
        return sum(sizes) or estimate_item_memory_usage(value, key=key)

    def _hash(self, key: str) -> str:
        arguments, named = call_of(key)
        return str(self.function._get_args_id(*arguments, **named))

    def _folder(self, *below: str) -> str | None:
        folder = os.path.join(str(self.function.store_backend.location), self.function.func_id, *below)
        return folder if os.path.isdir(folder) else None


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries


_made: ContextVar[list[bool] | None] = ContextVar("preheat_made_by_joblib", default=None)
"""Filled when joblib makes a result in the call under way."""


class _Tellings:
    """What the methods of a function tell a recorder: of a call, whether joblib had to make it."""

    def __init__(self, recorder: Recorder, results: _Results) -> None:
        self._recorder, self._results = recorder, results

    def by_name(self) -> dict[str, Telling]:
        """By name of the method."""
        return {"__call__": self._read, "call_and_shelve": self._read, "_call": self._make, "clear": self._clear}

    def _read(self, function: Any, *arguments: Any, **named: Any) -> Steps:
        begun, made, is_failed = time.perf_counter(), list[bool](), True
        before = _made.set(made)
        try:
            value = yield given(*arguments, **named)
            is_failed = False
        finally:
            _made.reset(before)
            key = self._results.key(arguments, named)
            if key is not None and made and is_failed:
                self._recorder.failed(key)
        if key is not None and made:
            self._recorder.made(key, self._results.size_bytes(key, value), time.perf_counter() - begun, "")
        elif key is not None:
            self._recorder.hit(key)
        return value

    def _make(self, function: Any, *how: Any, **named: Any) -> Steps:
        made = _made.get()
        if made is not None:
            made.append(True)
        return (yield given(*how, **named))

    def _clear(self, function: Any, *how: Any, **rest: Any) -> Steps:
        self._recorder.clearing()
        return (yield given(*how, **rest))


class JoblibCache(LibraryCache):
    """A function of joblib's `Memory` as the service sees it.

    Args:
        function: It: what `memory.cache(...)` returned.
        name: Name of the cache in history and reports.
        log: Where accesses go until `record_to` names another.
        priority: The operator's word for its items, 1 to 10.
    """

    _library: Any

    def __init__(self, function: Any, *, name: str, log: CacheLog, priority: int = DEFAULT_PRIORITY) -> None:
        super().__init__(name, Recorder(name, log), _Results(function, name), self._call_again, priority=priority)

    def _call_again(self, key: str) -> Any:
        arguments, named = call_of(key)
        return self._library.function(*arguments, **named)

    def _warm(self, key: str, make: Load, recipe: Recipe, is_current: Callable[[], bool]) -> ItemResult:
        started = time.perf_counter()
        value = complete(make())
        seconds = time.perf_counter() - started
        if not is_current():
            self._library.drop(key)
            return ItemResult(ItemStatus.REJECTED, 0, seconds, OVERTAKEN)
        if not self._library.holds(key):
            return ItemResult(ItemStatus.REJECTED, 0, seconds, "joblib did not keep it")
        return self._note_warmed(key, self._library.size_bytes(key, value), seconds)


def watch(
    function: Any, *, name: str, log: CacheLog, load: None = None, priority: int = DEFAULT_PRIORITY
) -> tuple[Any, JoblibCache]:
    """Record `function`, which `memory.cache(...)` returned, and what the service is to warm; see `heat.watch`.

    Raises:
        InvalidSetting: It is recorded already, a load was given, or its results are kept nowhere.
    """
    demand_unrecorded(function, name)
    if load is not None:
        raise InvalidSetting(f"cache {name!r}: the results are made by the function itself; leave load out")
    if not hasattr(function, "_call") or not hasattr(function, "store_backend"):
        raise InvalidSetting(f"cache {name!r}: its results are kept nowhere; give joblib's Memory a location")
    made = JoblibCache(function, name=name, log=log, priority=priority)
    record_object(function, name, _Tellings(made.recorder, made._library).by_name())
    return function, made
