"""What the replicas of a simulation share: servers that do one thing after another, and the keys of a plan."""

from __future__ import annotations

from typing import Protocol

import simpy

from preheat._fleet import LEASE_SECONDS


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
