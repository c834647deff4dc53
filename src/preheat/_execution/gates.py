"""The seam that origin protection is put into: when the origin behind a cache lets loads start.

The machine asks the gate of a cache before it starts a run of loads, wakes when the gate says that it opens, and tells
it how every run ended.  Several caches may share one gate.  A cache without a gate is always open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from preheat._model import ItemResult


class Gate(Protocol):
    """Decides purely: every call carries its instant."""

    def opens_at(self, at: float) -> float:
        """When the next load may start: `at` or earlier means now; infinity means when something in flight ends."""
        ...

    def admit(self, at: float, size_bytes: Sequence[int]) -> int:
        """How many of these loads, one at least, may start as one run, one after another; they start now.

        Asked only while the gate is open; `size_bytes` is what is expected of each.
        """
        ...

    def ended(self, at: float, seconds: float, results: Sequence[ItemResult | None]) -> None:
        """A run that was admitted has ended after `seconds`; None stands for a load that was not begun."""
        ...

    def retry_at(self, at: float, item: int, result: ItemResult) -> float | None:
        """When the failed `item` may be tried again at the earliest; None if never: then it ends as `result`."""
        ...
