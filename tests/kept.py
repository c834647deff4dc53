"""What a state folder keeps, as the next process finds it."""

from __future__ import annotations

from pathlib import Path

from preheat._model import History
from preheat._store import SqliteStore


def saved(folder: Path) -> History | None:
    """The last history that was saved in `folder`."""
    store = SqliteStore(folder)
    try:
        return store.load()
    finally:
        store.close()
