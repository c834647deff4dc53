"""One of the loaders of a replica in a simulation: run after run, batch after batch, as `preheat._joint` does."""

from __future__ import annotations

from collections.abc import Generator

import simpy
from model import BATCH
from runs import Runs
from together import Together
from world import Steps

from preheat._fleet import PATIENCE_SECONDS, looking_seconds
from preheat._joint import POLL_SECONDS

CACHE_WAIT_SECONDS, RETRY_SECONDS = 0.5, 0.1  # for an answer of the cache's server, and between two attempts at a put


class Lane:
    """What one loader does."""

    def __init__(self, together: Together, runs: Runs) -> None:
        self._together, self._runs, self._world = together, runs, together.world
        self._env, self._fleet, self._plan = together.env, together.fleet, together.plan
        self._shares = not (self._fleet.shards or self._world.trouble.uncoordinated)
        self._loaded, self._seconds = 0, 0.0  # of this run

    def go(self) -> Steps:
        """Go through what the replica hands out."""
        while run := self._runs.next():
            self._loaded, self._seconds = 0, 0.0
            may_pass = self._shares and self._plan.is_done(run.stop)
            if not may_pass or not (yield from self._pass(len(run))):
                for start in range(run.start, run.stop, BATCH):
                    yield from self._batch(self._plan.keys[start : min(start + BATCH, run.stop)])
            self._runs.end(len(run), self._loaded, self._seconds)

    def _pass(self, keys: int) -> Generator[simpy.Event, None, bool]:
        """Look up, batch by batch, so many keys that are all there: one event for all, for there are very many."""
        costs, batches = self._fleet.costs, -(-keys // BATCH)
        work = batches * costs.look + keys * costs.look_key
        is_answered = yield from self._together.ask(self._world.cache, work, CACHE_WAIT_SECONDS, batches)
        if is_answered:
            self._world.note_seen(keys)
        return is_answered

    def _batch(self, keys: list[str]) -> Steps:
        if self._world.trouble.uncoordinated:
            yield from self._load(keys)
        elif self._fleet.shards:
            yield from self._load_in_turns(keys)
        else:
            yield from self._go_through(keys)
        self._world.note_seen(len(keys))

    def _go_through(self, left: list[str]) -> Steps:
        """Load what nobody else does until everything is there."""
        give_up_at = self._env.now + PATIENCE_SECONDS
        while left := (yield from self._look(left)):
            mine = yield from self._together.take(left)
            if mine:
                yield from self._load_in_turns(mine)
                loaded = set(mine)
                left = [key for key in left if key not in loaded]
                give_up_at = self._env.now + PATIENCE_SECONDS
            elif self._env.now > give_up_at:
                if not self._together.give_up_on(left):
                    break
                give_up_at = self._env.now + PATIENCE_SECONDS
            else:
                yield from self._wait_to_look()
        yield from self._load_in_turns(left)

    def _look(self, left: list[str]) -> Generator[simpy.Event, None, list[str]]:
        """Those of `left` that are not there."""
        if not left:
            return []
        costs, missing = self._fleet.costs, sum(key in self._plan.left for key in left)
        each = costs.look_key + (costs.mixed_key if 0 < missing < len(left) else 0.0)
        if not (yield from self._together.ask(self._world.cache, costs.look + len(left) * each, CACHE_WAIT_SECONDS)):
            return left
        return [key for key in left if key in self._plan.left]

    def _wait_to_look(self) -> Steps:
        together = self._together
        together.waiting += 1
        least = looking_seconds(together.replicas, together.waiting)
        yield self._env.timeout(max(self._world.rng.uniform(*POLL_SECONDS), least))
        together.waiting -= 1

    def _load_in_turns(self, keys: list[str]) -> Steps:
        size = self._together.at_once
        for start in range(0, len(keys), size):
            few = keys[start : start + size]
            yield from self._together.wait_for_turn(len(few))
            yield from self._load(few)

    def _load(self, keys: list[str]) -> Steps:
        """Load those of `keys` that are not there, and put them."""
        trouble, begun = self._world.trouble, self._env.now
        absent = [key for key in keys if key in self._plan.left or trouble.uncoordinated]
        if absent:
            queued = self._world.fetch(len(absent))
            yield self._env.timeout(queued + self._fleet.latency_seconds * trouble.slow_origin)
        yield from self._put(absent)
        self._loaded += len(absent)
        self._seconds += self._env.now - begun
        self._world.note_put(self._plan, absent)

    def _put(self, keys: list[str]) -> Steps:
        costs = self._fleet.costs
        work = costs.put + len(keys) * costs.put_key
        yield self._env.timeout(2 * costs.round_trip + self._world.send(len(keys)))
        while not (yield from self._together.ask(self._world.cache, work, CACHE_WAIT_SECONDS)):
            yield self._env.timeout(RETRY_SECONDS)
