"""Where an embedding cache's vectors stand: rows of a slab, found by the digest of their text.

An entry is its row and about a hundred bytes of columns; there is no object per entry.  What is read is a copy, so
it stays what it is when its row is used again.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from preheat.caches._digests import Digests
from preheat.caches._slab import Slab

if TYPE_CHECKING:
    from numpy.typing import NDArray

Dtype = Literal["float32", "float16", "int8"]
DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in ("float32", "float16", "int8")}
COLUMN_BYTES = 136  # of an entry beside its numbers: digest, order, times, and its share of the tables
_LARGEST = 127  # of an int8, used on both sides
_STEPS = 2**11  # a scale has so many steps between powers of two: it times any int8 is exact in float32
_words = struct.Struct("=QQ")


class Vectors:
    """Vectors of one length by the hex of a 128-bit digest; all have the same version.  Not thread-safe.

    Attributes:
        version: What all of them have.
        width: Numbers of a vector; 0 as long as there has been none.

    Raises:
        OSError, OverflowError: So much address space can't be reserved.
    """

    def __init__(self, capacity_bytes: int, dtype: Dtype, version: str) -> None:
        self.dtype, self.version = DTYPES[dtype], version
        self._slab = Slab(capacity_bytes, self.dtype)
        self.clear()

    def clear(self) -> None:
        """Forget everything, the length of the vectors included."""
        self.width = 0
        self._slab.clear(0)
        self._digests = Digests()
        self._row_of, self._slot_of = array("i"), array("i")
        self._scales = array("f")  # by row, of int8

    def __len__(self) -> int:
        return len(self._digests)

    def entry_bytes(self, width: int) -> int:
        """What a vector of `width` numbers occupies with all that belongs to it."""
        return width * self.dtype.itemsize + (4 if self.dtype.kind == "i" else 0) + COLUMN_BYTES

    def rounded(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is read of `matrix`, (n, d), once it is stored; what has been rounded stays as it is.

        Raises:
            ValueError: The dtype has no such numbers: they are not finite, or too large for float16.
        """
        if self.dtype.kind == "f" and self.dtype.itemsize == 4:
            return matrix
        with np.errstate(over="ignore", invalid="ignore"):
            scales, numbers = self._stored(matrix)
            read = _read(numbers, scales)
        if not np.isfinite(read).all():
            raise ValueError(f"a vector has numbers that {self.dtype} has not; keep such vectors as float32")
        return read

    def find(self, key: str) -> int:
        """The slot of `key`; -1 if it has none, or is no digest."""
        try:
            words = _words.unpack(bytes.fromhex(key))
        except (ValueError, struct.error):
            return -1
        return self._digests.find(*words)

    def look(self, key: str, version: str) -> tuple[int, NDArray[np.float32] | None]:
        """The slot and a copy of the vector of `key`; -1 and None if it has none of this version."""
        slot = self.find(key) if version == self.version else -1
        return slot, None if slot < 0 else self.value_of(slot)

    def find_digest(self, digest: bytes) -> int:
        """The slot of a digest of 16 bytes; -1 if it has none."""
        return self._digests.find(*_words.unpack(digest))

    def find_many(self, digests: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) the slots of `digests`, (n, 2) words; -1 where there is none."""
        return self._digests.find_many(digests)

    def take(self, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, d) copies of the vectors in `slots`."""
        rows = np.frombuffer(self._row_of, np.int32)[slots]
        numbers = self._slab.rows.take(rows, axis=0)
        if self.dtype == np.float32:
            return numbers
        return _read(numbers, np.frombuffer(self._scales, np.float32)[rows] if self._scales else None)

    def put(self, slot: int, key: str, value: NDArray[np.float32], version: str) -> None:
        """Store a vector under a key that has none, in a slot that is empty."""
        if not self.width:
            self.width = len(value)
            self._slab.clear(self.width)
        while slot >= len(self._row_of):
            self._row_of.append(-1)
        self._digests.add(slot, *_words.unpack(bytes.fromhex(key)))
        self._row_of[slot] = len(self._slab)
        scales, numbers = self._stored(value[None])
        self._slab.append(numbers[0])
        self._slot_of.append(slot)
        if scales is not None:
            self._scales.append(float(scales[0]))

    def remove(self, slot: int) -> None:
        """Empty a slot; the last row moves into its place."""
        row, last = self._row_of[slot], self._slot_of.pop()
        self._digests.remove(slot)
        self._slab.remove(row)
        if last != slot:
            self._slot_of[row], self._row_of[last] = last, row
        if self._scales:
            scale = self._scales.pop()
            if last != slot:
                self._scales[row] = scale

    def keys(self) -> Iterable[str]:
        """All keys, in no order."""
        return [self.key_of(slot) for slot in self._slot_of]

    def key_of(self, slot: int) -> str:
        """The key in `slot`."""
        return hex_of(self._digests.digest_of(slot))

    def digest_of(self, slot: int) -> tuple[int, int]:
        """The two words of the digest in `slot`."""
        return self._digests.digest_of(slot)

    def value_of(self, slot: int) -> NDArray[np.float32]:
        """A copy of the vector in `slot`, read-only."""
        row = self._row_of[slot]
        numbers = self._slab.rows[row]
        if self.dtype == np.float32:
            vector: NDArray[np.float32] = numbers.copy()
        else:
            vector = numbers.astype(np.float32)
            if self._scales:
                vector *= np.float32(self._scales[row])
        vector.flags.writeable = False
        return vector

    def version_of(self, slot: int) -> str:
        """The version of all of them."""
        return self.version

    def tag_of(self, key: str) -> int:
        """The first word of the digest."""
        return _words.unpack(bytes.fromhex(key))[0]  # type: ignore[no-any-return]

    def _stored(self, matrix: NDArray[np.float32]) -> tuple[NDArray[np.float32] | None, NDArray[Any]]:
        """The scales, of int8, and the numbers that stand in the slab for `matrix`, (n, d)."""
        if self.dtype.kind == "f":
            return None, matrix.astype(self.dtype, copy=False)
        scales = _coarse(np.abs(matrix).max(axis=1, initial=0.0) / np.float32(_LARGEST))
        with np.errstate(invalid="ignore", divide="ignore"):
            numbers = np.rint(matrix / scales[:, None])
        return scales, np.nan_to_num(numbers).astype(np.int8)


def hex_of(digest: tuple[int, int]) -> str:
    """The key that has this digest."""
    return _words.pack(*digest).hex()


def _coarse(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """`scales`, rounded up to few enough digits that rounding what was rounded changes nothing."""
    fraction, exponent = np.frexp(scales)
    coarse: NDArray[np.float32] = np.ldexp(np.ceil(fraction * _STEPS) / _STEPS, exponent).astype(np.float32)
    return coarse


def _read(numbers: NDArray[Any], scales: NDArray[np.float32] | None) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = numbers.astype(np.float32)
    if scales is not None:
        vectors *= scales[:, None]
    return vectors
