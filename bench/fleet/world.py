"""What the replicas of a simulation share: time, servers that do one thing after another, and the keys of plans."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

import simpy
from desk import Desk
from model import Fleet

from preheat._fleet import LEASE_SECONDS

Steps = Generator[simpy.Event, None, None]


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


class Holder(Protocol):
    """Who leases keys."""

    is_dead: bool


class Server:
    """Does one thing after another."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env, self._free_at, self.busy_seconds, self.is_up = env, 0.0, 0.0, True

    def take(self, seconds: float) -> float:
        """How long from now until something that takes so long is done."""
        self._free_at = max(self._free_at, self._env.now) + seconds
        self.busy_seconds += seconds
        return self._free_at - self._env.now


class Plan:
    """The keys that some replicas go through, which of them are not there yet, and who has leased which."""

    def __init__(self, name: str, keys: int) -> None:
        self.keys = [f"{name} {n}" for n in range(keys)]
        self.left = set(self.keys)
        self._done = 0  # so many of the first are there
        self.leases: dict[str, tuple[Holder, float]] = {}

    def put(self, keys: list[str]) -> int:
        """They are there: how many of them were not before."""
        new = self.left.intersection(keys)
        self.left -= new
        while self._done < len(self.keys) and self.keys[self._done] not in self.left:
            self._done += 1
        return len(new)

    def is_done(self, position: int) -> bool:
        """Whether all keys before `position` are there."""
        return position <= self._done

    def is_free(self, key: str, now: float) -> bool:
        """Whether nobody has leased `key`, or whoever did was killed long enough ago."""
        holder, since = self.leases.get(key, (None, 0.0))
        return holder is None or (holder.is_dead and now - since > LEASE_SECONDS)

    def lease(self, keys: list[str], holder: Holder, now: float) -> list[str]:
        """Those of `keys` that `holder` gets."""
        free = [key for key in keys if self.is_free(key, now)]
        self.leases.update((key, (holder, now)) for key in free)
        return free


class World:
    """Everything that replicas meet, and what they did to it.

    Attributes:
        fetched: When so many loads began.
        put: When each key was first there.
        seen: When a replica was through with so many keys.
        unanswered: How often a server did not answer in time.
        on_put: Called when keys have come to be there.
    """

    def __init__(self, fleet: Fleet, trouble: Trouble, plans: list[Plan], seed: int) -> None:
        self.fleet, self.trouble, self.plans, self.rng = fleet, trouble, plans, random.Random(seed)
        self.env = simpy.Environment()
        self.coordinator, self.cache, self.desk = Server(self.env), Server(self.env), Desk()
        self._origin, self._wire = Server(self.env), Server(self.env)
        self.fetched: list[tuple[float, int]] = []
        self.put: list[float] = []
        self.seen: list[tuple[float, int]] = []
        self.unanswered = 0
        self.on_put: Callable[[], None] = lambda: None

    def fetch(self, keys: int) -> float:
        """Ask the origin for so many keys from now on: how long they wait there for others."""
        self.fetched.append((self.env.now, keys))
        return self._origin.take(keys * self.trouble.slow_origin / self.fleet.origin_capacity)

    def send(self, keys: int) -> float:
        """Send the values of so many keys from now on: how long it takes until they have reached their server."""
        return self._wire.take(keys * self.fleet.value_bytes / self.fleet.server_bytes)

    def note_seen(self, keys: int) -> None:
        """A replica is through with so many keys."""
        self.seen.append((self.env.now, keys))

    def note_put(self, plan: Plan, keys: list[str]) -> None:
        """They are there."""
        self.put += [self.env.now] * plan.put(keys)
        self.on_put()
