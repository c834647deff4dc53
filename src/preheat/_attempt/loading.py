"""Loading: call the cache item by item or in batches, on the loop or in a thread, as far as the attempt may go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from preheat._attempt.crew import Crew
from preheat._attempt.results import ITEM_ERRORS, LATE, failure_of
from preheat._attempt.state import Attempt
from preheat._limit import limited_by
from preheat._model import ItemResult, ItemStatus, WarmupItem
from preheat._turns import ITEMS_PER_LOOK, known_as

logger = logging.getLogger("preheat")


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
                except ITEM_ERRORS as error:
                    if attempt.fail(attempt.failure_of(error)):
                        return
            if attempt.turn.is_over():
                await attempt.turn.next()


async def load_shared(attempt: Attempt, crew: Crew) -> None:
    """Load on the loop what a crew has to do, until it has nothing more for this worker."""
    # one item at a time: hundreds of workers with a few each in hand would have them leave the processor's cache
    load: Any = attempt.cache.warmup_item
    brake, turn = attempt.brake, attempt.turn
    attempt.task = asyncio.current_task()
    with limited_by(partial(crew.limit_bytes, attempt)):
        while (run := crew.begin(attempt)) is not None:
            results = run.results
            for n, item, is_look in run.rows:
                if brake.is_on:
                    run.close()
                    break
                attempt.loading = n
                try:
                    result = await load(item)
                except ITEM_ERRORS as error:
                    result = run.fail(attempt.failure_of(error))
                if attempt.taken is not None:
                    attempt.come_late(result)
                    return
                results[n] = result
                if is_look and turn.is_over():
                    await turn.next()
            crew.end(attempt)


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
    except ITEM_ERRORS as error:
        failed = attempt.failure_of(error)
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
        except ITEM_ERRORS as error:
            if attempt.fail(attempt.failure_of(error)):
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
    except ITEM_ERRORS as error:
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
        except ITEM_ERRORS as error:
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
