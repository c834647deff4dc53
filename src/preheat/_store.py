"""History, reports and models on disk: one SQLite file in a folder of its own.

A save is one transaction with a checksum, made durable before it counts; the save before it is kept, so a reader
finds the last good one whatever happened.  One process owns the folder (a lock held for life); others may read.

The database file is never opened other than by SQLite: closing such a descriptor would drop SQLite's own locks.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import xxhash

from preheat._columns import TextColumn
from preheat._history import GAPS, TRAIL_LIMIT
from preheat._model import MIB, History
from preheat.errors import StoreCorrupt, StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATABASE = "history.db"
LOCK = "owner.lock"
SCHEMA_VERSION = 2
KEPT_GENERATIONS = 2
KEPT_REPORTS = 50
KEPT_MODELS = 256
MOST_MODEL_BYTES = 4 * MIB

_SCHEMA = """
CREATE TABLE IF NOT EXISTS history (generation INTEGER PRIMARY KEY, digest BLOB NOT NULL, columns BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS report (id INTEGER PRIMARY KEY, started REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS model (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, body BLOB NOT NULL
);
"""

_Statement = tuple[str, tuple[Any, ...]]
_Model = tuple[str, bytes, bytes]  # name, digest, body


class SqliteStore:
    """A state folder.

    Opening creates it with mode 0700 and takes ownership if it is free, unless `read_only`; without ownership
    saving raises.  A damaged database is moved aside to `history.db.damaged`, never deleted, and `notice` says so.

    Raises:
        StoreError: The folder can't be made or used, or others may write to it.
    """

    def __init__(self, folder: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.folder = Path(folder)
        self.notice: str | None = None
        self._busy = threading.Lock()
        self._process_id = os.getpid()
        _claim_folder(self.folder)
        self._lock = None if read_only else _lock(self.folder / LOCK)
        self._connection = self._open()

    @property
    def owner(self) -> bool:
        """Whether this process may write; a forked child may not, since its parent does."""
        return self._lock is not None and os.getpid() == self._process_id

    def load(self) -> History | None:
        """The last history saved that is whole; None if there is none."""
        with self._busy, _translated(self.folder):
            self._demand_own_process()
            history, damage = self._newest_whole()
            if damage is not None:
                self.notice = f"a saved history was damaged and the one before it is used ({damage})"
                if self.owner:
                    self._begin_anew(history)
            return history

    def _newest_whole(self) -> tuple[History | None, Exception | None]:
        """The newest history that is whole, and what was wrong with those after it."""
        damage: Exception | None = None
        try:
            generations = self._connection.execute("SELECT generation FROM history ORDER BY generation DESC").fetchall()
        except _FAULTS as error:
            return None, _demand_damage(error)
        for generation in generations:
            try:
                read = self._connection.execute("SELECT columns, digest FROM history WHERE generation = ?", generation)
                history = decode_history(*(read.fetchone() or (b"", b"")))  # a damaged tree lists what it doesn't find
            except (StoreCorrupt, *_FAULTS) as error:
                damage = _demand_damage(error)
            else:
                return history, damage
        return None, damage

    def save(self, history: History) -> None:
        """Keep `history` in place of the last one; when this returns it is on the disk.

        Raises:
            StoreError: It could not be kept, or another process owns the folder; the last one still stands.
        """
        self._write(*_saving(history))

    def rewrite(self, history: History, reports: Sequence[dict[str, Any]]) -> None:
        """Keep `history` and `reports`, newest first, in place of all there are, and no byte of what they lack.

        The models stay.  A database that was found damaged and moved aside is not touched.

        Raises:
            StoreError: As `save`; or they are kept, but another process reads the folder, so the bytes are still there.
        """
        kept = [(report.get("started", 0.0), msgspec.json.encode(report).decode()) for report in reversed(reports)]
        self._write(
            ("DELETE FROM history", ()),
            *_saving(history),
            ("DELETE FROM report", ()),
            *(("INSERT INTO report (started, body) VALUES (?, ?)", report) for report in kept),
        )
        with self._busy, _translated(self.folder):
            self._connection.execute("VACUUM")  # what was deleted is not in the new file
            if self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise StoreError(f"another process reads {self.folder} now; repeat it when that has ended")

    def save_report(self, key: float, report: dict[str, Any]) -> None:
        """Keep `report`, a tree of plain data, under the instant at which its run started.

        Raises:
            StoreError: As `save`.
        """
        body = msgspec.json.encode(report).decode()
        self._write(
            ("DELETE FROM report WHERE started = ?", (key,)),
            ("INSERT INTO report (started, body) VALUES (?, ?)", (key, body)),
            ("DELETE FROM report WHERE id <= (SELECT max(id) FROM report) - ?", (KEPT_REPORTS,)),
        )

    def reports(self, newest: int = KEPT_REPORTS) -> list[dict[str, Any]]:
        """The last reports kept, newest first."""
        with self._busy, _translated(self.folder):
            self._demand_own_process()
            rows = self._connection.execute("SELECT body FROM report ORDER BY id DESC LIMIT ?", (newest,))
            return [report for (body,) in rows if (report := _decode_report(body)) is not None]

    def save_model(self, name: str, body: bytes) -> None:
        """Keep `body` under `name`, in place of what was kept under it.  The `KEPT_MODELS` saved last are kept.

        Raises:
            StoreError: As `save`; or `body` is larger than `MOST_MODEL_BYTES`, or `name` is not UTF-8.
        """
        if len(body) > MOST_MODEL_BYTES:
            raise StoreError(f"the model {name!r} has {len(body)} bytes; at most {MOST_MODEL_BYTES} are kept")
        try:
            digest = _seal(name.encode(), body)
        except UnicodeEncodeError:
            raise StoreError(f"a model can't be kept under the name {name!r}, which UTF-8 can't hold") from None
        self._write(
            (_KEEP_MODEL, (name, digest, body)),
            ("DELETE FROM model WHERE id NOT IN (SELECT id FROM model ORDER BY id DESC LIMIT ?)", (KEPT_MODELS,)),
        )

    def models(self) -> dict[str, bytes]:
        """What `save_model` kept, by name, oldest first; without what is damaged."""
        with self._busy, _translated(self.folder):
            self._demand_own_process()
            return {name: body for name, _, body in self._whole_models()}

    def _whole_models(self) -> list[_Model]:
        found: list[_Model] = []
        try:  # one by one: rows before a damaged page are whole
            for name, digest, body in self._connection.execute(_READ_MODELS, (MOST_MODEL_BYTES, KEPT_MODELS)):
                if isinstance(body, bytes) and digest == _seal(name, body):
                    found.append((name.decode(), digest, body))
        except _FAULTS as error:  # as where nobody who may write has opened what an older preheat wrote
            _demand_damage(error)
        return found

    def close(self) -> None:
        """Give up ownership.  Closing again does nothing."""
        with self._busy:
            if os.getpid() == self._process_id:  # a child's close would end the parent's transactions
                self._connection.close()
            self._drop_lock()

    def _write(self, *statements: _Statement) -> None:
        self._demand_own_process()
        if not self.owner:
            raise StoreError(f"another process owns {self.folder}; this one only reads it")
        with self._busy, _translated(self.folder):
            try:
                self._transact(statements)
            except _FAULTS as error:
                _demand_damage(error)
                known: History | None = None
                with suppress(*_FAULTS):  # what is damaged may be another table
                    known = self._newest_whole()[0]
                self._begin_anew(known)
                self._transact(statements)

    def _transact(self, statements: Sequence[_Statement]) -> None:
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                self._connection.execute(statement, values)

    def _demand_own_process(self) -> None:
        if os.getpid() != self._process_id:
            raise StoreError(f"{self.folder} was opened before this process was forked; open it again here")

    def _open(self) -> sqlite3.Connection:
        path = self.folder / DATABASE
        try:
            return _connect(path, writable=self.owner)
        except (*_FAULTS, StoreError, OSError) as error:
            try:
                if self.owner and _is_damage(error):
                    return self._replace_database()
                raise error if isinstance(error, StoreError) else StoreError(f"{path} can't be opened: {error}")
            except BaseException:
                self._drop_lock()
                raise

    def _begin_anew(self, known: History | None) -> None:
        """Move the damaged database aside, so that nothing more is built on it, and begin one with what is known."""
        reports: list[tuple[float, str]] = []
        models: list[_Model] = []
        with suppress(*_FAULTS):
            reports = self._connection.execute("SELECT started, body FROM report ORDER BY id").fetchall()
        with suppress(*_FAULTS):
            models = self._whole_models()
        self._connection.close()
        self._connection = self._replace_database()
        with suppress(*_FAULTS):  # what can't be kept now is known all the same, and saved again soon
            if known is not None:
                self._transact(_saving(known))
            self._transact([("INSERT INTO report (started, body) VALUES (?, ?)", report) for report in reports])
            self._transact([(_KEEP_MODEL, model) for model in models])

    def _replace_database(self) -> sqlite3.Connection:
        path = self.folder / DATABASE
        try:
            path.replace(path.with_name(f"{DATABASE}.damaged"))
            for rest in ("-wal", "-shm"):
                path.with_name(f"{DATABASE}{rest}").unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path} is damaged and can't be moved aside: {error.strerror}") from None
        self.notice = f"{path} was damaged; it was moved to {path}.damaged and a new one begun"
        return _connect(path, writable=True)

    def _drop_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _saving(history: History) -> Sequence[_Statement]:
    columns = encode_history(history)
    forget = "DELETE FROM history WHERE generation <= (SELECT max(generation) FROM history) - ?"
    return (
        ("INSERT INTO history (digest, columns) VALUES (?, ?)", (xxhash.xxh3_128_digest(columns), columns)),
        (forget, (KEPT_GENERATIONS,)),
    )


_KEEP_MODEL = "INSERT OR REPLACE INTO model (name, digest, body) VALUES (?, ?, ?)"
_READ_MODELS = """
SELECT CAST(name AS BLOB), digest, body FROM model
WHERE length(body) <= ? AND id IN (SELECT id FROM model ORDER BY id DESC LIMIT ?) ORDER BY id
"""


def _seal(name: bytes, body: bytes) -> bytes:
    """The checksum of a model together with its name, so that none is taken for another's."""
    return xxhash.xxh3_128_digest(name + b"\0" + body)


_FAULTS = (sqlite3.Error, UnicodeDecodeError)  # the latter from a message about a damaged name
_DAMAGE_CODES = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,  # our statements don't change, so what they don't fit is the schema
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
)


def _is_damage(error: Exception) -> bool:
    """Whether `error` says that the file is not what was written; being busy, full or refused is no damage."""
    if isinstance(error, StoreCorrupt | UnicodeDecodeError):
        return True
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE_CODES


def _demand_damage(error: Exception) -> Exception:
    if not _is_damage(error):
        raise error
    return error


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except _FAULTS as error:
        raise StoreError(f"the history in {folder} can't be used: {error}") from error


def _claim_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise StoreError(f"the state folder {folder} can't be used: {error.strerror}") from None
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreError(f"others may write to the state folder {folder}; run: chmod go-w {folder}")
    if status.st_uid not in (os.geteuid(), 0):
        raise StoreError(f"the state folder {folder} belongs to somebody else (uid {status.st_uid}); choose another")


def _lock(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None  # a folder that can't be written to can still be read
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    if not writable and not path.exists():
        connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        connection.executescript(_SCHEMA)
        return connection
    mode = "mode=rwc" if writable else "mode=ro"
    if writable:
        _create_private(path)
    elif not os.access(path.parent, os.W_OK) and not path.with_name(f"{DATABASE}-wal").exists():
        mode = "immutable=1"  # nobody can write here, and SQLite couldn't make the files that it reads with
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}", uri=True, check_same_thread=False, isolation_level=None
    )
    try:
        _prepare(connection, path, writable=writable)
    except BaseException:
        connection.close()
        raise
    return connection


def _create_private(path: Path) -> None:
    """Make the file with the mode that SQLite gives the files beside it too."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _prepare(connection: sqlite3.Connection, path: Path, *, writable: bool) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path} was written by a newer preheat (schema {version}); upgrade, or choose another folder")
    if writable:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -256")  # KiB; what is written once and read at start needs no more
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        path.chmod(0o600)


# ------------------------------------------------------------------------------------------------ encoding

_ARRAYS: dict[str, tuple[type, bool]] = {
    "cache": (np.int16, False),
    "counts": (np.float32, True),
    "last_at": (np.float64, False),
    "gaps": (np.float32, True),
    "size_bytes": (np.int64, False),
    "load_seconds": (np.float32, False),
    "hits": (np.int64, False),
    "misses": (np.int64, False),
}
_TEXTS = ("keys", "versions", "recipes")


def encode_history(history: History) -> bytes:
    """`history` as MessagePack: its scalars, and its columns as raw little-endian arrays.

    Of the trail's instants each is written once, with the number of accesses that share it.
    """
    fields: dict[str, Any] = {
        "at": history.at,
        "since": history.since,
        "half_lives": history.half_lives,
        "caches": history.caches,
    }
    for name in _ARRAYS:
        fields[name] = np.ascontiguousarray(getattr(history, name)).tobytes()
    for name in _TEXTS:
        column: TextColumn = getattr(history, name)
        fields[name] = (column.blob.tobytes(), column.offsets.tobytes())
    return msgspec.msgpack.encode(fields | _trail_fields(history))


def _trail_fields(history: History) -> dict[str, bytes]:
    rows, at = history.trail[-TRAIL_LIMIT:], history.trail_at[-TRAIL_LIMIT:]
    first = np.flatnonzero(np.diff(at, prepend=-np.inf))
    times = np.diff(first, append=len(at)).astype(np.int32)
    return {
        "trail": np.ascontiguousarray(rows).tobytes(),
        "trail_instants": at[first].tobytes(),
        "trail_times": times.tobytes(),
    }


def decode_history(encoded: bytes, digest: bytes) -> History:
    """The history that `encode_history` made `encoded` from.

    Raises:
        StoreCorrupt: The digest doesn't match, or the columns don't fit each other.
    """
    if not isinstance(encoded, bytes) or xxhash.xxh3_128_digest(encoded) != digest:
        raise StoreCorrupt("its checksum doesn't match")
    try:
        return _columns_of(msgspec.msgpack.decode(encoded))
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise StoreCorrupt(f"its columns don't fit each other: {error}") from None


def _columns_of(fields: dict[str, Any]) -> History:
    n = len(fields["cache"]) // np.dtype(np.int16).itemsize
    no_rows = {"counts": len(fields["half_lives"]), "gaps": GAPS}  # the width that no row can tell
    arrays: dict[str, Any] = {}
    for name, (kind, wide) in _ARRAYS.items():
        flat: Any = np.frombuffer(fields[name], kind)
        arrays[name] = flat.reshape(n, -1 if n else no_rows[name]) if wide else flat
    texts: dict[str, Any] = {name: _text_column(*fields[name], rows=n) for name in _TEXTS}
    caches, half_lives = tuple(map(str, fields["caches"])), tuple(map(float, fields["half_lives"]))
    for name in ("last_at", "size_bytes", "load_seconds"):
        _demand(len(arrays[name]) == n, f"{name} has another length than cache")
    for name in ("hits", "misses"):
        _demand(len(arrays[name]) == len(caches), f"{name} has another length than caches")
    _demand(not n or arrays["counts"].shape[1] == len(half_lives), "counts has another width than half_lives")
    _demand(not n or 0 <= arrays["cache"].min() <= arrays["cache"].max() < len(caches), "a cache number is unknown")
    at = float(fields["at"])
    trail, trail_at = _trail(fields, rows=n, until=at)
    return History(
        at=at,
        since=float(fields["since"]),
        half_lives=half_lives,
        caches=caches,
        trail=trail,
        trail_at=trail_at,
        **arrays,
        **texts,
    )


def _trail(fields: dict[str, Any], *, rows: int, until: float) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The newest accesses and their instants; none in what was written before they were kept."""
    trail = np.frombuffer(fields.get("trail", b""), np.int32)
    instants = np.frombuffer(fields.get("trail_instants", b""), np.float64)
    times = np.frombuffer(fields.get("trail_times", b""), np.int32)
    _demand(len(trail) <= TRAIL_LIMIT, f"the trail is longer than {TRAIL_LIMIT} accesses")
    _demand(len(times) == len(instants), "the trail has other instants than counts of them")
    # before `repeat` makes as many as they say
    _demand(bool((times > 0).all()) and int(times.sum(dtype=np.int64)) == len(trail), "the trail's counts don't add up")
    _demand(bool(((trail >= 0) & (trail < rows)).all()), "the trail names a row that is not there")
    _demand(bool(np.isfinite(instants).all() and (np.diff(instants) > 0).all()), "the instants of the trail don't rise")
    _demand(not len(instants) or float(instants[-1]) <= until, "the trail goes on after the history's end")
    return trail, np.repeat(instants, times)


def _text_column(blob: bytes, offsets: bytes, *, rows: int) -> TextColumn:
    column = TextColumn(np.frombuffer(blob, np.uint8), np.frombuffer(offsets, np.int64))
    _demand(len(column.offsets) == rows + 1, "a text column has another length than cache")
    _demand(int(column.offsets[0]) == 0 and int(column.offsets[-1]) == len(blob), "text offsets miss their text")
    _demand(bool((column.lengths() >= 0).all()), "text offsets fall")
    return column


def _decode_report(body: Any) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, TypeError):
        return None


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
