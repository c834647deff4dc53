"""Which phase a run is in: one starts when all items of the one before have ended or were put off.

What was put off makes a phase of its own, the later pass, behind all others.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
        self._was_put_off = bytearray(len(phase))
        starts = [bisect_left(phase, p) for p in range(phase[-1] + 2)] if len(phase) else []
        self.members = [range(start, stop) for start, stop in pairwise(starts)]
        self._later = len(self.members)
        self._left = [*(len(members) for members in self.members), 0]

    def of(self, item: int) -> int:
        """The phase of `item`."""
        return self._later if self._was_put_off[item] else self._phase[item]

    def count_ended(self, item: int, items: int = 1) -> None:
        """So many items have ended, all of the phase of `item`."""
        self._left[self.of(item)] -= items

    def put_off(self, items: NDArray[np.int64]) -> None:
        """`items` belong to the later pass from now on."""
        flags = np.frombuffer(self._was_put_off, np.int8)
        new = items[flags[items] == 0]
        flags[new] = 1
        for phase, members in enumerate(self.members):
            self._left[phase] -= int(np.count_nonzero((new >= members.start) & (new < members.stop)))
        self._left[self._later] += len(new)

    @property
    def is_later_pass(self) -> bool:
        """Whether the later pass has begun."""
        return self.now == self._later

    @property
    def are_over(self) -> bool:
        """Whether nothing is left but what was put off."""
        return not any(self._left[: self._later])

    def begin_later_pass(self) -> None:
        """Go on with what was put off."""
        self.now = self._later

    def enter(self, at: float) -> Iterator[range]:
        """Go on while nothing is left of the phase: the items of each phase that is entered."""
        while not self.is_later_pass and (self.now < 0 or not self._left[self.now]):
            if self.now >= 0 and self.now not in self.ended:
                self.ended[self.now] = at
                is_worth_a_pause = bool(self.members[self.now]) and any(self._left[self.now + 1 : self._later])
                self.next_at = at + (self._delay_seconds if is_worth_a_pause else 0.0)
            if at < self.next_at or self.now + 1 >= self._later:
                return
            self.now += 1
            self.started[self.now] = at
            yield self.members[self.now]

    def break_off(self, at: float) -> None:
        """The run ends inside its phase."""
        if not self.is_later_pass:
            self.ended.setdefault(self.now, at)
