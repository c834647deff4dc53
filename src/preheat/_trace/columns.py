"""Requests as they are read, one row or one batch after another, gathered into columns."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from preheat._bad_lines import BadLines
from preheat._replay import Trace
from preheat.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_KEY_BYTES = 4096
MAX_SIZE_BYTES = 2**48
MAX_FOOTPRINT_BYTES = 2**60  # sums of sizes stay whole
MAX_EXAMPLES = 5
READS = frozenset({"", "0", "r", "get", "gets", "read", "head"})
OPTIONAL = ("t", "size", "op", "cost")


@dataclass(frozen=True, eq=False, slots=True)
class Recording:
    """A trace, and what became of the lines of its file.

    Attributes:
        trace: The requests.
        bad_lines: Lines left out because something in them can't be used.
        bad_examples: The first few of them, with line number and reason.
        not_reads: Rows whose `op` says that they are no reads, left out or not.
        cut: Whether the limit was reached; the file may have more.
    """

    trace: Trace
    bad_lines: int
    bad_examples: tuple[str, ...]
    not_reads: int
    cut: bool


class Columns:
    """The columns of one file, growing while it is read."""

    types: Mapping[str, Any] = {
        "key": str | int,
        "t": float | None,
        "size": float | None,
        "op": str | int | None,
        "cost": float | None,
    }
    required: tuple[str, ...] = ("t", "size")

    def __init__(self, path: str, *, limit: int, reads_only: bool) -> None:
        self.path = path
        self.roles = {role: role for role in ("key", *OPTIONAL)}
        self._limit, self._reads_only = limit, reads_only
        self._numbers: dict[bytes, int] = {}
        self._items, self._times, self._sizes, self._costs = array("q"), array("d"), array("q"), array("d")
        self._present: frozenset[str] = frozenset()
        self._bad, self._not_reads = BadLines(MAX_EXAMPLES), 0

    def begin(self, names: list[str]) -> tuple[bool, ...]:
        """Which of `OPTIONAL` a file whose columns are `names` has.

        Raises:
            UsageError: There is no column `key`.
        """
        if "key" not in names:
            there = ", ".join(ascii(name[:40])[1:-1] for name in names[:20]) or "none"
            raise UsageError(f"{self.path} has no column `key`; its columns are: {there}")
        self._present = frozenset(names)
        return tuple(name in self._present for name in OPTIONAL)

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return len(self._items) >= self._limit

    @property
    def room(self) -> int:
        """Requests that may still come."""
        return self._limit - len(self._items)

    def bad(self, line: int, reason: str, times: int = 1) -> None:
        """Note that a line can't be used; or that many, the first of them being `line`."""
        self._bad.note(line, reason, times)

    def add(self, key: Any, *values: Any) -> None:
        """Add a row of checked presence; what the file has no column for is None.

        Raises:
            ValueError: Something in it can't be used; nothing is added.
        """
        t, size, op, cost = values
        item = key_digest(key)
        at = 0.0 if t is None else _number(t, "t")
        size_bytes = 1 if size is None else _size(size)
        cost_seconds = math.nan if cost is None or cost == "" else _number(cost, "cost")
        if op is not None and not is_read(op):
            self._not_reads += 1
            if self._reads_only:
                return
        self._items.append(self.number(item))
        self._times.append(at)
        self._sizes.append(size_bytes)
        self._costs.append(cost_seconds)

    def number(self, digest: bytes) -> int:
        """The number of the item with this digest: they are given in the order of first appearance."""
        return self._numbers.setdefault(digest, len(self._numbers))

    def extend(
        self,
        items: NDArray[np.int64],
        times: NDArray[np.float64],
        sizes: NDArray[np.int64],
        costs: NDArray[np.float64],
        reads: NDArray[np.bool_],
    ) -> None:
        """Add checked rows at once."""
        self._not_reads += int((~reads).sum())
        chosen = np.flatnonzero(reads) if self._reads_only else np.arange(len(items))
        self._items.frombytes(items[chosen].tobytes())
        self._times.frombytes(times[chosen].tobytes())
        self._sizes.frombytes(sizes[chosen].tobytes())
        self._costs.frombytes(costs[chosen].tobytes())

    def recording(self, name: str) -> Recording:
        """All that was read.

        Raises:
            UsageError: The items are larger than anything.
        """
        items = _by_first_appearance(np.frombuffer(self._items, np.int64))
        times = np.frombuffer(self._times) if "t" in self._present else np.arange(len(items), dtype=np.float64)
        sizes = np.ones(int(items.max(initial=-1)) + 1, np.int64)
        sizes[items] = np.maximum(np.frombuffer(self._sizes, np.int64), 1)  # of several, the last one stays
        if sizes.sum(dtype=np.float64) > MAX_FOOTPRINT_BYTES:
            raise UsageError(f"the sizes of all items of {self.path} add up to more than 2**60 bytes")
        costs = _mean_cost(items, np.frombuffer(self._costs)) if "cost" in self._present else None
        trace = Trace(name, times, items, sizes, costs)
        return Recording(trace, self._bad.count, tuple(self._bad.named), self._not_reads, self.full)


def key_digest(key: Any) -> bytes:
    """What an item is known by: 16 bytes, however long its key.

    Raises:
        ValueError: The key can't be used.
    """
    try:
        data = (key if isinstance(key, str) else str(key)).encode()
    except UnicodeEncodeError:
        raise ValueError("key is not valid Unicode") from None
    if not data:
        raise ValueError("key is empty")
    if len(data) > MAX_KEY_BYTES:
        raise ValueError(f"key is longer than {MAX_KEY_BYTES} bytes")
    return xxhash.xxh3_128_digest(data)


def is_read(op: Any) -> bool:
    """Whether an `op` is that of a read."""
    return str(op).strip().lower() in READS


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{name} is not a number") from None
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} is negative or not finite")
    return number


def _size(value: Any) -> int:
    number = _number(value, "size")
    if number != int(number):
        raise ValueError("size is not a whole number")
    if number > MAX_SIZE_BYTES:
        raise ValueError("size is more than 2**48 bytes")
    return int(number)


def _by_first_appearance(items: NDArray[np.int64]) -> NDArray[np.int64]:
    _, first, code = np.unique(items, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[code]


def _mean_cost(items: NDArray[np.int64], costs: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """What a miss of each item costs: the mean of what is known of it, else that of all; None if nothing is."""
    known = ~np.isnan(costs)
    if not known.any():
        return None
    n_items = int(items.max()) + 1
    times = np.bincount(items[known], minlength=n_items)
    total = np.bincount(items[known], costs[known], n_items)
    mean: NDArray[np.float64] = np.where(times > 0, total / np.maximum(times, 1), costs[known].mean())
    return mean
