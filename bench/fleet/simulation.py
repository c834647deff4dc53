"""A fleet that warms one shared cache, played out event by event (simpy), by the rules of the product.

Each replica goes through the plan in batches, some at a time: it looks up what is there, leases its portion, books
turns at the origin's rate, loads, puts, and looks again until what others took has come; in shards it books, loads and
puts.
Portions, turns, paces, the lengths of runs and the waits before a server is asked again are the product's own code;
`desk` is its booking script.

Of a plan that is too large, only its beginning is played; the rest goes on as the third quarter of that did:
the first replicas have to come up, and the last part is shared out in crumbs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import simpy
from desk import Desk
from member import Member, Steps
from model import BATCH, Fleet
from world import Plan, Server


@dataclass(frozen=True)
class Trouble:
    """What goes wrong.

    Attributes:
        coordinator_lost_at: The share of the keys after which it is gone; None if never.
        back_after_seconds: When it is back, having forgotten everything; never by default.
        restarted_at: The share of the keys after which all replicas are killed at once; None if never.
        start_seconds: What a replica takes to come up again.
        slow_origin: By which factor the origin is slower than it should be.
        bad_clocks: The share of replicas whose clocks run wrong.
        clock_error: By which factor those run fast.
        uncoordinated: Whether each replica loads all by itself: the control.
    """

    coordinator_lost_at: float | None = None
    back_after_seconds: float = float("inf")
    restarted_at: float | None = None
    start_seconds: float = 5.0
    slow_origin: float = 1.0
    bad_clocks: float = 0.0
    clock_error: float = 1.2
    uncoordinated: bool = False

    def clock_of(self, position: int, replicas: int) -> float:
        """How fast the clock of a replica runs."""
        return self.clock_error if position < self.bad_clocks * replicas else 1.0


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        seconds: Until every replica saw everything resident.
        fetches_per_key: Of the origin.
        most_ratio: The most loads that began within any second, of the rate.
        coordinator_load, server_load: What the two servers did, of what they could.
        unanswered: How often a server did not answer in time, per replica.
        loads: How many loads began in each second, as far as it was played.
    """

    seconds: float
    fetches_per_key: float
    most_ratio: float
    coordinator_load: float
    server_load: float
    unanswered: float
    loads: list[int]


MOST_VISITS, MOST_VISITS_OF_SHARDS = 1_000_000, 10_000
"""Batches that all replicas together go through, at most, of a plan that is played."""


def play(fleet: Fleet, trouble: Trouble | None = None, *, seed: int = 1) -> Outcome:
    """What comes of `fleet` in `trouble`; the same for the same seed."""
    return Play(fleet, trouble or Trouble(), seed).outcome()


class Play:
    """One fleet, once."""

    def __init__(self, fleet: Fleet, trouble: Trouble, seed: int) -> None:
        self.fleet, self.trouble, self.rng = fleet, trouble, random.Random(seed)
        self.env = simpy.Environment()
        visits = (MOST_VISITS_OF_SHARDS if fleet.shards else MOST_VISITS) // fleet.members
        of_each = min(fleet.own_keys, BATCH * max(fleet.batches, visits))
        self.plans = [Plan(f"{number}", of_each) for number in range(fleet.members if fleet.shards else 1)]
        self.coordinator, self.server, self.desk = Server(self.env), Server(self.env), Desk()
        self.unanswered = 0
        self._played = of_each * len(self.plans)
        self._origin, self._wire = Server(self.env), Server(self.env)
        self._members: list[Member] = []
        self._fetched: list[tuple[float, int]] = []
        self._put: list[float] = []  # when each key was first there
        self._seen: list[tuple[float, int]] = []  # when a replica was through with so many keys
        self._due = {self._lose: trouble.coordinator_lost_at, self._restart: trouble.restarted_at}

    def outcome(self) -> Outcome:
        """Play until every replica is through."""
        self._members = [Member(self, number, 0.0) for number in range(self.fleet.members)]
        while alive := [member.life for member in self._members if member.life.is_alive]:
            self.env.run(self.env.all_of(alive))
        at, keys = np.array(self._fetched).T
        begins = np.repeat(at, keys.astype(int))
        return Outcome(
            seconds=self.env.now + self._seconds_of_the_rest(),
            fetches_per_key=len(begins) / self._played,
            most_ratio=_most_per_second(begins) / self.fleet.rate,
            coordinator_load=self.coordinator.busy_seconds / self.env.now,
            server_load=self.server.busy_seconds / self.env.now,
            unanswered=self.unanswered / self.fleet.members,
            loads=np.bincount(begins.astype(int)).tolist(),
        )

    def _seconds_of_the_rest(self) -> float:
        """What the keys that were not played take, as loads and looks went in the third quarter of what was."""
        rest = self.fleet.keys / self._played - 1
        if rest <= 0:
            return 0.0
        at, keys = np.array(self._seen).T
        begin, end = np.searchsorted(np.cumsum(keys), keys.sum() * np.array([0.5, 0.75]))
        half, quarter = len(self._put) // 2, len(self._put) // 4
        return float(rest * 4 * max(at[end] - at[begin], self._put[half + quarter] - self._put[half]))

    # ----------------------------------------------------------------------------------------- what happens

    def fetch(self, keys: int) -> float:
        """Ask the origin for so many keys from now on: how long they wait there for others."""
        self._fetched.append((self.env.now, keys))
        return self._origin.take(keys * self.trouble.slow_origin / self.fleet.origin_capacity)

    def send(self, keys: int) -> float:
        """Send the values of so many keys from now on: how long it takes until they have reached their server."""
        return self._wire.take(keys * self.fleet.value_bytes / self.fleet.server_bytes)

    def note_seen(self, keys: int) -> None:
        """A replica is through with so many keys."""
        self._seen.append((self.env.now, keys))

    def note_put(self, plan: Plan, keys: list[str]) -> None:
        """They are there; something may go wrong now."""
        self._put += [self.env.now] * plan.put(keys)
        for happen, at in self._due.items():
            if at is not None and len(self._put) >= at * self._played:
                self._due[happen] = None
                happen()

    def _lose(self) -> None:
        self.coordinator.is_up = False
        if self.trouble.back_after_seconds < float("inf"):
            self.env.process(self._bring_back())

    def _bring_back(self) -> Steps:
        yield self.env.timeout(self.trouble.back_after_seconds)
        self.desk.forget()
        self.coordinator.is_up = True
        for plan in self.plans:
            plan.leases.clear()

    def _restart(self) -> None:
        killed = self._members
        self._members = [Member(self, n, self.trouble.start_seconds) for n in range(self.fleet.members)]
        for member in killed:
            member.die()


def _most_per_second(begins: np.ndarray) -> float:
    """The most of `begins` within any second."""
    return float((np.searchsorted(begins, begins + 1.0) - np.arange(len(begins))).max())
