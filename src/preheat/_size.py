"""What a value really occupies: the malloc blocks behind it, not the bytes that Python admits to.

`sys.getsizeof` sees neither what a container holds nor what the allocator rounds up; walking with `__dict__` makes
the very dictionaries it then counts.  Here every object reachable is taken apart into the blocks it was allocated
in, and each block costs what the allocator takes for it (`_blocks`).  Opaque objects of C extensions count as what they
say of themselves.
"""

from __future__ import annotations

import enum
import math
import sys
import types
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from gc import get_referents
from sys import getrefcount, getsizeof
from typing import Any

import numpy as np

from preheat._blocks import GC_HEADER_BYTES, LIST_HEADER_BYTES, block_bytes, malloc_bytes

SLOT_BYTES = 40
"""What an entry of a dict costs beside key and value: its share of the table, at the usual fill."""

KEY_BYTES = 64
"""What a key is taken for if the caller has none at hand: text of up to 15 characters."""

NAME_LENGTH = 64
"""Up to this length, text is looked at as a name that items may share: a field, a kind, a language."""


def estimate_item_memory_usage(value: object, *, key: object | None = None) -> int:
    """Bytes by which the process grows when `value` is kept in a dict under `key`.

    Counts everything reachable once, the slot in the dict and the key included.  Not counted, since a further
    value does not bring it along: singletons, small integers, types, modules, functions, enum members, interned
    text, field names (`dict` keys) that something outside of `value` refers to as well, and the slab behind an
    array that shows less than half of it.  Other parts that values share are counted with each of them.

    Costs 0.2-0.5 us per object reached, without bound: a value that leads to the whole application takes as long
    as the application is big.  For many values of a kind, estimate a sample.

    Args:
        value: Any object; nothing of it is called except `__sizeof__`.
        key: What it is kept under; text of usual length if omitted.
    """
    if key is None:
        return math.ceil(SLOT_BYTES + KEY_BYTES + _reachable_bytes([value]))
    return math.ceil(SLOT_BYTES + _reachable_bytes([value, key]))


def _reachable_bytes(pending: list[Any]) -> float:
    total_bytes = 0.0
    seen: set[int] = set()
    names: list[str] = []
    chosen: dict[type, _Measure] = {}
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        kind = type(value)
        measure = _MEASURES.get(kind) or chosen.get(kind)
        if measure is None:
            measure = chosen[kind] = _choose_measure(kind)
        total_bytes += measure(value, pending, names)
    return total_bytes + (_own_names_bytes(names, seen) if names else 0.0)


# ------------------------------------------------------------------------------------------------------ measures

_Measure = Callable[[Any, list[Any], list[str]], float]
"""Takes a value; returns the bytes of its own blocks, appends what it refers to and the names that it uses."""

_HAS_GC = 1 << 14
_IS_HEAP_TYPE = 1 << 9
_HAS_MANAGED_DICT = 1 << 4
_HAS_PRE_HEADER = 1 << 4 | 1 << 3

_FLOAT_BYTES = block_bytes(getsizeof(0.0))
_OBJECT_BYTES = {kind: getsizeof(kind()) for kind in (list, dict, set, frozenset)}


def _nothing(value: object, pending: list[Any], names: list[str]) -> float:
    return 0.0


def _bytes_of_int(value: int, pending: list[Any], names: list[str]) -> float:
    return 0.0 if -5 <= value <= 256 else block_bytes(getsizeof(value))


def _bytes_of_float(value: float, pending: list[Any], names: list[str]) -> float:
    return _FLOAT_BYTES


def _bytes_of_bytes(value: bytes, pending: list[Any], names: list[str]) -> float:
    return block_bytes(getsizeof(value)) if len(value) > 1 else 0.0


def _bytes_of_str(value: str, pending: list[Any], names: list[str]) -> float:
    length = len(value)
    if length <= 1 and value <= "\xff":
        return 0.0
    if length <= NAME_LENGTH and _is_interned(value):
        return 0.0
    return block_bytes(getsizeof(value))


def _bytes_of_tuple(value: tuple[Any, ...], pending: list[Any], names: list[str]) -> float:
    return (block_bytes(getsizeof(value)) if value else 0.0) + _bytes_of_elements(value, pending)


def _bytes_of_list(value: list[Any], pending: list[Any], names: list[str]) -> float:
    return _split_bytes(value, _OBJECT_BYTES[list], LIST_HEADER_BYTES) + _bytes_of_elements(value, pending)


def _bytes_of_set(value: Collection[Any], pending: list[Any], names: list[str]) -> float:
    pending.extend(value)
    return _split_bytes(value, _OBJECT_BYTES[set])


def _bytes_of_dict(value: dict[Any, Any], pending: list[Any], names: list[str]) -> float:
    _note_keys(value, pending, names)
    pending.extend(value.values())
    return _split_bytes(value, _OBJECT_BYTES[dict])


def _bytes_of_dict_subclass(value: dict[Any, Any], pending: list[Any], names: list[str]) -> float:
    _note_keys(value, pending, names)
    return _bytes_of_object(value, pending, names)


def _bytes_of_array(value: np.ndarray[Any, Any], pending: list[Any], names: list[str]) -> float:
    total_bytes = block_bytes(type(value).__basicsize__) + (malloc_bytes(16 * value.ndim) if value.ndim else 0)
    if value.dtype.kind == "O":
        pending.extend(value.ravel().tolist())
    if value.base is None:
        return total_bytes + malloc_bytes(value.nbytes)
    if _is_mostly_shown(value.base, value.nbytes):
        pending.append(value.base)
    return total_bytes


def _is_mostly_shown(base: object, shown_bytes: int) -> bool:
    """Whether a view of `shown_bytes` is what keeps `base` alive, rather than one of many views of a slab."""
    if isinstance(base, bytes | bytearray):
        return 2 * shown_bytes >= len(base)
    return isinstance(base, np.ndarray | memoryview) and 2 * shown_bytes >= base.nbytes


def _bytes_of_object(value: object, pending: list[Any], names: list[str]) -> float:
    kind = type(value)
    flags = kind.__flags__
    referents = get_referents(value)
    pending.extend(referents)
    if kind.__itemsize__:
        # a heap type's allocation has room for one more item, which __sizeof__ does not know of
        return block_bytes(_said_bytes(value) + (kind.__itemsize__ if flags & _IS_HEAP_TYPE else 0))
    object_bytes = kind.__basicsize__ + GC_HEADER_BYTES * bool(flags & _HAS_GC) + 16 * bool(flags & _HAS_PRE_HEADER)
    total_bytes = _split_bytes(value, object_bytes)
    if flags & _HAS_MANAGED_DICT:
        total_bytes += _attributes_bytes(len(referents) - 1)  # one of them is the type
    return total_bytes


def _attributes_bytes(count: int) -> float:
    """The array of an instance's attribute values: one spare slot, and one byte per slot for their order."""
    slots = count + 1
    return block_bytes(8 * slots + (slots + 2 + 7) // 8 * 8)


def _bytes_of_elements(elements: Collection[Any], pending: list[Any]) -> float:
    """The bytes of `elements` if all are floats, as in a vector; else 0, and they are appended to `pending`."""
    if len(elements) < 8 or set(map(type, elements)) != {float}:
        pending.extend(elements)
        return 0.0
    return _FLOAT_BYTES * len(set(map(id, elements)))


def _split_bytes(value: object, object_bytes: int, header_bytes: int = 0) -> float:
    """The object of `object_bytes`, and the rest that it admits to as a block of its own, behind a header."""
    separate_bytes = _said_bytes(value) - object_bytes
    return block_bytes(object_bytes) + (block_bytes(separate_bytes + header_bytes) if separate_bytes > 0 else 0.0)


def _said_bytes(value: object) -> int:
    try:
        return getsizeof(value)
    except Exception:  # a __sizeof__ written by anybody
        return type(value).__basicsize__


# --------------------------------------------------------------------------------------------------------- names


def _note_keys(value: dict[Any, Any], pending: list[Any], names: list[str]) -> None:
    for key in dict.keys(value):
        if type(key) is str and len(key) <= NAME_LENGTH:
            names.append(key)
        else:
            pending.append(key)


def _own_names_bytes(names: list[str], seen: set[int]) -> float:
    """The bytes of those names that only the value itself refers to."""
    own = [name for name, references in _references(names) if references <= _LEAST_REFERENCES and id(name) not in seen]
    return sum(block_bytes(getsizeof(name)) for name in own)


def _references(names: list[str]) -> Iterator[tuple[str, int]]:
    """Each of `names` once, with its references but for one of a dict and one of `names` per use."""
    uses = Counter(map(id, names))
    for name in dict(zip(map(id, names), names, strict=True)).values():
        yield name, getrefcount(name) - 2 * uses[id(name)]


def _least_references() -> int:
    """Those of a name that nothing else refers to: how many are those of the count itself differs by version."""
    fields = {" ".join(("a name", "of nobody")): None}
    ((_, references),) = _references(list(fields))
    return references


_LEAST_REFERENCES = _least_references()
_IMMORTAL_REFERENCES = 2**29


def _is_interned(text: str) -> bool:
    if sys.version_info >= (3, 13):
        return sys._is_interned(text)
    if sys.version_info >= (3, 12):
        return getrefcount(text) > _IMMORTAL_REFERENCES  # there interning is for ever, so nothing may be tried
    # five references are those of its holder, of the walk, of our caller, ours and the count's; it has none of a table
    # interning an equal copy returns the interned one if there is one; otherwise the copy is forgotten at once
    return getrefcount(text) > 5 and sys.intern("".join((text[:1], text[1:]))) is text


# -------------------------------------------------------------------------------------------------------- choice

_SHARED_KINDS = (
    type,
    enum.Enum,
    np.dtype,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.CodeType,
    types.GenericAlias,
    weakref.ReferenceType,
)

_MEASURES: dict[type, _Measure] = {
    type(None): _nothing,
    type(Ellipsis): _nothing,
    type(NotImplemented): _nothing,
    bool: _nothing,
    int: _bytes_of_int,
    float: _bytes_of_float,
    bytes: _bytes_of_bytes,
    str: _bytes_of_str,
    tuple: _bytes_of_tuple,
    list: _bytes_of_list,
    set: _bytes_of_set,
    frozenset: _bytes_of_set,
    dict: _bytes_of_dict,
    np.ndarray: _bytes_of_array,
}


def _choose_measure(kind: type) -> _Measure:
    if issubclass(kind, _SHARED_KINDS):
        return _nothing
    if issubclass(kind, np.ndarray):
        return _bytes_of_array
    if issubclass(kind, dict):
        return _bytes_of_dict_subclass
    return _bytes_of_object
