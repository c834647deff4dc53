"""What was evicted lately, remembered by a fingerprint each: the ghost queue of S3-FIFO in 8 bytes per cell.

A table with one entry per cell, as the paper proposes [1]: a newer entry overwrites the one it falls upon, and one
whose stamp is too old counts as absent, so nothing is ever searched or moved.  A fingerprint has 32 bits; a key that
shares one with something evicted lately is taken for it, which costs a little of the hit ratio and nothing else.

[1] Yang, Zhang, Qiu, Yue, Rashmi, *FIFO Queues are All You Need for Cache Eviction*, SOSP 2023.
"""

from __future__ import annotations

from array import array

CELLS_PER_ITEM = 2
FEWEST_CELLS = 64
_STAMPS = 2**16  # that a span is divided into
_HALF = 2**32 - 1


class Ghosts:
    """Fingerprints of what was added within the last `span_bytes` of additions."""

    __slots__ = ("_added_bytes", "_cells", "_mask", "_span_bytes")

    def __init__(self, span_bytes: int) -> None:
        self._span_bytes = max(1, span_bytes)
        self._added_bytes = 0
        self._cells = array("Q", bytes(8 * FEWEST_CELLS))
        self._mask = FEWEST_CELLS - 1

    def __len__(self) -> int:
        """The cells that there are, empty ones included."""
        return len(self._cells)

    def add(self, tag: int, size_bytes: int) -> None:
        """Remember `tag`, 64 bits, for as long as less than the span is added after it."""
        self._added_bytes += size_bytes
        mark = tag >> 32
        self._cells[mark & self._mask] = mark << 32 | self._now()

    def discard(self, tag: int) -> bool:
        """Forget `tag`; whether it was remembered."""
        mark = tag >> 32
        at = mark & self._mask
        cell = self._cells[at]
        if not cell or cell >> 32 != mark:
            return False
        self._cells[at] = 0
        return (self._now() - cell) & _HALF <= _STAMPS

    def make_room_for(self, items: int) -> None:
        """Have cells for as many as `items`; what is remembered stays."""
        if CELLS_PER_ITEM * items <= len(self._cells):
            return
        before, length = self._cells, 2 * len(self._cells)
        while length < CELLS_PER_ITEM * items:
            length *= 2
        self._cells, self._mask = array("Q", bytes(8 * length)), length - 1
        for cell in before:
            if cell:
                self._cells[cell >> 32 & self._mask] = cell

    def _now(self) -> int:
        # one at least, for a cell of mark 0 is not to look empty
        return (self._added_bytes * _STAMPS // self._span_bytes + 1) & _HALF
