"""Python's garbage collector while a warm-up loads: neither starved nor triggered thousands of times.

A collection of the youngest generation is due after some hundreds of new containers, and each one that the objects
survive leads to the next older.  A warm-up makes objects that stay, by the hundred thousand: nearly all of that work
finds nothing.  So while loads run the first threshold is higher, and only that: it means the same in every version of
Python, the number of new containers, less those that went, between two collections.  Cycles that loaders leave
behind are still collected, at most `THRESHOLD` containers later.  What that number costs and spares is measured by
`bench/collector.py`.  A free-threaded interpreter collects seldom by itself, for it also waits until a quarter of all
objects are new; there the threshold changes little.

Not `gc.freeze`: it would make immortal the garbage that is there at that moment, it moves what the application is
still working on out of the collector's reach, and `gc.unfreeze` would undo what the application froze itself.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLD = 10_000


@contextmanager
def calm_collector() -> Iterator[None]:
    """While this lasts, the collector runs less often.

    The threshold found by the first that enters is put back when the last has left.  An application that sets
    another meanwhile keeps its own; one that has turned the collector off, or has a higher threshold, is left alone.
    From any thread; in a forked child the old threshold is put back at once.
    """
    calm = _calm
    calm.enter()
    try:
        yield
    finally:
        calm.leave()


class _Calm:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._found: int | None = None

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            found = gc.get_threshold()[0]
            if self._found is None and gc.isenabled() and 0 < found < THRESHOLD:
                self._found = found
                gc.set_threshold(THRESHOLD)

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._put_back()

    def part(self) -> None:
        """Put the threshold back, whoever is inside."""
        self._lock = threading.Lock()
        self._put_back()

    def _put_back(self) -> None:
        """Undo what `enter` did, unless somebody else has set a threshold since."""
        found, self._found = self._found, None
        if found is not None and gc.get_threshold()[0] == THRESHOLD:
            gc.set_threshold(found)


_calm = _Calm()


def _begin_anew() -> None:
    """In a forked child: others that were inside are gone, and may have held the lock."""
    global _calm
    before, _calm = _calm, _Calm()
    before.part()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
