"""Which items wait for others: an item starts once everything that it needs is resident."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Needs:
    """What is still missing, over the items that need something.

    Args:
        needs: For items with dependencies in the plan, their positions.
    """

    def __init__(self, needs: Mapping[int, Sequence[int]]) -> None:
        self._missing = {item: set(needed) for item, needed in needs.items() if needed}
        self._dependants: dict[int, list[int]] = {}
        for item, needed in self._missing.items():
            for each in needed:
                self._dependants.setdefault(each, []).append(item)

    def unmet(self) -> list[int]:
        """The items that still miss something."""
        return [item for item, missing in self._missing.items() if missing]

    def dependants(self, item: int) -> Sequence[int]:
        """Those that need `item`."""
        return self._dependants.get(item, ())

    def with_dependants(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """`items`, and all that needs any of them, directly or not; ascending."""
        if not self._dependants:
            return items
        found = set(items.tolist())
        looking = [item for item in found if item in self._dependants]
        while looking:
            for dependant in self._dependants.get(looking.pop(), ()):
                if dependant not in found:
                    found.add(dependant)
                    looking.append(dependant)
        return np.array(sorted(found), np.int64)

    def concern(self, items: Iterable[int]) -> bool:
        """Whether anything needs any of `items`."""
        return bool(self._dependants) and not self._dependants.keys().isdisjoint(items)

    def satisfy_all(self, resident: Iterable[int]) -> None:
        """All of `resident` are there already."""
        there = set(resident) if self._missing else set()
        for missing in self._missing.values():
            missing -= there

    def satisfy(self, item: int, needed: int) -> bool:
        """`needed` has become resident: whether `item` now has everything."""
        missing = self._missing[item]
        missing.discard(needed)
        return not missing
