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
from typing import Any, NamedTuple, Protocol

from preheat._limit import limited_by
from preheat._model import ItemResult, ItemStatus, WarmupItem
from preheat._origin import read_refusal
from preheat._plan.sizes import MOST_BYTES, is_size
from preheat.abc import LoadsInBulk, WarmableCache
from preheat.errors import ItemTooLarge

logger = logging.getLogger("preheat")

# A loader that awaited something which others cancelled raises CancelledError too; nobody cancelled the run by that.
_ITEM_ERRORS = (Exception, asyncio.CancelledError)

ITEMS_PER_LOOK = 16
"""Loads on the loop between two looks at how long they have been keeping it."""

FAILURES_ENOUGH = 3
"""A run of loads ends with so many failures: what is left of it is better begun when they have been judged."""

TURN_SECONDS = 0.002
"""How long loads that never wait may keep the loop, all workers together."""


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


class Turns:
    """Loads that never wait would keep the loop for a whole run; so their workers take turns with everybody else.

    One look at the clock for some loads, and a step back only when the turn is over, cost a tenth of stepping back
    after as many loads each time.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._until = clock, 0.0
        self._is_over = False

    async def look(self) -> None:
        """Step back if this turn of the loop has been kept for too long."""
        if self._clock() < self._until:
            return
        if not self._is_over:
            self._is_over = True
            asyncio.get_running_loop().call_soon(self._begin)
        await asyncio.sleep(0)

    def _begin(self) -> None:
        self._until, self._is_over = self._clock() + TURN_SECONDS, False


class Attempt:
    """A run of loads in progress.

    Attributes:
        positions, items: What is to be loaded.
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
        positions: tuple[int, ...],
        items: Sequence[WarmupItem],
        allowance: Allowance,
        brake: Brake,
        at: float = 0.0,
    ) -> None:
        self.cache, self.positions, self.items, self.brake = cache, positions, items, brake
        self.results: list[Any] = []
        self.settled: list[ItemResult] = []
        self.calling = 1
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

    def fail(self, failure: ItemResult) -> None:
        """Take one more failure; from now on nothing is begun if its origin asks for rest, or fails again and again."""
        self.results.append(failure)
        self._failures += failure.status is ItemStatus.FAILED
        self.is_refused = failure.wait_seconds is not None or self._failures >= FAILURES_ENOUGH

    def begin_settling(self) -> None:
        """From now on results are awaited, one after another, in the task that runs."""
        self.task, self._is_settling = asyncio.current_task(), True
        self._accounted = self._used_bytes = 0

    def stalled_seconds(self, at: float) -> float:
        """How long no load has ended, as far as that was looked at."""
        progress = len(self.results) + len(self.settled)
        if progress != self._progress:
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
        begun = min(len(known) + self.calling, len(self.items))
        known += [why] * (begun - len(known))
        return known + [None] * (len(self.items) - len(known))

    def late_loads(self) -> list[str]:
        """The keys of what was loaded although it did not count any more; each is named once."""
        if self.taken is None:
            return []
        late = self.results[self.taken :]
        del self.results[self.taken :]
        items = zip(self.items[self.taken :], late, strict=False)
        return [item.ref.key for item, result in items if getattr(result, "status", None) is ItemStatus.LOADED]


class Way(NamedTuple):
    """How the items of a cache are loaded: on the loop or in threads, in batches or one by one."""

    is_on_loop: bool
    is_in_bulk: bool


def way_of(cache: WarmableCache) -> Way:
    """The way that `cache` offers: in batches if it has them of the same kind, coroutine functions or not."""
    is_on_loop = inspect.iscoroutinefunction(cache.warmup_item)
    is_in_bulk = isinstance(cache, LoadsInBulk) and inspect.iscoroutinefunction(cache.warmup_items) == is_on_loop
    return Way(is_on_loop, is_in_bulk)


# ------------------------------------------------------------------------------------------------------------ loading


async def load_async(attempt: Attempt, batch_size: int, turns: Turns) -> None:
    """Load on the loop, as far as the attempt may go on; in batches if they are of more than one item."""
    attempt.task = asyncio.current_task()
    with limited_by(attempt.limit_bytes):
        for part in _parts(attempt, batch_size if batch_size > 1 else ITEMS_PER_LOOK):
            if batch_size > 1 and len(part) > 1:
                await _load_batch_async(attempt, part)
            else:
                await _load_each_async(attempt, part)
            await turns.look()


async def _load_batch_async(attempt: Attempt, batch: Sequence[WarmupItem]) -> None:
    attempt.calling = len(batch)
    try:
        given = list(await attempt.cache.warmup_items(batch))  # type: ignore[attr-defined]
        attempt.calling = 1
        attempt.results += _checked(given, batch)
    except _ITEM_ERRORS as error:
        failed = _failed(attempt, error)
        attempt.calling = 1
        if failed is LATE:
            attempt.results += [LATE] * len(batch)
        elif failed.wait_seconds is not None:
            attempt.fail(failed)  # the others have not been begun, as far as anybody can tell
        else:
            await _load_each_async(attempt, _after_a_failed_batch(attempt, batch))


async def _load_each_async(attempt: Attempt, items: Sequence[WarmupItem]) -> None:
    load: Any = attempt.cache.warmup_item
    results, brake = attempt.results, attempt.brake
    for item in items:
        if brake.is_on or attempt.is_refused:
            return
        try:
            results.append(await load(item))
        except _ITEM_ERRORS as error:
            attempt.fail(_failed(attempt, error))


def load_here(attempt: Attempt, batch_size: int) -> None:
    """Load in this thread, as far as the attempt may go on; awaitables are left to be awaited."""
    with limited_by(attempt.limit_bytes):
        for part in _parts(attempt, batch_size if batch_size > 1 else len(attempt.items)):
            if batch_size > 1 and len(part) > 1:
                _load_batch(attempt, part)
            else:
                _load_each(attempt, part)


def _load_batch(attempt: Attempt, batch: Sequence[WarmupItem]) -> None:
    attempt.calling = len(batch)
    try:
        given = list(attempt.cache.warmup_items(batch))  # type: ignore[attr-defined]
        attempt.calling = 1
        attempt.results += _checked(given, batch)
    except _ITEM_ERRORS as error:
        attempt.calling = 1
        failed = _failure(error)
        if failed.wait_seconds is not None:
            attempt.fail(failed)
            return
        _load_each(attempt, _after_a_failed_batch(attempt, batch))


def _load_each(attempt: Attempt, items: Sequence[WarmupItem]) -> None:
    load, results, brake = attempt.cache.warmup_item, attempt.results, attempt.brake
    for item in items:
        if brake.is_on or attempt.taken is not None or attempt.is_refused:
            return
        try:
            results.append(load(item))
        except _ITEM_ERRORS as error:
            attempt.fail(_failure(error))


def _parts(attempt: Attempt, items: int) -> Iterator[Sequence[WarmupItem]]:
    for start in range(0, len(attempt.items), items):
        if attempt.brake.is_on or attempt.taken is not None or attempt.is_refused:
            return
        yield attempt.items[start : start + items]


def _after_a_failed_batch(attempt: Attempt, batch: Sequence[WarmupItem]) -> Sequence[WarmupItem]:
    """All of `batch`: one bad item may have failed the others, and which one is to be found out."""
    logger.debug("a batch of cache %r is loaded one by one", attempt.cache.name)
    return batch


def _checked(given: list[Any], batch: Sequence[WarmupItem]) -> list[Any]:
    if len(given) == len(batch):
        return given
    wrong = f"warmup_items gave {len(given)} results for {len(batch)} items"
    return [ItemResult(ItemStatus.FAILED, reason=wrong)] * len(batch)


# ----------------------------------------------------------------------------------------------------------- settling


def smooth_sizes(results: Sequence[Any]) -> array[int] | None:
    """The sizes of `results`, if each is that of a plain load of which there is nothing to say; otherwise None."""
    if set(map(type, results)) != {ItemResult}:
        return None
    statuses, sizes, _, reasons, _ = zip(*results, strict=True)
    if set(map(id, statuses)) != {id(ItemStatus.LOADED)} or any(reasons):
        return None
    try:
        column = array("q", sizes)
    except (TypeError, OverflowError):
        return None
    return column if min(column) >= 0 and max(column) <= MOST_BYTES else None


async def settle(attempt: Attempt) -> list[ItemResult | None]:
    """The results of all items: what can be awaited is, and anything but a usable result is a failure."""
    attempt.begin_settling()
    with limited_by(attempt.limit_bytes):
        for result in list(attempt.results):
            attempt.settled.append(await _settle(attempt, result))
    return [*attempt.settled, *[None] * (len(attempt.items) - len(attempt.settled))]


async def _settle(attempt: Attempt, result: Any) -> ItemResult:
    try:
        if inspect.isawaitable(result):
            result = await result
    except _ITEM_ERRORS as error:
        return _failed(attempt, error)
    return usable(result)


def usable(result: Any) -> ItemResult:
    """`result`, which `warmup_item` gave, or else the failure to give one."""
    if not isinstance(result, ItemResult) or not isinstance(result.status, ItemStatus):
        return ItemResult(ItemStatus.FAILED, reason=f"warmup_item gave a {type(result).__name__}, not an ItemResult")
    if not is_size(result.size_bytes):
        return ItemResult(ItemStatus.FAILED, reason=f"warmup_item gave {result.size_bytes!r} as its size in bytes")
    return result._replace(size_bytes=int(result.size_bytes), reason=_printable(result.reason))


def _failed(attempt: Attempt, error: BaseException) -> ItemResult:
    """The failure of a load on the loop.

    Raises:
        CancelledError: It was not the load that was cancelled, but the task that loads.
    """
    task, was_late = attempt.task, attempt.forgive()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
    return LATE if was_late else _failure(error)


def _failure(error: BaseException) -> ItemResult:
    if isinstance(error, ItemTooLarge | MemoryError):
        return ItemResult(ItemStatus.TOO_LARGE, reason=_printable(str(error) or type(error).__name__))
    refusal = read_refusal(error, time.time())
    wait_seconds = (refusal.wait_seconds or 0.0) if refusal.is_overloaded else None
    return ItemResult(
        ItemStatus.FAILED, reason=_printable(f"{type(error).__name__}: {error}"), wait_seconds=wait_seconds
    )


LATE = ItemResult(
    ItemStatus.FAILED, reason="its loader took longer than an item may (item_timeout_seconds)", wait_seconds=0.0
)
ABANDONED = ItemResult(ItemStatus.SKIPPED, reason="given up while it was being loaded: the run was stopped")


def _printable(reason: object) -> str:
    """`reason` without lone surrogates, say of a file name, which no report could be written with."""
    return str(reason).encode("utf-8", "backslashreplace").decode()
