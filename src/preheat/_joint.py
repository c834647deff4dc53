"""A cache as a run sees it where replicas warm up together.

What others load is waited for, what peers give is not loaded, and the rest keeps the rate.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from preheat._attempt import failure_of, usable
from preheat._coordination import Coordination
from preheat._fleet import PATIENCE_SECONDS, looking_seconds
from preheat._model import CacheStatistics, History, ItemResult, ItemStatus, WarmupItem
from preheat._origin import origin_of
from preheat._record import log_failure
from preheat._turns import apart, at_work
from preheat._undo import Undo, undo_of
from preheat.abc import LoadsInBulk, SharesValues, WarmableCache

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat._peering import Taker

POLL_SECONDS = (0.03, 0.15)  # between two looks at what others load, at random; longer where there are very many

_ABILITIES = ("undo_warmup", "report_memory_to", "kind_of", "shared_as", "find_resident")


def joint(
    caches: Mapping[str, WarmableCache], coordination: Coordination, taker: Taker | None = None
) -> dict[str, WarmableCache]:
    """`caches`, of which those are joint that are shared, that peers give values of, or whose origin has a limit."""
    return {
        name: JointCache(cache, coordination, taker)
        if (coordination.shares_keys and isinstance(cache, SharesValues))
        or coordination.is_limited(origin_of(cache, name))
        or (taker is not None and taker.gives(name))
        else cache
        for name, cache in caches.items()
    }


class JointCache:
    """One cache, warmed in batches together with other replicas; a `preheat.abc.WarmableCache` itself.

    Loads of a synchronous cache are done in threads.
    """

    def __init__(self, cache: WarmableCache, coordination: Coordination, taker: Taker | None = None) -> None:
        self._taker = taker if taker is not None and taker.gives(cache.name) else None
        self.name, self.origin = cache.name, origin_of(cache, cache.name)
        self._cache, self._coordination = cache, coordination
        self._is_awaited = False  # as far as is known: what it is called for may be awaitable all the same
        self._waiting = 0  # batches for which others are waited for
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
        with apart():
            left = await self._share_out(items, results)
            await self._load(items, left, results)
        return [results.get(n, _STOPPED) for n in range(len(items))]

    async def _share_out(self, items: Sequence[WarmupItem], results: dict[int, ItemResult]) -> list[int]:
        """Do what is done together with the others; the positions that this replica is to load by itself."""
        try:
            if self._coordination.shares_keys and isinstance(self._cache, SharesValues):
                return await self._go_through(self._cache, items, results)
        except Exception:
            log_failure("loads of cache %r could not be shared out, so this replica does them all", self.name)
        return [n for n in range(len(items)) if n not in results]

    async def _go_through(
        self, cache: SharesValues, items: Sequence[WarmupItem], results: dict[int, ItemResult]
    ) -> list[int]:
        """Load what nobody else does until everything is there; the positions left for want of patience."""
        left, together = list(range(len(items))), self._coordination
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while left and not together.is_stopped:
            found = await self._called(cache.find_resident, [items[n].ref.key for n in left])
            results.update((n, _LOADED_BY_OTHERS) for n, there in zip(left, found or (), strict=False) if there)
            left = [n for n in left if n not in results]
            keys, at_once = (
                [items[n].ref.key for n in left],
                together.at_once(self.origin, [items[n].size_bytes for n in left]),
            )
            mine = [left[n] for n in await together.take(cache.shared_as, keys, at_once)]
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
                await self._wait_to_look()
        return left

    async def _wait_to_look(self) -> None:
        self._waiting += 1
        try:
            least = looking_seconds(self._coordination.replicas, self._waiting)
            await self._coordination.sleep(max(random.uniform(*POLL_SECONDS), least))
        finally:
            self._waiting -= 1

    async def _load(
        self, items: Sequence[WarmupItem], positions: Sequence[int], results: dict[int, ItemResult]
    ) -> None:
        left = await self._take(self._taker, items, positions, results) if self._taker is not None else positions
        sizes = [items[n].size_bytes for n in left]
        for turn in self._coordination.in_turns(self.origin, sizes):
            few = left[turn]
            await self._coordination.wait_while_held()
            await self._coordination.wait_for_turn(self.origin, len(few), sum(sizes[turn]))
            if self._coordination.is_stopped:
                return
            results.update(zip(few, await self._attempt([items[n] for n in few]), strict=True))
            refusal = results[few[-1]]
            if refusal.wait_seconds is not None:  # none of the others is asked for before that
                results.update((n, refusal) for n in range(len(items)) if n not in results)
                return

    async def _take(
        self, taker: Taker, items: Sequence[WarmupItem], positions: Sequence[int], results: dict[int, ItemResult]
    ) -> Sequence[int]:
        """Put in what peers give; the positions left.  What the cache did not take was loaded, and pays its turn."""
        await self._coordination.wait_while_held()
        if self._coordination.is_stopped:
            return positions
        found = await taker.fetch(self.name, [items[n].ref.key for n in positions])
        given = [n for n in positions if items[n].ref.key in found]
        try:
            told = await self._put_in(taker, [items[n] for n in given])
        finally:
            taken = taker.withdraw(self.name, found)
        told = [replace(each, from_peer=items[n].ref.key in taken) for n, each in zip(given, told, strict=False)]
        taker.note(told)
        results.update(zip(given, told, strict=False))
        asked = sum(not each.from_peer and each.status is not ItemStatus.RESIDENT for each in told)
        if asked:
            await self._coordination.wait_for_turn(self.origin, asked)
        return [n for n in positions if n not in results]

    async def _put_in(self, taker: Taker, items: Sequence[WarmupItem]) -> list[ItemResult]:
        """The results of the first of `items`, up to one whose value the cache did not take from a peer."""
        told = await self._attempt(items[:1])
        if len(items) <= 1 or not taker.is_taken(self.name, items[0].ref.key):
            return told
        if isinstance(self._cache, LoadsInBulk) or self._is_awaited:
            return told + await self._attempt(items[1:])
        with at_work():
            rest: list[ItemResult] = await self._called(partial(self._put_in_each, taker), items[1:])
        return told + rest

    def _put_in_each(self, taker: Taker, items: Sequence[WarmupItem]) -> list[ItemResult]:
        """The same for a cache that blocks, in one visit to a thread."""
        told: list[ItemResult] = []
        for item in items:
            try:
                told.append(usable(self._cache.warmup_item(item)))
            except Exception as error:
                told.append(failure_of(error))
            if not taker.is_taken(self.name, item.ref.key):
                break
        return told

    async def _attempt(self, items: Sequence[WarmupItem]) -> list[ItemResult]:
        if len(items) > 1 and isinstance(self._cache, LoadsInBulk):
            try:
                with at_work():
                    results = list(await self._called(self._cache.warmup_items, items))
                if len(results) == len(items):
                    return [usable(result) for result in results]
            except Exception as error:
                failed = failure_of(error)
                if failed.wait_seconds is not None:
                    return [failed] * len(items)
        return await self._attempt_each(items)  # one bad item may have failed them all

    async def _attempt_each(self, items: Sequence[WarmupItem]) -> list[ItemResult]:
        """The results of `items`, one after another; an origin that asks for rest is not asked for the others."""
        results: list[ItemResult] = []
        for item in items:
            try:
                with at_work():
                    results.append(usable(await self._called(self._cache.warmup_item, item)))
            except Exception as error:
                results.append(failure_of(error))
            if results[-1].wait_seconds is not None:
                break
        return results + results[-1:] * (len(items) - len(results))

    async def _called(self, function: Any, argument: Any) -> Any:
        """What `function` gives: on the loop if it is a coroutine function, in a thread otherwise."""
        if inspect.iscoroutinefunction(function):
            self._is_awaited = True
            return await function(argument)
        call = _Call(partial(copy_context().run, function, argument), undo_of(self._cache))
        try:
            given = await self._coordination.threads.run(call)
        except asyncio.CancelledError:
            self._coordination.threads.give_one_up()
            call.give_up(argument)
            raise
        if not inspect.isawaitable(given):
            return given
        self._is_awaited = True
        return await given


class _Call:
    """A call in a thread; what it loads when nobody waits for it any more is undone."""

    def __init__(self, function: Callable[[], Any], undo: Undo) -> None:
        self._function, self._undo = function, undo
        self._given: Any = None
        self._unwanted: Sequence[WarmupItem] = ()

    def __call__(self) -> Any:
        self._given = self._function()
        self._drop()
        return self._given

    def give_up(self, argument: Any) -> None:
        """Nobody waits any more."""
        items = [argument] if isinstance(argument, WarmupItem) else argument
        self._unwanted = [item for item in items if isinstance(item, WarmupItem)]
        self._drop()

    def _drop(self) -> None:
        if not self._unwanted:
            return
        results = [self._given] if isinstance(self._given, ItemResult) else self._given or ()
        for item, result in zip(self._unwanted, results, strict=False):
            if isinstance(result, ItemResult) and result.status is ItemStatus.LOADED:
                self._undo(item.ref.key)


_LOADED_BY_OTHERS = ItemResult(ItemStatus.RESIDENT, reason="another replica has loaded it")
_STOPPED = ItemResult(ItemStatus.SKIPPED, reason="not started: the run was stopped")
