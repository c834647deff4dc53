"""Which phase a run is in: one starts when all items of the one before have ended."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise


class Phases:
    """The phases of a run, and how many items of each are left.

    Args:
        phase: (n,) phase of each item, not decreasing.
        delay_seconds: Pause between two phases that have items.
    """

    def __init__(self, phase: Sequence[int], delay_seconds: float) -> None:
        self.now = -1
        self.started: dict[int, float] = {}
        self.ended: dict[int, float] = {}
        self.next_at = 0.0
        self._phase, self._delay_seconds = phase, delay_seconds
        starts = [bisect_left(phase, p) for p in range(phase[-1] + 2)] if len(phase) else []
        self.members = [range(start, stop) for start, stop in pairwise(starts)]
        self._left = [len(members) for members in self.members]

    def of(self, item: int) -> int:
        """The phase of `item`."""
        return self._phase[item]

    def count_ended(self, item: int, items: int = 1) -> None:
        """So many items have ended, all of the phase of `item`."""
        self._left[self._phase[item]] -= items

    def enter(self, at: float) -> Iterator[range]:
        """Go on while nothing is left of the phase: the items of each phase that is entered."""
        while self.now < 0 or not self._left[self.now]:
            if self.now >= 0 and self.now not in self.ended:
                self.ended[self.now] = at
                is_worth_a_pause = bool(self.members[self.now]) and any(self._left[self.now + 1 :])
                self.next_at = at + (self._delay_seconds if is_worth_a_pause else 0.0)
            if at < self.next_at or self.now + 1 >= len(self._left):
                return
            self.now += 1
            self.started[self.now] = at
            yield self.members[self.now]

    def break_off(self, at: float) -> None:
        """The run ends inside its phase."""
        self.ended.setdefault(self.now, at)
