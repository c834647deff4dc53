"""The best order of a few items that need each other.

From what is left, the set is taken that saves most per byte, with all that it needs; then the next, as in the
decomposition of precedence-constrained sequences [1].  Such a set is looked for from the best single bundle on: other
bundles join it as long as they raise what it saves per byte, which is how several items pay together for what they
share.  For many items that takes too long, and the prices of `pricing` have to do.

[1] Sidney, "Decomposition algorithms for single-machine sequencing with precedence relations and deferral costs",
    Operations Research 23(2), 1975.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

MOST_TOGETHER = 48
"""Items that hang together and are put in the best order; more of them are left to the prices."""


class Block(NamedTuple):
    """Items that come together, in loading order, and what they save per byte."""

    nodes: tuple[int, ...]
    tier: int
    price: float


class Group:
    """Items that hang together.

    Args:
        wanted: Those that may be chosen for their own sake; the others come as their needs only.
        needs: For each item, all that it needs, directly or not, in loading order.
        value, size_bytes, tier: What each item saves, weighs, and which tier it is of.
    """

    def __init__(
        self,
        wanted: Iterable[int],
        needs: Mapping[int, Sequence[int]],
        value: Mapping[int, float],
        size_bytes: Mapping[int, float],
        tier: Mapping[int, int],
    ) -> None:
        self._wanted, self._needs, self._tier = dict.fromkeys(wanted), needs, tier
        self._value, self._size = value, size_bytes

    def blocks(self) -> list[Block]:
        """All wanted items and what they need: by falling tier, and by falling price within one."""
        loaded: dict[int, None] = {}
        found: list[Block] = []
        while self._wanted:
            tier = max(self._tier[node] for node in self._wanted)
            targets = [node for node in self._wanted if self._tier[node] == tier]
            chosen = self._best_set(targets, loaded)
            nodes = tuple(self._in_order([node for node in targets if node in chosen], loaded))
            for node in nodes:
                self._wanted.pop(node, None)
            found.append(Block(nodes, tier, self._ratio(nodes)))
            self._pool(found)
        return found

    def _pool(self, found: list[Block]) -> None:
        """Join blocks at the end as long as a later one saves more per byte than the one that it waits for."""
        while len(found) > 1 and found[-2].tier == found[-1].tier and found[-2].price < found[-1].price:
            later, earlier = found.pop(), found.pop()
            nodes = earlier.nodes + later.nodes
            found.append(Block(nodes, earlier.tier, self._ratio(nodes)))

    def _best_set(self, targets: Sequence[int], loaded: dict[int, None]) -> dict[int, None]:
        best: dict[int, None] = {}
        while True:
            together = loaded | best
            candidates = [bundle for node in targets if (bundle := self._missing(node, together))]
            bundle = max(candidates, key=self._ratio, default=())
            if not bundle or (best and self._ratio(bundle) <= self._ratio(best)):
                return best
            best |= dict.fromkeys(bundle)

    def _in_order(self, targets: list[int], loaded: dict[int, None]) -> Iterator[int]:
        """`targets` and what they need, one by one, always the next of the best bundle; they are `loaded` then."""
        while True:
            bundles = [bundle for node in targets if (bundle := self._missing(node, loaded))]
            if not bundles:
                return
            node = max(bundles, key=self._ratio)[0]
            loaded[node] = None
            yield node

    def _missing(self, node: int, loaded: Mapping[int, None]) -> tuple[int, ...]:
        """`node` and what it needs, in loading order, less what is `loaded`."""
        return tuple(each for each in (*self._needs.get(node, ()), node) if each not in loaded)

    def _ratio(self, nodes: Iterable[int]) -> float:
        value = size = 0.0
        for node in nodes:
            value += self._value[node]
            size += self._size[node]
        return value / max(size, 1.0)
