"""A fleet that warms one shared cache, played out event by event (simpy), by the rules of the product.

Each replica goes through the plan in batches, some at a time: it looks up what is there, leases its portion, books
turns at the origin's rate, loads, puts, and looks again until what others took has come; in shards it books, loads and
puts.  Portions, turns, paces, the lengths of runs and the waits before a server is asked again are the product's own
code.

    world     what replicas share; `desk` is the coordinator's booking script
    together  a replica among the others: leases, turns, servers
    runs      what it hands out to its loaders
    lane      one of those
    member    its life

Of a plan that is too large, only its beginning is played; the rest goes on as the third quarter of that did:
the first replicas have to come up, and the last part is shared out in crumbs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from member import Member
from model import BATCH, Fleet
from world import Plan, Steps, Trouble, World


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


MOST_VISITS, MOST_VISITS_OF_SHARDS = 3_000_000, 10_000
"""Batches that all replicas together go through, at most, of a plan that is played."""


def play(fleet: Fleet, trouble: Trouble | None = None, *, seed: int = 1) -> Outcome:
    """What comes of `fleet` in `trouble`; the same for the same seed."""
    return Play(fleet, trouble or Trouble(), seed).outcome()


class Play:
    """One fleet, once."""

    def __init__(self, fleet: Fleet, trouble: Trouble, seed: int) -> None:
        visits = (MOST_VISITS_OF_SHARDS if fleet.shards else MOST_VISITS) // fleet.members
        of_each = min(fleet.own_keys, BATCH * max(fleet.batches, visits))
        plans = [Plan(f"{number}", of_each) for number in range(fleet.members if fleet.shards else 1)]
        self._fleet, self._trouble = fleet, trouble
        self._world = World(fleet, trouble, plans, seed)
        self._world.on_put = self._look_for_trouble
        self._played = of_each * len(plans)
        self._members: list[Member] = []
        self._due = {self._lose: trouble.coordinator_lost_at, self._restart: trouble.restarted_at}

    def outcome(self) -> Outcome:
        """Play until every replica is through."""
        world, env = self._world, self._world.env
        self._start(0.0)
        while alive := [member.life for member in self._members if member.life.is_alive]:
            env.run(env.all_of(alive))
        at, keys = np.array(world.fetched).T
        begins = np.repeat(at, keys.astype(int))
        return Outcome(
            seconds=env.now + self._seconds_of_the_rest(),
            fetches_per_key=len(begins) / self._played,
            most_ratio=_most_per_second(begins) / self._fleet.rate,
            coordinator_load=world.coordinator.busy_seconds / env.now,
            server_load=world.cache.busy_seconds / env.now,
            unanswered=world.unanswered / self._fleet.members,
            loads=np.bincount(begins.astype(int)).tolist(),
        )

    def _seconds_of_the_rest(self) -> float:
        """What the keys that were not played take, as loads and looks went in the third quarter of what was."""
        rest = self._fleet.keys / self._played - 1
        if rest <= 0:
            return 0.0
        put = self._world.put
        at, keys = np.array(self._world.seen).T
        begin, end = np.searchsorted(np.cumsum(keys), keys.sum() * np.array([0.5, 0.75]))
        half, quarter = len(put) // 2, len(put) // 4
        return float(rest * 4 * max(at[end] - at[begin], put[half + quarter] - put[half]))

    def _start(self, start_seconds: float) -> None:
        world = self._world
        plans = world.plans if self._fleet.shards else world.plans * self._fleet.members
        self._members = [Member(world, plan, position, start_seconds) for position, plan in enumerate(plans)]

    # ------------------------------------------------------------------------------------------- trouble

    def _look_for_trouble(self) -> None:
        for happen, at in self._due.items():
            if at is not None and len(self._world.put) >= at * self._played:
                self._due[happen] = None
                happen()

    def _lose(self) -> None:
        self._world.coordinator.is_up = False
        if self._trouble.back_after_seconds < float("inf"):
            self._world.env.process(self._bring_back())

    def _bring_back(self) -> Steps:
        yield self._world.env.timeout(self._trouble.back_after_seconds)
        self._world.desk.forget()
        self._world.coordinator.is_up = True
        for plan in self._world.plans:
            plan.leases.clear()

    def _restart(self) -> None:
        killed = self._members
        self._start(self._trouble.start_seconds)
        for member in killed:
            member.die()


def _most_per_second(begins: np.ndarray) -> float:
    """The most of `begins` within any second."""
    return float((np.searchsorted(begins, begins + 1.0) - np.arange(len(begins))).max())
