"""The counterpart of `preheat.adapters.library` for libraries that are awaited.

What a plan asks beforehand is asked from a thread that has no loop, and undoing has none either; so a library says for
itself what it can tell and do there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from inspect import isawaitable, iscoroutinefunction
from typing import Any, Protocol

from preheat._log import quietly
from preheat._model import ItemResult, ItemStatus, WarmupItem
from preheat._size import estimate_item_memory_usage
from preheat.adapters.library import OVERTAKEN, KnownCache, not_added
from preheat.adapters.loaders import Load, Recipe, read_recipe


class AsyncLibrary(Protocol):
    """What is asked of another library's cache; none of it may count as traffic there.  See `library.Library`."""

    async def holds(self, key: str) -> bool:
        """Whether a read of `key` would be a hit."""
        ...

    async def add(self, key: str, value: Any, life_seconds: float | None) -> bool:
        """Put in `value` where nothing is; False if something is there."""
        ...

    async def drop(self, key: str) -> None:
        """Delete `key`, if it is there."""
        ...

    async def refuses(self, value: Any, size_bytes: int) -> str:
        """Why `value` would not be kept, or only by evicting another; "" if nothing speaks against it."""
        ...

    def find(self, keys: Sequence[str]) -> Sequence[bool] | None:
        """Whether a read of each would be a hit; None if that can't be told without a loop."""
        ...

    def count(self) -> int | None:
        """How many entries there are; None if that can't be told without a loop."""
        ...

    def drop_now(self, key: str) -> bool:
        """Delete `key` without a loop; False if that can't be done."""
        ...


class AsyncLibraryCache(KnownCache):
    """A cache whose library is awaited; a loader that is a plain function is called in a thread."""

    _library: AsyncLibrary

    async def warmup_item(self, item: WarmupItem) -> ItemResult:
        """Load `item` as a miss would; see `preheat.abc.WarmableCache`."""
        key, changes, recipe = item.ref.key, self.recorder.changes, read_recipe(item.recipe)
        with quietly():
            if await self._library.holds(key):
                return ItemResult(ItemStatus.RESIDENT)
            make = self._demand_load(key, recipe)
            load = changes.begin(key)
            try:
                return await self._warm(key, make, recipe, lambda: changes.is_current(key, load))
            finally:
                changes.end(key, load)

    async def _warm(self, key: str, make: Load, recipe: Recipe, is_current: Callable[[], bool]) -> ItemResult:
        started = time.perf_counter()
        value = await _made(make)
        seconds = time.perf_counter() - started
        size_bytes = estimate_item_memory_usage(value, key=key)
        refused = "" if is_current() else OVERTAKEN
        refused = refused or await self._library.refuses(value, size_bytes)
        if refused:
            return ItemResult(ItemStatus.REJECTED, 0, seconds, refused)
        if not await self._library.add(key, value, recipe.life_seconds):
            return not_added(await self._library.holds(key), seconds)
        if not is_current():
            await self._library.drop(key)
            return ItemResult(ItemStatus.REJECTED, 0, seconds, OVERTAKEN)
        return self._note_warmed(key, size_bytes, seconds)

    def undo_warmup(self, key: str) -> int:
        """Drop `key` if a warm-up loaded it and nobody here read or replaced it since; the bytes released."""
        size_bytes = self.recorder.unused.pop(key, 0)
        if not size_bytes:
            return 0
        with quietly():
            return size_bytes if self._library.drop_now(key) else 0


async def _made(make: Load) -> Any:
    """What `make` makes; its function does not hold up the loop."""
    if iscoroutinefunction(getattr(make, "func", make)):
        return await make()
    import asyncio

    value = await asyncio.to_thread(make)
    return await value if isawaitable(value) else value
