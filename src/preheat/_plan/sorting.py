"""Sorting whole numbers: numpy sorts 16 bits in linear time, so wider ones are sorted 16 bits after 16 [1].

[1] Knuth, "The Art of Computer Programming" 3, 5.2.5: sorting by distribution, the least significant digit first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def sorting_order(numbers: NDArray[np.integer]) -> NDArray[np.int64]:
    """The places of `numbers` (n,), none negative, from the lowest to the highest; equal ones stay in order."""
    highest = int(numbers.max(initial=0))
    if highest < 2**32:
        numbers = numbers.astype(np.uint32)
    order = np.argsort(numbers.astype(np.uint16), kind="stable")
    for done in range(16, highest.bit_length(), 16):
        order = order[np.argsort((numbers >> done).astype(np.uint16)[order], kind="stable")]
    return order


def distinct(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """`numbers` in ascending order, each once."""
    numbers = np.sort(numbers)
    return numbers[np.append(numbers[1:] != numbers[:-1], True)] if len(numbers) else numbers
