"""A plan -> shards of it, which are the same wherever they are made, and in whatever order its items stand.

Each item goes to the shard for which the hash of both is highest: rendezvous hashing [1].  So one shard more takes
its part from all the others, and nothing else moves.  Here the hash of an item is made once, and mixed with that of
each shard; items that need each other share the lowest of their hashes, and so stay together.

[1] Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM Transactions on Networking 6(1),
1998.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from preheat._model import CandidateTable, WarmupPlan
from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    from numpy.typing import NDArray

ITEMS_OF_A_SHARD = 50_000
"""At most: each shard is a run of its own, which comes up to speed anew, and smaller ones cost more per item."""

BYTES_OF_A_SHARD = 64 * 2**20
SHARDS_OF_A_SMALL_PLAN, LEAST_ITEMS = 8, 5_000  # so that several workers have something to do, where it is worth it
MOST_SHARDS = 4096

MIXED_AT_ONCE = 2**15  # rows that stay in the processor's cache while they are mixed with each shard
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # of splitmix64


def shard_count(items: int, size_bytes: int) -> int:
    """How many shards a plan of so many items and bytes is cut into by default: small ones, but not too many."""
    by_size = max(-(-items // ITEMS_OF_A_SHARD), -(-size_bytes // BYTES_OF_A_SHARD))
    return min(max(1, by_size, min(SHARDS_OF_A_SMALL_PLAN, items // LEAST_ITEMS)), MOST_SHARDS)


def shards_of(candidates: CandidateTable, shards: int) -> NDArray[np.int32]:
    """The shard of each of `candidates`, from 0 on: (n,).  Takes time in proportion to their number times `shards`."""
    hashes = _hashes(candidates)
    found = np.zeros(len(hashes), np.int32)
    for start in range(0, len(hashes), MIXED_AT_ONCE):
        part = slice(start, start + MIXED_AT_ONCE)
        found[part] = _highest(hashes[part], shards)
    return found


def shard_plan(plan: WarmupPlan, shard: int, shards: int) -> WarmupPlan:
    """What is the shard's of what `plan` loads and holds out, in its order; what it left out is in none.

    Raises:
        InvalidSetting: There is no such shard.
    """
    if not (1 <= shards <= MOST_SHARDS and 0 <= shard < shards):
        raise InvalidSetting(f"there is no shard {shard} of {shards}; a plan has up to {MOST_SHARDS}, from 0 on")
    asked_for = _asked_for(plan)
    shard_of = shards_of(plan.candidates.take(asked_for), shards)
    return _part(plan, asked_for[shard_of == shard])


def split_plan(plan: WarmupPlan, shards: int) -> Iterator[WarmupPlan]:
    """All shards of `plan` in turn; see `shard_plan`."""
    asked_for = _asked_for(plan)
    shard_of = shards_of(plan.candidates.take(asked_for), shards)
    in_turn = np.argsort(shard_of, kind="stable")
    ends = np.searchsorted(shard_of[in_turn], np.arange(shards + 1))
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        yield _part(plan, asked_for[in_turn[start:end]])


def _asked_for(plan: WarmupPlan) -> NDArray[np.int64]:
    """The rows that `plan` loads or holds out, in loading order."""
    return np.concatenate([plan.order, plan.held_out]).astype(np.int64)


def _hashes(candidates: CandidateTable) -> NDArray[np.uint64]:
    by_cache = [xxhash.xxh3_64_intdigest(name.encode()) for name in candidates.caches]
    hashes = candidates.keys.hashes(np.array(by_cache or [0], np.uint64)[candidates.cache])
    return _kept_together(candidates, hashes) if candidates.needs else hashes


def _kept_together(candidates: CandidateTable, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`hashes`, in which rows that need each other, however far round, have the lowest of theirs."""
    place = {ref: row for row, ref in enumerate(candidates.refs())}
    leader = list(range(len(candidates)))
    for row, needs in candidates.needs.items():
        for needed in (place[ref] for ref in needs if ref in place):
            leader[_follow(leader, needed)] = _follow(leader, row)
    led = np.array([_follow(leader, row) for row in range(len(leader))])
    lowest = np.full(len(leader), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(lowest, led, hashes)
    kept: NDArray[np.uint64] = lowest[led]
    return kept


def _follow(leader: list[int], row: int) -> int:
    """The row that `row` is led by in the end; the way there is halved."""
    while leader[row] != row:
        leader[row] = leader[leader[row]]
        row = leader[row]
    return row


def _highest(hashes: NDArray[np.uint64], shards: int) -> NDArray[np.int32]:
    best, found = np.zeros(len(hashes), np.uint64), np.zeros(len(hashes), np.int32)
    for shard in range(shards):
        mixed = _mixed(hashes ^ np.uint64(xxhash.xxh3_64_intdigest(b"shard %d" % shard)))
        is_higher = mixed > best
        np.copyto(best, mixed, where=is_higher)
        found[is_higher] = shard
    return found


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64, which spreads each bit over all; in place."""
    numbers ^= numbers >> np.uint64(30)
    numbers *= _FIRST
    numbers ^= numbers >> np.uint64(27)
    numbers *= _SECOND
    numbers ^= numbers >> np.uint64(31)
    return numbers


def _part(plan: WarmupPlan, rows: NDArray[np.int64]) -> WarmupPlan:
    """`plan` of those rows alone, which are numbered anew."""
    number = np.full(len(plan.candidates), -1, np.int64)
    number[rows] = np.arange(len(rows))

    def renumbered(old: NDArray[np.int64]) -> NDArray[np.int64]:
        new = number[old]
        return new[new >= 0]

    fallback = plan.fallback
    return replace(
        plan,
        candidates=plan.candidates.take(rows),
        value=plan.value[rows],
        chosen=tuple(renumbered(phase) for phase in plan.chosen),
        held_out=renumbered(plan.held_out),
        comparable=renumbered(plan.comparable),
        left_out=plan.left_out[rows],
        fallback=None if fallback is None else fallback._replace(takes=fallback.takes[rows]),
        is_shard=True,
    )
