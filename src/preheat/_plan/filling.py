"""Filling a budget by falling keys, as far as each cache has room.

A prefix at a time: what fits is taken up to the first row that doesn't; that one is passed over, and so on with what
still fits.  Only rows that can be in the first prefix at all are sorted for it: a histogram of the keys, in bytes,
tells which.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from preheat._model import CandidateTable
from preheat._plan.bundles import Bundles
from preheat._plan.sorting import sorting_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

VECTOR_ROUNDS = 64
"""Prefixes that are taken as arrays; what is left then is gone through one by one."""

ROOM_SHIFT = 10
"""Once less than this part of the budget is left, in powers of two, nothing brings needs along any more."""

KEY_BITS = 35
BUCKET_SHIFT = 21  # four steps per doubling of the price
BUCKETS = 1 << (KEY_BITS - BUCKET_SHIFT)
COUNTED_CACHES = 16
NO_ROWS = np.empty(0, np.int32)
BLOCK = 2**18
SORTED_AT_ONCE = 2**18
MOST_PARTS = 16


class Room:
    """What is left of the budget and of each cache."""

    def __init__(self, candidates: CandidateTable, budget_bytes: int, free_bytes: Mapping[str, int | None]) -> None:
        self.budget_bytes = budget_bytes
        free = [free_bytes.get(name) for name in candidates.caches]
        self.limited = [code for code, room in enumerate(free) if room is not None]
        self.free = np.array([budget_bytes if room is None else min(room, budget_bytes) for room in free] or [0])
        self._size, self._cache = candidates.size_bytes, candidates.cache

    def columns(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
        """Sizes and caches of `rows`; looked up once, since random access is what costs most here."""
        return self._size[rows], self._cache[rows]

    def take(self, sizes: NDArray[np.int64], caches: NDArray[np.int16], sign: int = 1) -> None:
        """Give rows of these `sizes` and `caches` their room, or with a `sign` of -1 take it back."""
        self.budget_bytes -= sign * int(sizes.sum())
        if self.limited:
            self.free -= sign * self._by_cache(sizes, caches)

    def _by_cache(self, sizes: NDArray[np.int64], caches: NDArray[np.int16]) -> NDArray[np.int64]:
        return np.bincount(caches, sizes, len(self.free)).astype(np.int64)

    def fits(self, sizes: NDArray[np.int64], caches: NDArray[np.int16]) -> NDArray[np.bool_]:
        """Whether each row fits, by itself."""
        fits = sizes <= self.budget_bytes
        if self.limited:
            fits &= sizes <= self.free[caches]
        return fits

    def fits_caches(self, sizes: NDArray[np.int64], caches: NDArray[np.int16]) -> NDArray[np.bool_]:
        """Which rows fit their caches, taken in this order."""
        fits = np.ones(len(sizes), np.bool_)
        if self.limited:
            wanted = self._by_cache(sizes, caches)
            for code in self.limited:
                if wanted[code] > self.free[code]:
                    mine = np.flatnonzero(caches == code)
                    fits[mine] = first_fit(sizes[mine], int(self.free[code]))
        return fits

    def prefix(self, sizes: NDArray[np.int64]) -> int:
        """How many rows of these `sizes`, taken in this order, fit the budget."""
        return int(np.searchsorted(np.cumsum(sizes), self.budget_bytes, "right"))


def first_fit(sizes: NDArray[np.int64], room_bytes: int) -> NDArray[np.bool_]:
    """Which of `sizes`, in order, fit what those before them that fit have left of `room_bytes`: (n,)."""
    taken = np.zeros(len(sizes), np.bool_)
    places = np.flatnonzero(sizes <= room_bytes)
    for _ in range(VECTOR_ROUNDS):
        if not len(places):
            return taken
        sums = np.cumsum(sizes[places])
        prefix = int(np.searchsorted(sums, room_bytes, "right"))
        taken[places[:prefix]] = True
        room_bytes -= int(sums[prefix - 1])
        places = places[prefix + 1 :]
        places = places[sizes[places] <= room_bytes]
    for place in places.tolist():
        if sizes[place] <= room_bytes:
            taken[place] = True
            room_bytes -= int(sizes[place])
    return taken


def by_falling_keys(rows: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """`rows` by falling `keys` (n,); among equals in the order they have."""
    ranks = keys[rows]
    return rows[sorting_order(ranks.max(initial=0) - ranks)]


class Head(NamedTuple):
    """The rows that can be in the first prefix: those whose key is at least `lowest`.

    `bounds` are falling keys, from above all down to `lowest`; between two of them lie as many rows as are best
    sorted at once.
    """

    lowest: int
    bounds: tuple[int, ...]

    def parts(self, keys: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """The rows by falling key, part by part."""
        for above, least in pairwise(self.bounds):
            yield by_falling_keys(np.flatnonzero((keys >= least) & (keys < above)), keys)


def find_head(keys: NDArray[np.int64], candidates: CandidateTable, room: Room) -> Head:
    """The rows down to the key at which the budget is used up, each cache taken as full once its room is."""
    by_cache = bool(room.limited)
    caches = len(room.free) if by_cache else 1
    count, filled = np.zeros(BUCKETS, np.int64), np.zeros(caches * BUCKETS)
    for start in range(0, len(keys), BLOCK):
        part = slice(start, start + BLOCK)
        rows = keys[part] >= 0
        bucket = keys[part][rows] >> BUCKET_SHIFT
        count += np.bincount(bucket, minlength=BUCKETS)
        if caches > COUNTED_CACHES:
            continue
        if by_cache:
            bucket += candidates.cache[part][rows].astype(np.int64) * BUCKETS
        filled += np.bincount(bucket, candidates.size_bytes[part][rows], len(filled))
    sums = np.cumsum(filled.reshape(caches, BUCKETS)[:, ::-1], axis=1)
    used = np.minimum(sums, room.free[:, None]).sum(axis=0) if by_cache else sums[0]
    beyond = int(np.searchsorted(used, room.budget_bytes, "right")) if caches <= COUNTED_CACHES else BUCKETS
    lowest = max(0, BUCKETS - 2 - beyond)
    return Head(lowest << BUCKET_SHIFT, _bounds(count, lowest))


def _bounds(count: NDArray[np.int64], lowest: int) -> tuple[int, ...]:
    """Keys between which enough rows lie to be sorted at once, where there are `count` rows in each bucket."""
    bounds, rows = [BUCKETS], 0
    enough = max(SORTED_AT_ONCE, int(count.sum()) // MOST_PARTS)
    for bucket in range(BUCKETS - 1, lowest - 1, -1):
        rows += int(count[bucket])
        if rows >= enough or bucket == lowest:
            bounds.append(bucket)
            rows = 0
    return tuple(bound << BUCKET_SHIFT for bound in bounds)


class Filling:
    """The choice as it grows.

    Attributes:
        chosen: (n,) what has been taken.
        lacks_cache: (n,) what had a place in the budget, but not in its cache.
    """

    def __init__(self, keys: NDArray[np.int64], candidates: CandidateTable, bundles: Bundles, room: Room) -> None:
        self._keys, self._candidates, self._bundles, self._room = keys, candidates, bundles, room
        self.chosen = np.zeros(len(keys), np.bool_)
        self.lacks_cache = np.zeros(len(keys), np.bool_)
        self._taken: list[NDArray[np.int32]] = []
        self._head_parts = 0  # how many of them came first, each sorted and before the next

    def fill(self) -> None:
        """Take what fits, most valuable per byte first."""
        enough = self._room.budget_bytes >> ROOM_SHIFT
        head = find_head(self._keys, self._candidates, self._room)
        self._take_prefix(head.parts(self._keys), self._keys[self._bundles.nodes] >= head.lowest)
        rows = by_falling_keys(self._rest(), self._keys)
        for _ in range(VECTOR_ROUNDS):
            if self._room.budget_bytes <= enough or not self._take_prefix([rows], self._are_nodes_in(rows)):
                break
            rows = self._still_fitting(rows)
        while self._take_ready(self._still_fitting(rows)):
            pass

    def limits(self, rows: NDArray[np.int64]) -> dict[str, Any]:
        """The sizes and caches of `rows`, and the limits that all of them are under."""
        table, room, by_row = self._candidates, self._room, rows.tolist()
        used = np.bincount(table.cache[self.chosen], table.size_bytes[self.chosen], len(room.free)).astype(np.int64)
        return {
            "size_bytes": dict(zip(by_row, table.size_bytes[rows].tolist(), strict=True)),
            "cache": dict(zip(by_row, table.cache[rows].tolist(), strict=True)),
            "budget_bytes": room.budget_bytes + int(used.sum()),
            "free_bytes": {code: int(room.free[code] + used[code]) for code in room.limited},
        }

    def choose_instead(self, rows: NDArray[np.int64]) -> None:
        """Have `rows` chosen, and nothing else; they fit."""
        self._room.take(*self._room.columns(np.flatnonzero(self.chosen)), -1)
        self.chosen[:] = False
        self.chosen[rows] = True
        self._room.take(*self._room.columns(rows))
        self._taken, self._head_parts = [rows.astype(np.int32)], 0

    def in_order(self, keys: NDArray[np.int64], moved: NDArray[np.int64]) -> NDArray[np.int64]:
        """The chosen rows by falling `keys` (n,), which are those that they were taken by but for the rows `moved`."""
        is_moved = np.zeros(len(keys), np.bool_)
        is_moved[moved] = True
        head, late = self._taken[: self._head_parts], self._taken[self._head_parts :]
        self._taken = []
        others = np.concatenate([*late, *(rows[is_moved[rows]] for rows in head if len(moved)), NO_ROWS])
        others = by_falling_keys(np.sort(others), keys)
        ranks, begin, merged = -keys[others], 0, [NO_ROWS]
        for n, rows in enumerate(head):
            head[n] = NO_ROWS
            stay = rows[~is_moved[rows]] if len(moved) else rows
            stop = max(begin, int(np.searchsorted(ranks, -keys[stay[-1]], "right"))) if len(stay) else begin
            rows = np.concatenate([stay, others[begin:stop]])
            merged.append(rows[np.argsort(-keys[rows], kind="stable")] if begin < stop else stay)  # merges two runs
            begin = stop
        return np.concatenate([*merged, others[begin:]], dtype=np.int64)

    def _rest(self) -> NDArray[np.int64]:
        """What can still be chosen, ascending."""
        found: list[NDArray[np.int64]] = []
        for start in range(0, len(self._keys), BLOCK):
            rows = np.flatnonzero(self._keys[start : start + BLOCK] >= 0) + start
            found.append(self._still_fitting(rows))
        return np.concatenate([*found, NO_ROWS], dtype=np.int64)

    def _still_fitting(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = rows[~self.chosen[rows]]
        sizes, caches = self._room.columns(rows)
        fits = self._room.fits(sizes, caches)
        self.lacks_cache[rows[~fits & (sizes <= self._room.budget_bytes)]] = True
        return rows[fits]

    def _are_nodes_in(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        inside = np.zeros(len(self.chosen), np.bool_)
        inside[rows] = True
        return inside[self._bundles.nodes]

    def _take_prefix(self, parts: Iterable[NDArray[np.int64]], candidates: NDArray[np.bool_]) -> int:
        """Take the rows of `parts` up to the first that does not fit; how many more are chosen then.

        `candidates` (m,) are the nodes among all those rows.
        """
        nodes = self._bundles.nodes
        taken: list[NDArray[np.int32]] = []
        is_out = np.zeros(len(self.chosen), np.bool_)
        is_out[nodes] = ~self._reach(candidates)
        for part in parts:
            rows = part[~is_out[part]] if len(nodes) else part
            sizes, caches = self._room.columns(rows)
            fits = self._room.fits_caches(sizes, caches)
            if not fits.all():
                self.lacks_cache[rows[~fits]] = True
                is_out[rows[~fits]] = True
                is_out[nodes] |= ~self._reach(candidates & ~is_out[nodes])
                fits = ~is_out[rows]
                rows, sizes, caches = rows[fits], sizes[fits], caches[fits]
            stop = self._room.prefix(sizes)
            taken.append(rows[:stop].astype(np.int32))
            self.chosen[taken[-1]] = True
            self._room.take(sizes[:stop], caches[:stop])
            if stop < len(rows):
                break
        if self._drop_in_vain():
            taken = [rows[self.chosen[rows]] for rows in taken]
        self._head_parts = self._head_parts or len(taken)
        self._taken += taken
        return sum(map(len, taken))

    def _reach(self, candidates: NDArray[np.bool_]) -> NDArray[np.bool_]:
        chosen = self.chosen[self._bundles.nodes]
        return self._bundles.within_reach(chosen, candidates & ~chosen, self._room.budget_bytes) | chosen

    def _drop_in_vain(self) -> int:
        nodes = self._bundles.nodes
        dropped = nodes[self._bundles.in_vain(self.chosen[nodes])]
        self.chosen[dropped] = False
        self._room.take(*self._room.columns(dropped), -1)
        return len(dropped)

    def _take_ready(self, rows: NDArray[np.int64]) -> int:
        """Take each of `rows` that still fits and needs nothing that is not chosen; how many were taken."""
        waiting = ~self.chosen[self._bundles.nodes]
        waiting = self._bundles.need_any(waiting) | ~self._bundles.deserves
        is_waiting = np.zeros(len(self.chosen), np.bool_)
        is_waiting[self._bundles.nodes] = waiting
        rows = rows[~is_waiting[rows]]
        sizes, caches = self._room.columns(rows)
        fits = self._room.fits_caches(sizes, caches)
        fits[fits] = first_fit(sizes[fits], self._room.budget_bytes)
        taken = rows[fits]
        self.chosen[taken] = True
        self._room.take(sizes[fits], caches[fits])
        self._taken.append(taken.astype(np.int32))
        return len(taken)
