"""How often each cache has been asked, and how often in vain: in all, and by the hour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

HOUR_SECONDS = 3600
MOST_HOURS = 24 * 28  # with traffic, of which the hit rate over time is kept


class Traffic:
    """Hits and misses of caches, which are numbered as they are met."""

    def __init__(
        self,
        caches: tuple[str, ...],
        hits: NDArray[np.int64],
        misses: NDArray[np.int64],
        hours: NDArray[np.int64],
        hourly: NDArray[np.int64],
    ) -> None:
        self._codes = {name: code for code, name in enumerate(caches)}
        self._total = np.stack([hits, misses], axis=1).astype(np.int64)
        self._hourly = dict(zip(hours.tolist(), hourly.astype(np.int64), strict=True))

    @property
    def caches(self) -> tuple[str, ...]:
        """Their names, by number."""
        return tuple(self._codes)

    def code(self, cache: str, *, new: bool = True) -> int:
        """The number of `cache`; it gets one if it has none and is `new`, else -1."""
        if cache not in self._codes and new:
            self._codes[cache] = len(self._codes)
            self._total = _with_caches(self._total, len(self._codes))
        return self._codes.get(cache, -1)

    def count(self, code: int, hits: int, misses: int, at: float) -> None:
        """The cache numbered `code` was asked for something `at` an instant, in Unix seconds."""
        self._total[code] += hits, misses
        hour = int(at // HOUR_SECONDS)
        counted = _with_caches(self._hourly.get(hour, self._total[:0]), len(self._codes))
        counted[code] += hits, misses
        self._hourly[hour] = counted
        if len(self._hourly) > MOST_HOURS:
            del self._hourly[min(self._hourly)]

    def totals(self) -> dict[str, tuple[int, int]]:
        """By cache, hits and misses."""
        return {name: (hits, misses) for name, (hits, misses) in zip(self._codes, self._total.tolist(), strict=True)}

    def shown(self) -> dict[str, NDArray[np.int64]]:
        """`hits`, `misses`, `hours` and `hourly` as a `History` has them."""
        hours = sorted(self._hourly)
        hourly = [_with_caches(self._hourly[hour], len(self._codes)) for hour in hours]
        return {
            "hits": self._total[:, 0].copy(),
            "misses": self._total[:, 1].copy(),
            "hours": np.array(hours, np.int64),
            "hourly": np.array(hourly, np.int64).reshape(len(hours), len(self._codes), 2),
        }


def _with_caches(counted: NDArray[np.int64], caches: int) -> NDArray[np.int64]:
    """A copy of `counted` (number of caches, 2) with rows of zeros for those that it lacks."""
    grown = np.zeros((caches, 2), np.int64)
    grown[: len(counted)] = counted
    return grown
