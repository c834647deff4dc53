"""What loading really cost, of one kind or of a whole cache."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from preheat._guard.columns import column_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MARGIN = (5, 4)
"""A reservation is this much above the worst seen, as a fraction: numerator, denominator."""

REMEMBERED = 64
"""Runs of loads of a kind whose worst item counts: a single outlier must not slow down the rest of the run."""

PEAK_RATIO = 2
"""How many times its size a load is taken to hold at its peak, until it has been seen."""

MOST_PEAK_RATIO = 16
LEAST_MEASURED_BYTES = 256 * 1024
"""Growth of the process around a load of less than this is mostly noise."""

PER_MILLE = 1000


class Window:
    """The newest numbers of a kind, in a place made before the run.

    Like the outcomes of `_execution`: an object made between the values that are loaded would pin the memory around
    it when they are dropped.
    """

    __slots__ = ("_added", "_largest", "_numbers")

    def __init__(self) -> None:
        self._numbers = array("q", bytes(8 * REMEMBERED))
        self._added = self._largest = 0

    def __bool__(self) -> bool:
        return self._added > 0

    def add(self, number: int) -> None:
        """`number`, not negative, takes the place of the oldest."""
        place = self._added % REMEMBERED
        oldest, self._numbers[place] = self._numbers[place], min(number, 2**62)
        self._added += 1
        if self._numbers[place] >= self._largest:
            self._largest = self._numbers[place]
        elif oldest == self._largest:
            self._largest = max(self._numbers)

    def largest(self) -> int:
        """The largest of them; 0 if there is none."""
        return self._largest

    def middle(self) -> int:
        """The one in the middle; there has to be one."""
        known = sorted(self._numbers[: min(self._added, REMEMBERED)])
        return known[len(known) // 2]


class Lesson(NamedTuple):
    """What a run of loads of one kind has shown.

    Attributes:
        items: How many there were.
        accounted_bytes: What they weigh together.
        largest_bytes: What the largest of them does.
        estimated_bytes: What was expected of those of which something was.
        compared_bytes: What these weigh together.
        worst_per_mille: The largest size in proportion to what was expected; 0 if nothing was.
        peak_bytes: What the process grew by meanwhile; 0 if that is not known.
    """

    items: int
    accounted_bytes: int
    largest_bytes: int
    estimated_bytes: int
    compared_bytes: int
    worst_per_mille: int
    peak_bytes: int


def lesson_of(estimated: Sequence[int], accounted: Sequence[int], peak_bytes: int) -> Lesson:
    """What items estimated at so many bytes, 0 where nothing was known, teach by weighing so many; one at least."""
    guesses, sizes = column_of(estimated), column_of(accounted)
    if guesses is not None and sizes is not None:
        return _lesson_of_columns(guesses, sizes, peak_bytes)
    guessed = [(guess, real) for guess, real in zip(estimated, accounted, strict=True) if guess]
    largest_ratio = max((real / guess for guess, real in guessed), default=None)
    return Lesson(
        len(accounted),
        sum(accounted),
        max(accounted),
        sum(estimated),
        sum(real for _, real in guessed),
        _per_mille(largest_ratio),
        peak_bytes,
    )


def _lesson_of_columns(estimated: NDArray[np.int64], accounted: NDArray[np.int64], peak_bytes: int) -> Lesson:
    items, accounted_bytes, largest_bytes = len(accounted), int(accounted.sum()), int(accounted.max())
    if not estimated.all():
        accounted, estimated = accounted[estimated > 0], estimated[estimated > 0]
    largest_ratio = float((accounted / estimated).max()) if len(estimated) else None
    sums = int(estimated.sum()), int(accounted.sum())
    return Lesson(items, accounted_bytes, largest_bytes, *sums, _per_mille(largest_ratio), peak_bytes)


def _per_mille(largest_ratio: float | None) -> int:
    # one more than the floor, so that it covers the size whatever rounding did
    return int(largest_ratio * PER_MILLE) + 1 if largest_ratio is not None else 0


class Experience:
    """The lessons so far, and what follows from them."""

    __slots__ = (
        "_peaks",
        "_ratios",
        "_sizes",
        "_usual_ratios",
        "_usual_sizes",
        "accounted_bytes",
        "compared_bytes",
        "estimated_bytes",
        "items",
        "peak_per_mille",
        "refused",
    )

    def __init__(self) -> None:
        self.items = self.refused = self.peak_per_mille = 0
        self.estimated_bytes = self.compared_bytes = self.accounted_bytes = 0
        self._ratios, self._sizes, self._peaks = Window(), Window(), Window()
        self._usual_ratios, self._usual_sizes = Window(), Window()

    def learn(self, lesson: Lesson) -> None:
        """Take a lesson."""
        self.items += lesson.items
        self.estimated_bytes += lesson.estimated_bytes
        self.compared_bytes += lesson.compared_bytes
        self.accounted_bytes += lesson.accounted_bytes
        self._sizes.add(lesson.largest_bytes)
        self._usual_sizes.add(lesson.accounted_bytes // lesson.items)
        if lesson.estimated_bytes:
            self._ratios.add(lesson.worst_per_mille)
            self._usual_ratios.add(lesson.compared_bytes * PER_MILLE // lesson.estimated_bytes)
        if lesson.peak_bytes and lesson.accounted_bytes >= LEAST_MEASURED_BYTES:
            ratio = lesson.peak_bytes * PER_MILLE // lesson.accounted_bytes
            self._peaks.add(min(ratio, MOST_PEAK_RATIO * PER_MILLE))
            # the middle one, since a first load often makes more than its value: a model, a connection
            self.peak_per_mille = self._peaks.middle()

    @property
    def worst_per_mille(self) -> int:
        """The largest size in proportion to what was expected, at least 1000."""
        return max(PER_MILLE, self._ratios.largest())

    @property
    def worst_size_bytes(self) -> int:
        """The largest size."""
        return self._sizes.largest()

    def usually(self, size_bytes: int) -> int:
        """What an item estimated at `size_bytes` would weigh if it were like the others, giants apart."""
        if not size_bytes:
            return self._usual_sizes.middle() if self._usual_sizes else 0
        return size_bytes * (self._usual_ratios.middle() if self._usual_ratios else PER_MILLE) // PER_MILLE

    def peak_of(self, reserved_bytes: int) -> int:
        """What loads that may weigh `reserved_bytes` hold while they are made."""
        peak = self.peak_per_mille or PEAK_RATIO * PER_MILLE
        return reserved_bytes * peak // PER_MILLE if peak > PER_MILLE else reserved_bytes
