"""History as versions before kept it: one MessagePack of raw columns and, from the second on, of a trail.

Read once, when a state folder of such a version is opened; see `encoding` for what is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import xxhash

from preheat._columns import TextColumn
from preheat._history import GAPS, TRAIL_LIMIT
from preheat._history.demanding import demand
from preheat._model import History
from preheat._store.encoding import MISFITS, demand_text
from preheat.errors import StoreCorrupt

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ARRAYS: dict[str, tuple[type, bool]] = {
    "cache": (np.int16, False),
    "counts": (np.float32, True),
    "last_at": (np.float64, False),
    "gaps": (np.float32, True),
    "size_bytes": (np.int64, False),
    "load_seconds": (np.float32, False),
    "hits": (np.int64, False),
    "misses": (np.int64, False),
}
_TEXTS = ("keys", "versions", "recipes")


class _Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    at: float
    since: float
    half_lives: tuple[float, ...]
    caches: tuple[str, ...]
    cache: bytes
    counts: bytes
    last_at: bytes
    gaps: bytes
    size_bytes: bytes
    load_seconds: bytes
    hits: bytes
    misses: bytes
    keys: tuple[bytes, bytes]
    versions: tuple[bytes, bytes]
    recipes: tuple[bytes, bytes]
    trail: bytes = b""
    trail_instants: bytes = b""
    trail_times: bytes = b""


def decode_older_history(encoded: Any, digest: Any) -> History:
    """The history that was written as `encoded` with the checksum `digest`.

    Raises:
        StoreCorrupt: The checksum doesn't match, or the columns don't fit each other.
    """
    if not isinstance(encoded, bytes) or xxhash.xxh3_128_digest(encoded) != digest:
        raise StoreCorrupt("its checksum doesn't match")
    try:
        return _columns_of(msgspec.msgpack.decode(encoded, type=_Fields))
    except MISFITS as error:
        raise StoreCorrupt(f"its columns don't fit each other: {error}") from None


def _columns_of(fields: _Fields) -> History:
    n, half_lives, caches = len(fields.cache) // 2, fields.half_lives, fields.caches
    no_rows = {"counts": len(half_lives), "gaps": GAPS}  # the width that no row can tell
    arrays: dict[str, Any] = {}
    for name, (kind, wide) in _ARRAYS.items():
        flat: Any = np.frombuffer(getattr(fields, name), kind)
        arrays[name] = flat.reshape(n, -1 if n else no_rows[name]) if wide else flat
    texts: dict[str, Any] = {name: _text_column(name, *getattr(fields, name), rows=n) for name in _TEXTS}
    for name in ("last_at", "size_bytes", "load_seconds"):
        demand(len(arrays[name]) == n, f"{name} has another length than cache")
    for name in ("hits", "misses"):
        demand(len(arrays[name]) == len(caches), f"{name} has another length than caches")
    demand(not n or arrays["counts"].shape[1] == len(half_lives), "counts has another width than half_lives")
    demand(not n or arrays["gaps"].shape[1] == GAPS, f"gaps has another width than {GAPS}")
    demand(not n or 0 <= arrays["cache"].min() <= arrays["cache"].max() < len(caches), "a cache number is unknown")
    trail, trail_at = _trail(fields, rows=n)
    return History(
        at=fields.at,
        since=fields.since,
        half_lives=half_lives,
        caches=caches,
        trail=trail,
        trail_at=trail_at,
        hourly=np.empty((0, len(caches), 2), np.int64),
        **arrays,
        **texts,
    )


def _trail(fields: _Fields, *, rows: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The newest accesses and their instants; none in what was written before they were kept."""
    trail = np.frombuffer(fields.trail, np.int32)
    instants = np.frombuffer(fields.trail_instants, np.float64)
    times = np.frombuffer(fields.trail_times, np.int32)
    demand(len(trail) <= TRAIL_LIMIT, f"the trail is longer than {TRAIL_LIMIT} accesses")
    demand(len(times) == len(instants), "the trail has other instants than counts of them")
    # before `repeat` makes as many as they say
    demand(bool((times > 0).all()) and int(times.sum(dtype=np.int64)) == len(trail), "the trail's counts don't add up")
    demand(bool(((trail >= 0) & (trail < rows)).all()), "the trail names a row that is not there")
    demand(bool(np.isfinite(instants).all() and (np.diff(instants) > 0).all()), "the instants of the trail don't rise")
    demand(not len(instants) or float(instants[-1]) <= fields.at, "the trail goes on after the history's end")
    return trail, np.repeat(instants, times)


def _text_column(name: str, blob: bytes, offsets: bytes, *, rows: int) -> TextColumn:
    column = TextColumn(np.frombuffer(blob, np.uint8), np.frombuffer(offsets, np.int64))
    demand(len(column.offsets) == rows + 1, "a text column has another length than cache")
    demand(int(column.offsets[0]) == 0 and int(column.offsets[-1]) == len(blob), "text offsets miss their text")
    demand(bool((column.lengths() >= 0).all()), "text offsets fall")
    demand_text(column, name)
    return column
