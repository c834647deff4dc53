"""JSON lines -> a history, whoever wrote them.

Every line is validated on its own; one that can't be used is counted and named, and the rest is read.  Memory is
bounded by the number of items kept, whatever the length of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from preheat._bad_lines import BadLines, without_place
from preheat._history import TRAIL_LIMIT
from preheat._history.demanding import demand
from preheat._history.merging import MAX_ITEMS
from preheat._history.traffic import MOST_HOURS
from preheat._model import History
from preheat._portable.items import ItemRows
from preheat._portable.lines import SCHEMA, End, Header, Hour, Item, Line, Trail
from preheat.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_BYTES = 2**32


class Imported(NamedTuple):
    """What a file holds.

    Attributes:
        history: All that could be used.
        cut: Whether the file ends before its end.
    """

    history: History
    cut: bool


def read_history(
    lines: Iterable[tuple[int, str]],
    bad: BadLines,
    *,
    until: float,
    max_items: int = MAX_ITEMS,
    most_bytes: int = MOST_BYTES,
) -> Imported:
    """The history in `lines`, each with its number; those that can't be used are noted in `bad`.

    An instant after `until`, in Unix seconds, can't be used: it would make all that is known look old.  Of an item
    that comes twice, the first one counts; of a field, the last.  At most `max_items` items of `most_bytes` are kept,
    and between two clearings up to a quarter more: those that `HistoryBuilder` would keep.

    Raises:
        UsageError: The first line is no header of such a file.
    """
    numbered = iter(lines)
    header = _header(numbered, until)
    items, rest = ItemRows(header, bad, max_items, most_bytes), _Rest(header)
    decode = msgspec.json.Decoder(Line).decode
    whole = False
    for number, text in numbered:
        try:
            part = decode(text)
            _demand_past(part, until)
            if isinstance(part, Item):
                items.add(number, part)
            elif isinstance(part, End):
                whole = True
            else:
                rest.add(part)
        except (ValueError, RecursionError) as error:
            bad.note(number, without_place(error))
    return Imported(rest.complete(*items.gathered()), not whole)


def _header(lines: Iterator[tuple[int, str]], until: float) -> Header:
    try:
        header = msgspec.json.decode(next(lines, (1, ""))[1], type=Header)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"its first line is no header of an exported history: {without_place(error)}") from None
    if header.schema != SCHEMA:
        raise UsageError(f"its schema is {header.schema[:40]!a}; this preheat reads '{SCHEMA}'")
    if len({cache.name for cache in header.caches}) < len(header.caches):
        raise UsageError("its header names a cache twice")
    if max(header.at, header.since) > until:
        raise UsageError("it goes on after now; is the clock of this machine right?")
    return header


def _demand_past(part: Item | Hour | Trail | End, until: float) -> None:
    if isinstance(part, Item):
        demand(part.last_at <= until, "its last access lies in the future")
    elif isinstance(part, Hour):
        demand(part.hour * 3600 <= until, "its hour lies in the future")
    elif isinstance(part, Trail):
        demand(max(part.at, default=0.0) <= until, "an access lies in the future")


class _Rest:
    """The hours and the trail of a file."""

    def __init__(self, header: Header) -> None:
        self._at, self._caches = header.at, len(header.caches)
        self._hours: dict[int, list[tuple[int, int]]] = {}
        self._trail = [(np.empty(0, np.int64), np.empty(0))]
        self._accesses = 0

    def add(self, part: Hour | Trail) -> None:
        """Add what stands in a line.

        Raises:
            ValueError: It does not fit the header, or itself.
        """
        if isinstance(part, Trail):
            self._add_trail(part)
        else:
            self._add_hour(part)

    def _add_hour(self, hour: Hour) -> None:
        demand(len(hour.traffic) == self._caches, "it has another number of caches than the header")
        demand(hour.hour not in self._hours, "its hour came before")
        self._hours[hour.hour] = hour.traffic
        if len(self._hours) > 2 * MOST_HOURS:
            self._hours = dict(sorted(self._hours.items())[-MOST_HOURS:])

    def _add_trail(self, trail: Trail) -> None:
        demand(len(trail.items) == len(trail.at), "it has another number of items than of instants")
        self._trail.append((np.array(trail.items, np.int64), np.array(trail.at, np.float64)))
        self._accesses += len(trail.items)
        if self._accesses > 2 * TRAIL_LIMIT or len(self._trail) > TRAIL_LIMIT:
            self._trail = [_newest(self._trail)]
            self._accesses = len(self._trail[0][0])

    def complete(self, rows: History, numbers: NDArray[np.int64]) -> History:
        """`rows` with hours and trail, `numbers` being what the trail calls each of them."""
        hours = sorted(self._hours)[-MOST_HOURS:]
        counted = np.array([self._hours[hour] for hour in hours], np.int64)
        trail, trail_at = self._rows_of_trail(numbers)
        return replace(
            rows,
            at=float(max(self._at, rows.last_at.max(initial=0.0), trail_at.max(initial=0.0))),
            trail=trail,
            trail_at=trail_at,
            hours=np.array(hours, np.int64),
            hourly=counted.reshape(len(hours), self._caches, 2),
        )

    def _rows_of_trail(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        if not len(numbers):
            return np.empty(0, np.int32), np.empty(0)
        items, at = _newest(self._trail)
        order = np.argsort(numbers, kind="stable")
        place = np.minimum(np.searchsorted(numbers[order], items), len(order) - 1)
        rows = order[place]
        there = numbers[rows] == items  # accesses to what could not be used or kept are left out
        return rows[there].astype(np.int32), at[there]


def _newest(
    parts: list[tuple[NDArray[np.int64], NDArray[np.float64]]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    items, at = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(at, kind="stable")[-TRAIL_LIMIT:]
    return items[order], at[order]
