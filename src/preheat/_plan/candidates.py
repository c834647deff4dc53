"""Rows of history as candidates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

import numpy as np

from preheat._columns import TextColumn, is_storable
from preheat._model import CandidateTable, History, ItemRef

if TYPE_CHECKING:
    from numpy.typing import NDArray


def candidates_from_history(
    history: History,
    rows: NDArray[np.int64],
    rates: NDArray[np.float64],
    *,
    cache: str,
    priority: int,
    needs: Callable[[str, str], Iterable[ItemRef]] | None = None,
) -> CandidateTable:
    """The items of `cache` at `rows` of `history`.

    Args:
        history: What was asked for so far.
        rows: Which of its rows, all of them of `cache`.
        rates: (len(history),) accesses per second expected.
        cache: Name of the cache.
        priority: Priority of all of them.
        needs: Called with key and recipe: what has to be resident first.

    An item whose size was never seen is taken to be as large as the mean of the others; one whose load time was
    never seen costs nothing.
    """
    keys, recipes = history.keys.take(rows), history.recipes.take(rows)
    pairs = zip(keys, recipes, strict=True) if needs is not None else ()
    found = enumerate(tuple(needs(key, recipe)) if needs is not None else () for key, recipe in pairs)
    return CandidateTable(
        caches=(cache,),
        cache=np.zeros(len(rows), np.int16),
        keys=keys,
        recipes=recipes,
        priority=np.full(len(rows), priority, np.int8),
        size_bytes=_known_or_mean(history.size_bytes[rows]),
        usage_frequency=rates[rows],
        warmup_cost=np.nan_to_num(history.load_seconds[rows].astype(np.float64), nan=0.0),
        needs={n: refs for n, refs in found if refs},
    )


def find_absent(keys: TextColumn, resident: Collection[str], holds: Callable[[str], bool]) -> NDArray[np.bool_]:
    """For each of `keys`, whether a cache that has the keys `resident` doesn't hold it: (n,).

    `holds` is asked only about keys that may be among `resident`; so an empty cache costs nothing, however much is
    known, and a full one as much as it has.
    """
    names = TextColumn.of(filter(is_storable, resident))
    absent = np.ones(len(keys), np.bool_)
    if not len(names) or not len(keys):
        return absent
    there, asked = np.sort(_hashes(names)), _hashes(keys)
    place = np.minimum(np.searchsorted(there, asked), len(there) - 1)
    suspects = np.flatnonzero(there[place] == asked)
    absent[suspects] = [not holds(key) for key in keys.take(suspects)]
    return absent


def _hashes(keys: TextColumn) -> NDArray[np.uint64]:
    return keys.hashes(np.zeros(len(keys), np.int16))


def _known_or_mean(size_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
    known = size_bytes > 0
    return np.where(known, size_bytes, int(size_bytes[known].mean()) if known.any() else 0)
