"""Databases as versions before wrote them: all of the history at each save, in one MessagePack."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xxhash

from preheat._model import History

_COLUMNS = ("cache", "counts", "last_at", "gaps", "size_bytes", "load_seconds", "hits", "misses")
_TABLES = {
    1: """
    CREATE TABLE history (generation INTEGER PRIMARY KEY, digest BLOB NOT NULL, columns BLOB NOT NULL);
    CREATE TABLE report (id INTEGER PRIMARY KEY, started REAL NOT NULL, body TEXT NOT NULL);
    """,
    2: """
    CREATE TABLE model (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, body BLOB NOT NULL);
    """,
}


def encode_older(history: History, version: int = 2) -> dict[str, Any]:
    """The fields of schema 1, or of schema 2, which has the trail too."""
    fields: dict[str, Any] = {
        "at": history.at,
        "since": history.since,
        "half_lives": history.half_lives,
        "caches": history.caches,
    }
    fields |= {name: np.ascontiguousarray(getattr(history, name)).tobytes() for name in _COLUMNS}
    for name in ("keys", "versions", "recipes"):
        column = getattr(history, name)
        fields[name] = (column.blob.tobytes(), column.offsets.tobytes())
    if version > 1:
        first = np.flatnonzero(np.diff(history.trail_at, prepend=-np.inf))
        fields["trail"] = history.trail.tobytes()
        fields["trail_instants"] = history.trail_at[first].tobytes()
        fields["trail_times"] = np.diff(first, append=len(history.trail)).astype(np.int32).tobytes()
    return fields


def write_older(folder: Path, histories: Sequence[History], version: int, reports: Sequence[Any] = ()) -> None:
    """A state folder with a database of schema `version` that holds these saves."""
    folder.mkdir(mode=0o700)
    connection = sqlite3.connect(folder / "history.db")
    connection.execute("PRAGMA journal_mode = WAL")
    for each in range(1, version + 1):
        connection.executescript(_TABLES[each])
    for history in histories:
        columns = msgspec.msgpack.encode(encode_older(history, version))
        row = (xxhash.xxh3_128_digest(columns), columns)
        connection.execute("INSERT INTO history (digest, columns) VALUES (?, ?)", row)
    for report in reports:
        connection.execute(
            "INSERT INTO report (started, body) VALUES (1.0, ?)", (msgspec.json.encode(report).decode(),)
        )
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()
    (folder / "history.db").chmod(0o600)
