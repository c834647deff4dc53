"""A run and the traffic after it -> what the run won, with its interval, for each cache and for all of them.

Items that deserved a place were held back at random.  Whether an item is asked for does not depend on that draw, so
among the items of a cache that were asked for, the share whose *first* request was a hit can be compared between the
planned and the held out.  Warming saves an item's first miss and no other, so that difference, times the planned
items asked for, is the number of misses saved; over all requests of the window it is the hit rate gained.  Weighted
by what a miss costs, the same comparison gives the seconds saved.

Planned items count whether or not their load succeeded (intention to treat).  The result of all caches together is
the sum over the caches: misses and seconds saved add up, and so do their intervals, in quadrature.  What was won in a
cache of which nothing held out has been asked for is not claimed.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash

from preheat._interval import Estimate, share_difference, sum_estimates, weighted_share
from preheat._model import AccessBatch, CacheEffect, TimeToSteady, Uplift, WarmupPlan, WarmupReport
from preheat._steady import NEAR, WINDOW, SteadyWatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNASKED, MISS, HIT = -1, 0, 1


class TrafficWindow:
    """The first outcome of each item of a plan in the traffic since its run began, and when traffic was steady.

    Bounded by the plan's size and the number of caches.

    Args:
        plan: The plan.
        steady_ratios: By cache, the hit rate known from history; a cache that is absent has none.
        began_at: The instant at which the run began.

    Attributes:
        outcome: (number of candidates,) int8: UNASKED, MISS or HIT, the item's first request.
        accesses: All requests seen, over all caches.
        watches: By cache, what looks out for a steady hit rate.
        steady: When traffic was steady over all caches; None if that has not been seen.
    """

    def __init__(
        self, plan: WarmupPlan, steady_ratios: Mapping[str, float] | None = None, began_at: float = 0.0
    ) -> None:
        watched = np.concatenate([plan.order, plan.held_out])
        refs = plan.candidates.take(watched).refs()
        hashes = np.fromiter((_hash(cache, key) for cache, key in refs), np.uint64, len(watched))
        order = np.argsort(hashes)
        self._hashes, self._rows = hashes[order], watched[order]
        self.outcome = np.full(len(plan.candidates), UNASKED, np.int8)
        self.accesses = 0
        self.watches: dict[str, SteadyWatch] = {}
        self.steady: TimeToSteady | None = None
        self._steady_ratios, self._began_at = steady_ratios or {}, began_at

    def observe(self, batch: AccessBatch) -> None:
        """Take the accesses of `batch` into account; batches of a cache come in order.

        Where only some of the hits were counted, the first one of an item may be missing: what is seen then is a
        later one, or a miss, so that such a window errs towards less won.
        """
        self.accesses += int(batch.times().sum())
        self._watch_hit_rate(batch)
        first = np.full(len(batch.keys), len(batch.row), np.int64)
        np.minimum.at(first, batch.row, np.arange(len(batch.row)))
        hashes = np.fromiter((_hash(batch.cache, key) for key in batch.keys), np.uint64, len(batch.keys))
        place = np.searchsorted(self._hashes, hashes)
        watched = np.flatnonzero(place < len(self._hashes))
        watched = watched[self._hashes[place[watched]] == hashes[watched]]
        rows = self._rows[place[watched]]
        new = self.outcome[rows] == UNASKED
        self.outcome[rows[new]] = np.where(batch.hit[first[watched][new]], HIT, MISS)

    def accesses_of(self, cache: str) -> int:
        """Requests of `cache` seen."""
        return self.watches[cache].requests if cache in self.watches else 0

    def _watch_hit_rate(self, batch: AccessBatch) -> None:
        if batch.cache not in self.watches:
            self.watches[batch.cache] = SteadyWatch(self._steady_ratios.get(batch.cache, 0.0), self._began_at)
        outcomes = batch.hit if batch.stride == 1 else np.repeat(batch.hit, batch.times())
        self.watches[batch.cache].observe(batch.at, outcomes)
        if self.steady is None:
            self.steady = self._steady_now(batch.at)

    def _steady_now(self, at: float) -> TimeToSteady | None:
        """The newest hit rates of all caches against those known, each cache by its part of the traffic."""
        known = [watch for watch in self.watches.values() if watch.steady_ratio > 0.0]
        requests = sum(watch.requests for watch in known)
        if requests < WINDOW:
            return None
        hit_ratio = sum(watch.requests * watch.hit_ratio for watch in known) / requests
        steady_ratio = sum(watch.requests * watch.steady_ratio for watch in known) / requests
        if hit_ratio < NEAR * steady_ratio:
            return None
        return TimeToSteady(max(0.0, at - self._began_at), self.accesses, hit_ratio, steady_ratio)


def _hash(cache: str, key: str) -> int:
    """64 bits instead of an object per item: two of a million items share them once in thirty million runs."""
    seed = zlib.crc32(cache.encode("utf-8", "surrogatepass"))
    return xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogatepass"), seed)


def with_effects(report: WarmupReport, window: TrafficWindow) -> WarmupReport:
    """`report` with what `window` shows of it; unchanged while that has seen no traffic."""
    if not window.accesses:
        return report
    effects = measure_effects(report, window)
    return replace(report, effects=effects, uplift=combine_effects(effects, window.accesses), steady=window.steady)


def measure_effects(report: WarmupReport, window: TrafficWindow) -> tuple[CacheEffect, ...]:
    """What the run did for each cache of its plan, going by the traffic of `window`."""
    plan, order = report.plan, report.plan.order
    cache, unasked = plan.candidates.cache[order], window.outcome[order] == UNASKED
    effects = []
    for code, name in enumerate(plan.candidates.caches):
        mine, watch = cache == code, window.watches.get(name)
        unused_bytes = int(report.loaded_bytes[mine & unasked].sum())
        effects.append(
            CacheEffect(
                cache=name,
                predictor=plan.predictors.get(name, ""),
                loaded_bytes=int(report.loaded_bytes[mine].sum()),
                unused_bytes=unused_bytes,
                accesses=window.accesses_of(name),
                uplift=_uplift_of(plan, code, window.outcome, window.accesses_of(name), unused_bytes),
                steady=watch.reached if watch is not None else None,
            )
        )
    return tuple(effects)


def combine_effects(effects: Sequence[CacheEffect], accesses: int) -> Uplift | None:
    """What was won over all caches, in `accesses` requests: the sum over the caches in which it could be measured."""
    measured = [(effect.accesses, effect.uplift) for effect in effects if effect.uplift is not None]
    if not measured:
        return None
    uplifts = [uplift for _, uplift in measured]
    return Uplift(
        *sum_estimates((n / accesses, Estimate(*uplift[:3])) for n, uplift in measured),
        *sum_estimates((1.0, Estimate(*uplift[3:6])) for _, uplift in measured),
        sum(effect.unused_bytes for effect in effects),
        sum(uplift.warmed_asked for uplift in uplifts),
        sum(uplift.warmed_hit for uplift in uplifts),
        sum(uplift.held_out_asked for uplift in uplifts),
        sum(uplift.held_out_hit for uplift in uplifts),
        accesses,
    )


class _Group(NamedTuple):
    """Items of one cache that were asked for: whether the first request hit, and what a miss costs."""

    hit: NDArray[np.bool_]
    cost: NDArray[np.float64]


def _uplift_of(
    plan: WarmupPlan, cache: int, outcome: NDArray[np.int8], accesses: int, unused_bytes: int
) -> Uplift | None:
    """The gain in one cache; None until items of both groups have been asked for."""
    warmed, held_out = (_asked(plan, rows, cache, outcome) for rows in (plan.comparable, plan.held_out))
    if not len(warmed.hit) or not len(held_out.hit):
        return None
    counts = len(warmed.hit), int(warmed.hit.sum()), len(held_out.hit), int(held_out.hit.sum())
    share = share_difference((counts[1], counts[0]), (counts[3], counts[2]))
    costs = np.concatenate([warmed.cost, held_out.cost])
    cost_share = share_difference(weighted_share(*warmed, costs), weighted_share(*held_out, costs))
    return Uplift(
        *sum_estimates([(100.0 * len(warmed.hit) / accesses, share)]),
        *sum_estimates([(float(warmed.cost.sum()), cost_share)]),
        unused_bytes,
        *counts,
        accesses,
    )


def _asked(plan: WarmupPlan, rows: NDArray[np.int64], cache: int, outcome: NDArray[np.int8]) -> _Group:
    asked = rows[(plan.candidates.cache[rows] == cache) & (outcome[rows] != UNASKED)]
    return _Group(outcome[asked] == HIT, plan.candidates.warmup_cost[asked])
