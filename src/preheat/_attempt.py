"""One attempt at a batch: call the cache, and make a result of whatever it does.

Each load is told how large its value may become (`preheat.load_limit_bytes`).  Nothing that a cache or a loader
raises gets past this module, but for a cancellation that is meant for the run itself.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import sys
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

from preheat._limit import limited_to
from preheat._model import ItemResult, ItemStatus, WarmupItem
from preheat._plan.sizes import MOST_BYTES
from preheat.abc import LoadsInBulk, TellsKinds, UndoesWarmup, WarmableCache
from preheat.errors import ItemTooLarge

logger = logging.getLogger("preheat")

# A loader that awaited something which others cancelled raises CancelledError too; nobody cancelled the run by that.
_ITEM_ERRORS = (Exception, asyncio.CancelledError)

_NOT_BEGUN: Any = object()  # not None: a cache may answer that, which is a failure

MayBegin = Callable[[], bool]
"""Asked before each item of a batch, since a batch takes its time and memory does not wait."""


class Allowance(NamedTuple):
    """What the values of a batch may occupy: each what was reserved for it, and all together `spare_bytes` more.

    Without any reservation there is no limit.
    """

    reserved_bytes: Sequence[int] = ()
    spare_bytes: int | None = None

    def of_all(self) -> int | None:
        """The limit of each value where all of them are made at once."""
        if self.spare_bytes is None:
            return None
        return (sum(self.reserved_bytes) + self.spare_bytes) // len(self.reserved_bytes)

    def of_one(self, n: int, used_bytes: int) -> int | None:
        """The limit of the `n`-th value, when those before it took `used_bytes` of the spare."""
        if self.spare_bytes is None:
            return None
        return self.reserved_bytes[n] + max(0, self.spare_bytes - used_bytes)


async def load_async(
    cache: WarmableCache, items: Sequence[WarmupItem], allowance: Allowance, may_begin: MayBegin
) -> list[ItemResult | None]:
    """The results of `items` from a cache whose `warmup_item` is a coroutine function; None where it was not begun."""
    if len(items) > 1 and inspect.iscoroutinefunction(getattr(cache, "warmup_items", None)) and may_begin():
        with limited_to(allowance.of_all()):
            whole = await _load_whole(cache, items)
        if whole is not None:
            return whole
    # made one by one as they are settled: the body of a coroutine runs only when it is awaited
    begun = (_load_one(cache, item) if may_begin() else _NOT_BEGUN for item in items)
    return await settle_batch(items, begun, allowance)


async def _load_whole(cache: Any, items: Sequence[WarmupItem]) -> list[ItemResult | None] | None:
    """The results of `items` from a cache that loads in bulk on the loop; None if they failed together."""
    try:
        given = list(await cache.warmup_items(items))
    except _ITEM_ERRORS as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        logger.debug("a batch of cache %r is loaded one by one", items[0].ref.cache, exc_info=error)
        return None
    return [await settle(item, result) for item, result in zip(items, given, strict=True)]


def load_batch(
    cache: WarmableCache, items: Sequence[WarmupItem], allowance: Allowance, may_begin: MayBegin
) -> list[Any]:
    """What the cache gave for `items`, in bulk if it can; to be settled."""
    if len(items) > 1 and isinstance(cache, LoadsInBulk) and may_begin():
        try:
            with limited_to(allowance.of_all()):
                results = list(cache.warmup_items(items))
        except _ITEM_ERRORS as error:  # one bad item may have failed them all: find out which
            logger.debug("a batch of cache %r is loaded one by one", items[0].ref.cache, exc_info=error)
        else:
            if len(results) == len(items):
                return results
            wrong = f"warmup_items gave {len(results)} results for {len(items)} items"
            return [ItemResult(ItemStatus.FAILED, reason=wrong) for _ in items]
    return _load_one_by_one(cache, items, allowance, may_begin)


def _load_one_by_one(
    cache: WarmableCache, items: Sequence[WarmupItem], allowance: Allowance, may_begin: MayBegin
) -> list[Any]:
    results: list[Any] = []
    used_bytes = 0
    for n, item in enumerate(items):
        if not may_begin():
            results.append(_NOT_BEGUN)
            continue
        with limited_to(allowance.of_one(n, used_bytes)):
            results.append(_load_one(cache, item))
        used_bytes += _beyond_reservation(allowance, n, results[-1])
    return results


def _beyond_reservation(allowance: Allowance, n: int, result: Any) -> int:
    if allowance.spare_bytes is None or not isinstance(result, ItemResult) or not _is_size(result.size_bytes):
        return 0
    return max(0, int(result.size_bytes) - allowance.reserved_bytes[n])


def _load_one(cache: WarmableCache, item: WarmupItem) -> Any:
    try:
        return cache.warmup_item(item)
    except _ITEM_ERRORS as error:
        return _failure(item, error)


async def settle_batch(
    items: Sequence[WarmupItem], begun: Iterable[Any], allowance: Allowance
) -> list[ItemResult | None]:
    """The results of `items`, for which the cache gave `begun`."""
    results: list[ItemResult | None] = []
    used_bytes = 0
    for n, (item, result) in enumerate(zip(items, begun, strict=True)):
        with limited_to(allowance.of_one(n, used_bytes)):
            results.append(await settle(item, result))
        used_bytes += _beyond_reservation(allowance, n, results[-1])
    return results


async def settle(item: WarmupItem, result: Any) -> ItemResult | None:
    """What `warmup_item` gave for `item`, awaited if need be; anything but a usable result is a failure.

    None if the load was not begun.
    """
    if result is _NOT_BEGUN:
        return None
    try:
        if inspect.isawaitable(result):
            result = await result
    except _ITEM_ERRORS as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        return _failure(item, error)
    if not isinstance(result, ItemResult) or not isinstance(result.status, ItemStatus):
        return ItemResult(ItemStatus.FAILED, reason=f"warmup_item gave a {type(result).__name__}, not an ItemResult")
    if not _is_size(result.size_bytes):
        return ItemResult(ItemStatus.FAILED, reason=f"warmup_item gave {result.size_bytes!r} as its size in bytes")
    return result._replace(size_bytes=int(result.size_bytes), reason=_printable(result.reason))


Undo = Callable[[str], int]


def undo_of(cache: WarmableCache) -> Undo:
    """What undoes the load of a key of `cache`, and returns the accounted bytes released: 0 if it can't."""
    undo: Undo | None = cache.undo_warmup if isinstance(cache, UndoesWarmup) else None

    def undo_one(key: str) -> int:
        try:
            released = int(undo(key)) if undo is not None else 0
            return released if _is_size(released) else 0
        except Exception:
            logger.exception("an item of cache %r could not be undone", cache.name)
            return 0

    return undo_one


MOST_KINDS = 64
"""Kinds of one cache that are told apart; what comes after them is of the kind ""."""


def kinds_of(caches: Mapping[str, WarmableCache]) -> dict[str, Callable[[str], str]]:
    """By cache that tells kinds apart, what tells the kind of a key: "" where the cache fails to."""
    return {name: _kind_of(cache) for name, cache in caches.items() if isinstance(cache, TellsKinds)}


def _kind_of(cache: TellsKinds) -> Callable[[str], str]:
    has_failed = False
    known: set[str] = set()

    def kind_of(key: str) -> str:
        nonlocal has_failed
        try:
            kind = sys.intern(cache.kind_of(key))
            if len(known) < MOST_KINDS:
                known.add(kind)
            return kind if kind in known else ""
        except Exception:
            if not has_failed:
                logger.exception("the kinds of %r could not be told apart", cache)
            has_failed = True
            return ""

    return kind_of


def undo_batch(
    loads: Iterable[tuple[Undo, str]], release_memory: Callable[[], None], process_bytes: Callable[[], int]
) -> Sequence[int]:
    """Undo `loads`, then give what is free back; the accounted bytes released for each.

    Makes next to no objects that stay: memory is short when this is called.  If the process shrinks by less than
    nine tenths of what was undone, the collector looks for what holds it: cycles, and the interpreter's lists of free
    objects, which pin the memory around them.

    Args:
        loads: What undoes each, and its key, in this order.
        release_memory: Gives free memory back to the system.
        process_bytes: What the process occupies.
    """
    before = process_bytes()
    released = array("q", (undo(key) for undo, key in loads))
    release_memory()
    if before - process_bytes() < sum(released) * 9 // 10:
        gc.collect()
        release_memory()
    return released


def _failure(item: WarmupItem, error: BaseException) -> ItemResult:
    if isinstance(error, ItemTooLarge | MemoryError):
        return ItemResult(ItemStatus.TOO_LARGE, reason=_printable(str(error) or type(error).__name__))
    logger.debug("an item of cache %r could not be loaded", item.ref.cache, exc_info=error)
    return ItemResult(ItemStatus.FAILED, reason=_printable(f"{type(error).__name__}: {error}"))


def _is_size(size_bytes: object) -> bool:
    return isinstance(size_bytes, Integral) and 0 <= size_bytes <= MOST_BYTES  # type: ignore[operator]


def _printable(reason: object) -> str:
    """`reason` without lone surrogates, say of a file name, which no report could be written with."""
    return str(reason).encode("utf-8", "backslashreplace").decode()
