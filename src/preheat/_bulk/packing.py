"""The plan of a shard as the board keeps it: its columns, packed.

A saved plan (`preheat._plan.saved`) is for people, and takes a worker long to read beside loading what it says; this is
for workers.  It is data only, and checked before anything is made of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sized
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from preheat._columns import TextColumn
from preheat._model import CandidateTable, ItemRef, MemoryBudget, MemoryPressureLevel, WarmupPlan
from preheat._plan.saved import MOST_ITEMS, MOST_TEXT_BYTES
from preheat._plan.sizes import MOST_BYTES
from preheat._plan.thresholds import CHOSEN, REASONS
from preheat.errors import InvalidPlan

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COLUMNS = {"cache": "<i2", "priority": "|i1", "size_bytes": "<i8", "usage_frequency": "<f8", "warmup_cost": "<f8"}


class _Text(msgspec.Struct, frozen=True, array_like=True):
    """A text column: its bytes, and the length of each string as uint32."""

    blob: bytes
    lengths: bytes


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    """Rows stand in loading order, those of each phase behind those of the one before, and held out ones at the end."""

    strategy: str
    seed: int
    why: str
    caches: tuple[str, ...]
    columns: dict[str, bytes]
    keys: _Text
    recipes: _Text
    value: bytes
    comparable: bytes
    chosen: tuple[int, int, int]
    needs: dict[int, tuple[tuple[str, str], ...]]
    factors: tuple[tuple[str, str, float], ...]


def pack_plan(plan: WarmupPlan) -> bytes:
    """What `plan` loads and holds out, for `unpack_plan`; what it left out, and its budget, are not in it."""
    rows = np.concatenate([plan.order, plan.held_out])
    table = plan.candidates.take(rows)
    packed = _Packed(
        strategy=str(plan.strategy),
        seed=plan.seed,
        why=plan.why,
        caches=table.caches,
        columns={name: getattr(table, name).astype(kind).tobytes() for name, kind in _COLUMNS.items()},
        keys=_packed_text(table.keys),
        recipes=_packed_text(table.recipes),
        value=plan.value[rows].astype("<f8").tobytes(),
        comparable=np.isin(rows, plan.comparable).tobytes(),
        chosen=(len(plan.chosen[0]), len(plan.chosen[1]), len(plan.chosen[2])),
        needs={row: tuple((ref.cache, ref.key) for ref in refs) for row, refs in table.needs.items()},
        factors=tuple((cache, kind, factor) for (cache, kind), factor in plan.size_factors.items()),
    )
    return zlib.compress(msgspec.msgpack.encode(packed), 1)


def _packed_text(column: TextColumn) -> _Text:
    start, stop = int(column.offsets[0]), int(column.offsets[-1])
    return _Text(column.blob[start:stop].tobytes(), column.lengths().astype("<u4").tobytes())


def unpack_plan(data: bytes) -> WarmupPlan:
    """The plan that `pack_plan` was given.  Its budget is what its items weigh: it is to be fitted (`fit_plan`).

    Raises:
        InvalidPlan: It is nothing that was packed, or too large.
    """
    try:
        return _plan(msgspec.msgpack.decode(_inflated(data), type=_Packed))
    except (msgspec.MsgspecError, ValueError, KeyError, zlib.error) as error:
        raise InvalidPlan(f"the plan of a shard is damaged: {error}") from None


def _inflated(data: bytes) -> bytes:
    opened = zlib.decompressobj()
    text = opened.decompress(data, MOST_TEXT_BYTES)
    if not opened.eof:
        raise ValueError("it is cut off, or too large")
    return text


def _plan(packed: _Packed) -> WarmupPlan:
    columns: dict[str, Any] = {name: _numbers(packed.columns[name], kind) for name, kind in _COLUMNS.items()}
    items, value = len(columns["priority"]), _numbers(packed.value, "<f8")
    comparable = _numbers(packed.comparable, "|b1")
    keys, recipes = _text(packed.keys), _text(packed.recipes)
    sized: tuple[Sized, ...] = (*columns.values(), value, comparable, keys, recipes)
    _demand(all(len(column) == items for column in sized), "its columns")
    _demand(items <= MOST_ITEMS and min(packed.chosen) >= 0 and sum(packed.chosen) <= items, "its phases")
    _demand(all(0 <= row < items for row in packed.needs), "its needs")
    _demand_usable(columns, value, len(packed.caches))
    table = CandidateTable(
        caches=packed.caches,
        keys=keys,
        recipes=recipes,
        needs={row: tuple(ItemRef(*ref) for ref in refs) for row, refs in packed.needs.items()},
        value_seconds=value,
        **columns,
    )
    ends = np.cumsum((0, *packed.chosen)).tolist()
    planned_bytes = int(table.size_bytes[: ends[-1]].sum())
    return WarmupPlan(
        strategy=packed.strategy,
        budget=MemoryBudget(planned_bytes, 0, planned_bytes, MemoryPressureLevel.LOW, None, "what its items weigh"),
        candidates=table,
        value=value,
        chosen=tuple(np.arange(start, end) for start, end in pairwise(ends)),
        held_out=np.arange(ends[-1], items),
        comparable=np.flatnonzero(comparable),
        left_out=np.full(items, CHOSEN, np.int8),
        reasons=REASONS,
        seed=packed.seed,
        why=packed.why,
        size_factors={(cache, kind): factor for cache, kind, factor in packed.factors},
    )


def _demand_usable(columns: dict[str, NDArray[Any]], value: NDArray[Any], caches: int) -> None:
    _demand(_within(columns["cache"], 0, caches - 1), "its caches")
    _demand(_within(columns["priority"], 1, 10), "its priorities")
    _demand(_within(columns["size_bytes"], 0, MOST_BYTES), "its sizes")
    largest = np.finfo(np.float64).max
    amounts = (columns["usage_frequency"], columns["warmup_cost"], value)
    _demand(all(_within(column, 0, largest) for column in amounts), "its amounts")


def _within(column: NDArray[Any], low: float, high: float) -> bool:
    return bool(((column >= low) & (column <= high)).all())


def _text(packed: _Text) -> TextColumn:
    lengths, blob = _numbers(packed.lengths, "<u4"), np.frombuffer(packed.blob, np.uint8)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    _demand(int(offsets[-1]) == len(blob), "its text")
    packed.blob.decode()
    starts = offsets[:-1][lengths > 0]
    _demand(not ((blob[starts] & 0xC0) == 0x80).any(), "its text")  # none begins in the midst of a character
    return TextColumn(blob, offsets)


def _numbers(data: bytes, kind: str) -> NDArray[Any]:
    """The column, of its own memory: what is read from a reply is never written to."""
    column: NDArray[Any] = np.frombuffer(data, kind).astype(np.dtype(kind).newbyteorder("="))
    return column


def _demand(is_so: bool, what: str) -> None:
    if not is_so:
        raise ValueError(f"{what} can't be")
