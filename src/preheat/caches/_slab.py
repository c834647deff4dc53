"""Rows of numbers, one behind the other, in one private mapping that is reserved at once and filled from its start.

The system gives memory to a page when it is first written to, so a slab grows by pages, is never copied to grow, and
costs what is in it.  Rows stay dense: the last one fills the gap that another one leaves.  So what is free is all at
the end, and is given back page by page once it is much.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FREE_RATIO = 0.25  # of the rows that were in use, and
FREE_BYTES = 2**20  # of them at least: what is kept in reserve before it is given back
_DONT_NEED: int | None = getattr(mmap, "MADV_DONTNEED", None)


class Slab:
    """Rows of equally many numbers of one dtype.  Not thread-safe.

    Args:
        size_bytes: What it may grow to; so much address space is reserved.
        dtype: Of the numbers.

    Attributes:
        rows: The rows that there is room for, (most, width); those from `len(self)` on are empty.

    Raises:
        OSError, OverflowError: The system refuses that.
    """

    def __init__(self, size_bytes: int, dtype: np.dtype[Any]) -> None:
        self._size_bytes, self._dtype = size_bytes, dtype
        self._mapping = _reserve(size_bytes)
        self._length = self._touched = 0
        self.clear(0)

    def clear(self, width: int) -> None:
        """Drop all rows, give their memory back, and have rows of `width` numbers from now on."""
        if self._touched:
            self._length = 0
            self._give_back()
        self._row_bytes = width * self._dtype.itemsize
        most = self._size_bytes // self._row_bytes if width else 0
        self.rows: NDArray[Any] = np.frombuffer(self._mapping, self._dtype, most * width).reshape(most, width)

    def __len__(self) -> int:
        return self._length

    @property
    def touched_bytes(self) -> int:
        """What the system may have given memory for."""
        return self._touched * self._row_bytes

    def append(self, row: Any) -> None:
        """Add a row at the end."""
        self.rows[self._length] = row
        self._length += 1
        self._touched = max(self._touched, self._length)

    def remove(self, at: int) -> None:
        """Take out row `at`; the last one is there from now on."""
        self._length -= 1
        if at < self._length:
            self.rows[at] = self.rows[self._length]
        free = self._touched - self._length
        if free > FREE_RATIO * self._touched and free * self._row_bytes > FREE_BYTES:
            self._give_back()

    def _give_back(self) -> None:
        if _DONT_NEED is not None:
            start = -(-self._length * self._row_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
            if start < self.touched_bytes:
                self._mapping.madvise(_DONT_NEED, start, self.touched_bytes - start)
        self._touched = self._length


def _reserve(size_bytes: int) -> mmap.mmap:
    flags = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)
    # private: the default is shared with what this process forks
    return mmap.mmap(-1, max(1, size_bytes), **({"flags": flags} if flags else {}))
