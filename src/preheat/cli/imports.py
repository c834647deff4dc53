"""Which files have been added to a history: added twice, their accesses would count twice."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from preheat.cli.showing import instant
from preheat.errors import UsageError

if TYPE_CHECKING:
    from preheat._store import SqliteStore

PLACE = "preheat:imports"
"""Under this name the store keeps them; no cache's model has it."""

MOST_FILES = 4096


def demand_new(store: SqliteStore, source: str, digest: str, cache: str) -> None:
    """Demand that the file with this digest has not been added for `cache` before.

    Raises:
        UsageError: It has.
    """
    for row in _files(store):
        if (row.get("digest"), row.get("cache")) == (digest, cache):
            raise UsageError(
                f"{source} was added on {instant(row.get('at'))} already, so its accesses would count twice; "
                "to add it all the same, give --again"
            )


def note_file(store: SqliteStore, digest: str, cache: str) -> None:
    """Note that the file with this digest has been added."""
    import msgspec

    row = {"digest": digest, "cache": cache, "at": time.time()}
    store.save_model(PLACE, msgspec.json.encode([*_files(store), row][-MOST_FILES:]))


def _files(store: SqliteStore) -> list[dict[str, Any]]:
    """Oldest first."""
    import msgspec

    try:
        files: list[dict[str, Any]] = msgspec.json.decode(store.models().get(PLACE, b"[]"), type=list[dict[str, Any]])
    except msgspec.DecodeError:
        return []
    return files
