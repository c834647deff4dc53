"""One replica of a simulation: its start and end, and how it asks the coordinator and the cache's server.

As `preheat._coordination`: whoever is not answered in time goes by its own share of keys and rate, and asks again when
its door lets it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING

import simpy
from lane import Lane
from model import BATCH
from world import Server

from preheat._execution.lengths import RunLengths
from preheat._fleet import (
    AHEAD_SECONDS,
    MOST_BEATS_PER_SECOND,
    Booking,
    Pace,
    asking_seconds,
    beat_seconds,
    given_up_on,
    own_part,
    portion,
    start_delay,
    turn_size,
)
from preheat._guard import KNOWN_AFTER
from preheat._reach import Door
from preheat._run import RUN_SECONDS

if TYPE_CHECKING:
    from simulation import Play

Steps = Generator[simpy.Event, None, None]

COORDINATOR_WAIT_SECONDS = 0.25  # for an answer, as of `Coordination`
LEAST_WAIT_SECONDS = 0.001
START_SPREAD_SECONDS = 0.05  # between replicas that are started together
CACHE = "pages"


class Member:
    """One replica, from its start to its end."""

    def __init__(self, play: Play, position: int, start_seconds: float) -> None:
        self.play, self.env, self.fleet = play, play.env, play.fleet
        self.plan = play.plans[position if self.fleet.shards else 0]
        self.replicas = self.fleet.members
        self.is_dead = self.is_alone = False
        self.waiting = self._asking = 0
        self._number: int | None = None
        self._gone: set[int] = set()
        self._pace = Pace(self.fleet.rate / self.replicas)
        self._clock = play.trouble.clock_of(position, self.fleet.members)
        self._doors = {play.coordinator: Door(play.rng), play.server: Door(play.rng)}
        self._lengths = RunLengths(BATCH, {CACHE: RUN_SECONDS}, {CACHE}, shared={CACHE})
        self._next = self._loaded = 0
        self._knows_sizes = self.env.event()
        self._parts: list[simpy.Process] = []
        self.life = self._start(self._live(start_seconds))

    # ------------------------------------------------------------------------------------------------ its life

    def die(self) -> None:
        """Be killed: nothing is left in order."""
        self.is_dead = True
        for part in self._parts:
            if part.is_alive and part is not self.env.active_process:
                part.interrupt()

    def _start(self, steps: Steps) -> simpy.Process:
        part = self.env.process(self._until_killed(steps))
        self._parts.append(part)
        return part

    def _until_killed(self, steps: Steps) -> Steps:
        with suppress(simpy.Interrupt):
            yield from steps

    def _live(self, start_seconds: float) -> Steps:
        yield self.env.timeout(start_seconds + self.play.rng.uniform(0.0, START_SPREAD_SECONDS))
        yield self.env.timeout(start_delay(self.replicas / MOST_BEATS_PER_SECOND, self.play.rng))
        yield from self.book(0)
        self._start(self._beat())
        yield self.env.timeout(start_delay(self.fleet.jitter_seconds, self.play.rng))
        first = self._start(Lane(self).go())
        yield self._knows_sizes  # loads go one by one until then
        others = [self._start(Lane(self).go()) for _ in range(self.fleet.batches - 1)]
        yield self.env.all_of([first, *others])
        self.play.desk.leave(self)
        self.is_dead = True

    def _beat(self) -> Steps:
        while not self.is_dead:
            yield self.env.timeout(beat_seconds(self.replicas) * self.play.rng.uniform(0.8, 1.2))
            if not self.is_dead:
                yield from self.book(0)

    # --------------------------------------------------------------------------------------- what it goes through

    def next_run(self) -> range:
        """The positions that a lane goes through next; none once all are handed out."""
        left = len(self.plan.keys) - self._next
        if left <= 0:
            self.note_loaded(KNOWN_AFTER)
            return range(0)
        most = self._lengths.most if self._knows_sizes.triggered else self._lengths.most_unknown
        begin, self._next = self._next, self._next + most(CACHE, -(-left // self.fleet.batches))
        return range(begin, self._next)

    def note_run(self, keys: int, loaded: int, seconds: float) -> None:
        """Of a run of so many keys, so many were loaded, which took so long."""
        self._lengths.learn(CACHE, keys, seconds, were_there=not loaded)
        self.note_loaded(loaded)

    def note_loaded(self, keys: int) -> None:
        """So many keys were loaded."""
        self._loaded += keys
        if self._loaded >= KNOWN_AFTER and not self._knows_sizes.triggered:
            self._knows_sizes.succeed()

    # -------------------------------------------------------------------------------------------------- leases

    def take(self, left: list[str]) -> Generator[simpy.Event, None, list[str]]:
        """Those of `left` that are this replica's to load now."""
        if self.is_alone:
            return self._own(left)
        is_any_free = any(self.plan.is_free(key, self.env.now) for key in left)
        wanted = self._portion(left) if is_any_free else []
        asked = len(wanted) or max(1, len(left) // self.replicas)
        if not (yield from self.ask(self.play.coordinator, asked * self.fleet.costs.lease, COORDINATOR_WAIT_SECONDS)):
            self._go_alone()
            return self._own(left)
        return self.plan.lease(wanted, self, self.env.now)

    def _portion(self, left: list[str]) -> list[str]:
        return [left[n] for n in portion(left, self._number, self.replicas, self.at_once)]

    def _own(self, left: list[str]) -> list[str]:
        if self._number is None:
            return self.play.rng.sample(left, min(len(left), len(left) // (4 * self.replicas) + 1))
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
        if not (yield from self.ask(self.play.coordinator, self.fleet.costs.book, COORDINATOR_WAIT_SECONDS)):
            self._go_alone()
            return None
        booking = self.play.desk.book(self, self.replicas, loads, self.fleet.rate, self.env.now)
        self._number, self.replicas, self.is_alone = booking.number, booking.replicas, False
        self._gone.clear()
        return booking

    def _go_alone(self) -> None:
        if not self.is_alone:
            self.is_alone = True
            self._pace.change_rate(self.fleet.rate / self.replicas)
            self._pace.hold_until((self.env.now + 4 * AHEAD_SECONDS) * self._clock)

    def ask(self, server: Server, work: float, wait_seconds: float) -> Generator[simpy.Event, None, bool]:
        """Whether `server` is asked at all, and does `work` in time."""
        door = self._doors[server]
        if not door.lets_in(self.env.now):
            return False
        delay = server.take(work) if server.is_up else 0.0
        if server.is_up and delay <= wait_seconds:
            door.answered()
            yield self.env.timeout(delay + self.fleet.costs.round_trip)
            return True
        self.play.unanswered += 1
        door.failed(self.env.now)
        yield self.env.timeout(min(delay, wait_seconds))
        return False
