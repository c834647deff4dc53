"""What is to be forgotten, wherever it is written: in a history and in the reports of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from preheat._history.merging import keep_rows
from preheat._model import History


class Forgotten(NamedTuple):
    """Items of one cache.

    Attributes:
        cache: Its name.
        keys: Their keys.
        prefixes: And all keys that begin with one of these.
    """

    cache: str
    keys: frozenset[str]
    prefixes: tuple[str, ...] = ()

    def has(self, key: str) -> bool:
        """Whether the item with this key is among them."""
        return key in self.keys or key.startswith(self.prefixes)

    def is_named(self, item: str) -> bool:
        """Whether `item`, written as cache:key, is among them."""
        return item.startswith(f"{self.cache}:") and self.has(item[len(self.cache) + 1 :])


def items_of(history: History, gone: Forgotten) -> dict[int, str]:
    """The rows of the items of `history` that are `gone`, ascending, and their keys."""
    mine = history.rows_of(gone.cache)
    keys = zip(mine.tolist(), history.keys.take(mine), strict=True)
    return {row: key for row, key in keys if gone.has(key)}


def without_items(history: History, gone: Forgotten) -> tuple[History, list[str]]:
    """`history` without the items that are `gone`, their accesses in the trail included; and their keys.

    The traffic of the cache stays as it was counted.
    """
    found = items_of(history, gone)
    if not found:
        return history, []
    rows = np.delete(np.arange(len(history)), np.fromiter(found, np.int64, len(found)))
    return keep_rows(history, rows), list(found.values())


def without_failures(report: Mapping[str, Any], gone: Forgotten) -> dict[str, Any]:
    """A kept `report` without what it says of failures of items that are `gone`."""
    failures = report.get("failures")
    rows: Iterable[Any] = failures if isinstance(failures, list) else ()
    return dict(report) | {"failures": [row for row in rows if not _is_about(row, gone)]}


def _is_about(failure: Any, gone: Forgotten) -> bool:
    return isinstance(failure, Mapping) and gone.is_named(str(failure.get("item", "")))
