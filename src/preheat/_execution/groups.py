"""What the items of a run fall into: caches, and kinds within them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from preheat._guard import Group

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Groups:
    """The distinct pairs of cache and kind.

    Args:
        caches: (n,) the cache of each item.
        kinds: (n,) its kind, or nothing if all are alike.

    Attributes:
        all: Those pairs.
        code: (n,) which of them each item is of.
        caches: The distinct caches.
    """

    def __init__(self, caches: Sequence[str], kinds: Sequence[str] = ()) -> None:
        labels: Sequence[Any] = list(zip(caches, kinds, strict=True)) if kinds else caches
        codes = {label: code for code, label in enumerate(dict.fromkeys(labels))}
        self.all = [Group(*label) if kinds else Group(label, "") for label in codes]
        self.code = array("l", map(codes.__getitem__, labels))
        self.caches = tuple(dict.fromkeys(group.cache for group in self.all))

    def cache_of(self, item: int) -> str:
        """The cache of `item`."""
        return self.all[self.code[item]].cache

    def by_cache(self, items: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """`items` in parts, one for each cache that has any of them, in the order in which they are."""
        groups = np.frombuffer(self.code, np.dtype("l"))[items]
        for cache in self.caches:
            codes = [code for code, group in enumerate(self.all) if group.cache == cache]
            mine = items[np.isin(groups, codes)] if len(self.caches) > 1 else items
            if len(mine):
                yield cache, mine
