"""What one replica tells the others of its traffic: the best of its history, bounded, by a clock that they share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preheat._history.merging import best_rows, keep_rows, row_bytes
from preheat._model import History

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_ITEMS = 100_000
MOST_ACCESSES = 2**16
"""The newest accesses, in their order, that a replica tells."""

MOST_BYTES = 32 * 2**20
"""What a contribution may take."""

MOST_REPLICAS = 10_000
MOST_NAME_LENGTH = 128
SECONDS_PER_HOUR = 3600


class Head(NamedTuple):
    """Which of a replica's contributions it is.

    Attributes:
        replica: Name of the replica, for good.
        version: When it was told, in milliseconds since 1970; of one replica, the highest counts.
        digest: 64 bits of what is told; decides between two of the same version.
        size_bytes: What it takes.
    """

    replica: str
    version: int
    digest: int
    size_bytes: int


class Contribution(NamedTuple):
    """What a replica has recorded itself, without what it knows from others.

    Attributes:
        replica: Its name.
        version: When it was told, in milliseconds since 1970.
        history: Its traffic.
        missed: The accesses, by the longest half-life and as of the history's end, of the best item left out.
    """

    replica: str
    version: int
    history: History
    missed: float


def contribute(
    replica: str,
    version: int,
    history: History,
    *,
    max_items: int = MOST_ITEMS,
    most_bytes: int = MOST_BYTES,
    ahead_seconds: float = 0.0,
) -> Contribution:
    """The best `max_items` of `history`, or as many as take `most_bytes`, as what `replica` contributes.

    Its rows stand in the order of their items' hashes: so they are added up fastest.
    `ahead_seconds` is by how much the clock of `replica` is ahead of the one that all of them go by.
    """
    fitting = max(1, min(max_items, most_bytes // row_bytes(history)))
    kept, missed = keep_best(_with_short_trail(history), fitting)
    return Contribution(replica, version, shifted(_in_order(kept), -ahead_seconds), missed)


def newest(heads: Iterable[Head]) -> list[Head]:
    """The newest head of each replica, by name."""
    found: dict[str, Head] = {}
    for head in heads:
        found[head.replica] = max(found.get(head.replica, head), head, key=lambda each: each[1:])
    return [found[name] for name in sorted(found)]


def keep_best(history: History, most: int) -> tuple[History, float]:
    """`history` of its best `most` items, and the count, by the longest half-life, of the best one left out."""
    if len(history) <= most:
        return history, 0.0
    rows = best_rows(history, most)
    left_out = np.ones(len(history), np.bool_)
    left_out[rows] = False
    return keep_rows(history, rows), float(history.decayed_counts(history.at)[left_out, -1].max())


def shifted(history: History, seconds: float) -> History:
    """`history` as if everything had happened `seconds` later; hours to the nearest."""
    if not seconds:
        return history
    hours = history.hours + round(seconds / SECONDS_PER_HOUR)
    return replace(
        history,
        at=_later(history.at, seconds),
        since=_later(history.since, seconds) if history.since else 0.0,
        last_at=np.maximum(history.last_at + seconds, 0.0),
        trail_at=np.maximum(history.trail_at + seconds, 0.0),
        hours=hours[hours >= 0],
        hourly=history.hourly[hours >= 0],
    )


def not_after(history: History, now: float) -> History:
    """`history`, moved back so that it ends `now` if it goes on after that: the clock it went by was ahead."""
    return shifted(history, now - history.at) if history.at > now else history


def _later(at: float, seconds: float) -> float:
    return max(0.0, at + seconds)


def _in_order(history: History) -> History:
    return keep_rows(history, np.argsort(history.keys.hashes(history.cache), kind="stable"))


def _with_short_trail(history: History) -> History:
    newest_accesses: NDArray[np.int32] = history.trail[-MOST_ACCESSES:]
    return replace(history, trail=newest_accesses, trail_at=history.trail_at[-MOST_ACCESSES:])
