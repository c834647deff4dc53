"""One replica of a simulation among the others: how it asks servers, leases keys and waits for its turns.

As `preheat._coordination`: whoever is not answered in time goes by its own share of keys and rate, and asks again when
its door lets it.
"""

from __future__ import annotations

from collections.abc import Generator

import simpy
from world import Plan, Server, Steps, World

from preheat._coordination import LEAST_WAIT_SECONDS
from preheat._fleet import (
    AHEAD_SECONDS,
    Booking,
    Pace,
    asking_seconds,
    given_up_on,
    own_part,
    portion,
    turn_size,
)
from preheat._reach import Door

COORDINATOR_WAIT_SECONDS = 0.25  # for an answer, as of `Coordination`


class Together:
    """What a replica knows of the others, with which it goes through `plan`.

    Attributes:
        waiting: Batches for which others are waited for.
    """

    def __init__(self, world: World, plan: Plan, position: int) -> None:
        self.world, self.env, self.fleet, self.plan = world, world.env, world.fleet, plan
        self.replicas = self.fleet.members
        self.is_dead = self.is_alone = False
        self.waiting = self._asking = 0
        self._number: int | None = None
        self._gone: set[int] = set()
        self._pace = Pace(self.fleet.rate / self.replicas)
        self._clock = world.trouble.clock_of(position, self.replicas)
        self._doors = {world.coordinator: Door(world.rng), world.cache: Door(world.rng)}

    # -------------------------------------------------------------------------------------------------- leases

    def take(self, left: list[str]) -> Generator[simpy.Event, None, list[str]]:
        """Those of `left` that are this replica's to load now."""
        if self.is_alone:
            return self._own(left)
        is_any_free = any(self.plan.is_free(key, self.env.now) for key in left)
        wanted = self._portion(left) if is_any_free else []
        asked = len(wanted) or max(1, len(left) // self.replicas)
        work = asked * self.fleet.costs.lease
        if not (yield from self.ask(self.world.coordinator, work, COORDINATOR_WAIT_SECONDS)):
            self._go_alone()
            return self._own(left)
        return self.plan.lease(wanted, self, self.env.now)

    def _portion(self, left: list[str]) -> list[str]:
        return [left[n] for n in portion(left, self._number, self.replicas, self.at_once)]

    def _own(self, left: list[str]) -> list[str]:
        if self._number is None:
            return self.world.rng.sample(left, min(len(left), len(left) // (4 * self.replicas) + 1))
        return [left[n] for n in own_part(left, self._number, self.replicas, self._gone)]

    def give_up_on(self, left: list[str]) -> bool:
        """Take those who should have loaded `left` to be gone; False if that changes nothing."""
        if not self.is_alone or self._number is None:
            return False
        before, self._gone = self._gone, given_up_on(left, self._number, self.replicas, self._gone)
        return len(self._gone) > len(before)

    # ---------------------------------------------------------------------------------------------------- rate

    @property
    def at_once(self) -> int:
        """How many loads may begin together."""
        return turn_size(self.fleet.rate, self.replicas)

    def wait_for_turn(self, loads: int) -> Steps:
        """Wait until so many loads may begin."""
        self._asking += 1
        yield from self._ask_for_turn(loads)
        self._asking -= 1

    def _ask_for_turn(self, loads: int) -> Steps:
        while (booking := (yield from self.book(loads))) is not None:
            seconds = max(LEAST_WAIT_SECONDS, abs(booking.wait_us) / 1e6)
            if booking.wait_us >= 0:
                yield self.env.timeout(seconds)
                return
            yield self.env.timeout(max(seconds, asking_seconds(self.replicas, self._asking)))
        yield self.env.timeout(self._pace.book(loads, self.env.now * self._clock) / self._clock)

    def book(self, loads: int) -> Generator[simpy.Event, None, Booking | None]:
        """The coordinator's answer; None if there is none."""
        is_answered = yield from self.ask(self.world.coordinator, self.fleet.costs.book, COORDINATOR_WAIT_SECONDS)
        return self._book(loads, is_answered=is_answered)

    def beat(self) -> None:
        """Tell that it is there, without waiting for the answer: there are very many beats."""
        is_answered, _ = self._reach(self.world.coordinator, self.fleet.costs.book, COORDINATOR_WAIT_SECONDS)
        self._book(0, is_answered=is_answered)

    def _book(self, loads: int, *, is_answered: bool) -> Booking | None:
        if not is_answered:
            self._go_alone()
            return None
        booking = self.world.desk.book(self, self.replicas, loads, self.fleet.rate, self.env.now)
        self._number, self.replicas, self.is_alone = booking.number, booking.replicas, False
        self._gone.clear()
        return booking

    def leave(self) -> None:
        """Tell that it is through."""
        self.world.desk.leave(self)
        self.is_dead = True

    def _go_alone(self) -> None:
        if not self.is_alone:
            self.is_alone = True
            self._pace.change_rate(self.fleet.rate / self.replicas)
            self._pace.hold_until((self.env.now + 4 * AHEAD_SECONDS) * self._clock)

    # ------------------------------------------------------------------------------------------------- servers

    def ask(
        self, server: Server, work: float, wait_seconds: float, trips: int = 1
    ) -> Generator[simpy.Event, None, bool]:
        """Whether `server` is asked at all, and does `work` in time; it is asked so many times, one after another."""
        is_answered, seconds = self._reach(server, work, wait_seconds)
        if is_answered:
            seconds += trips * self.fleet.costs.round_trip
        if seconds:
            yield self.env.timeout(seconds)
        return is_answered

    def _reach(self, server: Server, work: float, wait_seconds: float) -> tuple[bool, float]:
        """Whether `server` does `work` in time, and after how long that is known."""
        door = self._doors[server]
        if not door.lets_in(self.env.now):
            return False, 0.0
        delay = server.take(work) if server.is_up else 0.0
        if server.is_up and delay <= wait_seconds:
            door.answered()
            return True, delay
        self.world.unanswered += 1
        door.failed(self.env.now)
        return False, min(delay, wait_seconds)
