"""A run and the traffic after it -> what the run won, with its interval.

Items that deserved a place were held back at random.  Whether an item is asked for does not depend on that draw, so
among the items asked for, the share whose *first* request was a hit can be compared between the planned and the
held out.  Warming saves an item's first miss and no other, so that difference, times the planned items asked for,
is the number of misses saved; over all requests of the window it is the hit rate gained.

Planned items count whether or not their load succeeded (intention to treat).  The interval is Newcombe's hybrid of
two Wilson score intervals, which keeps its coverage in small samples and at shares of 0 and 1 [1].

[1] Newcombe, "Interval estimation for the difference between independent proportions: comparison of eleven
    methods", Statistics in Medicine 17 (1998), method 10.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from preheat._model import AccessBatch, Uplift, WarmupPlan, WarmupReport

if TYPE_CHECKING:
    from numpy.typing import NDArray

Z95 = 1.959963984540054
UNASKED, MISS, HIT = -1, 0, 1


class TrafficWindow:
    """The first outcome of each item of a plan in the traffic since its run began.  Bounded by the plan's size.

    Attributes:
        outcome: (number of candidates,) int8: UNASKED, MISS or HIT, the item's first request.
        accesses: All requests seen, over all caches.
    """

    def __init__(self, plan: WarmupPlan) -> None:
        watched = np.concatenate([plan.order, plan.held_out])
        refs = plan.candidates.take(watched).refs()
        hashes = np.fromiter((_hash(cache, key) for cache, key in refs), np.uint64, len(watched))
        order = np.argsort(hashes)
        self._hashes, self._rows = hashes[order], watched[order]
        self.outcome = np.full(len(plan.candidates), UNASKED, np.int8)
        self.accesses = 0

    def observe(self, batch: AccessBatch) -> None:
        """Take the accesses of `batch` into account; batches of a cache come in order."""
        self.accesses += len(batch.row)
        first = np.full(len(batch.keys), len(batch.row), np.int64)
        np.minimum.at(first, batch.row, np.arange(len(batch.row)))
        hashes = np.fromiter((_hash(batch.cache, key) for key in batch.keys), np.uint64, len(batch.keys))
        place = np.searchsorted(self._hashes, hashes)
        watched = np.flatnonzero(place < len(self._hashes))
        watched = watched[self._hashes[place[watched]] == hashes[watched]]
        rows = self._rows[place[watched]]
        new = self.outcome[rows] == UNASKED
        self.outcome[rows[new]] = np.where(batch.hit[first[watched][new]], HIT, MISS)


def _hash(cache: str, key: str) -> int:
    """64 bits instead of an object per item: two of a million items share them once in thirty million runs."""
    seed = zlib.crc32(cache.encode("utf-8", "surrogatepass"))
    return xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogatepass"), seed)


def with_uplift(report: WarmupReport, window: TrafficWindow) -> WarmupReport:
    """`report` with what `window` shows of it; unchanged while that says nothing."""
    return replace(report, uplift=measure_uplift(report, window.outcome, window.accesses) or report.uplift)


def measure_uplift(report: WarmupReport, outcome: NDArray[np.int8], accesses: int) -> Uplift | None:
    """The gain of `report`'s run; None until items of both groups have been asked for.

    Args:
        report: The run.
        outcome: (number of candidates,) UNASKED, MISS or HIT: the first request of each since the run began.
        accesses: All requests since, over all caches.
    """
    plan = report.plan
    asked = plan.comparable[outcome[plan.comparable] != UNASKED]
    kept_back = plan.held_out[outcome[plan.held_out] != UNASKED]
    if not len(asked) or not len(kept_back):
        return None
    hits, kept_hits = int((outcome[asked] == HIT).sum()), int((outcome[kept_back] == HIT).sum())
    share = hits / len(asked) - kept_hits / len(kept_back)
    low, high = difference_interval(hits, len(asked), kept_hits, len(kept_back))
    scale = 100.0 * len(asked) / accesses
    return Uplift(
        points=scale * share,
        low=scale * low,
        high=scale * high,
        saved_seconds=share * float(plan.candidates.warmup_cost[asked].sum()),
        unused_bytes=int(report.loaded_bytes[outcome[plan.order] == UNASKED].sum()),
        warmed_asked=len(asked),
        warmed_hit=hits,
        held_out_asked=len(kept_back),
        held_out_hit=kept_hits,
        accesses=accesses,
    )


def difference_interval(hits_a: int, n_a: int, hits_b: int, n_b: int, z: float = Z95) -> tuple[float, float]:
    """Bounds of the interval of `hits_a / n_a - hits_b / n_b`; both numbers of trials are positive."""
    a, (low_a, high_a) = hits_a / n_a, wilson_interval(hits_a, n_a, z)
    b, (low_b, high_b) = hits_b / n_b, wilson_interval(hits_b, n_b, z)
    difference = a - b
    return difference - math.hypot(a - low_a, high_b - b), difference + math.hypot(high_a - a, b - low_b)


def wilson_interval(hits: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share."""
    centre = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)
