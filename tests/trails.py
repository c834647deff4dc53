"""Trails that tests start from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from preheat._predict.moment import Moment, moments
from preheat._predict.trail import Trail


def trail_of(
    keys: Sequence[int] | np.ndarray, sizes: int | Sequence[int] = 1, times: np.ndarray | None = None
) -> Trail:
    """Accesses to `keys`, numbered here in the order of their appearance; `sizes` are by that number."""
    numbers: dict[int, int] = {}
    items = np.array([numbers.setdefault(int(key), len(numbers)) for key in keys], np.int32)
    size_bytes = np.broadcast_to(np.asarray(sizes, np.int64), len(numbers)).copy()
    return Trail(items, np.arange(len(items), dtype=float) if times is None else np.asarray(times, float), size_bytes)


def popular(accesses: int, population: int, seed: int = 0, exponent: float = 0.8) -> np.ndarray:
    """Keys asked for independently, by a power of their rank."""
    rng = np.random.default_rng(seed)
    shares = np.cumsum(np.arange(1, population + 1) ** -exponent)
    return np.searchsorted(shares, rng.random(accesses) * shares[-1])


def popular_trail(accesses: int, population: int, seed: int = 0) -> Trail:
    """The same as a trail with sizes of all kinds and a clock."""
    rng = np.random.default_rng(seed)
    keys = popular(accesses, population, seed)
    sizes = rng.integers(1, 1000, len(np.unique(keys)))
    return trail_of(keys, sizes.tolist(), np.cumsum(rng.exponential(1.0, accesses)))


def moment_of(trail: Trail, position: int | None = None, horizon: float = 10.0, capacity_bytes: int = 100) -> Moment:
    """What is known at `position`, or at the end."""
    return next(moments(trail, [len(trail) if position is None else position], horizon, capacity_bytes))


@st.composite
def trails(draw: st.DrawFn, least: int = 1, most: int = 60) -> Trail:
    """Short trails of few items, with sizes and times of all kinds."""
    keys = draw(st.lists(st.integers(0, 12), min_size=least, max_size=most))
    sizes = draw(st.lists(st.integers(1, 50), min_size=len(set(keys)), max_size=len(set(keys))))
    gaps = draw(st.lists(st.sampled_from([0.0, 1.0, 60.0, 7200.0, 90_000.0]), min_size=len(keys), max_size=len(keys)))
    return trail_of(keys, sizes, np.cumsum(gaps))
