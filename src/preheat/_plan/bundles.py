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

if TYPE_CHECKING:
    from numpy.typing import NDArray

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

    def bringing_keys(self, own: NDArray[np.int64], value: NDArray[np.float64]) -> NDArray[np.int64]:
        """Keys (m,) of nodes that may bring what they need along; `own` are those of the nodes alone.

        What a node ranks as for its dependants' sake is not in them: see `lifted`.
        """
        price = price_nodes(
            self.graph,
            self.closures,
            value[self.nodes],
            self.size_bytes.astype(np.float64),
            tier=own >> TIER,
            on_its_own=self.deserves,
        )
        return np.where(self.deserves, loading_keys(own >> TIER, price), OUT)

    def waiting_keys(self, own: NDArray[np.int64]) -> NDArray[np.int64]:
        """Keys (m,) of nodes that come after what they need and bring nothing along."""
        keys = np.where(self.deserves & ~self.without_needs(), own, OUT)
        self.graph.lower_dependants(keys)
        return np.maximum(keys, OUT)

    def lifted(self, keys: NDArray[np.int64], counting: NDArray[np.bool_]) -> NDArray[np.int64]:
        """`keys` (m,) of the nodes `counting` (m,), and above theirs those of what they need; OUT for all others."""
        lifted = np.where(counting, keys, OUT)
        self.graph.lift_needs(lifted, counting)
        return lifted

    def in_vain(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(m,) which of the `chosen` (m,) are there as needs of something that isn't."""
        used = chosen & self.deserves
        self.graph.mark_needs(used)
        return chosen & ~used

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
