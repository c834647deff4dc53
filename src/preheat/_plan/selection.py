"""Which candidates fill the budget, and why the others don't.

Greedy by value per byte over bundles: an item and what it needs are priced together, and what is chosen already
costs nothing again.  For knapsacks with many small items the greedy choice is within one item of the optimum of
the fractional relaxation [1].

All rows have one key: its tier, then its price.  What is needed has a higher key than what needs it, so every
prefix of the order is complete: it is the order of choice and the order of loading.

[1] Dantzig, "Discrete-Variable Extremum Problems", Operations Research 5(2), 1957.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preheat._model import CRITICAL_PRIORITY, CandidateTable, Reason
from preheat._plan.bundles import OUT, Bundles
from preheat._plan.filling import Filling, Room, by_falling_keys
from preheat._plan.ordering import Dependencies
from preheat._plan.pricing import TIER, loading_keys
from preheat._plan.refining import Case, refine
from preheat._plan.strategy import StrategyProfile
from preheat._plan.thresholds import CHOSEN, REASONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 2**16
REFINED_ROWS = 1000
"""Plans over no more candidates get a second look."""

MIN_KNEE_BEND = 0.05  # a value curve that bends less than this from a straight line has no knee


class Selection(NamedTuple):
    """The outcome of choosing.

    Attributes:
        order: Chosen rows in loading order: critical ones first, then by falling price, every dependency before its
            dependants.
        critical: How many of them are critical, or needed by those.
        needed: Rows that something chosen needs directly.
        left_out: (n,) int8, index into REASONS, or CHOSEN.
    """

    order: NDArray[np.int64]
    critical: int
    needed: NDArray[np.int64]
    left_out: NDArray[np.int8]


def select_items(
    candidates: CandidateTable,
    graph: Dependencies,
    value: NDArray[np.float64],
    left_out: NDArray[np.int8],
    profile: StrategyProfile,
    budget_bytes: int,
    free_bytes: Mapping[str, int | None],
) -> Selection:
    """Choose rows whose sizes sum to at most `budget_bytes`, and within each cache to at most its `free_bytes`.

    `left_out` is what `apply_thresholds` gave; why others are left out is written there too.
    """
    bundles = Bundles.of(graph, candidates.size_bytes, left_out == CHOSEN)
    keys = _keys(candidates, value, profile, left_out)
    own = _keys_of(graph.nodes, candidates, value, profile)
    bringing = bundles.bringing_keys(own, value)
    if profile.with_needs:
        keys[graph.nodes] = bringing.among(bundles.deserves)
    else:
        keys[graph.nodes] = bundles.waiting_keys(own)
        left_out[graph.nodes[bundles.without_needs()]] = REASONS.index(Reason.NEEDS_LEFT_OUT)
    del own
    filling = Filling(keys, candidates, bundles, Room(candidates, budget_bytes, free_bytes))
    filling.fill()
    _refine(filling, keys, value, bundles, profile)
    chosen = filling.chosen
    among = bringing.among(chosen[graph.nodes] & bundles.deserves)
    moved = graph.nodes[chosen[graph.nodes] & (keys[graph.nodes] != among)]
    keys[graph.nodes] = among
    order = filling.in_order(keys, moved)
    critical = int(np.count_nonzero(keys[order] >= _critical_key(profile)))
    if profile.to_knee:
        kept = critical + knee(candidates.size_bytes[order[critical:]], value[order[critical:]])
        left_out[order[kept:]] = REASONS.index(Reason.BEYOND_KNEE)
        chosen[order[kept:]] = False
        order = order[:kept]
    give_reasons(left_out, filling, bundles)
    return Selection(order, critical, graph.nodes[graph.needs[chosen[graph.nodes[graph.dependants]]]], left_out)


def _refine(
    filling: Filling, keys: NDArray[np.int64], value: NDArray[np.float64], bundles: Bundles, profile: StrategyProfile
) -> None:
    """Have a second look at a small choice from which something was left out."""
    rows = np.flatnonzero(keys >= 0)
    if len(rows) > REFINED_ROWS or filling.chosen[rows].all() or not profile.with_needs:
        return
    rows = by_falling_keys(rows, keys)
    by_row = rows.tolist()
    deserves = np.ones(len(keys), np.bool_)
    deserves[bundles.nodes] = bundles.deserves
    case = Case(
        order=by_row,
        value=dict(zip(by_row, value[rows].tolist(), strict=True)),
        needs=bundles.direct_needs(),
        wanted=frozenset(rows[deserves[rows]].tolist()),
        fixed=frozenset(rows[keys[rows] >> TIER > keys[rows].min() >> TIER].tolist()),
        **filling.limits(rows),
    )
    filling.choose_instead(np.array(sorted(refine(case, rows[filling.chosen[rows]].tolist())), np.int64))


def _critical_key(profile: StrategyProfile) -> int:
    """The lowest key of what is critical."""
    return (CRITICAL_PRIORITY if profile.by_priority else 1) << TIER


def _keys(
    candidates: CandidateTable, value: NDArray[np.float64], profile: StrategyProfile, left_out: NDArray[np.int8]
) -> NDArray[np.int64]:
    """What each row ranks as by itself: (n,); OUT where it is left out."""
    keys = np.empty(len(candidates), np.int64)
    for start in range(0, len(candidates), BLOCK):
        part = slice(start, start + BLOCK)
        keys[part] = np.where(left_out[part] == CHOSEN, _keys_of(part, candidates, value, profile), OUT)
    return keys


def _keys_of(
    rows: NDArray[np.int64] | slice, candidates: CandidateTable, value: NDArray[np.float64], profile: StrategyProfile
) -> NDArray[np.int64]:
    priority = candidates.priority[rows]
    tier = priority if profile.by_priority else priority >= CRITICAL_PRIORITY
    return loading_keys(tier.astype(np.int64), value[rows] / np.maximum(candidates.size_bytes[rows], 1))


def give_reasons(left_out: NDArray[np.int8], filling: Filling, bundles: Bundles) -> None:
    """Write why what deserved a place has none into `left_out`."""
    rejected = left_out == CHOSEN
    rejected &= ~filling.chosen
    lacks_cache = filling.lacks_cache
    lacks_cache &= rejected
    blocked = lacks_cache[bundles.nodes]
    bundles.graph.mark_dependants(blocked)
    lacks_cache[bundles.nodes] |= blocked & rejected[bundles.nodes]
    # as arithmetic, which takes a tenth of the time of assignments under a mask; where rejected it is CHOSEN so far
    left_out += rejected * np.int8(REASONS.index(Reason.OVER_BUDGET) - CHOSEN)
    left_out += lacks_cache * np.int8(REASONS.index(Reason.OVER_CAPACITY) - REASONS.index(Reason.OVER_BUDGET))
    left_out[bundles.nodes[filling.chosen[bundles.nodes]]] = CHOSEN  # needs that did not deserve it themselves


def knee(size_bytes: NDArray[np.int64], value: NDArray[np.float64]) -> int:
    """How many of the items, in their order, lie before the knee of the curve of value over bytes.

    The knee is where the curve, scaled to a unit square, is farthest above its chord (Satopää et al., "Finding a
    'Kneedle' in a Haystack", ICDCS Workshops 2011).  All of them where the curve hardly bends.
    """
    if len(value) < 3 or not value.sum() > 0:
        return len(value)
    x = np.cumsum(np.maximum(size_bytes, 1)) / np.maximum(size_bytes, 1).sum()
    above = np.cumsum(value) / value.sum() - x
    at = int(above.argmax())
    return at + 1 if above[at] >= MIN_KNEE_BEND else len(value)
