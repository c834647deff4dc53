"""Text held as a column: one block of UTF-8 and an array of offsets.

A million keys as Python strings cost seconds to make and 60 MB to hold.  Here they are two arrays, which are
saved, mapped and selected as arrays are; a row becomes a `str` when somebody looks at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, overload

import numpy as np
import xxhash

if TYPE_CHECKING:
    from numpy.typing import NDArray

HASHED_AT_ONCE = 2**15
"""Rows whose words are mixed together: so many stay in the processor's cache."""

TAKEN_AT_ONCE = 2**16
BYTES_AT_ONCE = 2**20
"""Rows, and about how many bytes of theirs, that are looked up together: a byte takes eight of index meanwhile."""

LONG_BYTES = 128
"""Longer strings are hashed one by one, so that a few long ones don't make all rows wait."""


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
        texts = list(strings)
        blob = np.frombuffer("".join(texts).encode(), np.uint8)
        return cls(blob, _offsets(texts, len(blob)))

    @classmethod
    def concatenate(cls, columns: Sequence[TextColumn]) -> TextColumn:
        """The rows of `columns`, one after another."""
        columns = [column for column in columns if len(column)]
        if len(columns) <= 1:
            return columns[0] if columns else cls.of(())
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

    def hashes(self, codes: NDArray[np.integer]) -> NDArray[np.uint64]:
        """64 bits of each string together with its whole number in `codes` (n,): (n,).

        Equal pairs have equal hashes; unequal ones may too, above all if somebody wants them to.
        """
        found = np.empty(len(self), np.uint64)
        for start in range(0, len(self), HASHED_AT_ONCE):
            part = slice(start, min(start + HASHED_AT_ONCE, len(self)))
            found[part] = self._hash_rows(part.start, part.stop, codes[part].astype(np.uint64) * _SPREAD)
        return found

    def _hash_rows(self, start: int, stop: int, seeds: NDArray[np.uint64]) -> NDArray[np.uint64]:
        at = self.offsets[start : stop + 1] - self.offsets[start]
        lengths = np.diff(at)
        words = _words(self.blob[self.offsets[start] : self.offsets[stop]])
        found: NDArray[np.uint64] = (seeds + lengths.astype(np.uint64)) * _MIX
        places, shortest = at[:-1], int(lengths.min())
        for done in range(0, min(int(lengths.max()), LONG_BYTES), 8):
            if done + 8 <= shortest:
                found ^= words[places + done]
                found *= _MIX
                found ^= found >> _HALF
                continue
            rows = _rows_where(lengths > done)
            left = np.minimum(lengths[rows] - done, 8)
            mixed = (found[rows] ^ (words[places[rows] + done] & _FIRST_BYTES[left])) * _MIX
            found[rows] = mixed ^ (mixed >> _HALF)
        for row in np.flatnonzero(lengths > LONG_BYTES).tolist():
            text = self.blob[self.offsets[start + row] : self.offsets[start + row + 1]].tobytes()
            found[row] = xxhash.xxh3_64_intdigest(text, int(seeds[row]))
        return found

    def take(self, rows: NDArray[np.integer]) -> TextColumn:
        """The column of the strings at `rows`, in that order; rows that follow each other are shared, not copied."""
        n = len(rows)
        if n and rows[-1] - rows[0] == n - 1 and rows[0] >= 0 and bool((np.diff(rows) == 1).all()):
            return self._span(int(rows[0]), n)
        starts = self.offsets[rows]
        lengths = self.offsets[np.asarray(rows) + 1] - starts
        if n and lengths[0] and (lengths == lengths[0]).all():
            return self._take_alike(starts, int(lengths[0]))
        offsets = np.zeros(n + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        blob = np.empty(int(offsets[-1]), np.uint8)
        for part in spans(offsets):
            span = slice(int(offsets[part.start]), int(offsets[part.stop]))
            source = np.repeat(starts[part] - offsets[:-1][part], lengths[part])
            source += np.arange(span.start, span.stop)
            self.blob.take(source, out=blob[span], mode="clip")  # "raise" would write through a buffer
        return TextColumn(blob, offsets)

    def _span(self, first: int, rows: int) -> TextColumn:
        offsets = self.offsets[first : first + rows + 1]
        start, stop = int(offsets[0]), int(offsets[-1])
        return TextColumn(self.blob[start:stop], offsets - start if start else offsets)

    def _take_alike(self, starts: NDArray[np.int64], length: int) -> TextColumn:
        windows = np.lib.stride_tricks.sliding_window_view(self.blob, length)
        return TextColumn(windows[starts].ravel(), np.arange(len(starts) + 1) * length)

    def where(self, kept: NDArray[np.bool_]) -> TextColumn:
        """The column of the strings that are `kept` (n,): nothing of the others is left in it."""
        lengths = self.lengths()
        offsets = np.zeros(int(np.count_nonzero(kept)) + 1, np.int64)
        np.cumsum(lengths[kept], out=offsets[1:])
        return TextColumn(self.blob[: self.offsets[-1]][_by_byte(kept, lengths)], offsets)

    def replaced(self, rows: NDArray[np.int64], texts: TextColumn, length: int) -> TextColumn:
        """A column of `length` strings: at the ascending `rows` those of `texts`, else as here, or empty behind."""
        untouched = np.ones(length, np.bool_)
        untouched[rows] = False
        lengths = np.zeros(length, np.int64)
        lengths[: len(self)] = self.lengths()
        lengths[rows] = texts.lengths()
        offsets = np.zeros(length + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        is_old = _by_byte(untouched, lengths)
        blob = np.empty(len(is_old), np.uint8)
        blob[is_old] = self.where(untouched[: len(self)]).blob
        blob[~is_old] = texts.blob
        return TextColumn(blob, offsets)

    def holds(self, rows: NDArray[np.integer], texts: TextColumn) -> NDArray[np.bool_]:
        """For each of `rows`, whether the string there has the bytes of the same one of `texts`: (len(rows),)."""
        return self.same(rows, texts, np.arange(len(texts)))

    def same(self, rows: NDArray[np.integer], other: TextColumn, there: NDArray[np.integer]) -> NDArray[np.bool_]:
        """For each of `rows`, whether the string there has the bytes of that of `other` at the same one of `there`."""
        starts, others = self.offsets.take(rows), other.offsets.take(there)
        lengths = self.offsets.take(np.asarray(rows) + 1) - starts
        same: NDArray[np.bool_] = lengths == other.offsets.take(np.asarray(there) + 1) - others
        powers = np.frexp(lengths.astype(np.float32))[1]  # 1 << power - 1 is the largest one not above the length
        for power in np.flatnonzero(np.bincount(powers * same)[1:]).tolist():
            width, alike = 1 << power, _rows_where(same & (powers == power + 1))
            for shift in (0, lengths[alike] - width):  # the last bytes overlap the first ones
                mine = _bytes_at(self.blob, starts[alike] + shift, width)
                theirs = _bytes_at(other.blob, others[alike] + shift, width)
                same[alike] &= np.logical_and.reduce(list((mine == theirs).T))  # faster than along the short axis
        return same

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
        return self.strings(0, len(self))

    def strings(self, start: int, stop: int) -> Iterator[str]:
        """Those from `start` to `stop`, each made when it is asked for."""
        data = np.ascontiguousarray(self.blob).data
        ends = np.ascontiguousarray(self.offsets).data[start : stop + 1]
        return (str(data[a:b], "utf-8") for a, b in pairwise(ends))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TextColumn):
            return NotImplemented
        return np.array_equal(self.offsets, other.offsets) and np.array_equal(self.blob, other.blob)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"TextColumn({len(self)} strings, {self.nbytes} bytes)"


def is_storable(text: str) -> bool:
    """Whether a column can hold `text`: it has no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_SPREAD, _MIX, _HALF = np.uint64(0xD6E8FEB86659FD93), np.uint64(0x9E3779B97F4A7C15), np.uint64(32)
_FIRST_BYTES = np.array([2 ** (8 * n) - 1 for n in range(9)], np.uint64)


def spans(offsets: NDArray[np.int64]) -> list[slice]:
    """The rows of a column with these `offsets` in parts, none of much more than may be looked up together."""
    rows, size_bytes = len(offsets) - 1, int(offsets[-1])
    if rows <= TAKEN_AT_ONCE and size_bytes <= BYTES_AT_ONCE:
        return [slice(0, rows)]
    full = np.searchsorted(offsets[1:], np.arange(BYTES_AT_ONCE, size_bytes, BYTES_AT_ONCE), side="right")
    cuts = np.unique(np.concatenate([np.arange(0, rows, TAKEN_AT_ONCE), full, [rows]])).tolist()
    return [slice(*cut) for cut in pairwise(cuts)]


def _offsets(texts: Sequence[str], size_bytes: int) -> NDArray[np.int64]:
    """Where each of `texts`, of `size_bytes` together, begins in UTF-8, and where the last one ends: (n + 1,)."""
    offsets = np.zeros(len(texts) + 1, np.int64)
    parted = np.frombuffer("\0".join(texts).encode(), np.uint8)  # asking each for its length takes twice as long
    if texts and np.count_nonzero(parted) == size_bytes:  # no text holds what parts them
        offsets[1:-1] = np.flatnonzero(parted == 0) - np.arange(len(texts) - 1)
        offsets[-1] = size_bytes
    else:
        np.cumsum([len(text.encode()) for text in texts], out=offsets[1:])
    return offsets


def _by_byte(rows: NDArray[np.bool_], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """What `rows` says of each string, for each of its bytes.

    In parts, because `np.repeat` lets no other thread go on meanwhile: half a second for ten million rows.
    """
    ends = np.cumsum(lengths)
    spread = np.empty(int(ends[-1]) if len(ends) else 0, np.bool_)
    for start in range(0, len(rows), TAKEN_AT_ONCE):
        part = slice(start, start + TAKEN_AT_ONCE)
        first = int(ends[start]) - int(lengths[start])
        repeated = np.repeat(rows[part], lengths[part])
        spread[first : first + len(repeated)] = repeated
    return spread


def _rows_where(kept: NDArray[np.bool_]) -> NDArray[np.int64] | slice:
    """The rows that are `kept`; all of them as a slice, which copies nothing."""
    return slice(None) if kept.all() else np.flatnonzero(kept)


def _bytes_at(blob: NDArray[np.uint8], starts: NDArray[np.int64], width: int) -> NDArray[np.unsignedinteger]:
    """The `width` bytes, a power of two, from each of `starts` on, as whole numbers: (len(starts), 1 or more)."""
    windows = np.ndarray((len(blob) - width + 1,), np.dtype((np.void, width)), blob.data, strides=(1,))
    return windows[starts].view(f"u{min(width, 8)}").reshape(len(starts), -1)


def _words(blob: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The eight bytes from each byte of `blob` on, little end first: a view of a padded copy."""
    padded = np.zeros(len(blob) + 8, np.uint8)
    padded[: len(blob)] = blob
    return np.ndarray((len(blob) + 1,), "<u8", padded.data, strides=(1,))
