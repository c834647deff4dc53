"""One replica of a simulation, from its start to its end."""

from __future__ import annotations

from contextlib import suppress

import simpy
from lane import Lane
from runs import Runs
from together import Together
from world import Plan, Steps, World

from preheat._fleet import MOST_BEATS_PER_SECOND, beat_seconds, start_delay

START_SPREAD_SECONDS = 0.05  # between replicas that are started together


class Member:
    """One replica of those that go through `plan`."""

    def __init__(self, world: World, plan: Plan, position: int, start_seconds: float) -> None:
        self._env, self._fleet, self._rng = world.env, world.fleet, world.rng
        self._together = Together(world, plan, position)
        self._runs = Runs(world.env, len(plan.keys), self._fleet.batches)
        self._parts: list[simpy.Process] = []
        self.life = self._start(self._live(start_seconds))

    def die(self) -> None:
        """Be killed: nothing is left in order."""
        self._together.is_dead = True
        for part in self._parts:
            if part.is_alive and part is not self._env.active_process:
                part.interrupt()

    def _start(self, steps: Steps) -> simpy.Process:
        part = self._env.process(self._until_killed(steps))
        self._parts.append(part)
        return part

    def _until_killed(self, steps: Steps) -> Steps:
        with suppress(simpy.Interrupt):
            yield from steps

    def _live(self, start_seconds: float) -> Steps:
        yield self._env.timeout(start_seconds + self._rng.uniform(0.0, START_SPREAD_SECONDS))
        yield self._env.timeout(start_delay(self._together.replicas / MOST_BEATS_PER_SECOND, self._rng))
        yield from self._together.book(0)
        self._start(self._beat())
        yield self._env.timeout(start_delay(self._fleet.jitter_seconds, self._rng))
        first = self._start(self._lane())
        yield self._runs.are_known
        others = [self._start(self._lane()) for _ in range(self._fleet.batches - 1)]
        yield self._env.all_of([first, *others])
        self._together.leave()

    def _lane(self) -> Steps:
        return Lane(self._together, self._runs).go()

    def _beat(self) -> Steps:
        while True:
            yield self._env.timeout(beat_seconds(self._together.replicas) * self._rng.uniform(0.8, 1.2))
            if self._together.is_dead:
                return
            self._together.beat()
