"""What an embedding cache holds, for a snapshot: each vector is copied when it is looked at, not all of them before."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

from preheat._model import HeldValue

Digest = tuple[int, int]


class HeldVectors(Sequence[HeldValue]):
    """The entries that were there when this was made, in their order; of one that has left since, the value is None.

    Args:
        digests: Which they are.
        look: Takes a digest, and gives what is held of it now.
    """

    def __init__(self, digests: Iterable[Digest], look: Callable[[Digest], HeldValue]) -> None:
        self._words = array("Q", [word for digest in digests for word in digest])
        self._look = look

    def __len__(self) -> int:
        return len(self._words) // 2

    @overload
    def __getitem__(self, at: int) -> HeldValue: ...
    @overload
    def __getitem__(self, at: slice) -> HeldVectors: ...
    def __getitem__(self, at: int | slice) -> HeldValue | HeldVectors:
        if isinstance(at, slice):
            return HeldVectors(map(self._digest, range(*at.indices(len(self)))), self._look)
        return self._look(self._digest(range(len(self))[at]))

    def __iter__(self) -> Iterator[HeldValue]:
        return map(self._look, map(self._digest, range(len(self))))

    def _digest(self, at: int) -> Digest:
        return self._words[2 * at], self._words[2 * at + 1]
