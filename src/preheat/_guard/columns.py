"""Sizes by the hundred: read as they lie in memory, since making a number of each takes longer than all else."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONG = 100
"""From so many numbers on, that is faster than a loop."""

LONGEST = 2**14
"""Of more numbers, the sum might be beyond 64 bits."""


def column_of(numbers: Sequence[int]) -> NDArray[np.int64] | None:
    """`numbers` without a copy, if they are an array of 64-bit integers for which that is worth while."""
    if isinstance(numbers, array) and numbers.typecode == "q" and LONG <= len(numbers) <= LONGEST:
        return np.frombuffer(numbers, np.int64)
    return None


def total_of(numbers: Sequence[int]) -> int:
    """The sum of `numbers`."""
    column = column_of(numbers)
    return sum(numbers) if column is None else int(column.sum())


def count_zeros(numbers: Sequence[int]) -> int:
    """How many of `numbers` are 0."""
    column = column_of(numbers)
    return numbers.count(0) if column is None else len(column) - int(np.count_nonzero(column))
