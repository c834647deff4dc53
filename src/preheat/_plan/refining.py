"""A second look at a small plan, where the one item that did not fit any more may be a tenth of it.

Greedy choice is as good as the bound allows but for what the last item leaves of the budget.  So each of the best
items left out is tried in place of the least valuable chosen, and each of the least valuable chosen is tried without;
what is free then is filled anew, and the better plan stays.  One forced item, completed greedily, is the step by which
Sahni's scheme comes arbitrarily near to the optimum [1]; here it is repeated as long as it helps.

[1] Sahni, "Approximate algorithms for the 0/1 knapsack problem", Journal of the ACM 22(1), 1975.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

MOST_STEPS = 16_000
"""Items looked at for each kind of change in a round; so a plan over more items tries fewer changes."""

MOST_ROUNDS = 6


class Case(NamedTuple):
    """What can be chosen.

    Attributes:
        order: All that can be chosen, best first, needs before their dependants.
        value, size_bytes, cache: By item.
        needs: By item that needs others, those; directly.
        wanted: What may be chosen for its own sake.
        fixed: What comes before all value, and stays as it is, chosen or not.
        budget_bytes: What all may weigh together.
        free_bytes: By cache that has a limit, what its items may weigh.
    """

    order: Sequence[int]
    value: Mapping[int, float]
    size_bytes: Mapping[int, int]
    cache: Mapping[int, int]
    needs: Mapping[int, Sequence[int]]
    wanted: frozenset[int]
    fixed: frozenset[int]
    budget_bytes: int
    free_bytes: Mapping[int, int]


def refine(case: Case, chosen: Iterable[int]) -> set[int]:
    """A choice worth at least what `chosen` is, within the same limits."""
    best = _Choice.of(case, chosen)
    worth = best.worth()
    for _ in range(MOST_ROUNDS):
        better = max(_neighbours(best), key=_Choice.worth, default=best)
        if better.worth() <= worth:
            break
        best, worth = better, better.worth()
    return set(best.items)


def _neighbours(choice: _Choice) -> Iterator[_Choice]:
    """Choices that differ by one item forced in or out, and what follows from that."""
    case = choice.case
    tried = MOST_STEPS // max(len(case.order), 1)
    outside = [item for item in case.order if item not in choice.items and item in case.wanted - case.fixed]
    for item in sorted(outside, key=lambda item: -case.value[item])[:tried]:
        changed = choice.with_item(item)
        if changed is not None:
            yield changed
    for item in choice.removable()[:tried]:
        yield choice.without_item(item)


class _Choice:
    """Items that are chosen together with all that they need, and the room that they leave."""

    def __init__(
        self, case: Case, items: dict[int, None], room_bytes: int, room: dict[int, int], dependants: dict[int, int]
    ) -> None:
        self.case, self.items = case, items
        self._room_bytes, self._room, self._dependants = room_bytes, room, dependants

    @classmethod
    def of(cls, case: Case, items: Iterable[int]) -> _Choice:
        """The choice of `items`, which are complete and fit."""
        choice = cls(case, {}, case.budget_bytes, dict(case.free_bytes), {})
        choice._add(items)
        return choice

    def _copy(self) -> _Choice:
        return _Choice(self.case, self.items.copy(), self._room_bytes, self._room.copy(), self._dependants.copy())

    def worth(self) -> float:
        """Seconds saved, however they are added up."""
        return math.fsum(map(self.case.value.__getitem__, self.items))

    def removable(self) -> list[int]:
        """Items that may go and that nothing chosen needs, the least valuable per byte first."""
        free = [item for item in self.items if not self._dependants.get(item) and item not in self.case.fixed]
        return sorted(free, key=lambda item: (self._density(item), item))

    def with_item(self, item: int) -> _Choice | None:
        """The choice with `item`, for which the least valuable have to go; None if there is no room even so."""
        changed = self._copy()
        together = changed._missing(item)
        kept = {*together, *(need for each in together for need in self.case.needs.get(each, ()))}
        changed._add(together)
        if not changed._shrink(kept):
            return None
        changed._fill(without=None)
        return changed

    def _shrink(self, kept: set[int]) -> bool:
        """Whether all fits once the least valuable have gone, but for those `kept`; what only they needed goes too."""
        while self._is_too_much():
            leaving = [item for item in self.removable() if item not in kept]
            if not leaving:
                return False
            for least in leaving:
                if self._is_too_much() and least in self.items:
                    self._remove(least)
        return True

    def without_item(self, item: int) -> _Choice:
        """The choice with others in place of `item`."""
        changed = self._copy()
        changed._remove(item)
        changed._fill(without=item)
        return changed

    def _fill(self, without: int | None) -> None:
        case = self.case
        for item in case.order:
            if case.size_bytes[item] <= self._room_bytes and item not in self.items and item in case.wanted:
                together = self._missing(item)
                if without not in together and case.fixed.isdisjoint(together):
                    self._add(together)
                    if self._is_too_much():
                        for each in together:
                            self._take_out(each)

    def _missing(self, item: int) -> list[int]:
        """`item` and what it needs, directly or not, as far as it is not chosen."""
        found, waiting = dict[int, None](), [item]
        while waiting:
            at = waiting.pop()
            if at not in self.items and at not in found:
                found[at] = None
                waiting += self.case.needs.get(at, ())
        return list(found)

    def _add(self, items: Iterable[int]) -> None:
        for item in items:
            self.items[item] = None
            self._count(item, 1)

    def _remove(self, item: int) -> None:
        """Take `item` out, and what was there for its sake alone."""
        leaving = [item]
        while leaving:
            at = leaving.pop()
            self._take_out(at)
            leaving += [each for each in self.case.needs.get(at, ()) if self._is_in_vain(each)]

    def _is_in_vain(self, item: int) -> bool:
        return item in self.items and not self._dependants[item] and item not in self.case.wanted

    def _take_out(self, item: int) -> None:
        del self.items[item]
        self._count(item, -1)

    def _count(self, item: int, sign: int) -> None:
        size, cache = sign * self.case.size_bytes[item], self.case.cache[item]
        self._room_bytes -= size
        if cache in self._room:
            self._room[cache] -= size
        for need in self.case.needs.get(item, ()):
            self._dependants[need] = self._dependants.get(need, 0) + sign

    def _is_too_much(self) -> bool:
        return self._room_bytes < 0 or any(room < 0 for room in self._room.values())

    def _density(self, item: int) -> float:
        return self.case.value[item] / max(self.case.size_bytes[item], 1)
