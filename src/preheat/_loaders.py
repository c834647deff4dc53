"""The workers of a run: they load what the state machine hands out, and tell it how that ended.

As many tasks as loads are in flight at the same time, made once each; none per item.  A loader that blocks is called
in a thread, on behalf of a worker.  Runs that are shared are loaded by a crew of workers together.
"""

from __future__ import annotations

import asyncio
import math
from array import array
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from preheat._attempt import (
    ABANDONED,
    LATE,
    NOT_BEGUN,
    Allowance,
    Attempt,
    Brake,
    Crew,
    SharedRun,
    load_async,
    load_batches_async,
    load_here,
    load_shared,
    settle,
    sizes_of,
    smooth_sizes,
    usable,
    way_of,
)
from preheat._execution import Drawn, Ended, Load, Loaded
from preheat._model import CandidateTable, ItemResult, WarmupItem
from preheat._threads import LoaderThreads
from preheat._turns import Turn, Turns
from preheat._undo import undo_of
from preheat.abc import Clock, WarmableCache

ABANDON_SECONDS = 1.0
"""How long a load on the loop that was cancelled may take to clear up before it is left alone."""

LOOKS_PER_TIMEOUT = 16
"""How often loads are looked at in the time that each may take: so much later than that are they found late."""

Tell = Callable[[Loaded | Ended | Drawn], None]
Measure = Callable[[Load], Callable[[], int]]


class Loaders:
    """The workers of one run.

    Args:
        items: The items of the plan, in loading order.
        caches: By name.
        tell: Takes how a run of loads ended, or that all of a shared one have begun; called on the loop.
        measure: Called when a run of loads begins; what it returns tells by how much the process grew, at its end.
        brake: Whether no further load may begin.
        most: Loads in flight at most; a run that is not shared counts as one.
        batch_size: Items that a loader is handed at once, at most.
        item_timeout_seconds: What one call of a loader may take; None without a limit.
        clock: Measures that.
    """

    def __init__(
        self,
        items: CandidateTable,
        caches: Mapping[str, WarmableCache],
        *,
        tell: Tell,
        measure: Measure,
        brake: Brake,
        most: int,
        batch_size: int,
        item_timeout_seconds: float | None,
        clock: Clock,
    ) -> None:
        self.broken: BaseException | None = None
        self._items, self._caches = items, caches
        self._ways = {name: way_of(cache) for name, cache in caches.items()}
        self._tell, self._measure, self._brake = tell, measure, brake
        self._most, self._batch_size = most, batch_size
        self._timeout, self._clock = item_timeout_seconds, clock
        self._turns, self._threads = Turns(), LoaderThreads(most, "preheat-load")
        self._loads: deque[Load] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._workers: set[asyncio.Task[None]] = set()
        self._attempts: dict[int, Attempt] = {}  # in progress, by the first item
        self._crews: dict[str, Crew] = {}
        self._is_closed = False

    @property
    def look_seconds(self) -> float:
        """How often `look` is to be called."""
        return self._timeout / LOOKS_PER_TIMEOUT if self._timeout is not None else math.inf

    # ------------------------------------------------------------------------------------------------- in and out

    def take(self, load: Load) -> None:
        """Have `load` done by the next worker that is free, or by a crew."""
        if load.width is None:
            self._loads.append(load)
            return
        run = SharedRun(load.positions, self._rows(load.positions), load.width, load.reserved_bytes, load.spare_bytes)
        self._crew(self._cache_of(load.positions[0]).name).add(run, load.width)

    def hand_out(self) -> None:
        """Wake or make a worker for each run, and each place in a crew, that nobody has taken."""
        for _ in range(min(len(self._loads), self._free)):
            if self._idle:
                idle = self._idle.pop()
                if not idle.done():
                    idle.set_result(None)
            else:
                self._employ(self._work())
        for crew in self._crews.values():
            for _ in range(min(crew.room, self._free)):
                self._send_to(crew)

    @property
    def _free(self) -> int:
        """How many more may load."""
        return 0 if self._is_closed else self._most - (len(self._workers) - len(self._idle))

    def _employ(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        worker = asyncio.ensure_future(work)
        self._workers.add(worker)
        worker.add_done_callback(self._note_end)
        return worker

    def look(self, at: float) -> None:
        """See to it that no call of a loader takes longer than it may."""
        for attempt in self._all() if self._timeout is not None else ():
            if attempt.stalled_seconds(at) < (self._timeout or 0.0):
                continue
            if attempt.task is None or attempt.is_late:  # in a thread, or deaf to its cancellation
                self._leave(attempt, LATE)
            else:
                attempt.hurry(at)

    def give_up(self, first: int) -> None:
        """The run of loads that begins with the item `first` is not wanted any more."""
        waiting = [load for load in self._loads if load.positions[0] == first]
        for load in waiting:
            self._loads.remove(load)
            self._tell(Ended(self._clock(), load.positions, [None] * len(load.positions)))
        for attempt in [
            *([self._attempts[first]] if first in self._attempts else []),
            *(hand for crew in self._crews.values() for hand in crew.break_off(first)),
        ]:
            if attempt.task is None:
                self._leave(attempt, ABANDONED)
            else:
                attempt.give_up()
                asyncio.get_running_loop().call_later(ABANDON_SECONDS, self._leave, attempt, ABANDONED)

    async def close(self) -> None:
        """End all workers, and give their loads up."""
        self._is_closed = True
        self._loads.clear()
        for attempt in self._all():
            attempt.stop_counting()
        self._threads.close()
        for worker in self._workers:
            worker.cancel()
        if self._workers:
            await asyncio.wait(self._workers, timeout=ABANDON_SECONDS)

    # ------------------------------------------------------------------------------------------------- the workers

    async def _work(self) -> None:
        # with the loads inside it, not in coroutines of their own: see `load_async`
        while not self._is_closed:
            while not self._loads:
                if self._crews:
                    return  # the work is theirs, but for a run now and then
                idle = asyncio.get_running_loop().create_future()
                self._idle.append(idle)
                await idle
            attempt = self._begin(self._loads.popleft())
            self.hand_out()
            try:
                if attempt.way.is_in_bulk and attempt.way.is_on_loop:
                    await load_batches_async(attempt, self._batch_size)
                elif attempt.way.is_on_loop:
                    await load_async(attempt)
                else:
                    await self._load_in_thread(attempt)
                results = smooth_sizes(attempt) or await settle(attempt)
            except asyncio.CancelledError:
                if not attempt.was_given_up():
                    raise
                results = attempt.take(ABANDONED)
            finally:
                is_awaited = self._end(attempt)
            if is_awaited:
                self._tell(self._ended(attempt, results))
            del attempt, results  # an idle worker would keep all that it has loaded last

    def _note_end(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if not worker.cancelled() and worker.exception() is not None:
            self.broken = worker.exception()

    def _begin(self, load: Load) -> Attempt:
        cache = self._cache_of(load.positions[0])
        attempt = Attempt(
            cache,
            self._ways[cache.name],
            load.positions,
            self._rows(load.positions),
            Allowance(load.reserved_bytes, load.spare_bytes),
            self._brake,
            Turn(self._turns),
            self._clock(),
        )
        attempt.grown = self._measure(load)
        self._attempts[load.positions[0]] = attempt
        return attempt

    def _end(self, attempt: Attempt) -> bool:
        """`attempt` is over: whether anybody was still waiting for it."""
        attempt.grown_bytes = attempt.grown()
        is_awaited = self._forget(attempt)
        if not is_awaited:
            self._drop_late(attempt)
        return is_awaited

    def _forget(self, attempt: Attempt) -> bool:
        first = attempt.positions[0]
        is_awaited = self._attempts.get(first) is attempt
        if is_awaited:
            del self._attempts[first]
        return is_awaited

    def _ended(self, attempt: Attempt, results: array[int] | list[ItemResult | None]) -> Loaded | Ended:
        now = self._clock()
        seconds = now - attempt.began_at - attempt.turn.waited_seconds
        ended = Loaded if isinstance(results, array) else Ended
        return ended(now, attempt.positions, results, attempt.grown_bytes, seconds)  # type: ignore[arg-type]

    def _cache_of(self, position: int) -> WarmableCache:
        return self._caches[self._items.caches[self._items.cache[position]]]

    def _all(self) -> list[Attempt]:
        """Everything in progress."""
        return [*self._attempts.values(), *chain.from_iterable(self._crews.values())]

    def _rows(self, positions: Sequence[int]) -> Iterator[WarmupItem]:
        first, stop = positions[0], positions[-1] + 1
        is_gapless = stop - first == len(positions)
        return self._items.rows(first, stop) if is_gapless else iter(self._items.take(np.array(positions)))

    # -------------------------------------------------------------------------------------------------- in crews

    def _crew(self, name: str) -> Crew:
        if name not in self._crews:
            drawn = lambda run: self._tell(Drawn(self._clock(), run.positions[0]))  # noqa: E731
            self._crews[name] = Crew(self._caches[name], drawn=drawn, ended=self._end_shared, clock=self._clock)
        return self._crews[name]

    def _send_to(self, crew: Crew) -> None:
        """Have one more work in `crew`, as a task of nothing else: see `load_async`."""
        cache, turn = crew.cache, Turn(self._turns)
        hand = Attempt(cache, self._ways[cache.name], (), iter(()), Allowance(), self._brake, turn, self._clock())
        crew.join(hand)
        self._employ(load_shared(hand, crew)).add_done_callback(partial(self._dismiss, hand, crew))

    def _dismiss(self, hand: Attempt, crew: Crew, worker: asyncio.Task[None]) -> None:
        """`worker`, which was `hand` in `crew`, has ended."""
        if worker.cancelled():
            crew.give_up(hand, ABANDONED)
        crew.leave(hand)
        self._drop_late(hand)
        self.hand_out()

    def _end_shared(self, run: SharedRun) -> None:
        now, sizes = self._clock(), sizes_of(run.results)
        if sizes is not None:
            self._tell(Loaded(now, run.positions, sizes, 0, run.seconds))
        else:
            results = [None if each is NOT_BEGUN else usable(each) for each in run.results]
            self._tell(Ended(now, run.positions, results, 0, run.seconds))

    # ------------------------------------------------------------------------------------------------ in threads

    async def _load_in_thread(self, attempt: Attempt) -> None:
        loop = asyncio.get_running_loop()
        attempt.ending = ending = loop.create_future()
        self._threads.submit(partial(self._load_here, attempt, loop, ending))
        await ending

    def _load_here(self, attempt: Attempt, loop: asyncio.AbstractEventLoop, ending: asyncio.Future[None]) -> None:
        failure: BaseException | None = None
        try:
            load_here(attempt, self._batch_size if attempt.way.is_in_bulk else 1)
        except BaseException as error:  # no failure of an item, but of the run
            failure = error
        try:
            loop.call_soon_threadsafe(self._land, attempt, ending, failure)
        except RuntimeError:  # the loop is closed, so nobody waits any more
            self._drop_late(attempt)

    def _land(self, attempt: Attempt, ending: asyncio.Future[None], failure: BaseException | None) -> None:
        if ending.done():
            self._drop_late(attempt)
        elif failure is not None:
            ending.set_exception(failure)
        else:
            ending.set_result(None)

    # ----------------------------------------------------------------------------------------------- left alone

    def _leave(self, attempt: Attempt, why: ItemResult) -> None:
        """Nobody waits for `attempt` any more: what it has so far counts, what it is loading is `why`."""
        if (crew := self._crews.get(attempt.cache.name)) is not None and attempt in crew:
            self._most += 1  # its worker may never come back
            crew.give_up(attempt, why)
            self.hand_out()
            return
        if not self._forget(attempt):
            return
        results = attempt.take(why)
        if attempt.ending is not None:
            self._threads.give_one_up()
            if not attempt.ending.done():
                attempt.ending.set_result(None)
        else:
            self._most += 1  # its worker may never come back
        self._tell(Ended(self._clock(), attempt.positions, results))

    def _drop_late(self, attempt: Attempt) -> None:
        """Undo what was loaded when it did not count any more."""
        undo = undo_of(attempt.cache)
        for position in attempt.late_loads():
            undo(self._items.keys[position])
