"""Objects as long as they live, to be gone through while other threads add some and let go of others.

A `weakref.WeakSet` can't be: without the interpreter's lock an object that dies elsewhere, just as somebody begins to
go through the set, ends that with an error.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Living(Generic[T]):
    """What was added and is alive, in no order, each once; keeps nothing alive but what is just being looked at.

    Thread-safe without a lock, so that it may be used in the midst of a fork: each step is one call of C on a set.
    """

    __slots__ = ("_references",)

    def __init__(self) -> None:
        self._references: set[weakref.ref[T]] = set()

    def add(self, one: T) -> None:
        """From now on until it dies, `one` is among them."""
        self._references.add(weakref.ref(one, self._references.discard))

    def __iter__(self) -> Iterator[T]:
        """Those that are there now; of what comes or goes meanwhile some may be seen."""
        for reference in list(self._references):
            one = reference()
            if one is not None:
                yield one
