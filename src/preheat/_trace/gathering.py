"""Accesses as they are read, one row after another, gathered into a history in bounded memory."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from preheat._bad_lines import BadLines
from preheat._history import empty_history
from preheat._history.accesses import UNKNOWN, Accesses, history_of_accesses
from preheat._history.builder import MOST_LOAD_SECONDS
from preheat._history.merging import merge_histories, row_bytes
from preheat._model import History
from preheat._trace.columns import MAX_KEY_BYTES, MAX_SIZE_BYTES, is_read
from preheat.errors import UsageError

ROLES = ("t", "size", "op", "cost", "hit", "version", "recipe")
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
AT_ONCE = 2**16  # accesses that stand in memory one by one
TEXT_AT_ONCE = 2**21  # and characters of their texts
_HITS, _MISSES = frozenset({"1", "true", "hit"}), frozenset({"0", "false", "miss"})


class GatheredAccesses:
    """The accesses of one file, of one cache.

    Args:
        path: The file, for messages.
        cache: The name of the cache.
        roles: What the file calls `key` and each of `ROLES`.
        until: The latest instant that can be, in Unix seconds.
        undated_at: The instant of all accesses of a file that has no times.
        unit: What numbers in the column of times count: a name in `UNITS`.
        max_items: How many items are kept: by the builder's rule, the best.
        most_bytes: And how many bytes their history takes at most; reading takes about ten times as much.
    """

    types: Mapping[str, Any] = {
        "key": str | int,
        "t": float | str | None,
        "size": float | None,
        "op": str | int | None,
        "cost": float | None,
        "hit": bool | int | str | None,
        "version": str | int | None,
        "recipe": str | None,
    }
    required: tuple[str, ...] = ("t",)
    full = False

    def __init__(
        self,
        path: str,
        cache: str,
        roles: Mapping[str, str],
        *,
        until: float,
        undated_at: float,
        unit: str = "s",
        max_items: int,
        most_bytes: int,
    ) -> None:
        self.path, self.roles = path, dict(roles)
        self.bad_lines, self.passed_over, self.accesses, self.dated = BadLines(), 0, 0, True
        self._cache, self._until, self._undated_at, self._unit = cache, until, undated_at, UNITS[unit]
        self._parts = _Parts(max_items, most_bytes)
        self._begin_block()

    def begin(self, names: list[str]) -> tuple[bool, ...]:
        """Which of `ROLES` a file whose columns are `names` has.

        Raises:
            UsageError: There is no column of keys, none of a name that was asked for, or one comes twice.
        """
        for role, name in self.roles.items():
            if name not in names and (role == "key" or name != role):
                there = ", ".join(ascii(each[:40])[1:-1] for each in names[:20]) or "none"
                raise UsageError(f"{self.path} has no column {name!r}; its columns are: {there}")
            if names.count(name) > 1:
                raise UsageError(f"{self.path} has two columns {name!r}; nothing says which one is meant")
        self.dated = self.roles["t"] in names
        return tuple(self.roles[role] in names for role in ROLES)

    def bad(self, line: int, reason: str, times: int = 1) -> None:
        """Note that a line can't be used; or that many, the first of them being `line`."""
        self.bad_lines.note(line, reason, times)

    def pass_over(self) -> None:
        """Note a line that tells of something else than an access."""
        self.passed_over += 1

    def add(
        self,
        key: Any,
        t: Any = None,
        size: Any = None,
        op: Any = None,
        cost: Any = None,
        hit: Any = None,
        version: Any = None,
        recipe: Any = None,
    ) -> None:
        """Add a row; what the file has no column for is None.

        Raises:
            ValueError: Something in it can't be used; nothing is added.
        """
        if op is not None and not is_read(op):
            self.passed_over += 1
            return
        text = key if type(key) is str else str(key)
        if not text:
            raise ValueError("key is empty")
        check_text(text, "key")
        at = self._instant(t) if self.dated else self._undated_at
        size_bytes = UNKNOWN if size is None or size == "" else whole_bytes(size)
        seconds = math.nan if cost is None or cost == "" else _number(cost, "cost", MOST_LOAD_SECONDS)
        self._note_texts(text, version, recipe)
        row = self._rows.setdefault(text, len(self._rows))
        if row == len(self._rows) - 1:
            self._characters += len(text)
        self._row.append(row)
        self._at.append(at)
        self._size_bytes.append(size_bytes)
        self._seconds.append(seconds)
        self._hit.append(UNKNOWN if hit is None else _hit(hit))
        if len(self._row) >= AT_ONCE or self._characters >= TEXT_AT_ONCE:
            self._end_block()

    def history(self) -> History:
        """All that was added."""
        self._end_block()
        return self._parts.merged()

    def _instant(self, t: Any) -> float:
        at = instant(t, self._unit)
        if at > self._until:
            raise ValueError("t lies in the future; if it counts milliseconds, say so")
        return at

    def _note_texts(self, key: str, version: Any, recipe: Any) -> None:
        for texts, value, name in ((self._versions, version, "version"), (self._recipes, recipe, "recipe")):
            if value is not None and value != "":
                text = str(value)
                check_text(text, name)
                self._characters += len(text)
                texts[key] = text

    def _begin_block(self) -> None:
        self._rows: dict[str, int] = {}
        self._versions: dict[str, str] = {}
        self._recipes: dict[str, str] = {}
        self._row, self._at, self._size_bytes = array("q"), array("d"), array("q")
        self._seconds, self._hit = array("d"), array("b")
        self._characters = 0

    def _end_block(self) -> None:
        if not self._row:
            return
        self.accesses += len(self._row)
        keys = list(self._rows)
        block = Accesses(
            self._cache,
            keys,
            [self._versions.get(key, "") for key in keys],
            [self._recipes.get(key, "") for key in keys],
            np.frombuffer(self._row, np.int64),
            np.frombuffer(self._at, np.float64),
            np.frombuffer(self._size_bytes, np.int64),
            np.frombuffer(self._seconds, np.float64),
            np.frombuffer(self._hit, np.int8),
        )
        self._parts.add(history_of_accesses(block))
        self._begin_block()


class _Parts:
    """Histories of one file, merged so that each is looked at few times: the larger ones more rarely."""

    def __init__(self, max_items: int, most_bytes: int) -> None:
        self._max_items, self._most_bytes = max_items, most_bytes
        self._parts: list[History] = []

    def add(self, part: History) -> None:
        self._parts.append(part)
        while len(self._parts) > 1 and len(self._parts[-2]) < 2 * len(self._parts[-1]):
            self._merge_last()

    def merged(self) -> History:
        while len(self._parts) > 1:
            self._merge_last()
        return self._parts[0] if self._parts else empty_history()

    def _merge_last(self) -> None:
        newer, older = self._parts.pop(), self._parts.pop()
        fitting = self._most_bytes // max(row_bytes(older), row_bytes(newer))
        self._parts.append(merge_histories(older, newer, max_items=max(1, min(self._max_items, fitting))))


def check_text(text: str, name: str) -> None:
    """Demand that `text` can be kept.

    Raises:
        ValueError: It is too long, or no Unicode.
    """
    try:
        size_bytes = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{name} is not valid Unicode") from None
    if size_bytes > MAX_KEY_BYTES:
        raise ValueError(f"{name} is longer than {MAX_KEY_BYTES} bytes")


def instant(t: Any, unit: float) -> float:
    """`t` as Unix seconds: a number that counts `unit` seconds, or a date and time as in ISO 8601, UTC unless it says.

    Raises:
        ValueError: It is neither.
    """
    if type(t) is str and not _is_number(t):
        try:
            t = datetime.fromisoformat(t.strip())
        except ValueError:
            raise ValueError("t is neither a number nor a date and time") from None
    if isinstance(t, datetime):
        return _number((t if t.tzinfo is not None else t.replace(tzinfo=UTC)).timestamp(), "t", math.inf)
    return _number(t, "t", math.inf) * unit


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def whole_bytes(size: Any) -> int:
    """`size` as bytes.

    Raises:
        ValueError: It is no whole number from 0 to 2**48.
    """
    number = _number(size, "size", math.inf)
    if number > MAX_SIZE_BYTES:
        raise ValueError("size is more than 2**48 bytes")
    if number != int(number):
        raise ValueError("size is not a whole number")
    return int(number)


def _number(value: Any, name: str, below: float) -> float:
    try:
        number = float(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{name} is not a number") from None
    if not 0 <= number < below:  # nor is a NaN
        raise ValueError(f"{name} is negative or not finite" if below == math.inf else f"{name} is out of range")
    return number


def _hit(told: Any) -> int:
    word = str(told).lower()
    return 1 if word in _HITS else 0 if word in _MISSES else UNKNOWN
