"""Text held as a column: one block of UTF-8 and an array of offsets.

A million keys as Python strings cost seconds to make and 60 MB to hold.  Here they are two arrays, which are
saved, mapped and selected as arrays are; a row becomes a `str` when somebody looks at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TextColumn(Sequence[str]):
    """An immutable column of strings.

    `blob` is uint8 with the strings' UTF-8 end to end; `offsets` is int64 of shape (n + 1,), string `i` being
    `blob[offsets[i]:offsets[i + 1]]`.
    """

    __slots__ = ("blob", "offsets")

    def __init__(self, blob: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        self.blob = blob
        self.offsets = offsets

    @classmethod
    def of(cls, strings: Iterable[str]) -> TextColumn:
        """A column of `strings`.

        Raises:
            UnicodeEncodeError: A string holds a lone surrogate.
        """
        encoded = [s.encode() for s in strings]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets)

    @classmethod
    def concatenate(cls, columns: Sequence[TextColumn]) -> TextColumn:
        """The rows of `columns`, one after another."""
        if not columns:
            return cls.of(())
        shifts = np.cumsum([0] + [int(c.offsets[-1]) for c in columns])
        offsets = [c.offsets[1:] + shift for c, shift in zip(columns, shifts, strict=False)]
        return cls(
            np.concatenate([c.blob for c in columns]),
            np.concatenate([np.zeros(1, np.int64), *offsets]),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self.blob.nbytes + self.offsets.nbytes

    def lengths(self) -> NDArray[np.int64]:
        """The strings' lengths, in bytes of UTF-8: (n,)."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.integer]) -> TextColumn:
        """The column of the strings at `rows`, in that order."""
        starts, lengths = self.offsets[rows], self.lengths()[rows]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        source = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return TextColumn(self.blob[source], offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> TextColumn: ...
    def __getitem__(self, row: int | slice) -> str | TextColumn:
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        n = len(self)
        if not -n <= row < n:
            raise IndexError(f"row {row} of a column of {n}")
        row %= n
        return self.blob[self.offsets[row] : self.offsets[row + 1]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        data, ends = self.blob.tobytes(), self.offsets.tolist()
        return (data[a:b].decode() for a, b in pairwise(ends))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TextColumn):
            return NotImplemented
        return np.array_equal(self.offsets, other.offsets) and np.array_equal(self.blob, other.blob)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"TextColumn({len(self)} strings, {self.nbytes} bytes)"
