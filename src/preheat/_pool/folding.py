"""Many histories of different traffic -> one, of the best items."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from preheat._history.merging import MAX_ITEMS
from preheat._model import History
from preheat._pool.adding import Sum
from preheat._pool.contributions import keep_best

ROOM = 2
"""How many times as many items as are kept may be in a sum before the best are chosen."""


class Folded(NamedTuple):
    """The traffic of several replicas.

    `missed` says by how much the counts may be too low: no item's, by the longest half-life and as of the history's
    end, was higher by more than that, for each replica, and each choice of the best, left out at most the best item
    that it dropped.
    """

    history: History
    missed: float


def fold(parts: Iterable[Folded], *, max_items: int = MAX_ITEMS) -> Folded | None:
    """One history of the traffic of all `parts`, which have no access in common; None of none.

    Of an item that several know, decayed counts are added and the last access is the latest; gaps, and of those that
    know a load size, version and recipe, are those of the row seen last; the cost is the mean.  Hits, misses and
    hours are added, trails interleaved by time.  Which parts come first makes a difference to rounding, to what wins
    where two were seen at the same instant, and to what is dropped on the way, after which the cost known so far counts
    as one: hand them over in an order of their own.

    Raises:
        ValueError: Half-lives differ, or there are more than 32,768 caches.
    """
    added: Sum | None = None
    missed: list[tuple[float, float]] = []  # as of an instant, for each part and each choice
    for part in parts:
        if added is None:
            added = Sum(part.history)
        else:
            added.add(part.history)
        missed.append((part.history.at, part.missed))
        if len(added) > ROOM * max_items:
            best, dropped = keep_best(added.history(), max_items)
            missed.append((best.at, dropped))
            added = Sum(best)
    if added is None:
        return None
    history, dropped = keep_best(added.history(), max_items)
    half_life = history.half_lives[-1] if history.half_lives else 1.0
    before = sum(each * 2.0 ** (-(history.at - at) / half_life) for at, each in missed)
    return Folded(history, before + dropped)
