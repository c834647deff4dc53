"""How the items of a run ended: columns, made before the run."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from preheat._model import STATUS_CODE, ItemResult, ItemStatus

if TYPE_CHECKING:
    from numpy.typing import NDArray

# as a name of the module: found in its class, it would take a tenth of the time that a run spends here on an item
_LOADED = ItemStatus.LOADED


class Outcomes(Sequence[ItemResult | None]):
    """How each item ended so far; None where it has not.  The seconds are not kept.

    Columns, made before the run: an object per item, made between the values that are loaded, would pin the memory
    around it when they are dropped.
    """

    __slots__ = ("_codes", "_numbers", "_reasons", "_sizes", "_texts")

    def __init__(self, length: int) -> None:
        self._codes = array("b", [-1]) * length
        self._sizes = array("q", [0]) * length
        self._reasons = array("l", [0]) * length
        self._texts = [""]
        self._numbers = {"": 0}

    @classmethod
    def of(cls, status: NDArray[np.int8], size_bytes: NDArray[np.int64]) -> Outcomes:
        """What a report says: (n,) indices into `ItemStatus` by definition order, and (n,) sizes."""
        outcomes = cls(len(status))
        outcomes._codes[:] = array("b", status.astype(np.int8).tobytes())
        outcomes._sizes[:] = array("q", size_bytes.astype(np.int64).tobytes())
        return outcomes

    @property
    def reasons(self) -> Reasons:
        """The reasons of those that have one."""
        return Reasons(self._reasons, self._texts)

    @property
    def codes(self) -> memoryview:
        """Indices into `ItemStatus` by definition order, -1 where an item has not ended."""
        return memoryview(self._codes)

    @property
    def sizes(self) -> memoryview:
        """What the caches account for each item, in bytes; 0 unless it is LOADED."""
        return memoryview(self._sizes)

    def __len__(self) -> int:
        return len(self._codes)

    @overload
    def __getitem__(self, item: int) -> ItemResult | None: ...
    @overload
    def __getitem__(self, item: slice) -> list[ItemResult | None]: ...
    def __getitem__(self, item: int | slice) -> ItemResult | list[ItemResult | None] | None:
        if isinstance(item, slice):
            return [self[n] for n in range(len(self))[item]]
        code = self._codes[item]
        return (
            None if code < 0 else ItemResult(_STATUSES[code], self._sizes[item], 0.0, self._texts[self._reasons[item]])
        )

    def __setitem__(self, item: int, result: ItemResult) -> None:
        self._codes[item] = STATUS_CODE[result.status]
        self._sizes[item] = result.size_bytes if result.status is _LOADED else 0
        self._reasons[item] = self._number(result.reason)

    def _number(self, reason: str) -> int:
        number = self._numbers.get(reason)
        if number is None:
            number = self._numbers[reason] = len(self._texts)
            self._texts.append(reason)
        return number

    def is_open(self, item: int) -> bool:
        """Whether `item` has not ended."""
        return self._codes[item] < 0

    def open_items(self, start: int = 0, stop: int | None = None) -> NDArray[np.int64]:
        """Those of the items from `start` to `stop` that have not ended, ascending."""
        codes = np.frombuffer(self._codes, np.int8)[start:stop]
        return np.flatnonzero(codes < 0) + start

    def load(self, items: Sequence[int], sizes: Sequence[int]) -> None:
        """`items`, ascending, have been loaded; `sizes` is what each weighs."""
        start, stop = items[0], items[-1] + 1
        if stop - start == len(items):
            self._codes[start:stop] = array("b", bytes(len(items)))  # LOADED is the first status
            self._sizes[start:stop] = array("q", sizes)
            return
        for item, size_bytes in zip(items, sizes, strict=True):
            self._codes[item], self._sizes[item] = 0, size_bytes

    def end(self, items: NDArray[np.int64], result: ItemResult) -> None:
        """`items` have all ended as `result`."""
        np.frombuffer(self._codes, np.int8)[items] = STATUS_CODE[result.status]
        np.frombuffer(self._reasons, np.dtype("l"))[items] = self._number(result.reason)

    def resident_items(self) -> NDArray[np.int64]:
        """Those that are LOADED or RESIDENT, ascending."""
        codes = np.frombuffer(self._codes, np.int8)
        return np.flatnonzero(np.isin(codes, [STATUS_CODE[_LOADED], STATUS_CODE[ItemStatus.RESIDENT]]))

    def copy(self, other: Outcomes, items: NDArray[np.int64]) -> None:
        """`items` have ended as they did in `other`, without a reason."""
        for mine, its in ((self._codes, other._codes), (self._sizes, other._sizes)):
            kind = np.dtype(mine.typecode)
            np.frombuffer(mine, kind)[items] = np.frombuffer(its, kind)[items]

    def by_status(self, items: range) -> dict[ItemStatus, int]:
        """How many of `items` have ended in each status."""
        codes = np.frombuffer(self._codes, np.int8)[items.start : items.stop]
        counts = np.bincount(codes[codes >= 0], minlength=len(_STATUSES)).tolist()
        return {status: n for status, n in zip(_STATUSES, counts, strict=True) if n}


class Reasons(Mapping[int, str]):
    """Why items ended as they did, by item; those without a reason are absent.  Each text is there once."""

    __slots__ = ("_numbers", "_texts")

    def __init__(self, numbers: Sequence[int], texts: Sequence[str]) -> None:
        self._numbers, self._texts = numbers, texts

    def __getitem__(self, item: int) -> str:
        if not 0 <= item < len(self._numbers) or not self._numbers[item]:
            raise KeyError(item)
        return self._texts[self._numbers[item]]

    def __iter__(self) -> Iterator[int]:
        return (item for item, number in enumerate(self._numbers) if number)

    def __len__(self) -> int:
        return sum(map(bool, self._numbers))

    def __repr__(self) -> str:
        return f"Reasons({dict(self)})"


_STATUSES = tuple(ItemStatus)
