"""Which items wait for others: an item starts once everything that it needs is resident."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


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

    def are_met(self, item: int) -> bool:
        """Whether `item` has everything that it needs."""
        return not self._missing.get(item)

    def unmet(self) -> list[int]:
        """The items that still miss something."""
        return [item for item, missing in self._missing.items() if missing]

    def dependants(self, item: int) -> Sequence[int]:
        """Those that need `item`."""
        return self._dependants.get(item, ())

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
