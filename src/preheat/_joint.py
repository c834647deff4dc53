"""A cache as a run sees it where replicas warm up together: what others load is waited for, the rest keeps the rate."""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from preheat._coordination import Coordination
from preheat._fleet import PATIENCE_SECONDS
from preheat._model import CacheStatistics, History, ItemResult, ItemStatus, WarmupItem
from preheat._record import log_failure
from preheat.abc import LoadsInBulk, SharesValues, WarmableCache
from preheat.errors import ItemTooLarge

if TYPE_CHECKING:
    from numpy.typing import NDArray

POLL_SECONDS = (0.03, 0.15)  # between two looks at what others load, at random

_ABILITIES = ("undo_warmup", "report_memory_to", "kind_of")


def joint(caches: Mapping[str, WarmableCache], coordination: Coordination) -> dict[str, WarmableCache]:
    """`caches`, of which those that are shared, or whose origin has a rate, are loaded together with the others."""
    return {
        name: JointCache(cache, coordination)
        if isinstance(cache, SharesValues) or origin_of(cache) in coordination.rates
        else cache
        for name, cache in caches.items()
    }


def origin_of(cache: WarmableCache) -> str:
    """The name of what `cache` loads from: its own, unless it says that it shares one."""
    return str(getattr(cache, "origin", cache.name))


class JointCache:
    """One cache, warmed in batches together with other replicas; a `preheat.abc.WarmableCache` itself.

    Loads of a synchronous cache are done in threads.
    """

    def __init__(self, cache: WarmableCache, coordination: Coordination) -> None:
        self.name, self.origin = cache.name, origin_of(cache)
        self._cache, self._coordination = cache, coordination
        for ability in _ABILITIES:
            if hasattr(cache, ability):  # as attributes of its own: the seams look for those
                setattr(self, ability, getattr(cache, ability))

    def get_warmup_candidates(self, history: History, rates: NDArray[Any]) -> Sequence[WarmupItem]:
        """Those of the cache."""
        return self._cache.get_warmup_candidates(history, rates)

    def estimate_item_size(self, item: WarmupItem) -> int:
        """That of the cache."""
        return self._cache.estimate_item_size(item)

    def get_warmup_statistics(self) -> CacheStatistics:
        """Those of the cache."""
        return self._cache.get_warmup_statistics()

    async def warmup_item(self, item: WarmupItem) -> ItemResult:
        """Load `item`, or wait until another replica has."""
        return (await self.warmup_items([item]))[0]

    async def warmup_items(self, items: Sequence[WarmupItem]) -> list[ItemResult]:
        """Load those of `items` that are this replica's to load, and wait until the others are there."""
        results: dict[int, ItemResult] = {}
        left = list(range(len(items)))
        try:
            if isinstance(self._cache, SharesValues):
                left = await self._go_through(self._cache, items, results)
        except Exception:
            log_failure("loads of cache %r could not be shared out, so this replica does them all", self.name)
            left = [n for n in left if n not in results]
        await self._load(items, left, results)
        return [results.get(n, _STOPPED) for n in range(len(items))]

    async def _go_through(
        self, cache: SharesValues, items: Sequence[WarmupItem], results: dict[int, ItemResult]
    ) -> list[int]:
        """Load what nobody else does until everything is there; the positions left for want of patience."""
        left, together = list(range(len(items))), self._coordination
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while left and not together.is_stopped:
            found = await _called(cache.find_resident, [items[n].ref.key for n in left])
            results.update((n, _LOADED_BY_OTHERS) for n, there in zip(left, found or (), strict=False) if there)
            left = [n for n in left if n not in results]
            mine = [left[n] for n in await together.take(cache.shared_as, [items[n].ref.key for n in left])]
            if mine:
                await self._load(items, mine, results)
                keys = [items[n].ref.key for n in mine]
                loaded = {items[n].ref.key for n in mine if n in results and results[n].status is ItemStatus.LOADED}
                await together.give_back(cache.shared_as, keys, loaded)
                left = [n for n in left if n not in results]
                give_up_at = time.monotonic() + PATIENCE_SECONDS
            elif left:
                if time.monotonic() > give_up_at:
                    if not together.give_up_on([items[n].ref.key for n in left]):
                        break
                    give_up_at = time.monotonic() + PATIENCE_SECONDS
                await together.sleep(random.uniform(*POLL_SECONDS))
        return left

    async def _load(
        self, items: Sequence[WarmupItem], positions: Sequence[int], results: dict[int, ItemResult]
    ) -> None:
        for few in self._coordination.in_turns(self.origin, positions):
            await self._coordination.wait_for_turn(self.origin, len(few))
            if self._coordination.is_stopped:
                return
            results.update(zip(few, await self._attempt([items[n] for n in few]), strict=True))

    async def _attempt(self, items: Sequence[WarmupItem]) -> list[ItemResult]:
        if len(items) > 1 and isinstance(self._cache, LoadsInBulk):
            try:
                results = list(await _called(self._cache.warmup_items, items))
                if len(results) == len(items):
                    return results
            except Exception:  # noqa: S110 - one bad item may have failed them all: each is tried by itself
                pass
        return [await self._attempt_one(item) for item in items]

    async def _attempt_one(self, item: WarmupItem) -> ItemResult:
        try:
            result: ItemResult = await _called(self._cache.warmup_item, item)
        except ItemTooLarge as error:
            return ItemResult(ItemStatus.TOO_LARGE, reason=str(error))
        except Exception as error:
            return ItemResult(ItemStatus.FAILED, reason=f"{type(error).__name__}: {error}")
        return result


async def _called(function: Any, argument: Any) -> Any:
    """What `function` gives: on the loop if it is a coroutine function, in a thread otherwise."""
    if inspect.iscoroutinefunction(function):
        return await function(argument)
    given = await asyncio.to_thread(function, argument)
    return await given if inspect.isawaitable(given) else given


_LOADED_BY_OTHERS = ItemResult(ItemStatus.RESIDENT, reason="another replica has loaded it")
_STOPPED = ItemResult(ItemStatus.SKIPPED, reason="not started: the run was stopped")
