"""Settling: make results of whatever the cache gave."""

from __future__ import annotations

import inspect
from array import array
from operator import itemgetter
from typing import Any

import numpy as np

from preheat._attempt.results import ITEM_ERRORS, usable
from preheat._attempt.state import Attempt
from preheat._limit import limited_by
from preheat._model import ItemResult, ItemStatus
from preheat._plan.sizes import MOST_BYTES


def smooth_sizes(attempt: Attempt) -> array[int] | None:
    """The sizes of all items, if each was plainly loaded and there is nothing to say of any; otherwise None."""
    results = attempt.results
    is_whole = attempt.taken is None and len(results) == len(attempt.positions)
    if not is_whole or set(map(type, results)) != {ItemResult}:
        return None
    if any(map(_REASON, results)) or any(map(_FROM_PEER, results)):
        return None
    if list(map(_STATUS, results)).count(ItemStatus.LOADED) != len(results):
        return None
    try:
        column = array("q", map(_SIZE, results))
    except (TypeError, OverflowError):
        return None
    sizes = np.frombuffer(column, np.int64)
    return column if sizes.min() >= 0 and sizes.max() <= MOST_BYTES else None


_STATUS, _SIZE, _REASON, _FROM_PEER = map(
    itemgetter, map(ItemResult._fields.index, ("status", "size_bytes", "reason", "from_peer"))
)


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
    except ITEM_ERRORS as error:
        return attempt.failure_of(error)
    return usable(result)
