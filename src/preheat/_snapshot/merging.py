"""Which generations are written anew with what is saved: a pure decision.

A save writes what is new, and takes along the newest generations while each is smaller than twice what is being
written.  So there are no more generations than binary digits in the size of the snapshot, and a value is copied about
as often; what is neither new nor taken along is not touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

MOST_GENERATIONS = 16
SPARE = 0.25
"""Part of the limit that is left free when a snapshot has outgrown it, so that not every save writes it all anew."""


class Merge(NamedTuple):
    """Take along as many of the newest generations as `along` says, and write at most `budget_bytes` of items."""

    along: int
    budget_bytes: int


def choose_merge(new_bytes: int, generations: Sequence[int], limit_bytes: int, *, wholly: bool = False) -> Merge:
    """What a save of `new_bytes` does about `generations`, their bytes from the newest to the oldest.

    Args:
        new_bytes: Bytes to be saved, as far as that is known.
        generations: Bytes of each generation, the newest first.
        limit_bytes: What all of them may take.
        wholly: Write everything anew.
    """
    if new_bytes + sum(generations) > limit_bytes:
        return Merge(len(generations), int(limit_bytes * (1 - SPARE)))
    along, bytes_along = 0, new_bytes
    while along < len(generations) and generations[along] < 2 * bytes_along:
        bytes_along += generations[along]
        along += 1
    if wholly or (new_bytes and len(generations) - along >= MOST_GENERATIONS):
        along = len(generations)
    return Merge(along, limit_bytes - sum(generations[along:]))
