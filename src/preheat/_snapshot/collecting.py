"""What goes into a generation: values that are not kept as they are, and records of older generations as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from preheat._model import HeldValue
from preheat._snapshot.generation import Generation
from preheat._snapshot.layout import MOST_KEY_BYTES, MOST_VALUE_BYTES, Row, hash_key
from preheat._snapshot.refusal import CAN_NOT_BE_ENCODED, TOO_LARGE, Refused
from preheat._snapshot.writing import Written

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat.abc import SnapshotCodec

ErasedOf = Callable[[Generation], "NDArray[np.uint64]"]
"""The hashes of what has been erased of a generation."""


def encoded(text: str) -> bytes:
    """A key or version in bytes; lone surrogates are kept."""
    return text.encode("utf-8", "surrogatepass")


def decoded(key: bytes) -> str:
    """The key that `encoded` made `key` of."""
    return key.decode("utf-8", "surrogatepass")


def hashes_of(held: Sequence[HeldValue]) -> NDArray[np.uint64]:
    """(n,) the hash of each key."""
    return np.fromiter((hash_key(encoded(value.key)) for value in held), np.uint64, len(held))


def within(held: Sequence[HeldValue], limit_bytes: float) -> Sequence[HeldValue]:
    """The first of `held`, as far as there is room for them."""
    ends = np.cumsum(np.fromiter((value.size_bytes for value in held), np.int64, len(held)))
    return held[: int(np.searchsorted(ends, limit_bytes, "right"))]


def find_unsaved(
    held: Sequence[HeldValue], hashes: NDArray[np.uint64], generations: Sequence[Generation], erased_of: ErasedOf
) -> list[int]:
    """The rows of `held` that `generations`, newest first, do not keep as they are; of two with one hash, the first.

    A value is the one that is kept if it was made at the same instant.
    """
    if not len(held):
        return []
    made_at = np.fromiter((value.made_at for value in held), np.float64, len(held))
    order = np.argsort(hashes, kind="stable")
    is_wanted, is_seen = np.ones(len(held), np.bool_), np.zeros(len(held), np.bool_)
    is_wanted[order[1:]] = hashes[order[1:]] != hashes[order[:-1]]
    for generation in generations:
        erased = erased_of(generation)
        for part in generation.parts():
            rows = order[np.minimum(np.searchsorted(hashes, part.hashes, sorter=order), len(order) - 1)]
            is_match = (hashes[rows] == part.hashes) & ~is_seen[rows]
            is_there = ~np.isin(part.hashes, erased) & ~generation.are_broken(part)
            is_wanted[rows[is_match & is_there & (made_at[rows] == part.records["made_at"])]] = False
            is_seen[rows[is_match]] = True
    return np.flatnonzero(is_wanted).tolist()


def encode(codec: SnapshotCodec, key_hash: int, value: HeldValue) -> Written:
    """`value` as it is kept.

    Raises:
        Refused: It can't be.
    """
    key, version = encoded(value.key), encoded(value.version)
    try:
        data = codec.encode(value.value)
    except Exception:
        raise Refused(CAN_NOT_BE_ENCODED) from None
    if not isinstance(data, bytes):
        raise Refused(CAN_NOT_BE_ENCODED)
    if len(data) > MOST_VALUE_BYTES or max(len(key), len(version)) > MOST_KEY_BYTES:
        raise Refused(TOO_LARGE)
    return Written(key_hash, key, version, data, value.made_at, value.expires_at, value.size_bytes)


def carry(
    taken: Sequence[Generation],
    newer: Sequence[int],
    is_fresh: Callable[[NDArray[Any]], NDArray[np.bool_]],
    erased_of: ErasedOf,
    lost: list[int],
) -> Iterator[Written]:
    """What is still good in `taken`, newest first, and not among the hashes `newer`: as it is, in the files' order.

    The hashes of what is not good any more are added to `lost`.
    """
    seen = np.array(newer, np.uint64)
    for generation in taken:
        parts = list(generation.parts())
        if not parts:
            continue
        hashes = np.concatenate([part.hashes for part in parts])
        records = np.concatenate([part.records for part in parts])
        part_of = np.repeat(np.arange(len(parts)), [len(part.hashes) for part in parts])
        is_newest = ~np.isin(hashes, seen)
        is_good = is_newest & is_fresh(records) & ~np.isin(hashes, erased_of(generation))
        lost += hashes[is_newest & ~is_good].tolist()
        order = np.lexsort((records["at"], records["block"]))
        for at in order[is_good[order]].tolist():
            row = Row(*records[at].item()[: len(Row._fields)])
            with suppress(Refused):
                yield _as_it_is(int(hashes[at]), row, parts[part_of[at]].text, generation.value(row))
        seen = np.concatenate([seen, hashes])


def _as_it_is(key_hash: int, row: Row, text: memoryview, data: memoryview) -> Written:
    key = bytes(text[row.key_at : row.key_at + row.key_size])
    version = bytes(text[row.version_at : row.version_at + row.version_size])
    return Written(key_hash, key, version, data, row.made_at, row.expires_at, row.accounted)
