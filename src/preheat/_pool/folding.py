"""Many histories of different traffic -> one, some at a time.

Rows are matched by 64 bits of their items, and compared as text where those are equal, as `merge_histories` does for
two.  Here columns of several histories are added up in one pass, which costs each row once per level and not once per
history that follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from preheat._columns import TextColumn
from preheat._history.changes import TRAIL_LIMIT
from preheat._history.merging import MAX_ITEMS, MOST_CACHES
from preheat._history.traffic import MOST_HOURS
from preheat._model import History
from preheat._pool.contributions import keep_best

if TYPE_CHECKING:
    from numpy.typing import NDArray

FAN_IN = 16
"""Histories added up in one pass: what stands in memory at the same time, on each of a few levels."""


_FOR_EVER = 2.0**40  # seconds: longer than any two instants are apart


class Folded(NamedTuple):
    """The traffic of several replicas.

    `missed` says by how much the counts may be too low: no item's, by the longest half-life and as of the history's
    end, was higher by more than that, for each replica, and each pass, left out at most the best item that it dropped.
    """

    history: History
    missed: float


def fold(parts: Iterable[Folded], *, max_items: int = MAX_ITEMS) -> Folded | None:
    """One history of the traffic of all `parts`, which have no access in common; None of none.

    Of an item that several know, decayed counts are added and the last access is the latest; gaps, and of those that
    know a load size, version and recipe, are those of the row seen last; the cost is the mean.  Hits, misses and
    hours are added, trails interleaved by time.  Which parts come first makes a difference to rounding, and to what
    wins where two were seen at the same instant: hand them over in an order of their own.

    Raises:
        ValueError: Half-lives differ, or there are more than 32,768 caches.
    """
    levels: list[list[Folded]] = []
    for part in parts:
        _push(levels, part, max_items)
    rest = [part for level in reversed(levels) for part in level]
    return _together(rest, max_items) if rest else None


def _push(levels: list[list[Folded]], part: Folded, max_items: int) -> None:
    for level in levels:
        level.append(part)
        if len(level) < FAN_IN:
            return
        part = _together(level, max_items)
        level.clear()
    levels.append([part])


def _together(parts: Sequence[Folded], max_items: int) -> Folded:
    if len(parts) == 1 and len(parts[0].history) <= max_items:
        return parts[0]
    history, missed = keep_best(_added([part.history for part in parts]), max_items)
    half_life = history.half_lives[-1] if history.half_lives else 1.0
    before = sum(part.missed * 2.0 ** (-(history.at - part.history.at) / half_life) for part in parts)
    return Folded(history, before + missed)


def _added(parts: Sequence[History]) -> History:
    half_lives = parts[0].half_lives
    for part in parts:
        if part.half_lives != half_lives:
            raise ValueError(f"histories of different half-lives can't be added: {half_lives}, {part.half_lives}")
    caches = tuple(dict.fromkeys(name for part in parts for name in part.caches))
    if len(caches) > MOST_CACHES:
        raise ValueError(f"histories of {len(caches)} caches can't be added; {MOST_CACHES} is the most")
    number = {name: code for code, name in enumerate(caches)}
    codes = [np.array([number[name] for name in part.caches], np.int16) for part in parts]
    cache = np.concatenate([own[part.cache] for own, part in zip(codes, parts, strict=True)])
    keys = TextColumn.concatenate([part.keys for part in parts])
    items = _Items.of(cache, keys, _column(parts, "last_at"))
    return History(
        at=max(part.at for part in parts),
        since=min((part.since for part in parts if part.since), default=0.0),
        half_lives=half_lives,
        caches=caches,
        cache=cache[items.latest],
        keys=keys.take(items.latest),
        **_rows(parts, items),
        **_traffic(parts, codes, len(caches)),
        **_trail(parts, items),
    )


def _column(parts: Sequence[History], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(part, name) for part in parts])


class _Items(NamedTuple):
    """The rows of several histories, one below the other, and which of them are the same item.

    Attributes:
        order: (n,) the rows, those of one item next to each other, in their order.
        starts: (m,) where in `order` each item begins.
        number: (n,) for each place in `order`, its item.
        latest: (m,) the row of each item that was seen last; of several at that instant, the last one.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    number: NDArray[np.int64]
    latest: NDArray[np.int64]

    @classmethod
    def of(cls, cache: NDArray[np.int16], keys: TextColumn, last_at: NDArray[np.float64]) -> _Items:
        order, number = _told_apart(*_by_bits(keys.hashes(cache)), cache, keys)
        starts = np.flatnonzero(np.diff(number, prepend=-1))
        items = cls(order, starts, number, order[:0])
        return items._replace(latest=items.last_of(order, last_at[order])) if len(order) else items

    def last_of(self, rows: NDArray[np.int64], rank: NDArray[Any]) -> NDArray[np.int64]:
        """(m,) of `rows` (n,), in the order of places, each item's with the highest `rank`; of several the last."""
        highest = np.maximum.reduceat(rank, self.starts)
        places = np.where(rank == highest[self.number], np.arange(len(rows)), -1)
        return rows[np.maximum.reduceat(places, self.starts)]


def _by_bits(bits: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows in the order of the upper bits, and a number for each place, the same one for equal upper bits.

    The lower bits give way to the row's number: sorting such words is many times faster than sorting indirectly.
    """
    low = np.uint64(max(1, int(len(bits) - 1).bit_length()))
    words = np.sort((bits >> low << low) | np.arange(len(bits), dtype=np.uint64))
    order = (words & ((np.uint64(1) << low) - np.uint64(1))).astype(np.int64)
    upper = words >> low
    changes = np.zeros(len(words), np.int64)
    changes[1:] = upper[1:] != upper[:-1]
    return order, np.cumsum(changes)


def _told_apart(
    order: NDArray[np.int64], number: NDArray[np.int64], cache: NDArray[np.int16], keys: TextColumn
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same, but with a number of its own for each item that only shares its bits with the first of its number."""
    more = np.flatnonzero(np.diff(number, prepend=-1) == 0)
    first = order[np.flatnonzero(np.diff(number, prepend=-1))][number[more]]
    rows = order[more]
    others = more[~((cache[rows] == cache[first]) & keys.same(rows, keys, first))]
    if not len(others):
        return order, number
    known: dict[tuple[int, str], int] = {}
    number, unused = number.copy(), int(number[-1]) + 1
    for place in others.tolist():
        item = int(cache[order[place]]), keys[int(order[place])]
        number[place] = known.setdefault(item, unused + len(known))
    again = np.argsort(number, kind="stable")
    return order[again], number[again]


def _rows(parts: Sequence[History], items: _Items) -> dict[str, Any]:
    last_at, cost, size = (_column(parts, name) for name in ("last_at", "load_seconds", "size_bytes"))
    told = items.latest
    if len(told):  # a row that knows a load comes before any that does not
        loaded = ~np.isnan(cost) | (size > 0)
        told = items.last_of(items.order, np.where(loaded, last_at, last_at - _FOR_EVER)[items.order])
    return {
        "counts": _counts(parts, items, last_at),
        "last_at": last_at[items.latest],
        "gaps": _column(parts, "gaps")[items.latest],
        "size_bytes": size[told],
        "load_seconds": _mean_cost(cost[items.order], items.starts),
        "versions": TextColumn.concatenate([part.versions for part in parts]).take(told),
        "recipes": TextColumn.concatenate([part.recipes for part in parts]).take(told),
    }


def _counts(parts: Sequence[History], items: _Items, last_at: NDArray[np.float64]) -> NDArray[np.float32]:
    counts = _column(parts, "counts")[items.order].astype(np.float64)
    if not len(counts):
        return _column(parts, "counts")
    age = last_at[items.latest][items.number] - last_at[items.order]
    older = np.flatnonzero(age)
    counts[older] *= np.exp2(-age[older, None] / np.array(parts[0].half_lives))
    added: NDArray[np.float32] = np.add.reduceat(counts, items.starts, axis=0).astype(np.float32)
    return added


def _mean_cost(cost: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    if not len(cost):
        return cost
    known = ~np.isnan(cost)
    total = np.add.reduceat(np.where(known, cost, 0).astype(np.float64), starts)
    times = np.add.reduceat(known.astype(np.int64), starts)
    mean: NDArray[np.float32] = np.where(times, total / np.maximum(times, 1), np.nan).astype(np.float32)
    return mean


def _traffic(parts: Sequence[History], codes: Sequence[NDArray[np.int16]], n: int) -> dict[str, Any]:
    hours = np.unique(_column(parts, "hours"))[-MOST_HOURS:]
    hits, misses, hourly = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros((len(hours), n, 2), np.int64)
    for part, own in zip(parts, codes, strict=True):
        hits[own] += part.hits
        misses[own] += part.misses
        kept = np.isin(part.hours, hours)
        if kept.any():
            hourly[np.ix_(np.searchsorted(hours, part.hours[kept]), own)] += part.hourly[kept]
    return {"hits": hits, "misses": misses, "hours": hours, "hourly": hourly}


def _trail(parts: Sequence[History], items: _Items) -> dict[str, Any]:
    item = np.empty(len(items.order), np.int32)
    item[items.order] = items.number
    firsts = np.cumsum([0] + [len(part) for part in parts])
    rows = np.concatenate([part.trail.astype(np.int64) + first for part, first in zip(parts, firsts, strict=False)])
    at = _column(parts, "trail_at")
    newest = np.argsort(at, kind="stable")[-TRAIL_LIMIT:]
    return {"trail": item[rows[newest]], "trail_at": at[newest]}
