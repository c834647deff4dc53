"""An attempt at a run of loads: call the cache item by item or in batches, and make results of whatever it does.

Each load is told how large its value may become (`preheat.load_limit_bytes`).  Nothing that a cache or a loader
raises gets past this module, but for a cancellation that is meant for the run itself.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import numpy as np

from preheat._limit import limited_by
from preheat._model import ItemResult, ItemStatus, WarmupItem
from preheat._origin import read_refusal
from preheat._plan.sizes import MOST_BYTES, is_size
from preheat._turns import ITEMS_PER_LOOK, Turn, known_as
from preheat.abc import LoadsInBulk, WarmableCache
from preheat.errors import ItemTooLarge

logger = logging.getLogger("preheat")

# A loader that awaited something which others cancelled raises CancelledError too; nobody cancelled the run by that.
_ITEM_ERRORS = (Exception, asyncio.CancelledError)


FAILURES_ENOUGH = 3
"""A run of loads ends with so many failures: what is left of it is better begun when they have been judged."""


class Brake(Protocol):
    """Looked at before each item of a run, since a run takes its time and memory does not wait."""

    @property
    def is_on(self) -> bool:
        """Whether no further load may begin; asked from any thread."""
        ...


class Allowance(NamedTuple):
    """What the values of a run may occupy: each what was reserved for it, and all together `spare_bytes` more.

    Without any reservation there is no limit.
    """

    reserved_bytes: Sequence[int] = ()
    spare_bytes: int | None = None

    def of(self, start: int, items: int, used_bytes: int) -> int | None:
        """The limit of each of so many values that are made at once, when those before took `used_bytes` more."""
        if self.spare_bytes is None:
            return None
        reserved_bytes = sum(self.reserved_bytes[start : start + items])
        return (reserved_bytes + max(0, self.spare_bytes - used_bytes)) // items


class Way(NamedTuple):
    """How the items of a cache are loaded: on the loop or in threads, in batches or one by one."""

    is_on_loop: bool
    is_in_bulk: bool


def way_of(cache: WarmableCache) -> Way:
    """The way that `cache` offers: in batches if it has them of the same kind, coroutine functions or not."""
    is_on_loop = inspect.iscoroutinefunction(cache.warmup_item)
    is_in_bulk = isinstance(cache, LoadsInBulk) and inspect.iscoroutinefunction(cache.warmup_items) == is_on_loop
    return Way(is_on_loop, is_in_bulk)


class Attempt:
    """A run of loads in progress.

    Attributes:
        way: How.
        positions: What is to be loaded, in the plan's order.
        rows: The same; items are made a few at a time: those that lie about leave the processor's cache.
        turn: What it knows of the turns on the loop.
        began_at: When it was begun.
        grown: Tells by how much the process has grown, once it has ended; `grown_bytes` is what that said.
        results: What the cache gave so far, item by item; to be settled.
        settled: What was made of the results, where they are settled one by one.
        calling: How many items the loader has been called for last.
        task: What loads on the loop, or settles there; None while a thread loads.
        ending: What waits for the thread that loads; None on the loop.
        taken: How many of the results count, once nobody waits for the others; None before that.
        is_refused: The origin does not want any further load just now.
        is_late: The call of the loader that is being waited for has been cancelled for its length.
    """

    def __init__(
        self,
        cache: WarmableCache,
        way: Way,
        positions: tuple[int, ...],
        rows: Iterator[WarmupItem],
        allowance: Allowance,
        brake: Brake,
        turn: Turn,
        at: float,
    ) -> None:
        self.cache, self.way, self.positions, self.rows = cache, way, positions, rows
        self.brake, self.turn, self.began_at = brake, turn, at
        self.results: list[Any] = []
        self.settled: list[ItemResult] = []
        self.calling = 1
        self.grown: Callable[[], int] = int
        self.grown_bytes = 0
        self.task: asyncio.Task[Any] | None = None
        self.ending: asyncio.Future[None] | None = None
        self.taken: int | None = None
        self.is_refused = False
        self._failures = 0
        self.is_late = self._is_given_up = self._is_settling = False
        self._allowance = allowance
        self._accounted = self._used_bytes = 0
        self._progress, self._progress_at = 0, at

    def limit_bytes(self) -> int | None:
        """What the value that is being made may occupy."""
        known: Sequence[Any] = self.settled if self._is_settling else self.results
        for n in range(self._accounted, len(known)):
            self._used_bytes += self._beyond_reservation(n, known[n])
        self._accounted = max(self._accounted, len(known))
        return self._allowance.of(len(known), self.calling, self._used_bytes)

    def _beyond_reservation(self, n: int, result: Any) -> int:
        if self._allowance.spare_bytes is None or not isinstance(result, ItemResult) or not is_size(result.size_bytes):
            return 0
        return max(0, int(result.size_bytes) - self._allowance.reserved_bytes[n])

    def fail(self, failure: ItemResult) -> bool:
        """Take one more failure: whether nothing more is to be begun.

        That is so where its origin asks for rest, or fails again and again.
        """
        self.results.append(failure)
        self._failures += failure.status is ItemStatus.FAILED
        self.is_refused = failure.wait_seconds is not None or self._failures >= FAILURES_ENOUGH
        return self.is_refused

    def take_batch(self, results: list[Any]) -> None:
        """Take what a call for several items gave; where one says that its origin asks for rest, nothing is begun."""
        self.results += results
        self.is_refused |= any(isinstance(each, ItemResult) and each.wait_seconds is not None for each in results)

    def begin_settling(self) -> None:
        """From now on results are awaited, one after another, in the task that runs."""
        self.task, self._is_settling = asyncio.current_task(), True
        self._accounted = self._used_bytes = 0

    def stalled_seconds(self, at: float) -> float:
        """How long no load has ended, as far as that was looked at; waits for others are none of that time."""
        progress = len(self.results) + len(self.settled) + self.turn.waits
        if progress != self._progress or self.turn.is_apart:
            self._progress, self._progress_at = progress, at
            self.forgive()
        return at - self._progress_at

    def hurry(self, at: float) -> None:
        """The load that is being waited for has taken too long: cancel it, and nothing else."""
        if self.task is not None:
            self.is_late, self._progress_at = True, at
            self.task.cancel()

    def forgive(self) -> bool:
        """Whether a load had been cancelled for its length; it has ended, one way or the other."""
        was_late, self.is_late = self.is_late, False
        if was_late and self.task is not None:
            self.task.uncancel()
        return was_late

    def give_up(self) -> None:
        """Cancel what is loaded on the loop."""
        if self.task is not None and not self._is_given_up:
            self._is_given_up = True
            self.task.cancel()

    def was_given_up(self) -> bool:
        """Whether its task was cancelled for that and for nothing else; it then may go on."""
        if not self._is_given_up or self.task is None:
            return False
        self._is_given_up = False
        return self.task.uncancel() == 0

    def stop_counting(self) -> None:
        """What has not been loaded by now does not count."""
        self.taken = len(self.results) if self.taken is None else self.taken

    def take(self, why: ItemResult) -> list[ItemResult | None]:
        """Results of all items as they stand; those of the load that is being waited for are `why`.

        What comes later does not count any more.
        """
        self.stop_counting()
        known: list[ItemResult | None] = [*self.settled]
        for result in self.results[len(known) : self.taken]:
            known.append(why if inspect.isawaitable(result) else usable(result))
        begun = min(len(known) + self.calling, len(self.positions))
        known += [why] * (begun - len(known))
        return known + [None] * (len(self.positions) - len(known))

    def late_loads(self) -> list[int]:
        """The positions of what was loaded although it did not count any more; each is named once."""
        if self.taken is None:
            return []
        late = self.results[self.taken :]
        del self.results[self.taken :]
        loaded = (n for n, result in enumerate(late, self.taken) if getattr(result, "status", 0) is ItemStatus.LOADED)
        return [self.positions[n] for n in loaded]


# ------------------------------------------------------------------------------------------------------------ loading


async def load_async(attempt: Attempt) -> None:
    """Load item by item on the loop, as far as the attempt may go on."""
    # all in one function: each time that a load waits, every coroutine around it is entered again
    load: Any = attempt.cache.warmup_item
    results, brake = attempt.results, attempt.brake
    attempt.task = asyncio.current_task()
    with limited_by(attempt.limit_bytes):
        for _ in range(0, len(attempt.positions), ITEMS_PER_LOOK):
            for item in list(islice(attempt.rows, ITEMS_PER_LOOK)):
                if brake.is_on:
                    return
                try:
                    results.append(await load(item))
                except _ITEM_ERRORS as error:
                    if attempt.fail(_failed(attempt, error)):
                        return
            if attempt.turn.is_over():
                await attempt.turn.next()


async def load_batches_async(attempt: Attempt, batch_size: int) -> None:
    """Load batch by batch on the loop, as far as the attempt may go on."""
    attempt.task = asyncio.current_task()
    with limited_by(attempt.limit_bytes), known_as(attempt.turn):
        for batch in _parts(attempt, batch_size):
            if len(batch) == 1 or not await _load_batch_async(attempt, batch):
                await _load_each_async(attempt, batch)
            if attempt.turn.is_over():
                await attempt.turn.next()


async def _load_batch_async(attempt: Attempt, batch: Sequence[WarmupItem]) -> bool:
    """Whether `batch` could be loaded as one."""
    attempt.calling = len(batch)
    try:
        attempt.take_batch(_checked(list(await attempt.cache.warmup_items(batch)), batch))  # type: ignore[attr-defined]
    except _ITEM_ERRORS as error:
        failed = _failed(attempt, error)
        if failed is not LATE:
            return _take_failed_batch(attempt, failed)
        attempt.results += [LATE] * len(batch)
    finally:
        attempt.calling = 1
    return True


async def _load_each_async(attempt: Attempt, items: Sequence[WarmupItem]) -> None:
    load: Any = attempt.cache.warmup_item
    for item in items:
        if attempt.brake.is_on:
            return
        try:
            attempt.results.append(await load(item))
        except _ITEM_ERRORS as error:
            if attempt.fail(_failed(attempt, error)):
                return


def load_here(attempt: Attempt, batch_size: int) -> None:
    """Load in this thread, as far as the attempt may go on; awaitables are left to be awaited.

    Batch by batch, or item by item where a batch is one.
    """
    with limited_by(attempt.limit_bytes), known_as(attempt.turn):
        for part in _parts(attempt, batch_size if batch_size > 1 else ITEMS_PER_LOOK):
            if batch_size == 1 or len(part) == 1 or not _load_batch(attempt, part):
                _load_each(attempt, part)


def _load_batch(attempt: Attempt, batch: Sequence[WarmupItem]) -> bool:
    """Whether `batch` could be loaded as one."""
    attempt.calling = len(batch)
    try:
        attempt.take_batch(_checked(list(attempt.cache.warmup_items(batch)), batch))  # type: ignore[attr-defined]
    except _ITEM_ERRORS as error:
        return _take_failed_batch(attempt, failure_of(error))
    finally:
        attempt.calling = 1
    return True


def _load_each(attempt: Attempt, items: Sequence[WarmupItem]) -> None:
    load, results, brake = attempt.cache.warmup_item, attempt.results, attempt.brake
    for item in items:
        if brake.is_on or attempt.taken is not None:
            return
        try:
            results.append(load(item))
        except _ITEM_ERRORS as error:
            if attempt.fail(failure_of(error)):
                return


def _parts(attempt: Attempt, items: int) -> Iterator[Sequence[WarmupItem]]:
    while part := list(islice(attempt.rows, items)):
        if attempt.brake.is_on or attempt.taken is not None or attempt.is_refused:
            return
        yield part


def _take_failed_batch(attempt: Attempt, failed: ItemResult) -> bool:
    """Whether that is the end of it: an origin that asks for rest is not asked for the items one by one.

    Otherwise one bad item may have failed the others, and which one is to be found out.
    """
    if failed.wait_seconds is not None:
        return attempt.fail(failed)  # the others count as not begun
    logger.debug("a batch of cache %r is loaded one by one", attempt.cache.name)
    return False


def _checked(given: list[Any], batch: Sequence[WarmupItem]) -> list[Any]:
    if len(given) == len(batch):
        return given
    wrong = f"warmup_items gave {len(given)} results for {len(batch)} items"
    return [ItemResult(ItemStatus.FAILED, reason=wrong)] * len(batch)


# ----------------------------------------------------------------------------------------------------------- settling


def smooth_sizes(attempt: Attempt) -> array[int] | None:
    """The sizes of all items, if each was plainly loaded and there is nothing to say of any; otherwise None."""
    results = attempt.results
    is_whole = attempt.taken is None and len(results) == len(attempt.positions)
    if not is_whole or set(map(type, results)) != {ItemResult}:
        return None
    if any(map(_REASON, results)) or list(map(_STATUS, results)).count(ItemStatus.LOADED) != len(results):
        return None
    try:
        column = array("q", map(_SIZE, results))
    except (TypeError, OverflowError):
        return None
    sizes = np.frombuffer(column, np.int64)
    return column if sizes.min() >= 0 and sizes.max() <= MOST_BYTES else None


_STATUS, _SIZE, _REASON = map(itemgetter, map(ItemResult._fields.index, ("status", "size_bytes", "reason")))


async def settle(attempt: Attempt) -> list[ItemResult | None]:
    """The results of all items: what can be awaited is, and anything but a usable result is a failure."""
    if attempt.taken is not None:
        return []
    attempt.begin_settling()
    with limited_by(attempt.limit_bytes):
        for result in list(attempt.results):
            attempt.settled.append(await _settle(attempt, result))
    return [*attempt.settled, *[None] * (len(attempt.positions) - len(attempt.settled))]


async def _settle(attempt: Attempt, result: Any) -> ItemResult:
    try:
        if inspect.isawaitable(result):
            result = await result
    except _ITEM_ERRORS as error:
        return _failed(attempt, error)
    return usable(result)


def usable(result: Any) -> ItemResult:
    """`result`, which `warmup_item` gave, or else the failure to give one."""
    if not isinstance(result, ItemResult) or result.status not in _STATUSES:
        return ItemResult(ItemStatus.FAILED, reason=f"warmup_item gave a {type(result).__name__}, not an ItemResult")
    if not is_size(result.size_bytes):
        return ItemResult(ItemStatus.FAILED, reason=f"warmup_item gave {result.size_bytes!r} as its size in bytes")
    status, size_bytes, reason = ItemStatus(result.status), int(result.size_bytes), _printable(result.reason)
    return result._replace(status=status, size_bytes=size_bytes, reason=reason)


def _failed(attempt: Attempt, error: BaseException) -> ItemResult:
    """The failure of a load on the loop.

    Raises:
        CancelledError: It was not the load that was cancelled, but the task that loads.
    """
    task, was_late = attempt.task, attempt.forgive()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
    return LATE if was_late else failure_of(error)


def failure_of(error: BaseException) -> ItemResult:
    """What became of an item whose load raised `error`."""
    if isinstance(error, ItemTooLarge | MemoryError):
        return ItemResult(ItemStatus.TOO_LARGE, reason=_printable(str(error) or type(error).__name__))
    refusal = read_refusal(error, time.time())
    wait_seconds = (refusal.wait_seconds or 0.0) if refusal.is_overloaded else None
    return ItemResult(
        ItemStatus.FAILED, reason=_printable(f"{type(error).__name__}: {error}"), wait_seconds=wait_seconds
    )


_STATUSES = tuple(ItemStatus)
LATE = ItemResult(
    ItemStatus.FAILED, reason="its loader took longer than an item may (item_timeout_seconds)", wait_seconds=0.0
)
ABANDONED = ItemResult(ItemStatus.SKIPPED, reason="given up while it was being loaded: the run was stopped")


def _printable(reason: object) -> str:
    """`reason` without lone surrogates, say of a file name, which no report could be written with."""
    return str(reason).encode("utf-8", "backslashreplace").decode()
