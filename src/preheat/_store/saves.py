"""Saves of a history inside the database: a whole one, the base, and a log of what changed since.

A base is its sections in parts, each with a checksum over what it says and where it belongs; so is each entry of the
log, numbered from 1.  What is loaded is the newest base that is whole with the entries that follow it without a gap:
a damaged entry ends the log there.  The base before is kept, with its log, until the next one is written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import xxhash

from preheat._history import with_changes
from preheat._model import History, HistoryChanges
from preheat._store.encoding import decode_changes, decode_history, encode_changes
from preheat._store.older import decode_older_history
from preheat.errors import StoreCorrupt

if TYPE_CHECKING:
    from preheat._store.encoding import Section

PART_BYTES = 2**26
MOST_CHANGES = 1000  # entries of a log
LEAST_LOG_BYTES = 2**20  # a log may grow to this even beside a small base, else to half of it

SCHEMA = """
CREATE TABLE IF NOT EXISTS base (
    generation INTEGER NOT NULL, name TEXT NOT NULL, part INTEGER NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (generation, name, part)
);
CREATE TABLE IF NOT EXISTS change (
    generation INTEGER NOT NULL, number INTEGER NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (generation, number)
);
"""

FAULTS = (sqlite3.Error, UnicodeDecodeError)  # the latter from a message about a damaged name
_DAMAGE_CODES = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,  # our statements don't change, so what they don't fit is the schema
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
)


def is_damage(error: Exception) -> bool:
    """Whether `error` says that the file is not what was written; being busy, full or refused is no damage."""
    if isinstance(error, StoreCorrupt | UnicodeDecodeError):
        return True
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE_CODES


def demand_damage(error: Exception) -> Exception:
    """`error` if it tells of damage; anything else is raised."""
    if not is_damage(error):
        raise error
    return error


class Saves(NamedTuple):
    """Where the newest save stands: its base, the last entry of its log, and the bytes of both."""

    generation: int
    number: int
    base_bytes: int
    log_bytes: int

    @property
    def is_long(self) -> bool:
        """Whether it is time for a new base."""
        return self.number >= MOST_CHANGES or self.log_bytes > max(LEAST_LOG_BYTES, self.base_bytes // 2)


class Found(NamedTuple):
    """What was loaded, where it stood, and what was wrong with anything newer."""

    history: History | None
    saves: Saves | None
    damage: Exception | None


# --------------------------------------------------------------------------------------------------------- writing


def write_base(connection: sqlite3.Connection, sections: dict[str, Section]) -> Saves:
    """Keep a whole history, in a transaction that is open; the base before the last one makes room for it."""
    generation = 1 + int(connection.execute(_NEWEST).fetchone()[0])
    connection.execute("DELETE FROM base WHERE generation < ?", (generation - 1,))
    connection.execute("DELETE FROM change WHERE generation < ?", (generation - 1,))
    for name, body in sections.items():
        for part, start in enumerate(range(0, max(len(body), 1), PART_BYTES)):
            piece = memoryview(body)[start : start + PART_BYTES]
            row = (generation, name, part, _seal(piece, generation, name, part), piece)
            connection.execute("INSERT INTO base (generation, name, part, digest, body) VALUES (?, ?, ?, ?, ?)", row)
    return Saves(generation, 0, sum(map(len, sections.values())), 0)


def append_changes(connection: sqlite3.Connection, saves: Saves, changes: Iterable[HistoryChanges]) -> Saves:
    """Keep what changed since `saves`, in a transaction that is open."""
    for each in changes:
        body = encode_changes(each)
        saves = saves._replace(number=saves.number + 1, log_bytes=saves.log_bytes + len(body))
        row = (saves.generation, saves.number, _seal(body, saves.generation, "change", saves.number), body)
        connection.execute("INSERT INTO change (generation, number, digest, body) VALUES (?, ?, ?, ?)", row)
    return saves


_NEWEST = "SELECT coalesce(max(generation), 0) FROM (SELECT generation FROM base UNION SELECT generation FROM change)"


def _seal(body: Any, generation: int, name: str, number: int) -> bytes:
    """The checksum of what is kept together with where, so that nothing is taken for something else."""
    digest = xxhash.xxh3_128(f"{generation}/{name}/{number}\0".encode())
    digest.update(body)
    return digest.digest()


# --------------------------------------------------------------------------------------------------------- reading


def find_newest(connection: sqlite3.Connection) -> Found:
    """The newest save that is whole."""
    damage: Exception | None = None
    try:
        generations = connection.execute("SELECT DISTINCT generation FROM base ORDER BY generation DESC").fetchall()
    except FAULTS as error:
        demand_damage(error)
        return find_older(connection)  # nobody who may write has opened it since
    for (generation,) in generations:
        try:
            sections = _read_base(connection, generation)
            history = decode_history(sections)
        except (StoreCorrupt, *FAULTS) as error:
            damage = demand_damage(error)
        else:
            base_bytes = sum(map(len, sections.values()))
            del sections
            found = _replayed(connection, history, Saves(generation, 0, base_bytes, 0))
            return found._replace(damage=damage or found.damage)
    return Found(None, None, damage)


def _read_base(connection: sqlite3.Connection, generation: int) -> dict[str, Section]:
    parts: dict[str, list[bytes]] = {}
    rows = "SELECT name, part, digest, body FROM base WHERE generation = ? ORDER BY name, part"
    for name, part, digest, body in connection.execute(rows, (generation,)):
        if not isinstance(body, bytes) or digest != _seal(body, generation, name, part):
            raise StoreCorrupt("its checksum doesn't match")
        pieces = parts.setdefault(name, [])
        if part != len(pieces):
            raise StoreCorrupt("a part of it is missing")
        pieces.append(body)
    return {name: _joined(parts.pop(name)) for name in list(parts)}


def _joined(pieces: list[bytes]) -> bytes:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _replayed(connection: sqlite3.Connection, history: History, saves: Saves) -> Found:
    changes: list[HistoryChanges] = []
    log_bytes, damage = 0, None
    entries = "SELECT number, digest, body FROM change WHERE generation = ? ORDER BY number"
    try:
        for number, digest, body in connection.execute(entries, (saves.generation,)):
            if number != len(changes) + 1:
                raise StoreCorrupt("an entry of its log is missing")
            if not isinstance(body, bytes) or digest != _seal(body, saves.generation, "change", number):
                raise StoreCorrupt("the checksum of an entry of its log doesn't match")
            changes.append(decode_changes(body))
            log_bytes += len(body)
    except (StoreCorrupt, *FAULTS) as error:
        damage = demand_damage(error)
    now, fitting = _applied(history, changes)
    if fitting < len(changes):
        damage = StoreCorrupt("an entry of its log doesn't fit")
    return Found(now, saves._replace(number=fitting, log_bytes=log_bytes), damage)


def _applied(history: History, changes: Sequence[HistoryChanges]) -> tuple[History, int]:
    """`history` after as many of `changes` as fit, one after another, and how many do."""
    now, least, most, tried = history, 0, len(changes), len(changes)
    while least < most:
        try:
            now, least = with_changes(history, *changes[:tried]), tried
        except ValueError:
            most = tried - 1
        tried = (least + most + 1) // 2
    return now, least


def find_older(connection: sqlite3.Connection) -> Found:
    """The newest whole history of a database of schema 1 or 2, which kept all of it at each save."""
    damage: Exception | None = None
    try:
        generations = connection.execute("SELECT generation FROM history ORDER BY generation DESC").fetchall()
        for generation in generations:
            try:
                read = connection.execute("SELECT columns, digest FROM history WHERE generation = ?", generation)
                return Found(decode_older_history(*(read.fetchone() or (b"", b""))), None, damage)
            except (StoreCorrupt, *FAULTS) as error:  # a damaged tree lists what it doesn't find
                damage = demand_damage(error)
    except FAULTS as error:
        damage = demand_damage(error)
    return Found(None, None, damage)
