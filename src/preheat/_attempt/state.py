"""The state of an attempt at a run of loads: what it has so far, and how it may be ended."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from preheat._attempt.results import LATE, failure_of, usable
from preheat._attempt.way import Way
from preheat._model import ItemResult, ItemStatus, WarmupItem
from preheat._plan.sizes import is_size
from preheat._turns import Turn
from preheat.abc import WarmableCache

FAILURES_ENOUGH = 3
"""A run of loads ends with so many failures: what is left of it is better begun when they have been judged."""


class Brake(Protocol):
    """Looked at before each item of a run, since a run takes its time and memory does not wait."""

    @property
    def is_on(self) -> bool:
        """Whether no further load may begin; asked from any thread."""
        ...


class Allowance(NamedTuple):
    """What the values of a run may occupy: each what was reserved for it, and all together `spare_bytes` more.

    Without any reservation there is no limit.
    """

    reserved_bytes: Sequence[int] = ()
    spare_bytes: int | None = None

    def of(self, start: int, items: int, used_bytes: int) -> int | None:
        """The limit of each of so many values that are made at once, when those before took `used_bytes` more."""
        if self.spare_bytes is None:
            return None
        reserved_bytes = sum(self.reserved_bytes[start : start + items])
        return (reserved_bytes + max(0, self.spare_bytes - used_bytes)) // items


def beyond_reservation(result: Any, reserved_bytes: int) -> int:
    """What the value that `result` tells of occupies beyond what was reserved for it."""
    if not isinstance(result, ItemResult) or not is_size(result.size_bytes):
        return 0
    return max(0, int(result.size_bytes) - reserved_bytes)


def is_enough(failure: ItemResult, failures: int) -> bool:
    """Whether nothing more is to be begun after `failure`, with which so many have failed.

    That is so where its origin asks for rest, or fails again and again.
    """
    return failure.wait_seconds is not None or failures >= FAILURES_ENOUGH


class Attempt:
    """A run of loads in progress.

    Attributes:
        way: How.
        positions: What is to be loaded, in the plan's order.
        rows: The same; items are made a few at a time: those that lie about leave the processor's cache.
        turn: What it knows of the turns on the loop.
        began_at: When it was begun.
        grown: Tells by how much the process has grown, once it has ended; `grown_bytes` is what that said.
        results: What the cache gave so far, item by item; to be settled.
        settled: What was made of the results, where they are settled one by one.
        calling: How many items the loader has been called for last.
        loading: Which of the items is being loaded, where several workers share them.
        task: What loads on the loop, or settles there; None while a thread loads.
        ending: What waits for the thread that loads; None on the loop.
        taken: How many of the results count, once nobody waits for the others; None before that.
        failures: How many loads have failed.
        is_refused: The origin does not want any further load just now.
        is_late: The call of the loader that is being waited for has been cancelled for its length.
    """

    def __init__(
        self,
        cache: WarmableCache,
        way: Way,
        positions: Sequence[int],
        rows: Iterator[WarmupItem],
        allowance: Allowance,
        brake: Brake,
        turn: Turn,
        at: float,
    ) -> None:
        self.cache, self.way, self.positions, self.rows = cache, way, positions, rows
        self.brake, self.turn, self.began_at = brake, turn, at
        self.results: list[Any] = []
        self.settled: list[ItemResult] = []
        self.calling = 1
        self.loading = 0
        self.grown: Callable[[], int] = int
        self.grown_bytes = 0
        self.task: asyncio.Task[Any] | None = None
        self.ending: asyncio.Future[None] | None = None
        self.taken: int | None = None
        self.is_refused = False
        self.failures = self._done = 0
        self.is_late = self._is_given_up = self._is_settling = False
        self._allowance = allowance
        self._accounted = self._used_bytes = 0
        self._progress, self._progress_at = 0, at

    def go_on(self, positions: Sequence[int], at: float) -> None:
        """Take from now on of what others take of too."""
        self._done += len(self.positions)
        self.positions, self.loading, self.began_at = positions, 0, at

    def limit_bytes(self) -> int | None:
        """What the value that is being made may occupy."""
        known: Sequence[Any] = self.settled if self._is_settling else self.results
        self._account(known)
        return self._allowance.of(len(known), self.calling, self._used_bytes)

    def _account(self, known: Sequence[Any]) -> None:
        if self._allowance.spare_bytes is None:
            return
        for n in range(self._accounted, len(known)):
            self._used_bytes += beyond_reservation(known[n], self._allowance.reserved_bytes[n])
        self._accounted = max(self._accounted, len(known))

    def fail(self, failure: ItemResult) -> bool:
        """Take one more failure: whether nothing more is to be begun."""
        self.results.append(failure)
        self.failures += failure.status is ItemStatus.FAILED
        self.is_refused = is_enough(failure, self.failures)
        return self.is_refused

    def take_batch(self, results: list[Any]) -> None:
        """Take what a call for several items gave; where one says that its origin asks for rest, nothing is begun."""
        self.results += results
        self.is_refused |= any(isinstance(each, ItemResult) and each.wait_seconds is not None for each in results)

    def begin_settling(self) -> None:
        """From now on results are awaited, one after another, in the task that runs."""
        self.task, self._is_settling = asyncio.current_task(), True
        self._accounted = self._used_bytes = 0

    def stalled_seconds(self, at: float) -> float:
        """How long no load has ended, as far as that was looked at; waits for others are none of that time."""
        progress = self._done + self.loading + len(self.results) + len(self.settled) + self.turn.waits
        if progress != self._progress or self.turn.is_apart:
            self._progress, self._progress_at = progress, at
            self.forgive()
        return at - self._progress_at

    def hurry(self, at: float) -> None:
        """The load that is being waited for has taken too long: cancel it, and nothing else."""
        if self.task is not None:
            self.is_late, self._progress_at = True, at
            self.task.cancel()

    def forgive(self) -> bool:
        """Whether a load had been cancelled for its length; it has ended, one way or the other."""
        was_late, self.is_late = self.is_late, False
        if was_late and self.task is not None:
            self.task.uncancel()
        return was_late

    def failure_of(self, error: BaseException) -> ItemResult:
        """The failure of a load on the loop.

        Raises:
            CancelledError: It was not the load that was cancelled, but the task that loads.
        """
        task, was_late = self.task, self.forgive()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise error
        return LATE if was_late else failure_of(error)

    def give_up(self) -> None:
        """Cancel what is loaded on the loop."""
        if self.task is not None and not self._is_given_up:
            self._is_given_up = True
            self.task.cancel()

    def was_given_up(self) -> bool:
        """Whether its task was cancelled for that and for nothing else; it then may go on."""
        if not self._is_given_up or self.task is None:
            return False
        self._is_given_up = False
        return self.task.uncancel() == 0

    def stop_counting(self) -> None:
        """What has not been loaded by now does not count."""
        self.taken = len(self.results) if self.taken is None else self.taken

    def come_late(self, result: ItemResult) -> None:
        """What it was loading of what others take of too does not count any more, and gave `result`."""
        self.positions, self.results = self.positions[self.loading :], [result]

    def take(self, why: ItemResult) -> list[ItemResult | None]:
        """Results of all items as they stand; those of the load that is being waited for are `why`.

        What comes later does not count any more.
        """
        self.stop_counting()
        known: list[ItemResult | None] = [*self.settled]
        for result in self.results[len(known) : self.taken]:
            known.append(why if inspect.isawaitable(result) else usable(result))
        begun = min(len(known) + self.calling, len(self.positions))
        known += [why] * (begun - len(known))
        return known + [None] * (len(self.positions) - len(known))

    def late_loads(self) -> list[int]:
        """The positions of what was loaded although it did not count any more; each is named once."""
        if self.taken is None:
            return []
        late = self.results[self.taken :]
        del self.results[self.taken :]
        loaded = (n for n, result in enumerate(late, self.taken) if getattr(result, "status", 0) is ItemStatus.LOADED)
        return [self.positions[n] for n in loaded]
