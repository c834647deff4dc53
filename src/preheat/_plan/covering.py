"""What a plan's items make superfluous: parts that nobody asks for but to make them.

The vector of a query is asked for when the results of the query are missed, and for nothing else.  Once the results are
resident, holding the vector too saves nothing.  So what a choice S saves is not the sum of its values but

    V(S) = sum of v over S + sum over parts p outside S of v(p) x (share of p's requests that come from members of S)

where the requests of a part come from the items that cover it, in proportion to how often those are asked for.  Every
request of a part is saved once, by whichever is resident: V is a coverage function, monotone and submodular, for which
greedy choices by marginal value are good [1].

[1] Leskovec et al., "Cost-effective Outbreak Detection in Networks", KDD 2007: lazy greedy by benefit over cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from preheat._model import CRITICAL_PRIORITY, CandidateTable
from preheat._plan.identity import ItemIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which rows cover which.

    Attributes:
        owner, part: (e,) int64, rows: `owner` covers `part`.
        share: (e,) the share of the part's requests that come from the owner; of a part they add up to 1.
    """

    owner: NDArray[np.int64]
    part: NDArray[np.int64]
    share: NDArray[np.float64]

    @classmethod
    def of(cls, candidates: CandidateTable) -> Coverage:
        """That among `candidates`, whose items are distinct.  What the operator calls critical is nobody's part."""
        refs = [(row, ref) for row, covered in candidates.covers.items() for ref in dict.fromkeys(covered)]
        owner = np.array([row for row, _ in refs], np.int64)
        part = ItemIndex(candidates).find([ref for _, ref in refs]).astype(np.int64) if refs else owner
        counts = (part >= 0) & (part != owner)
        counts[counts] = candidates.priority[part[counts]] < CRITICAL_PRIORITY
        owner, part = owner[counts], part[counts]
        asked = np.maximum(candidates.usage_frequency[owner], np.finfo(np.float64).tiny)  # alike if never asked for
        return cls(owner, part, asked / np.bincount(part, asked, len(candidates))[part])

    def __len__(self) -> int:
        return len(self.owner)

    def covered(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The share of each row's requests that come from the `chosen`: (n,), from 0 to 1."""
        there = chosen[self.owner]
        shares = np.bincount(self.part[there], self.share[there], len(chosen))
        return np.minimum(shares, 1.0)

    def total(self, value: NDArray[np.float64], chosen: NDArray[np.bool_]) -> float:
        """V of the `chosen` (n,), in seconds."""
        return float(np.where(chosen, value, value * self.covered(chosen)).sum())

    def marginal(self, value: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """What each row is worth beside the `chosen` owners: (n,) seconds.

        An owner also saves its share of each part, a part only what no chosen owner saves.
        """
        shares = np.bincount(self.owner, self.share * value[self.part], len(value))
        left = 1.0 - self.covered(chosen)
        left[left < 1e-12] = 0.0  # a sum of shares that is 1 but for rounding
        return (value + shares) * left

    def without_part_needs(self, candidates: CandidateTable) -> CandidateTable:
        """`candidates` whose rows don't need what they cover: whoever loads such a row makes its parts on the way."""
        parts: dict[int, set[int]] = {}
        for owner, part in zip(self.owner.tolist(), self.part.tolist(), strict=True):
            parts.setdefault(owner, set()).add(part)
        needs = dict(candidates.needs)
        for owner, rows in parts.items():
            own = {candidates.ref(row) for row in rows}
            left = tuple(ref for ref in needs.pop(owner, ()) if ref not in own)
            needs |= {owner: left} if left else {}
        return replace(candidates, needs=needs)
