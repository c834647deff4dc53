"""What candidates weigh, as earlier runs taught it: estimates put right, and what loading holds at its peak."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from preheat._guard import PEAK_RATIO
from preheat._model import CandidateTable, SizeRecord, WarmupItem

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_ITEMS = 3
"""Items of a kind that a run must have loaded before it teaches anything."""

MOST_FACTOR = 64.0
MOST_BYTES = 2**48
"""More than a process can address: no item weighs that much, and the sum of many still fits 64 bits."""


def is_size(size_bytes: object) -> bool:
    """Whether `size_bytes` is a size that an item can have."""
    return isinstance(size_bytes, Integral) and 0 <= size_bytes <= MOST_BYTES  # type: ignore[operator]


NEGLIGIBLE = 0.02
"""Estimates that are wrong by less are left alone: most of what they are off by is chance."""


class Correction(NamedTuple):
    """What runs taught of one kind in one cache.

    Attributes:
        factor: What estimates are multiplied by.
        mean_bytes: What an item weighed; taken for items of unknown size.
        peak_ratio: How many times its size a load held at its peak; 0 if never seen.
    """

    factor: float
    mean_bytes: int
    peak_ratio: float


Corrections = Mapping[tuple[str, str], Correction]
"""By cache and kind."""


def size_factors(corrections: Corrections) -> dict[tuple[str, str], float]:
    """What estimates are multiplied by, by cache and kind; factors that change next to nothing are absent."""
    return {group: c.factor for group, c in corrections.items() if abs(c.factor - 1.0) >= NEGLIGIBLE}


def learn_corrections(
    known: Corrections, sizes: Iterable[SizeRecord], factors: Mapping[tuple[str, str], float]
) -> dict[tuple[str, str], Correction]:
    """`known`, with what a run taught.

    Args:
        known: What was known before.
        sizes: What the run found.
        factors: What the estimates of its plan had been multiplied by already.
    """
    learned = dict(known)
    for size in sizes:
        if size.items < LEAST_ITEMS or not size.accounted_bytes:
            continue
        group = (size.cache, size.kind)
        before = learned.get(group, Correction(1.0, 0, 0.0))
        factor = before.factor
        if size.estimated_bytes:
            factor = factors.get(group, 1.0) * size.compared_bytes / size.estimated_bytes
        learned[group] = Correction(
            factor=min(max(factor, 1 / MOST_FACTOR), MOST_FACTOR),
            mean_bytes=size.accounted_bytes // size.items,
            peak_ratio=size.peak_ratio or before.peak_ratio,
        )
    return learned


def corrections_as_rows(corrections: Corrections) -> list[list[Any]]:
    """Plain data that `corrections_from_rows` understands."""
    return [[*group, *correction] for group, correction in corrections.items()]


def corrections_from_rows(rows: object) -> dict[tuple[str, str], Correction]:
    """What `corrections_as_rows` gave; rows that can't be used are left out."""
    found: dict[tuple[str, str], Correction] = {}
    for row in rows if isinstance(rows, list) else []:
        match row:
            case [str(cache), str(kind), float(factor), int(mean_bytes), float(peak_ratio)]:
                is_factor = 1 / MOST_FACTOR <= factor <= MOST_FACTOR
                if is_factor and 0 <= mean_bytes <= MOST_BYTES and 0 <= peak_ratio < math.inf:
                    found[cache, kind] = Correction(factor, mean_bytes, peak_ratio)
    return found


def correct_sizes(
    candidates: CandidateTable,
    corrections: Corrections,
    *,
    kind_of: Mapping[str, Callable[[str], str]],
    estimate: Callable[[WarmupItem], int],
) -> CandidateTable:
    """`candidates` with their sizes put right.

    Args:
        candidates: What could be warmed.
        corrections: What earlier runs taught.
        kind_of: By cache that tells kinds apart, the kind of a key.
        estimate: What an item of unknown size is taken for if no run has taught it; 0 if that is unknown too.
    """
    sizes, factors = candidates.size_bytes, size_factors(corrections)
    for code, cache in enumerate(candidates.caches):
        rows = np.flatnonzero(candidates.cache == code)
        taught = {
            kind: c._replace(factor=factors.get((name, kind), 1.0))
            for (name, kind), c in corrections.items()
            if name == cache
        }
        if all(c.factor == 1.0 for c in taught.values()):
            rows = rows[sizes[rows] == 0]
        if len(rows):
            sizes = _corrected(candidates, sizes, rows, taught, kind_of.get(cache), estimate)
    return candidates if sizes is candidates.size_bytes else candidates.with_sizes(sizes)


def _corrected(
    candidates: CandidateTable,
    sizes: NDArray[np.int64],
    rows: NDArray[np.int64],
    taught: Mapping[str, Correction],
    kind_of: Callable[[str], str] | None,
    estimate: Callable[[WarmupItem], int],
) -> NDArray[np.int64]:
    sizes = sizes.copy()
    unknown = Correction(1.0, 0, 0.0)
    for row in rows.tolist():
        correction = taught.get(kind_of(candidates.keys[row]) if kind_of else "", unknown)
        if sizes[row]:
            size_bytes = max(1, round(int(sizes[row]) * correction.factor))  # 0 would mean that it is unknown
        else:
            size_bytes = correction.mean_bytes or estimate(candidates[row])
        sizes[row] = min(size_bytes, MOST_BYTES)
    return sizes


def in_flight_peak_bytes(
    candidates: CandidateTable, corrections: Corrections, *, loaders: int, batch_size: Mapping[str, int]
) -> int:
    """What loads may hold at once beyond the values that stay: so much of memory can't be planned for values.

    For each cache, as many batches as there are loaders, of items of which 95 % are smaller; the worst cache counts.

    Args:
        candidates: What could be warmed.
        corrections: What earlier runs taught of peaks.
        loaders: Loads at the same time.
        batch_size: By cache that loads in bulk, the items in a batch; others hold one at a time.
    """
    worst = 0.0
    for code, cache in enumerate(candidates.caches):
        sizes = candidates.size_bytes[candidates.cache == code]
        if len(sizes):
            seen = [c.peak_ratio for (name, _), c in corrections.items() if name == cache and c.peak_ratio]
            beyond = max(0.0, max(seen, default=PEAK_RATIO) - 1.0)
            together = min(loaders * batch_size.get(cache, 1), len(sizes))
            worst = max(worst, float(np.percentile(sizes, 95)) * beyond * together)
    return int(worst)
