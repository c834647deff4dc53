"""Which predictors a cache's own past speaks for, and how they are weighed.

Chances are pooled as products of powers [1]: an item is expected if all that have a say expect it.  Which pool serves
a cache is decided by restarting it inside its own past: the newest windows are played with what was known before them,
by the replay that judges warm-ups, and the pool that saves most misses is taken.  Models that take part there have
been trained on older windows only.  Where there is too little past to learn from, decayed frequency decides alone.

[1] Genest and Zidek, "Combining Probability Distributions: A Critique and an Annotated Bibliography", Statistical
    Science 1(1), 1986: the logarithmic opinion pool.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from preheat._predict import context, decayed_frequency, interarrival, neighbourhood, periodicity, recency
from preheat._predict.examples import Breathe, draw_examples
from preheat._predict.features import FEATURES
from preheat._predict.importance import feature_importance
from preheat._predict.learned import Learned, learn
from preheat._predict.moment import Moment, moments
from preheat._predict.trail import Trail, Window
from preheat._replay import Trace, best_possible, fill, fill_window, saved_misses

if TYPE_CHECKING:
    from numpy.typing import NDArray

Expert = Callable[[Moment], "NDArray[np.float64]"]
EXPERTS: dict[str, Expert] = {
    "agreeing_context": context.agreeing_chance,
    "context": context.chance,
    "decayed_frequency": decayed_frequency.chance,
    "interarrival": interarrival.chance,
    "neighbourhood": neighbourhood.chance,
    "periodicity": periodicity.chance,
    "recency": recency.chance,
}
LEARNED = "learned"
FALLBACK: Mapping[str, float] = {"decayed_frequency": 1.0}
POOLS: tuple[Mapping[str, float], ...] = (
    {LEARNED: 0.8, "agreeing_context": 0.1, "decayed_frequency": 0.1},
    {LEARNED: 0.8, "agreeing_context": 0.2},
    {LEARNED: 0.5, "agreeing_context": 0.5},
    {LEARNED: 0.7, "decayed_frequency": 0.3},
    {LEARNED: 0.8, "periodicity": 0.2},
    {LEARNED: 1.0},
    *({name: 1.0} for name in EXPERTS),
)
MOST_WINDOWS = 24
LEAST_WINDOWS = 3
VALIDATED = (2, 4)  # windows, at least and at most
VALIDATED_ARRIVALS = 20_000  # items asked for in them, if there are so many
FIRST_LOOK = 4096  # items
MARGIN = 0.03  # of captured share, by which another pool has to be better than the first: less is chance
BUDGETS = (1.0, 0.25)  # of the capacity
NETWORKS = 2
LEAST_CHANCE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """What was learned of one cache.

    Attributes:
        capacity_bytes: The cache that it was learned for.
        accesses: How many were in the trail.
        learned: Networks and trees; None where there was too little past.
        pool: Predictors and their weights, which sum to 1.
        captured: By pool, the share of the misses that could be saved which it saved in the windows validated.
        importance: By feature, what the learned lose when it is shuffled: nats per item that was asked for.
    """

    capacity_bytes: int
    accesses: int
    learned: Learned | None
    pool: Mapping[str, float]
    captured: Mapping[str, float]
    importance: Mapping[str, float]

    def chance(self, moment: Moment) -> NDArray[np.float64]:
        """P(asked for before it would have come in by itself): (known,)."""
        return pooled(self.pool, {name: ask(name, self.learned, moment) for name in self.pool})

    def without(self, names: Collection[str]) -> Model:
        """The model with the pool that captured most of those not called by `names`; itself if none is left."""
        if pool_name(self.pool) not in names:
            return self
        others = [pool for pool in POOLS if pool_name(pool) in self.captured and pool_name(pool) not in names]
        others = [pool for pool in others if self.learned is not None or LEARNED not in pool]
        return replace(self, pool=_choose(others, self.captured)) if others else self


def pool_name(pool: Mapping[str, float]) -> str:
    """What a pool is called: its predictors, with their weights where they are several."""
    return " + ".join(name if weight == 1.0 else f"{weight:g} {name}" for name, weight in pool.items())


def train_model(trail: Trail, capacity_bytes: int, *, seed: int = 0, breathe: Breathe = lambda: None) -> Model:
    """What `trail` teaches about a cache of `capacity_bytes`.

    Looks at the newest windows only and draws a bounded number of items from them: seconds of one core for a million
    accesses to a hundred thousand items, half a minute for four million to a million.  The same arguments give the
    same model on the same machine.
    """
    windows = trail.windows(capacity_bytes, MOST_WINDOWS)[::-1]
    if len(windows) < LEAST_WINDOWS:
        return Model(capacity_bytes, len(trail), None, FALLBACK, {}, {})
    rng = np.random.default_rng(seed)
    validated = _validated(trail, windows, capacity_bytes)
    kept: list[Moment] = []
    starts = moments(trail, [w.start for w in windows], horizon_of(trail, capacity_bytes), capacity_bytes)
    parts = draw_examples(_keeping(starts, len(windows) - validated, kept), windows, rng, breathe)
    before = learn(parts[:-validated], 1, rng, breathe)
    silent = {LEARNED} if before is None else set()
    silent |= set() if periodicity.is_clock(trail.times) else {"periodicity"}
    pools = [pool for pool in POOLS if not silent & pool.keys()]
    shares = _validate(zip(kept, windows[-validated:], strict=True), pools, before, breathe)
    learned = learn(parts, NETWORKS, rng, breathe) if before is not None else None
    pool = _choose(pools if learned is not None else [FALLBACK, *pools], shares)
    importance = feature_importance(learned, parts[-1], FEATURES, rng) if learned is not None else {}
    return Model(capacity_bytes, len(trail), learned, pool, shares, importance)


def horizon_of(trail: Trail, capacity_bytes: int) -> float:
    """Accesses in which a cache of `capacity_bytes` refills, as it did last."""
    return float(min(trail.refill(len(trail), capacity_bytes), trail.longest_window))


def present(trail: Trail, capacity_bytes: int) -> Moment:
    """The moment at the end of `trail`."""
    return next(moments(trail, [len(trail)], horizon_of(trail, capacity_bytes), capacity_bytes))


def _validated(trail: Trail, windows: Sequence[Window], capacity_bytes: int) -> int:
    arrivals = max(1, len(trail.arrivals(windows[-1], capacity_bytes)[0]))
    wanted = min(max(math.ceil(VALIDATED_ARRIVALS / arrivals), VALIDATED[0]), VALIDATED[1])
    return min(wanted, len(windows) // 3 or 1)


def _keeping(starts: Iterable[Moment], first: int, kept: list[Moment]) -> Iterator[Moment]:
    for n, moment in enumerate(starts):
        if n >= first:
            kept.append(moment)
        yield moment


def ask(name: str, learned: Learned | None, moment: Moment) -> NDArray[np.float64]:
    """What the predictor called `name` says of each item known: (known,)."""
    if name == LEARNED:
        assert learned is not None  # noqa: S101 - a pool with it is chosen only where it was learned
        return learned.chance(moment)
    return EXPERTS[name](moment)


def pooled(pool: Mapping[str, float], chances: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """What the predictors of `pool` say together: (known,)."""
    if len(pool) == 1:
        return chances[next(iter(pool))]
    logs = [weight * np.log(np.maximum(chances[name], LEAST_CHANCE)) for name, weight in pool.items()]
    together: NDArray[np.float64] = np.exp(np.sum(logs, axis=0))
    return together


def _validate(
    past: Iterable[tuple[Moment, Window]],
    pools: Sequence[Mapping[str, float]],
    learned: Learned | None,
    breathe: Breathe,
) -> dict[str, float]:
    """By pool, the mean share that it captured in the windows of `past`, each played from the moment it began."""
    shares = []
    for moment, window in past:
        shares.append(_captured(moment, window, pools, learned))
        breathe()
    return dict(zip(map(pool_name, pools), np.mean(shares, axis=0).tolist(), strict=True))


def _captured(
    moment: Moment, window: Window, pools: Sequence[Mapping[str, float]], learned: Learned | None
) -> list[float]:
    """By pool, the share of the misses of `window` that could be saved and were, over `BUDGETS`."""
    trail, capacity_bytes = moment.trail, moment.capacity_bytes
    trace = Trace("", trail.times, trail.items.astype(np.int64), trail.size_bytes)
    replay = fill_window(trace, window.start, capacity_bytes)
    names = {name for pool in pools for name in pool}
    chances = {name: ask(name, learned, moment) for name in sorted(names)}
    sizes = trail.size_bytes[: moment.known]
    orders = [_best_first(pooled(pool, chances) / sizes, moment.last, sizes, capacity_bytes) for pool in pools]
    shares = np.zeros(len(pools))
    for ratio in BUDGETS:
        budget = int(ratio * capacity_bytes)
        best = best_possible(replay, moment.known, capacity_bytes, budget)
        possible = len(saved_misses(replay, best, trace, capacity_bytes))
        plans = (fill(order, sizes, budget) for order in orders)
        saved = np.array([len(saved_misses(replay, plan, trace, capacity_bytes)) for plan in plans])
        shares += saved / max(possible, 1) / len(BUDGETS)
    return shares.tolist()


def _best_first(
    density: NDArray[np.float64], last: NDArray[np.int64], sizes: NDArray[np.int64], capacity_bytes: int
) -> NDArray[np.int64]:
    """Items by falling density, of equals the one used last first: as many as fill `capacity_bytes`, and some more."""
    most = FIRST_LOOK
    best = np.arange(len(density))
    while most < len(density):
        top = np.flatnonzero(density >= np.partition(density, -most)[-most])
        if sizes[top].sum() >= capacity_bytes:
            best = top
            break
        most *= 4
    return best[np.lexsort((-last[best], -density[best]))]


def _choose(pools: Sequence[Mapping[str, float]], captured: Mapping[str, float]) -> Mapping[str, float]:
    """The pool that captured most; the first one unless another is better by more than noise."""
    first = pools[0]
    best = max(pools, key=lambda pool: captured[pool_name(pool)])
    return best if captured[pool_name(best)] > captured[pool_name(first)] + MARGIN else first
