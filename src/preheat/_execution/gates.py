"""The seam that origin protection is put into: when the origin behind a cache lets loads start.

The machine asks the gate of a cache before it starts a run of loads, wakes when the gate says that it opens, tells it
how every run ended, and asks what is to become of what failed.  Several caches may share one gate.  A cache without
a gate is always open, and what failed there is tried again at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from preheat._model import ItemResult, OriginRecord


class Gate(Protocol):
    """Decides purely: every call carries its instant."""

    def opens_at(self, at: float) -> float:
        """When the next load may start: `at` or earlier means now; infinity means when something in flight ends.

        Asked only while something wants to start.
        """
        ...

    def admit(self, at: float, size_bytes: Sequence[int], at_once: int = 1) -> int:
        """How many of these loads, one at least, may start as one run, one after another; they start now.

        Asked only while the gate is open; `size_bytes` is what is expected of each, and `at_once` of them are one
        call of their loader.
        """
        ...

    def room(self, at: float, held: int) -> int:
        """How many loads at a time a shared run may have, of which `held` are under way already.

        0 while each load is to be asked for.
        """
        ...

    def share(self, items: int, more: int) -> None:
        """A shared run of `items` starts now, for which there may be so many more loads at a time, or fewer."""
        ...

    def loaded(self, at: float, load_seconds: float, items: int, fewer: int = 1) -> None:
        """A run of `items` has ended, and all were loaded: `fewer` are under way.

        Each took `load_seconds`: one of a batch as long as the call for all of it.
        """
        ...

    def ended(self, at: float, load_seconds: float, results: Sequence[ItemResult | None], fewer: int = 1) -> None:
        """A run, each of whose loads took `load_seconds`, has ended; None stands for one that was not begun."""
        ...

    def note_live(self, at: float, seconds: float, misses: int) -> None:
        """So many misses of the application took `seconds` altogether."""
        ...

    def retry_at(self, at: float, tries: int) -> float | None:
        """When an item that has failed `tries` times may be tried again; infinity: in the later pass; None: never."""
        ...

    def put_off(self, items: int, *, were_refused: bool = False) -> None:
        """So many items wait for the later pass; `were_refused` if the gate did not open for them."""
        ...

    def gives_up_at(self, at: float) -> float:
        """When nothing is to wait for it any longer, unless something changes: it is put off, or ends."""
        ...

    def begin_later_pass(self, at: float, patience_seconds: float) -> None:
        """What was put off is tried again; what is not let start for `patience_seconds` will be given up."""
        ...

    def record(self) -> OriginRecord:
        """What has become of its origin so far."""
        ...


class Gates:
    """The gates of a run.

    Args:
        by_cache: Those of the caches that have one.
    """

    def __init__(self, by_cache: Mapping[str, Gate]) -> None:
        self._by_cache = by_cache
        self._caches: dict[int, tuple[Gate, list[str]]] = {}
        for cache, gate in by_cache.items():
            self._caches.setdefault(id(gate), (gate, []))[1].append(cache)

    def __getitem__(self, cache: str) -> Gate | None:
        return self._by_cache.get(cache)

    def all(self) -> list[tuple[Gate, list[str]]]:
        """Each gate once, with its caches."""
        return list(self._caches.values())

    def is_open(self, cache: str, at: float) -> bool:
        """Whether a load of `cache` may start now."""
        gate = self._by_cache.get(cache)
        return gate is None or gate.opens_at(at) <= at
