"""Settling: make results of whatever the cache gave."""

from __future__ import annotations

import inspect
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from preheat._attempt.results import ITEM_ERRORS, usable
from preheat._attempt.state import Attempt
from preheat._limit import limited_by
from preheat._model import ItemResult, ItemStatus
from preheat._plan.sizes import MOST_BYTES


def smooth_sizes(attempt: Attempt) -> array[int] | None:
    """The sizes of all items, if each was plainly loaded and there is nothing to say of any; otherwise None."""
    is_whole = attempt.taken is None and len(attempt.results) == len(attempt.positions)
    return sizes_of(attempt.results) if is_whole else None


def sizes_of(results: Sequence[Any]) -> array[int] | None:
    """The sizes that `results` tell, one at least, if each is of a plain load, with nothing to say; otherwise None."""
    try:
        sizes: list[Any] = [
            each.size_bytes for each in results if each.status is _LOADED and not each.reason and not each.from_peer
        ]
        column = array("q", sizes)
    except Exception:  # one is no result, or its size is none
        return None
    if len(column) < len(results):
        return None
    known = np.frombuffer(column, np.int64)
    return column if known.min() >= 0 and known.max() <= MOST_BYTES else None


_LOADED = ItemStatus.LOADED


async def settle(attempt: Attempt) -> list[ItemResult | None]:
    """The results of all items: what can be awaited is, and anything but a usable result is a failure."""
    if attempt.taken is not None:
        return []
    attempt.begin_settling()
    with limited_by(attempt.limit_bytes):
        for result in list(attempt.results):
            attempt.settled.append(await _settle_one(attempt, result))
    return [*attempt.settled, *[None] * (len(attempt.positions) - len(attempt.settled))]


async def _settle_one(attempt: Attempt, result: Any) -> ItemResult:
    """What becomes of one item whose load gave `result`; of a plain function, that is awaited if it can be."""
    try:
        if not attempt.way.is_on_loop and inspect.isawaitable(result):
            result = await result
    except ITEM_ERRORS as error:
        return attempt.failure_of(error)
    return usable(result)
