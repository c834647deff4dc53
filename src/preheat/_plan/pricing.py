"""What an item is worth per byte once it pays for what it needs.

An item whose needs come anyway, since they are worth more per byte than it is, is worth what it is worth.  One that
has to bring needs along is priced together with them: a bundle.  What several items need is paid once, so such a need
is priced together with those of its dependants for which it is best brought along.

For trees, merging an item with what it waits for until the price no longer falls gives the order in which value
comes in fastest [1]; where items have several needs, prices found by a few rounds of it are close to that, and the
keys made of them are an order of loading whatever the prices are.

[1] Horn, "Single-machine job sequencing with treelike precedence ordering and linear delay penalties", SIAM Journal on
    Applied Mathematics 23(2), 1972.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preheat._plan.ordering import Dependencies, ranges
from preheat._plan.sorting import distinct

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXACT_BUNDLE = 64
"""What needs more others is priced by way of its direct needs; exact sets would take quadratic memory."""

ROUNDS = 2
TIER = 31
"""Keys are the tier above this many bits of the price, a positive float32."""

HIGHEST_PRICE = 1e37  # room above it for a million dependants, one above the other


class Closures(NamedTuple):
    """For nodes that need others: all that they need, directly or not.

    Attributes:
        owner, need: (p,) int32, pairs of nodes, ascending.
        is_exact: (m,) False for nodes with more than `EXACT_BUNDLE` needs, which have no pairs.
    """

    owner: NDArray[np.int32]
    need: NDArray[np.int32]
    is_exact: NDArray[np.bool_]


def find_closures(dependencies: Dependencies) -> Closures:
    """The closures over `dependencies`."""
    m = max(len(dependencies.nodes), 1)
    is_exact = dependencies.levels <= EXACT_BUNDLE
    starts, stops = np.zeros(m, np.int64), np.zeros(m, np.int64)
    pairs = np.empty(0, np.int64)
    for level in range(1, min(dependencies.depth, EXACT_BUNDLE) + 1):
        edges = dependencies.edges_of_level(level)
        owner, need = dependencies.dependants[edges].astype(np.int64), dependencies.needs[edges]
        is_exact[owner[~is_exact[need]]] = False
        below = ranges(starts[need], stops[need])
        passed_on = np.repeat(owner, stops[need] - starts[need]) * m + pairs[below] % m
        reached = distinct(np.concatenate([owner * m + need, passed_on]))
        counts = np.bincount(reached // m, minlength=m)
        is_exact &= counts <= EXACT_BUNDLE
        reached = reached[is_exact[reached // m]]
        counts[~is_exact] = 0
        stops = np.where(counts, len(pairs) + np.cumsum(counts), stops)
        starts = np.where(counts, stops - counts, starts)
        pairs = np.concatenate([pairs, reached])
    pairs = np.sort(pairs) if dependencies.depth > 1 else pairs
    return Closures((pairs // m).astype(np.int32), (pairs % m).astype(np.int32), is_exact)


def price_nodes(
    dependencies: Dependencies,
    closures: Closures,
    value: NDArray[np.float64],
    size_bytes: NDArray[np.float64],
    *,
    tier: NDArray[np.integer],
    on_its_own: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Seconds saved per byte at which each node comes in: (m,).

    Args:
        dependencies: Who needs what.
        closures: What `find_closures` found in it.
        value: (m,) seconds saved.
        size_bytes: (m,) bytes.
        tier: (m,) items of a higher tier come first, whatever they are worth.
        on_its_own: (m,) False for nodes that come only as somebody's need; they have no dependants that don't count.
    """
    # what comes first anyway, for whatever reason, costs nothing
    counting = on_its_own[closures.owner] & (tier[closures.need] <= tier[closures.owner])
    bundles = _Bundles(closures.owner[counting], closures.need[counting], value, size_bytes)
    offered = np.where(on_its_own, bundles.alone, 0.0)
    price = bundles.price(offered)
    for _ in range(ROUNDS):
        if not bundles.share(offered):
            break
        price = bundles.price(offered)
    if not closures.is_exact.all():
        vast = ~closures.is_exact
        ways = dependencies.sum_ways(value) / np.maximum(dependencies.sum_ways(size_bytes), 1.0)
        price[vast] = np.minimum(ways, bundles.alone)[vast]
    return np.where(on_its_own, price, 0.0)


class _Bundles:
    """Pairs of a node and something that it needs, priced again and again."""

    def __init__(
        self,
        owner: NDArray[np.int32],
        need: NDArray[np.int32],
        value: NDArray[np.float64],
        size_bytes: NDArray[np.float64],
    ) -> None:
        self.alone = value / np.maximum(size_bytes, 1.0)
        self._owner, self._need, self._value, self._size = owner, need, value, size_bytes
        self._brought = owner[:0], need[:0]
        self._bundle_value, self._bundle_size = value, size_bytes

    def price(self, offered: NDArray[np.float64]) -> NDArray[np.float64]:
        """The price of each node, where what it needs comes in by itself at the price `offered` (m,).

        A node brings along those of its needs that come in at less than its bundle does; it can't come in before
        the others.
        """
        price = self.alone.copy()
        cost = offered[self._need]
        holds_up = np.flatnonzero(cost < self.alone[self._owner])
        if not len(holds_up):
            return price
        order = holds_up[np.argsort(loading_keys(self._owner[holds_up], cost[holds_up]))]
        cost, owner, need = cost[order], self._owner[order], self._need[order]
        starts, counts = _segments(owner)
        value = _running_from(self._value[owner[starts]], self._value[need], starts, counts)
        size = _running_from(self._size[owner[starts]], self._size[need], starts, counts)
        ratio = value / np.maximum(size, 1.0)
        later = np.append(cost[1:], np.inf)
        later[starts + counts - 1] = np.inf
        bringing = np.where(cost <= ratio, np.minimum(ratio, later), -1.0)
        best = np.maximum(np.maximum.reduceat(bringing, starts), cost[starts])
        price[owner[starts]] = best
        places = np.arange(len(owner))
        last = np.maximum.reduceat(np.where(bringing >= np.repeat(best, counts), places, -1), starts)
        self._note_bundles(owner[starts], last, value, size)
        is_brought = places <= np.repeat(last, counts)
        self._brought = owner[is_brought], need[is_brought]
        return price

    def _note_bundles(
        self, owners: NDArray[np.int32], last: NDArray[np.int64], value: NDArray[np.float64], size: NDArray[np.float64]
    ) -> None:
        """Remember what each of `owners` comes to with what it brings along, up to the pair at `last`."""
        self._bundle_value, self._bundle_size = self._value.copy(), self._size.copy()
        bringing = last >= 0
        self._bundle_value[owners[bringing]] = value[last[bringing]]
        self._bundle_size[owners[bringing]] = size[last[bringing]]

    def share(self, offered: NDArray[np.float64]) -> bool:
        """Raise `offered` (m,) where several nodes together bring in what they need at a higher price; whether any is.

        They are taken by falling price of what they bring beside it, as long as that raises the price of all.
        """
        owner, need = self._brought
        is_shared = np.bincount(need, minlength=len(offered))[need] > 1
        owner, need = owner[is_shared], need[is_shared]
        if not len(need):
            return False
        value = np.maximum(self._bundle_value[owner] - self._bundle_value[need], 0.0)
        size = np.maximum(self._bundle_size[owner] - self._bundle_size[need], 0.0)
        order = np.lexsort((-value / np.maximum(size, 1.0), need))
        starts, counts = _segments(need[order])
        needs = need[order][starts]
        values = _running_from(self._bundle_value[needs], value[order], starts, counts)
        sizes = _running_from(self._bundle_size[needs], size[order], starts, counts)
        best = np.maximum.reduceat(values / np.maximum(sizes, 1.0), starts)
        offered[needs] = np.maximum(offered[needs], best)
        return True


def _segments(numbers: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where runs of equal `numbers` start, and how long they are."""
    starts = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))
    return starts, np.diff(np.append(starts, len(numbers)))


def _running_from(
    first: NDArray[np.float64], amount: NDArray[np.float64], starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Running sums of `amount` within segments, each from its own `first`."""
    sums = np.cumsum(amount)
    running: NDArray[np.float64] = sums - np.repeat(sums[starts] - amount[starts] - first, counts)
    return running


def loading_keys(tier: NDArray[np.integer], price: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole numbers that rank by tier, then by price: (n,).  One more is the next higher price."""
    bits = np.clip(price, 0.0, HIGHEST_PRICE).astype(np.float32).view(np.int32).astype(np.int64)
    return (tier.astype(np.int64) << TIER) + bits


__all__ = ["Closures", "find_closures", "loading_keys", "price_nodes"]
