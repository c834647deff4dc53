"""What the coordinator keeps: `preheat._fleet.BOOK` in Python, for one origin."""

from __future__ import annotations

import heapq
from collections import OrderedDict

from preheat._fleet import AHEAD_SECONDS, FORGOTTEN_SECONDS, GRACE_SECONDS, SILENT_SECONDS, USED_RATIO, Booking


class Desk:
    """Numbers of replicas, and one rate; all instants are the coordinator's."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Lose everything, as a server that is restarted."""
        self._fresh: OrderedDict[object, float] = OrderedDict()  # when each was seen, the oldest first
        self._silent: OrderedDict[object, float] = OrderedDict()
        self._numbers: dict[object, int] = {}
        self._free: list[int] = []
        self._next = self._born = 0.0
        self._asked = -float("inf")

    def leave(self, who: object) -> None:
        """Drop a member, whose number is free then."""
        self._fresh.pop(who, None)
        self._silent.pop(who, None)
        if who in self._numbers:
            heapq.heappush(self._free, self._numbers.pop(who))

    def book(self, who: object, replicas: int, loads: int, rate: float, now: float) -> Booking:
        """The answer to `BOOK`."""
        self._note(who, now)
        replicas = max(replicas, len(self._fresh) + len(self._silent))
        if not loads:
            return Booking(self._numbers[who], replicas, 0)
        if now - self._asked > 1.0:
            self._born = now
        is_new = now - self._born < GRACE_SECONDS
        parts = max(1, len(self._fresh) if is_new else replicas - len(self._silent))
        self._asked, self._next = now, max(self._next, now)
        wait = self._next - now
        if wait <= AHEAD_SECONDS:
            self._next += loads * replicas / (rate * USED_RATIO * parts)
            return Booking(self._numbers[who], replicas, round(wait * 1e6))
        return Booking(self._numbers[who], replicas, -round(wait * 1e6))

    def _note(self, who: object, now: float) -> None:
        """`who` is there; others may have been silent for too long."""
        self._silent.pop(who, None)
        self._fresh[who] = now
        self._fresh.move_to_end(who)
        while now - (oldest := next(iter(self._fresh.items())))[1] > SILENT_SECONDS:
            self._silent[oldest[0]] = self._fresh.pop(oldest[0])
        while self._silent and now - (oldest := next(iter(self._silent.items())))[1] > FORGOTTEN_SECONDS:
            self.leave(oldest[0])
        if who not in self._numbers:
            self._numbers[who] = heapq.heappop(self._free) if self._free else len(self._numbers)
