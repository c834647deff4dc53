"""A crew: the workers that share the runs of one cache, each taking a few loads of the oldest run at a time.

So all are at work however long one load takes, and what they touch lies close together: with a run for each, hundreds
of runs would push each other out of the processor's cache between two loads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from preheat._attempt.state import FAILURES_ENOUGH, Allowance, Attempt
from preheat._model import ItemResult, WarmupItem
from preheat.abc import Clock, WarmableCache

MOST_DRAWN = 32
"""Loads that a worker draws at once, at most."""

NOT_BEGUN = object()

_UNLIMITED = Allowance()


class SharedRun:
    """A run of loads that several workers take.

    Attributes:
        positions: What is to be loaded, in the plan's order.
        results: What the cache gave for each so far; NOT_BEGUN for the others.
        seconds: What the loads have taken, one after another.
        is_over: Whether no further load of it begins.
    """

    def __init__(
        self,
        positions: tuple[int, ...],
        rows: Iterator[WarmupItem],
        width: int,
        reserved_bytes: Sequence[int] = (),
        spare_bytes: int | None = None,
    ) -> None:
        self.positions = positions
        self.results: list[Any] = [NOT_BEGUN] * len(positions)
        self.seconds, self.is_over = 0.0, False
        self._rows, self._few = rows, max(1, min(MOST_DRAWN, len(positions) // width))
        self._drawn = self._out = self._failures = 0
        self._reserved_bytes, self._spare_bytes = reserved_bytes, spare_bytes
        self._left_bytes = width * (spare_bytes or 0)

    @property
    def left(self) -> int:
        """How many of its loads nobody has begun, and somebody may."""
        return 0 if self.is_over else len(self.positions) - self._drawn

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it is being loaded, nor will be."""
        return not self._out and not self.left

    def draw(self, attempt: Attempt, at: float) -> tuple[int, list[WarmupItem]]:
        """Have `attempt` go on with the next few loads: where they begin, and what is to be loaded."""
        # at first each draws another number: with all in step, the loop would make rows by the thousand, and then idle
        few = self._few if attempt.positions else min(self._few, 1 + self._out % MOST_DRAWN)
        start, items = self._drawn, list(islice(self._rows, few))
        self._drawn += len(items)
        self._out += 1
        attempt.go_on(self.positions[start : self._drawn], self._allowance_from(start), at)
        return start, items

    def _allowance_from(self, start: int) -> Allowance:
        if self._spare_bytes is None:
            return _UNLIMITED
        return Allowance(self._reserved_bytes, min(self._spare_bytes, self._left_bytes), start)

    def take_back(self, start: int, attempt: Attempt, results: Sequence[Any], at: float) -> None:
        """The few loads that `attempt` drew, from `start` on, have ended so; fewer results if not all were begun."""
        self.results[start : start + len(results)] = results
        self._out -= 1
        self.seconds += at - attempt.began_at
        self._left_bytes = max(0, self._left_bytes - attempt.overdrawn_bytes())
        self._failures += attempt.failures
        self.is_over |= (
            len(results) < len(attempt.positions)
            or attempt.taken is not None
            or attempt.is_refused
            or self._failures >= FAILURES_ENOUGH
        )


class Crew:
    """The workers of one cache.

    Args:
        cache: Theirs.
        drawn: Called when all loads of a run have begun.
        ended: Called when a run has ended.
        clock: Measures loads.
    """

    def __init__(
        self,
        cache: WarmableCache,
        *,
        drawn: Callable[[SharedRun], None],
        ended: Callable[[SharedRun], None],
        clock: Clock,
    ) -> None:
        self.cache = cache
        self._hands: dict[Attempt, tuple[SharedRun, int] | None] = {}  # who is at work, and on what from where on
        self._runs: deque[SharedRun] = deque()
        self._width = 0
        self._on_drawn, self._on_ended, self._clock = drawn, ended, clock

    def __iter__(self) -> Iterator[Attempt]:
        return iter(list(self._hands))

    def __contains__(self, attempt: Attempt) -> bool:
        return attempt in self._hands

    @property
    def room(self) -> int:
        """How many more workers there is something to do for."""
        return max(0, min(self._width - len(self._hands), sum(run.left for run in self._runs)))

    def add(self, run: SharedRun, width: int) -> None:
        """`run` is to be loaded too, and all by so many workers from now on."""
        self._runs.append(run)
        self._width = width

    def join(self, attempt: Attempt) -> None:
        """`attempt` works too."""
        self._hands[attempt] = None

    def leave(self, attempt: Attempt) -> None:
        """`attempt` works no longer."""
        self._hands.pop(attempt, None)

    def draw(self, attempt: Attempt) -> list[WarmupItem]:
        """What `attempt` is to load next; nothing if there is nothing, too many are at work, or it has to leave."""
        if not self._runs or len(self._hands) > self._width or attempt not in self._hands:
            return []
        run = self._runs[0]
        start, few = run.draw(attempt, self._clock())
        self._hands[attempt] = run, start
        if not run.left:
            self._runs.popleft()
            self._on_drawn(run)
        return few

    def give_up(self, attempt: Attempt, why: ItemResult) -> None:
        """Nobody waits for `attempt` any more: what it has so far counts, what it is loading is `why`."""
        self.put(attempt, [NOT_BEGUN if result is None else result for result in attempt.take(why)])
        self.leave(attempt)

    def put(self, attempt: Attempt, results: Sequence[Any]) -> None:
        """What `attempt` drew last has ended so."""
        drawn = self._hands.get(attempt)
        if drawn is not None:
            run, start = drawn
            self._hands[attempt] = None
            run.take_back(start, attempt, results, self._clock())
            self._look_after(run)

    def break_off(self, first: int) -> list[Attempt]:
        """No more of the run that begins with the item `first` is to begin: those who are loading some of it."""
        for run in [run for run in self._runs if run.positions[0] == first]:
            run.is_over = True
            self._look_after(run)
        return [hand for hand, drawn in self._hands.items() if drawn is not None and drawn[0].positions[0] == first]

    def _look_after(self, run: SharedRun) -> None:
        if run.is_over and run in self._runs:
            self._runs.remove(run)
        if run.has_ended:
            self._on_ended(run)
