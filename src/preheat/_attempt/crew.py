"""A crew: the workers that share the runs of one cache, each taking the next load of the oldest run.

So all are at work however long one load takes, and what they touch lies close together: with a run for each, hundreds
of runs would push each other out of the processor's cache between two loads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, repeat
from operator import length_hint
from typing import Any

from preheat._attempt.state import Attempt, beyond_reservation, is_enough
from preheat._model import ItemResult, ItemStatus, WarmupItem
from preheat._turns import ITEMS_PER_LOOK
from preheat.abc import Clock, WarmableCache

NOT_BEGUN = object()
_LOOKS = (*repeat(False, ITEMS_PER_LOOK - 1), True)


class SharedRun:
    """A run of loads that several workers take.

    Attributes:
        positions: What is to be loaded, in the plan's order.
        rows: The same, each with its number in the run and whether to look at the turn behind it, for whoever is next.
        results: What the cache gave for each so far; NOT_BEGUN for the others.
        seconds: What the loads have taken, one after another.
        at_work: How many workers take of it.
        is_closed: Whether loads that nobody has begun are left as they are.
    """

    def __init__(
        self,
        positions: Sequence[int],
        rows: Iterator[WarmupItem],
        width: int,
        reserved_bytes: Sequence[int] = (),
        spare_bytes: int | None = None,
    ) -> None:
        self.positions = positions
        self._numbers = iter(range(len(positions)))
        self.rows = zip(self._numbers, rows, cycle(_LOOKS), strict=False)
        self.results: list[Any] = [NOT_BEGUN] * len(positions)
        self.seconds, self.is_closed = 0.0, False
        self.at_work = self._failures = 0
        self._reserved_bytes, self._spare_bytes = reserved_bytes, spare_bytes
        self._left_bytes = width * (spare_bytes or 0)
        self._loans: dict[Attempt, tuple[int, int]] = {}  # for which load how much is lent

    @property
    def left(self) -> int:
        """How many of its loads nobody has begun, and somebody may."""
        return length_hint(self._numbers)

    def close(self) -> None:
        """No further load of it begins."""
        self.is_closed = True
        deque(self._numbers, maxlen=0)

    def fail(self, failure: ItemResult) -> ItemResult:
        """Take one more failure, which may be enough: `failure` itself."""
        self._failures += failure.status is ItemStatus.FAILED
        if is_enough(failure, self._failures):
            self.close()
        return failure

    def limit_bytes(self, attempt: Attempt) -> int | None:
        """What the value that `attempt` is making may occupy; None without a limit.

        That is what was reserved for it, and lent to it what is spare for one worker, as far as that is there.
        """
        if self._spare_bytes is None:
            return None
        self.settle_loan(attempt)
        lent_bytes = max(0, min(self._spare_bytes, self._left_bytes))
        self._left_bytes -= lent_bytes
        self._loans[attempt] = attempt.loading, lent_bytes
        return self._reserved_bytes[attempt.loading] + lent_bytes

    def settle_loan(self, attempt: Attempt) -> None:
        """Take back what was lent to `attempt` last, but for what its value takes beyond what was reserved."""
        if attempt in self._loans:
            n, lent_bytes = self._loans.pop(attempt)
            self._left_bytes += lent_bytes - beyond_reservation(self.results[n], self._reserved_bytes[n])


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
        self._hands: dict[Attempt, SharedRun | None] = {}  # who is at work, and on what
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

    def begin(self, attempt: Attempt) -> SharedRun | None:
        """What `attempt` is to take of next; None if there is nothing, too many are at work, or it has to leave."""
        if not self._runs or len(self._hands) > self._width or attempt not in self._hands:
            return None
        self._hands[attempt] = run = self._runs[0]
        run.at_work += 1
        attempt.go_on(run.positions, self._clock())
        return run

    def end(self, attempt: Attempt) -> None:
        """`attempt` found no more to do in what it took of, unless it was given up meanwhile."""
        if (run := self._hands.get(attempt)) is not None:
            self._hands[attempt] = None
            self._take_leave(attempt, run)

    def give_up(self, attempt: Attempt, why: ItemResult) -> None:
        """Nobody waits for `attempt` any more: what it is loading is `why`."""
        attempt.stop_counting()
        run = self._hands.pop(attempt, None)
        if run is not None:
            if run.results[attempt.loading] is NOT_BEGUN:
                run.results[attempt.loading] = why
            run.close()
            self._take_leave(attempt, run)

    def limit_bytes(self, attempt: Attempt) -> int | None:
        """What the value that `attempt` is making may occupy; None without a limit."""
        run = self._hands.get(attempt)
        return run.limit_bytes(attempt) if run is not None else None

    def break_off(self, first: int) -> list[Attempt]:
        """No more of the run that begins with the item `first` is to begin: those who are loading some of it."""
        for run in [run for run in self._runs if run.positions[0] == first]:
            run.close()
            self._look_after(run)
        return [hand for hand, run in self._hands.items() if run is not None and run.positions[0] == first]

    def _take_leave(self, attempt: Attempt, run: SharedRun) -> None:
        run.at_work -= 1
        run.settle_loan(attempt)
        run.seconds += self._clock() - attempt.began_at
        self._look_after(run)

    def _look_after(self, run: SharedRun) -> None:
        """Tell if all loads of `run` have begun, or it has ended."""
        if run.left:
            return
        if run in self._runs:
            self._runs.remove(run)
            if not run.is_closed:
                self._on_drawn(run)
        if not run.at_work:
            self._on_ended(run)
