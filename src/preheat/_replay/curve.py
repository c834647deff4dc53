"""How the miss ratio of an LRU cache falls as it grows.

The bytes of the distinct items asked for since an item's last request, its own included, are the least capacity with
which the next request for it hits (Mattson et al., "Evaluation techniques for storage hierarchies", IBM Systems Journal
9(2), 1970).  For unequal sizes this is near, not exact: a large item that is evicted leaves a hole.

Very long traces are sampled by item, all requests of an item or none, and the distances are scaled up (Waldspurger et
al., "Efficient MRC Construction with SHARDS", FAST'15: at a fixed rate, with their correction for how many requests
the most popular items happen to bring).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_REQUESTS = 1 << 22
POINTS = 200
NEVER = np.iinfo(np.int64).max
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads consecutive numbers


@dataclass(frozen=True, eq=False, slots=True)
class MissRatioCurve:
    """The share of all requests, first ones included, that miss.

    Attributes:
        capacity_bytes: (k,) rising, up to the footprint.
        miss_ratio: (k,) falling.
        sampled: The share of the items that it was computed from.
    """

    capacity_bytes: NDArray[np.int64]
    miss_ratio: NDArray[np.float64]
    sampled: float


def miss_ratio_curve(
    items: NDArray[np.int64], size_bytes: NDArray[np.int64], max_requests: int = MAX_REQUESTS
) -> MissRatioCurve:
    """The curve for requests (n,) for items of `size_bytes` (n_items,)."""
    share = min(1.0, max_requests / max(len(items), 1))
    chosen = items if share == 1.0 else items[_sampled(len(size_bytes), share)[items]]
    needed = np.sort(least_capacities(chosen, size_bytes[chosen]))
    footprint = max(int(size_bytes.sum()), 1)
    capacities = np.unique(np.geomspace(max(footprint / 10_000, 1), footprint, POINTS).astype(np.int64))
    expected = max(len(items) * share, 1.0)
    popular = expected - len(chosen) if share < 1.0 else 0.0  # hits in any cache: too few or too many were drawn
    hits = np.searchsorted(needed, capacities * share, side="right") + popular
    return MissRatioCurve(capacities, np.clip(1.0 - hits / expected, 0.0, 1.0), share)


def least_capacities(items: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The capacity, in bytes, from which on each request hits: (n,); `NEVER` where an item comes first."""
    previous = _previous_requests(items)
    again = np.flatnonzero(previous >= 0)
    rank = np.empty(len(items), np.int64)
    rank[np.argsort(previous, kind="stable")] = np.arange(len(items))
    # before a request, the first requests since its last one are those whose own last one came before that
    passed = _weight_of_lower_before(rank, sizes)[again] - np.cumsum(sizes)[previous[again]]
    needed = np.full(len(items), NEVER, np.int64)
    needed[again] = passed + sizes[again]
    return needed


def _previous_requests(items: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.argsort(items, kind="stable")
    previous = np.full(len(items), -1, np.int64)
    same = np.flatnonzero(items[order[1:]] == items[order[:-1]])
    previous[order[same + 1]] = order[same]
    return previous


def _weight_of_lower_before(rank: NDArray[np.int64], weight: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each position, the weight of all positions before it that have a lower rank; ranks are 0 to n - 1.

    Blocks of positions, at first one of all, share the leading bits of their ranks.  In each, those with the next bit
    set count those without it that come before them; then the block is parted by that bit, each half keeping its
    order.
    """
    n, block = len(rank), 1 << max(len(rank) - 1, 0).bit_length()
    ranks = np.concatenate((rank, np.arange(n, block)))
    weights = np.concatenate((weight, np.zeros(block - n, np.int64)))
    total = np.zeros(block, np.int64)
    while block > 1:
        high = (ranks & (block // 2)) != 0
        before = np.cumsum(np.where(high, 0, weights).reshape(-1, block), axis=1).ravel()
        total += np.where(high, before, 0)
        halves = [np.flatnonzero(side).reshape(-1, block // 2) for side in (~high, high)]
        order = np.concatenate(halves, axis=1).ravel()
        ranks, weights, total = ranks[order], weights[order], total[order]
        block //= 2
    return total[rank]


def _sampled(n_items: int, share: float) -> NDArray[np.bool_]:
    spread = np.arange(1, n_items + 1, dtype=np.uint64) * GOLDEN
    chosen: NDArray[np.bool_] = spread < np.uint64(int(share * 2**64))
    return chosen
