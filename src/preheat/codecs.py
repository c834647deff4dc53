"""How values become bytes in a snapshot, and values again: data only, nothing that is read is ever run.

A codec keeps a value only if what it would read back is identical, in type and content, to what it was given; else
`encode` raises, the value is counted as refused, and its item goes back to its loader after a restart.  A codec of the
application's own is any `preheat.abc.SnapshotCodec`; `preheat.testing.SnapshotCodecContract` tests it.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import struct
import uuid
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import numpy as np
import xxhash

from preheat.errors import InvalidSetting

__all__ = ["BytesCodec", "DocumentCodec", "TextCodec", "VectorCodec", "is_identical"]

MOST_PARTS = 1_000_000
"""Parts of a value that are compared; a value of more is refused."""


class VectorCodec:
    """Vectors of one dtype: arrays of one dimension, read-only, as rows one behind the other.

    What is read is a read-only view of the file itself; nothing is copied.

    Args:
        dtype: The dtype of all of them; numbers only.

    Raises:
        InvalidSetting: The dtype holds objects, or is none.
    """

    name = "vectors"

    def __init__(self, dtype: Any = np.float32) -> None:
        try:
            self.dtype = np.dtype(dtype)
        except TypeError:
            raise InvalidSetting(f"{dtype!r} is no dtype; give one of numbers, say numpy.float32") from None
        if self.dtype.kind not in "biufc":
            raise InvalidSetting(f"vectors of {self.dtype} can't be kept; give a dtype of numbers, say numpy.float32")
        self.version = f"1 {self.dtype.str}"

    def encode(self, value: Any) -> bytes:
        """The numbers of `value`.

        Raises:
            ValueError: It is no read-only array of one dimension and this dtype.
        """
        if type(value) is not np.ndarray or value.ndim != 1 or value.dtype != self.dtype:
            raise ValueError(f"only arrays of one dimension of {self.dtype} are kept")
        if value.flags.writeable:
            raise ValueError("what is read back can't be written to, so this has to be read-only too")
        return value.tobytes()

    def decode(self, data: memoryview) -> Any:
        """A read-only array over `data`.

        Raises:
            ValueError: Its size is not that of whole numbers.
        """
        vector = np.frombuffer(data, self.dtype) if len(data) else np.empty(0, self.dtype)
        vector.flags.writeable = False
        return vector


class TextCodec:
    """Text, lone surrogates included."""

    name, version = "text", "1"

    def encode(self, value: Any) -> bytes:
        """`value` in UTF-8.

        Raises:
            ValueError: It is no `str`.
        """
        if type(value) is not str:
            raise ValueError("only text is kept")
        return value.encode("utf-8", "surrogatepass")

    def decode(self, data: memoryview) -> str:
        """The text.

        Raises:
            ValueError: It is not UTF-8.
        """
        return str(data, "utf-8", "surrogatepass")


class BytesCodec:
    """Bytes as they are."""

    name, version = "bytes", "1"

    def encode(self, value: Any) -> bytes:
        """`value`.

        Raises:
            ValueError: It is no `bytes`.
        """
        if type(value) is not bytes:
            raise ValueError("only bytes are kept")
        return value

    def decode(self, data: memoryview) -> bytes:
        """The bytes, copied."""
        return bytes(data)


class DocumentCodec:
    """Plain data: None, truth values, numbers, text, bytes, lists and dicts of them; in MessagePack.

    With a type, values of that type: dataclasses, `msgspec.Struct`s, named tuples, tuples, sets, instants.  Without
    one, a value that holds a tuple or a set is refused, since it would come back as a list.

    Args:
        kind: The type of the values, as in annotations: `Page`, `list[Hit]`, `tuple[Hit, ...]`.

    Raises:
        InvalidSetting: Values of that type can't be kept.
    """

    name = "documents"

    def __init__(self, kind: Any = Any) -> None:
        self.kind = kind
        self.version = "1" if kind is Any else f"1 {_fingerprint(kind)}"

    @cached_property
    def _coders(self) -> tuple[Callable[[Any], bytes], Callable[[Any], Any]]:
        import msgspec  # only where snapshots are in use

        return msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(self.kind).decode

    def encode(self, value: Any) -> bytes:
        """`value` in MessagePack.

        Raises:
            ValueError, TypeError, RecursionError, OverflowError: What is read back would be something else.
        """
        encode, decode = self._coders
        data = encode(value)
        if not is_identical(value, decode(data)):
            raise ValueError("what is read back would not be identical")
        return data

    def decode(self, data: memoryview) -> Any:
        """The value.

        Raises:
            ValueError, RecursionError: It is none of the type.
        """
        return self._coders[1](data)


def _fingerprint(kind: Any) -> str:
    """Changes with the fields of `kind` and of the types in it, their order, types and defaults."""
    import msgspec

    try:
        schema = msgspec.json.encode(msgspec.json.schema(kind))
    except (TypeError, NameError) as error:
        raise InvalidSetting(f"values of type {kind!r} can't be kept: {error}") from None
    return xxhash.xxh3_64_hexdigest(repr(kind).encode() + schema)


# ------------------------------------------------------------------------------------------------------- identity


def is_identical(value: Any, other: Any) -> bool:
    """Whether two values of plain data are of the same types and contents throughout, down to the sign of a zero.

    Dicts have to be in the same order.  False where a part is of a kind that is not known here, and beyond a million
    parts: what can't be compared is not taken for the same.
    """
    pending, compared = [(value, other)], 0
    while pending:
        one, another = pending.pop()
        compared += 1
        if type(one) is not type(another) or compared > MOST_PARTS:
            return False
        if type(one) in _LEAVES:
            if not _LEAVES[type(one)](one, another):
                return False
            continue
        parts, others = _parts(one), _parts(another)
        if parts is None or others is None or len(parts) != len(others):
            return False
        pending.extend(zip(parts, others, strict=True))
    return True


def _parts(value: Any) -> list[Any] | None:
    """What `value` consists of, in an order that its content fixes; None if that can't be said."""
    kind = type(value)
    if kind is list or kind is tuple:
        return list(value)
    if kind is dict:
        return [*value, *value.values()]
    if kind is set or kind is frozenset:
        return sorted(map(_marked, value)) if all(type(each) in _SORTABLE for each in value) else None
    names = _field_names(kind)
    if names is None or getattr(value, "__dict__", names).keys() != names.keys():
        return None
    return [getattr(value, name) for name in names]


def _field_names(kind: type) -> dict[str, None] | None:
    if dataclasses.is_dataclass(kind):
        return dict.fromkeys(field.name for field in dataclasses.fields(kind))
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return dict.fromkeys(kind._fields)
    fields: Iterable[str] | None = getattr(kind, "__struct_fields__", None)
    return None if fields is None else dict.fromkeys(fields)


def _marked(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


def _equal(one: Any, another: Any) -> bool:
    return bool(one == another)


def _same_bits(one: float, another: float) -> bool:
    return struct.pack("<d", one) == struct.pack("<d", another)


def _same_shown(one: Any, another: Any) -> bool:
    return bool(one == another) and repr(one) == repr(another)


_SORTABLE = frozenset({bool, int, float, str, bytes})
_LEAVES: dict[type, Callable[[Any, Any], bool]] = {
    type(None): _equal,
    bool: _equal,
    int: _equal,
    str: _equal,
    bytes: _equal,
    float: _same_bits,
    datetime.datetime: _same_shown,
    datetime.date: _same_shown,
    datetime.time: _same_shown,
    datetime.timedelta: _same_shown,
    decimal.Decimal: _same_shown,
    uuid.UUID: _same_shown,
}
