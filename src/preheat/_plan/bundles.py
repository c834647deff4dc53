"""The tangled part of a plan: items that need others, and those that are needed.

What it answers while a plan is filled: what such an item ranks as, whether it can still be had with all that it
needs, and whether a need is there for anybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from preheat._plan.ordering import Dependencies
from preheat._plan.pricing import TIER, Closures, find_closures, loading_keys, price_nodes
from preheat._plan.sequencing import MOST_TOGETHER, Group

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_NODES = 2000
"""Nodes up to which small groups are put in the best order, which is Python's work."""

OUT = -1
"""The key of a row that can't be chosen."""


@dataclass(frozen=True, slots=True)
class Bundles:
    """Dependencies among candidates, as far as a strategy lets them count.

    Attributes:
        graph: Which rows need which; (m,) below are its nodes.
        closures: All that each node needs.
        size_bytes: (m,) bytes.
        deserves: (m,) whether the node may be chosen for its own sake; others come as somebody's need only.
    """

    graph: Dependencies
    closures: Closures
    size_bytes: NDArray[np.int64]
    deserves: NDArray[np.bool_]

    @classmethod
    def of(cls, graph: Dependencies, size_bytes: NDArray[np.int64], deserves: NDArray[np.bool_]) -> Bundles:
        """Those over `graph`; the other arguments have an entry for each row that `graph` is about: (n,)."""
        return cls(graph, find_closures(graph), size_bytes[graph.nodes], deserves[graph.nodes])

    @property
    def nodes(self) -> NDArray[np.int64]:
        """Their rows: (m,)."""
        return self.graph.nodes

    def without_needs(self) -> NDArray[np.bool_]:
        """(m,) nodes that deserve a place but need, directly or not, something that doesn't."""
        blocked = ~self.deserves
        self.graph.mark_dependants(blocked)
        return blocked & self.deserves

    def bringing_keys(self, own: NDArray[np.int64], value: NDArray[np.float64]) -> BringingKeys:
        """Keys of nodes that may bring what they need along; `own` (m,) are those of the nodes alone."""
        return BringingKeys(self, (own >> TIER).astype(np.int8), value)

    def waiting_keys(self, own: NDArray[np.int64]) -> NDArray[np.int64]:
        """Keys (m,) of nodes that come after what they need and bring nothing along."""
        keys = np.where(self.deserves & ~self.without_needs(), own, OUT)
        self.graph.lower_dependants(keys)
        return np.maximum(keys, OUT)

    def in_vain(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(m,) which of the `chosen` (m,) are there as needs of something that isn't."""
        used = chosen & self.deserves
        self.graph.mark_needs(used)
        return chosen & ~used

    def direct_needs(self) -> dict[int, list[int]]:
        """By row that needs others, those."""
        needs: dict[int, list[int]] = {}
        nodes = self.nodes
        edges = zip(nodes[self.graph.dependants].tolist(), nodes[self.graph.needs].tolist(), strict=True)
        for dependant, need in dict.fromkeys(edges):
            needs.setdefault(dependant, []).append(need)
        return needs

    def need_any(self, absent: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(m,) nodes that need, directly, something `absent` (m,)."""
        needing = np.zeros(len(absent), np.bool_)
        needing[self.graph.dependants[absent[self.graph.needs]]] = True
        return needing

    def within_reach(
        self, chosen: NDArray[np.bool_], available: NDArray[np.bool_], room_bytes: int
    ) -> NDArray[np.bool_]:
        """(m,) which of the `available` nodes fit `room_bytes` together with those that they need and are not `chosen`.

        A need is within reach where something that deserves a place is, and needs it.
        """
        out = ~available & ~chosen
        owner, need = self.closures.owner, self.closures.need
        missing = np.bincount(owner, np.where(chosen[need], 0, self.size_bytes[need]), len(self.nodes))
        out |= missing + self.size_bytes > room_bytes
        out &= ~chosen
        self.graph.mark_dependants(out)
        reached = available & ~out & self.deserves
        self.graph.mark_needs(reached)
        return reached & available & ~out


class BringingKeys:
    """The keys of nodes that bring what they need along, each bundle where its price puts it.

    Nodes that hang together in small groups get the best order there is; others what their prices say.
    """

    def __init__(self, bundles: Bundles, tier: NDArray[np.int8], value: NDArray[np.float64]) -> None:
        self._bundles, self._tier, self._value = bundles, tier, value
        size = bundles.size_bytes.astype(np.float64)
        price = price_nodes(
            bundles.graph, bundles.closures, value[bundles.nodes], size, tier=tier, on_its_own=bundles.deserves
        )
        self._priced = np.where(bundles.deserves, loading_keys(tier, price), OUT)
        self._groups = small_groups(bundles.graph) if len(bundles.nodes) <= MOST_NODES else []

    def among(self, counting: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The keys (m,) if of all nodes only those `counting` (m,) are wanted; OUT for what none of them needs."""
        keys, there = np.where(counting, self._priced, OUT), counting.copy()
        self._bundles.graph.mark_needs(there)
        self._bundles.graph.lift_needs(keys, there)
        for nodes in self._groups:
            self._put_in_order(nodes, counting, keys)
        return keys

    def _put_in_order(self, nodes: list[int], counting: NDArray[np.bool_], keys: NDArray[np.int64]) -> None:
        closures, levels = self._bundles.closures, self._bundles.graph.levels
        needs: dict[int, list[int]] = {}
        for node in nodes:
            part = slice(*np.searchsorted(closures.owner, [node, node + 1]).tolist())
            needs[node] = sorted(closures.need[part].tolist(), key=lambda each: int(levels[each]))
        rows = self._bundles.nodes[nodes]
        columns = (
            dict(zip(nodes, column.tolist(), strict=True))
            for column in (self._value[rows], self._bundles.size_bytes[nodes], self._tier[nodes])
        )
        free = 0  # the lowest key above those of the blocks that come later, which may have the same price
        for block in reversed(Group([node for node in nodes if counting[node]], needs, *columns).blocks()):
            priced = int(loading_keys(np.array([block.tier]), np.array([block.price]))[0])
            first = max(priced, free)
            free = first + len(block.nodes)
            keys[list(block.nodes)] = np.arange(free - 1, first - 1, -1)


def small_groups(graph: Dependencies) -> list[list[int]]:
    """The nodes that hang together, group by group, but for groups of more than `MOST_TOGETHER`."""
    group = list(range(len(graph.nodes)))
    for above, below in zip(graph.dependants.tolist(), graph.needs.tolist(), strict=True):
        a, b = _root(group, above), _root(group, below)
        group[max(a, b)] = min(a, b)
    members: dict[int, list[int]] = {}
    for node in range(len(group)):
        members.setdefault(_root(group, node), []).append(node)
    return [nodes for nodes in members.values() if len(nodes) <= MOST_TOGETHER]


def _root(group: list[int], node: int) -> int:
    while group[node] != node:
        group[node] = group[group[node]]
        node = group[node]
    return node
