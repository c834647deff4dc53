"""Numbers in few bytes, as the history is kept: rounded floats of 16 bits, integers as wide as they have to be.

Rounding is done once: what was rounded is not changed by rounding it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TICKS = 256
"""Instants are kept in 256ths of a second, rounded down."""

_NAN = 0xFFFF
_DROPPED_BITS = 14  # of the 23 of a float32's fraction; 9 stay
_LEAST = (127 - 64) << 9  # 2**-64 with 9 bits of fraction: the code below 1
_AT_ONCE = 2**16  # numbers, whose intermediate results stay in the processor's cache
MOST_INTEGER = 2**60
_NATIVE = (1, 2, 4, 8)  # widths that numpy has integers of


def encode_floats(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Codes of numbers that are not negative, in the shape of `values`.

    A code has 7 bits of exponent and 9 of fraction: the relative error is less than 0.1 %, whole numbers up to 1024
    and 0 are exact, NaN is NaN.  What lies outside of 2**-64 to 2**64 becomes the nearest of those, below 0 becomes 0.
    """
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    codes = np.empty(len(flat), np.uint16)
    for start in range(0, len(flat), _AT_ONCE):
        part = flat[start : start + _AT_ONCE]
        rounded = (part.view(np.int32) + (1 << _DROPPED_BITS - 1)) >> _DROPPED_BITS
        code = np.clip(rounded - _LEAST, 1, _NAN - 1)
        code[~(part > 0)] = 0
        code[np.isposinf(part)] = _NAN - 1
        code[np.isnan(part)] = _NAN
        codes[start : start + _AT_ONCE] = code
    return codes.reshape(values.shape)


def decode_floats(codes: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The numbers that `codes` stand for."""
    flat = codes.reshape(-1)
    values = np.empty(len(flat), np.float32)
    for start in range(0, len(flat), _AT_ONCE):
        part = flat[start : start + _AT_ONCE]
        bits = part.astype(np.int32)
        bits += _LEAST
        bits <<= _DROPPED_BITS
        value = bits.view(np.float32)
        value[part == 0] = 0.0
        value[part == _NAN] = np.nan
        values[start : start + _AT_ONCE] = value
    return values.reshape(codes.shape)


class Integers(NamedTuple):
    """Integers as `base` and what each is above it, in `width` bytes each, little end first."""

    base: int
    width: int
    raw: bytes


def encode_integers(values: NDArray[Any], *, least_width: int = 0) -> Integers:
    """`values` in as few bytes as hold their range: none at all where all are equal, if `least_width` allows it.

    What lies beyond `MOST_INTEGER` on either side of 0 becomes that.
    """
    if not len(values):
        return Integers(0, 1, b"")
    least, most = np.clip([values.min(), values.max()], -MOST_INTEGER, MOST_INTEGER).tolist()
    width = max(least_width, -(-(most - least).bit_length() // 8))
    above = np.clip(values, least, most) - least
    if width in _NATIVE:
        return Integers(least, width, above.astype(f"<u{width}").tobytes())
    return Integers(least, width, above.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes())


def decode_integers(base: int, width: int, raw: Any, length: int | None) -> NDArray[np.int64]:
    """The `length` integers that `encode_integers` was given; as many as there are if that is None.

    Raises:
        ValueError: There are more or fewer, or one is out of range.
    """
    if not 0 <= width <= 8 or not -MOST_INTEGER <= base <= MOST_INTEGER:
        raise ValueError(f"integers of {width} bytes from {base} on")
    if length is None:
        if not width or len(raw) % width:
            raise ValueError("nothing says how many integers they are")
        length = len(raw) // width
    if len(raw) != length * width:
        raise ValueError(f"{length} integers were expected")
    values: NDArray[np.int64]
    if width in _NATIVE:
        values = np.frombuffer(raw, f"<u{width}").astype(np.int64)
    else:
        above = np.zeros((length, 8), np.uint8)
        above[:, :width] = np.frombuffer(raw, np.uint8).reshape(length, width)
        values = above.reshape(-1).view("<i8")
    if width == 8 and length and not 0 <= values.min() <= values.max() <= 2 * MOST_INTEGER:
        raise ValueError("an integer is out of range")
    values += base
    return values


def to_ticks(at: NDArray[np.float64]) -> NDArray[np.int64]:
    """Instants in `TICKS` of a second, rounded down; what is no number becomes 0."""
    ticks: NDArray[np.int64] = np.floor(np.clip(np.nan_to_num(at), -(2.0**50), 2.0**50) * TICKS).astype(np.int64)
    return ticks


def from_ticks(ticks: NDArray[np.int64]) -> NDArray[np.float64]:
    """The instants, in seconds."""
    return ticks / TICKS
