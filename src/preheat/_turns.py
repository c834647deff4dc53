"""Turns on the loop: loads that never wait would keep it for a whole run, and everybody else out.

Stepping back after every few loads would take longer than the loads themselves.  So workers look, every few loads,
whether they have kept the loop for too long, and only then step back; one worker is let on in each turn of the loop,
so that the others cost nothing meanwhile.  A worker whose loads wait steps back by that.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

ITEMS_PER_LOOK = 16
"""Loads between two looks."""

TURN_SECONDS = 0.002
"""How long loads that never wait may keep the loop, all workers together."""


class Turns:
    """The turns of one loop, shared by the workers of a run."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.number = 0
        self.until = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_counting = False

    def count_on(self) -> None:
        """See to it that the next turn of the loop has a number of its own."""
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._begin)

    async def wait(self) -> None:
        """Step back until it is this worker's turn again."""
        next_turn = asyncio.get_running_loop().create_future()
        self._waiting.append(next_turn)
        self.count_on()
        await next_turn

    def _begin(self) -> None:
        self.number += 1
        self.until, self._is_counting = self.clock() + TURN_SECONDS, False
        while self._waiting:
            self.count_on()  # before the one that is let on, which then has a whole turn
            next_turn = self._waiting.popleft()
            if not next_turn.done():
                next_turn.set_result(None)
                return


class Turn:
    """What one run of loads knows of the turns.

    Attributes:
        waited_seconds: How long it has stepped back.
    """

    __slots__ = ("_number", "_turns", "waited_seconds")

    def __init__(self, turns: Turns) -> None:
        self._turns, self._number = turns, -1
        self.waited_seconds = 0.0

    def is_over(self) -> bool:
        """Whether the loop has been kept for too long."""
        turns = self._turns
        turns.count_on()
        if self._number != turns.number:  # there was another turn of the loop since, so it has stepped back
            self._number = turns.number
            return False
        return turns.clock() >= turns.until

    async def next(self) -> None:
        """Step back until it is this worker's turn again."""
        since = self._turns.clock()
        await self._turns.wait()
        self.waited_seconds += self._turns.clock() - since
