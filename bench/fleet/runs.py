"""What a replica of a simulation hands out to its loaders, as `preheat._execution` does: run after run."""

from __future__ import annotations

import simpy
from model import BATCH

from preheat._execution.lengths import RunLengths
from preheat._guard import KNOWN_AFTER
from preheat._run import RUN_SECONDS

CACHE = "pages"


class Runs:
    """The runs of one plan.

    Attributes:
        are_known: Happens once sizes are known, or everything is handed out: loads go one by one until then.
    """

    def __init__(self, env: simpy.Environment, keys: int, loaders: int) -> None:
        self._keys, self._loaders = keys, loaders
        self._lengths = RunLengths(BATCH, {CACHE: RUN_SECONDS}, {CACHE}, shared={CACHE})
        self._next = self._loaded = 0
        self.are_known = env.event()

    def next(self) -> range:
        """The positions that a loader goes through next; none once all are handed out."""
        left = self._keys - self._next
        if left <= 0:
            self._know()
            return range(0)
        most = self._lengths.most if self.are_known.triggered else self._lengths.most_unknown
        begin, self._next = self._next, min(self._keys, self._next + most(CACHE, -(-left // self._loaders)))
        return range(begin, self._next)

    def end(self, keys: int, loaded: int, seconds: float) -> None:
        """A run of so many keys has ended; so many were loaded, which took so long."""
        self._lengths.learn(CACHE, keys, seconds, were_there=not loaded)
        self._loaded += loaded
        if self._loaded >= KNOWN_AFTER:
            self._know()

    def _know(self) -> None:
        if not self.are_known.triggered:
            self.are_known.succeed()
