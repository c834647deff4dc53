"""Turns on the loop: loads that never wait would keep it for a whole run, and everybody else out.

Stepping back after every few loads would take longer than the loads themselves.  So workers look, every few loads,
whether they have kept the loop for too long, and only then step back; one worker is let on in each turn of the loop,
so that the others cost nothing meanwhile.  A worker whose loads wait steps back by that.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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
        waited_seconds: How long it has stepped back, or waited for others.
        is_apart: Whether its loader waits for others, which is none of its time.
        waits: How many such waits have ended.
    """

    __slots__ = ("_number", "_since", "_turns", "is_apart", "waited_seconds", "waits")

    def __init__(self, turns: Turns) -> None:
        self._turns, self._number = turns, -1
        self.waited_seconds = self._since = 0.0
        self.is_apart, self.waits = False, 0

    def is_over(self) -> bool:
        """Whether the loop has been kept for too long."""
        turns = self._turns
        if turns.clock() < turns.until:
            return False
        turns.count_on()
        if self._number == turns.number:
            return True
        self._number = turns.number  # there was another turn of the loop since it last looked so late
        return False

    async def next(self) -> None:
        """Step back until it is this worker's turn again."""
        since = self._turns.clock()
        await self._turns.wait()
        self.waited_seconds += self._turns.clock() - since

    def step_aside(self) -> None:
        """The loader waits for others from now on."""
        self.is_apart, self._since = True, self._turns.clock()

    def come_back(self) -> None:
        """It does not any more."""
        self.waited_seconds += self._turns.clock() - self._since
        self.is_apart = False
        self.waits += 1


_turn: ContextVar[Turn | None] = ContextVar("preheat_turn", default=None)


@contextmanager
def known_as(turn: Turn) -> Iterator[None]:
    """While this lasts, loaders called here can say when they wait for others."""
    token = _turn.set(turn)
    try:
        yield
    finally:
        _turn.reset(token)


@contextmanager
def apart() -> Iterator[None]:
    """While this lasts, the loader called here waits for others, but for what it does `at_work`."""
    turn = _turn.get()
    if turn is not None:
        turn.step_aside()
    try:
        yield
    finally:
        if turn is not None:
            turn.come_back()


@contextmanager
def at_work() -> Iterator[None]:
    """While this lasts, the loader that is `apart` loads after all."""
    turn = _turn.get()
    if turn is not None:
        turn.come_back()
    try:
        yield
    finally:
        if turn is not None:
            turn.step_aside()
