"""One of the loaders of a replica in a simulation: run after run, batch after batch, as `preheat._joint` does."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import simpy
from model import BATCH

from preheat._fleet import PATIENCE_SECONDS, looking_seconds
from preheat._joint import POLL_SECONDS

if TYPE_CHECKING:
    from member import Member

Steps = Generator[simpy.Event, None, None]

CACHE_WAIT_SECONDS, RETRY_SECONDS = 0.5, 0.1  # for an answer of the cache's server, and between two attempts at a put


class Lane:
    """What one loader does."""

    def __init__(self, member: Member) -> None:
        self._member, self._env, self._fleet, self._play = member, member.env, member.fleet, member.play
        self._plan = member.plan
        self._loaded, self._seconds = 0, 0.0  # of this run

    def go(self) -> Steps:
        """Go through what the replica hands out."""
        while run := self._member.next_run():
            self._loaded, self._seconds = 0, 0.0
            may_pass = self._plan.is_done(run.stop) and not (self._fleet.shards or self._play.trouble.uncoordinated)
            if not may_pass or not (yield from self._pass(len(run))):
                for start in range(run.start, run.stop, BATCH):
                    yield from self._batch(self._plan.keys[start : min(start + BATCH, run.stop)])
            self._member.note_run(len(run), self._loaded, self._seconds)

    def _pass(self, keys: int) -> Generator[simpy.Event, None, bool]:
        """Look up, batch by batch, so many keys that are all there: one event for all, for there are very many."""
        costs, batches = self._fleet.costs, -(-keys // BATCH)
        work = batches * costs.look + keys * costs.look_key
        if not (yield from self._member.ask(self._play.server, work, CACHE_WAIT_SECONDS)):
            return False
        yield self._env.timeout((batches - 1) * costs.round_trip)
        self._play.note_seen(keys)
        return True

    def _batch(self, keys: list[str]) -> Steps:
        if self._play.trouble.uncoordinated:
            yield from self._load(keys)
        elif self._fleet.shards:
            yield from self._load_in_turns(keys)
        else:
            yield from self._go_through(keys)
        self._play.note_seen(len(keys))

    def _go_through(self, left: list[str]) -> Steps:
        """Load what nobody else does until everything is there."""
        give_up_at = self._env.now + PATIENCE_SECONDS
        while left := (yield from self._look(left)):
            mine = yield from self._member.take(left)
            if mine:
                yield from self._load_in_turns(mine)
                loaded = set(mine)
                left = [key for key in left if key not in loaded]
                give_up_at = self._env.now + PATIENCE_SECONDS
            elif self._env.now > give_up_at:
                if not self._member.give_up_on(left):
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
        if not (yield from self._member.ask(self._play.server, costs.look + len(left) * each, CACHE_WAIT_SECONDS)):
            return left
        return [key for key in left if key in self._plan.left]

    def _wait_to_look(self) -> Steps:
        member = self._member
        member.waiting += 1
        least = looking_seconds(member.replicas, member.waiting)
        yield self._env.timeout(max(self._play.rng.uniform(*POLL_SECONDS), least))
        member.waiting -= 1

    def _load_in_turns(self, keys: list[str]) -> Steps:
        size = self._member.at_once
        for start in range(0, len(keys), size):
            few = keys[start : start + size]
            yield from self._member.wait_for_turn(len(few))
            yield from self._load(few)

    def _load(self, keys: list[str]) -> Steps:
        """Load those of `keys` that are not there, and put them."""
        trouble, begun = self._play.trouble, self._env.now
        absent = [key for key in keys if key in self._plan.left or trouble.uncoordinated]
        if absent:
            queued = self._play.fetch(len(absent))
            yield self._env.timeout(queued + self._fleet.latency_seconds * trouble.slow_origin)
        yield from self._put(absent)
        self._loaded += len(absent)
        self._seconds += self._env.now - begun
        self._play.note_put(self._plan, absent)

    def _put(self, keys: list[str]) -> Steps:
        costs = self._fleet.costs
        work = costs.put + len(keys) * costs.put_key
        yield self._env.timeout(2 * costs.round_trip + self._play.send(len(keys)))
        while not (yield from self._member.ask(self._play.server, work, CACHE_WAIT_SECONDS)):
            yield self._env.timeout(RETRY_SECONDS)
