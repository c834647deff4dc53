"""The place of one replica among those that warm up at once, leased from the coordinator; see `preheat._rolling`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from preheat._fleet import BEAT_SECONDS, SILENT_SECONDS
from preheat._redis import Line
from preheat._rolling import PLACES, Act, Standing, ask_seconds, place_arguments, shown_wait

TellWaiting = Callable[[str], None]
Sleep = Callable[[float], Awaitable[None]]


class Place:
    """A place that is waited for, kept, and left.  Its coroutines run on one loop.

    Args:
        line: To the coordinator.
        me: What this replica is called there.
        most: Places that there are.
        keys: The three that `PLACES` takes.
    """

    def __init__(self, line: Line, me: str, most: int, keys: Sequence[str]) -> None:
        self._line, self._me, self._most, self._keys = line, me, most, keys
        self._is_warming = False

    async def wait(self, sleep: Sleep, is_over: Callable[[], bool], tell: TellWaiting) -> None:
        """Wait for the place until it is there, `is_over`, or nobody has answered for `SILENT_SECONDS`.

        Without an answer a replica begins without a place, and takes one as soon as there is a server to ask.
        """
        heard_at = time.monotonic()
        while not is_over():
            standing = await self._act(Act.ASK)
            now = time.monotonic()
            heard_at = heard_at if standing is None else now
            if now - heard_at >= SILENT_SECONDS or (standing is not None and standing.has_place):
                self._is_warming = True
                return
            if standing is not None:
                tell(shown_wait(standing, self._most))
            await sleep(BEAT_SECONDS if standing is None else ask_seconds(standing, self._most))

    async def keep(self) -> None:
        """Renew the lease, if there is anything to renew."""
        if self._is_warming:
            await self._act(Act.KEEP)

    async def leave(self) -> None:
        """Leave the place, or the queue for it, to others."""
        self._is_warming = False
        await self._act(Act.LEAVE)

    async def _act(self, act: Act) -> Standing | None:
        """What the coordinator answers; None if it does not, or refuses."""
        replies = await self._line.run_async(PLACES, self._keys, *place_arguments(act, self._me, self._most))
        if replies is None or not isinstance(replies[0], list):
            return None
        has_place, taken, ahead = map(int, replies[0])
        return Standing(bool(has_place), taken, ahead)
