"""What is put off: the items that could not be loaded when it was their turn, but may be after everything else.

They no longer belong to their phase, nor does what needs them, so neither holds it up.
"""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

from preheat._model import ItemResult, ItemStatus

NOT_LET_START = ItemResult(ItemStatus.SKIPPED, reason="not started: its origin failed nearly always, or asked for rest")


class Later:
    """The items that wait for the later pass."""

    def __init__(self) -> None:
        self.puts = 0
        self._waiting = array("q")
        self._failures: dict[int, ItemResult] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, items: NDArray[np.int64]) -> None:
        """`items` wait."""
        self._waiting.frombytes(items.tobytes())
        self.puts += 1

    def note_failure(self, item: int, result: ItemResult) -> None:
        """`item`, which waits, failed as `result` when it was tried last."""
        self._failures[item] = result

    def take(self) -> NDArray[np.int64]:
        """All that wait, ascending; they wait no longer."""
        items = np.unique(np.frombuffer(self._waiting, np.int64))
        self._waiting = array("q")
        return items

    def failures(self) -> dict[int, ItemResult]:
        """How those that were ever tried failed last."""
        return self._failures
