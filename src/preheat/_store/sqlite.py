"""History, reports, models and starts on disk: one SQLite file in a folder of its own.

A save is one transaction with checksums, made durable before it counts; the base before it is kept, so a reader
finds the last good one whatever happened.  One process owns the folder (a lock held for life) and alone writes and
checkpoints; others may read, and own it when it is free.

A fork finds no connection open: it is closed before and opened again after it, by each process for itself.  SQLite
keeps what it knows of a file's locks by process, and a child that inherited that would believe it has them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import xxhash

from preheat._living import Living
from preheat._model import MIB, History, HistoryChanges
from preheat._store.encoding import encode_history
from preheat._store.folder import DATABASE, claim_folder, create_private, set_aside, take_lock
from preheat._store.saves import (
    FAULTS,
    SCHEMA,
    Found,
    Saves,
    append_changes,
    demand_damage,
    find_newest,
    find_older,
    is_damage,
    write_base,
)
from preheat.errors import StoreCorrupt, StoreError

SQLITE_VERSION = sqlite3.sqlite_version
"""That of the library.  Before 3.51.3 several writers could damage a database; here there is one."""

SCHEMA_VERSION = 3
KEPT_REPORTS = 50
KEPT_MODELS = 256
KEPT_STARTS = 100
MOST_MODEL_BYTES = 4 * MIB
MOST_IDLE_WAL_BYTES = 4 * MIB
FORK_PATIENCE_SECONDS = 30.0

_SCHEMA = f"""{SCHEMA}
CREATE TABLE IF NOT EXISTS report (id INTEGER PRIMARY KEY, started REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS model (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS start (id INTEGER PRIMARY KEY, began REAL NOT NULL, ended REAL);
"""

_Result = TypeVar("_Result")
_Statement = tuple[str, tuple[Any, ...]]
_Model = tuple[str, bytes, bytes]  # name, digest, body
_Rows = list[tuple[Any, ...]]


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
        self.refusal: str | None = f"{self.folder} was opened for reading only"
        self._read_only, self._closed = read_only, False
        self._busy = threading.Lock()
        self._saves: Saves | None = None
        self._lock: int | None = None
        self._opened: sqlite3.Connection | None = None
        claim_folder(self.folder)
        if not read_only:
            self._take_lock()
        self._open()
        _stores.add(self)

    @property
    def owner(self) -> bool:
        """Whether this process may write; `refusal` says why not."""
        return self._lock is not None

    def try_own(self) -> bool:
        """Own the folder if it is free by now; what the owner before saved last is what `load` finds then.

        Raises:
            StoreError: It is free, but can't be written to.
        """
        with self._busy:
            if self._lock is None and not (self._read_only or self._closed):
                self._take_lock()
                if self._lock is not None:
                    self._drop_connection()
                    self._open()
            return self._lock is not None

    def give_up(self) -> None:
        """Let another process own the folder; this one goes on as a reader."""
        with self._busy:
            self._drop_connection()
            self._drop_lock()
            self.refusal = f"{self.folder} was left to the process that records"

    # -------------------------------------------------------------------------------------------- history

    def load(self) -> History | None:
        """The last history saved that is whole; None if there is none."""
        with self._busy, _translated(self.folder):
            found = find_newest(self._connection)
            self._saves = found.saves
            if found.damage is not None:
                self.notice = f"a saved history was damaged and the one before it is used ({found.damage})"
                if self.owner:
                    self._begin_anew(found.history)
            return found.history

    def save(self, history: History) -> None:
        """Keep `history` in place of the last one; when this returns it is on the disk.

        Raises:
            StoreError: It could not be kept, or another process owns the folder; the last one still stands.
        """
        sections = encode_history(history)
        self._saves = self._write(lambda connection: write_base(connection, sections))

    @property
    def wants_whole(self) -> bool:
        """Whether the next save has to be of the whole history: nothing is known to build on, or the log is long."""
        return self._saves is None or self._saves.is_long

    def save_changes(self, changes: Sequence[HistoryChanges]) -> None:
        """Keep what happened since the last save, one after another; when this returns it is on the disk.

        Raises:
            StoreCorrupt: What it would build on is not there any more; the whole has to be saved.
            StoreError: As `save`.
        """

        def append(connection: sqlite3.Connection) -> Saves:
            if self._saves is None:
                raise StoreCorrupt(f"the history in {self.folder} was lost and has to be saved whole")
            return append_changes(connection, self._saves, changes)

        try:
            self._saves = self._write(append)
        except StoreCorrupt:
            self._saves = None
            raise

    def rewrite(self, history: History, reports: Sequence[dict[str, Any]]) -> None:
        """Keep `history` and `reports`, newest first, in place of all there are, and no byte of what they lack.

        The models stay.  A database that was found damaged and moved aside is not touched.

        Raises:
            StoreError: As `save`; or they are kept, but another process reads the folder, so the bytes are still there.
        """
        sections = encode_history(history)
        kept = [(report.get("started", 0.0), msgspec.json.encode(report).decode()) for report in reversed(reports)]

        def act(connection: sqlite3.Connection) -> Saves:
            for table in ("base", "change", "report"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - the names are the three above
            connection.executemany(_KEEP_REPORT, kept)
            return write_base(connection, sections)

        self._saves = self._write(act)
        with self._busy, _translated(self.folder):
            self._connection.execute("VACUUM")  # what was deleted is not in the new file
            if self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise StoreError(f"another process reads {self.folder} now; repeat it when that has ended")

    # -------------------------------------------------------------------------------------------- reports

    def save_report(self, key: float, report: dict[str, Any]) -> None:
        """Keep `report`, a tree of plain data, under the instant at which its run started.

        Raises:
            StoreError: As `save`.
        """
        body = msgspec.json.encode(report).decode()
        self._execute(
            ("DELETE FROM report WHERE started = ?", (key,)),
            (_KEEP_REPORT, (key, body)),
            ("DELETE FROM report WHERE id <= (SELECT max(id) FROM report) - ?", (KEPT_REPORTS,)),
        )

    def reports(self, newest: int = KEPT_REPORTS) -> list[dict[str, Any]]:
        """The last reports kept, newest first."""
        with self._busy, _translated(self.folder):
            rows = self._connection.execute("SELECT body FROM report ORDER BY id DESC LIMIT ?", (newest,))
            return [report for (body,) in rows if (report := _decode_report(body)) is not None]

    # --------------------------------------------------------------------------------------------- models

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
        self._execute(
            (_KEEP_MODEL, (name, digest, body)),
            ("DELETE FROM model WHERE id NOT IN (SELECT id FROM model ORDER BY id DESC LIMIT ?)", (KEPT_MODELS,)),
        )

    def models(self) -> dict[str, bytes]:
        """What `save_model` kept, by name, oldest first; without what is damaged."""
        with self._busy, _translated(self.folder):
            return {name: body for name, _, body in self._whole_models()}

    def _whole_models(self) -> list[_Model]:
        found: list[_Model] = []
        try:  # one by one: rows before a damaged page are whole
            for name, digest, body in self._connection.execute(_READ_MODELS, (MOST_MODEL_BYTES, KEPT_MODELS)):
                if isinstance(body, bytes) and digest == _seal(name, body):
                    found.append((name.decode(), digest, body))
        except FAULTS as error:  # as where nobody who may write has opened what an older preheat wrote
            demand_damage(error)
        return found

    # --------------------------------------------------------------------------------------------- starts

    def begin_start(self, at: float) -> None:
        """Count, before it begins, that a run starts at `at`.

        Raises:
            StoreError: As `save`.
        """
        self._execute(
            ("INSERT INTO start (began) VALUES (?)", (at,)),
            ("DELETE FROM start WHERE id <= (SELECT max(id) FROM start) - ?", (KEPT_STARTS,)),
        )

    def end_start(self, began: float, at: float) -> None:
        """The run that started at `began` has ended at `at`.

        Raises:
            StoreError: As `save`.
        """
        self._execute(("UPDATE start SET ended = ? WHERE began = ?", (at, began)))

    def interrupted_starts(self) -> int:
        """How many runs, the last ones in a row, began and never ended.  One may be going on in its owner."""
        with self._busy, _translated(self.folder):
            try:
                return int(self._connection.execute(_COUNT_INTERRUPTED).fetchone()[0])
            except FAULTS as error:  # as with models
                demand_damage(error)
                return 0

    # ---------------------------------------------------------------------------------------- connection

    def close(self) -> None:
        """Give up ownership.  Closing again does nothing."""
        with self._busy:
            self._closed, self.refusal = True, f"{self.folder} was closed"
            self._drop_connection()
            self._drop_lock()

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreError(f"{self.folder} was closed")
        if self._opened is None:
            self._opened = self._connect_or_begin()
        return self._opened

    def _execute(self, *statements: _Statement) -> None:
        def act(connection: sqlite3.Connection) -> None:
            for statement, values in statements:
                connection.execute(statement, values)

        self._write(act)

    def _write(self, act: Callable[[sqlite3.Connection], _Result]) -> _Result:
        with self._busy, _translated(self.folder):
            if not self.owner:
                raise StoreError(self.refusal or f"{self.folder} was closed")
            try:
                return _transact(self._connection, act)
            except FAULTS as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR:
                    self._drop_connection()  # a descriptor whose write or sync has failed is not asked again
                demand_damage(error)
                found = Found(None, None, None)
                with suppress(*FAULTS):  # what is damaged may be another table
                    found = find_newest(self._connection)
                self._begin_anew(found.history)
                self._saves = None  # what was found may be older than what was saved
                return _transact(self._connection, act)

    def _open(self) -> None:
        try:
            self._opened = self._connect_or_begin()
        except BaseException as error:
            self._drop_lock()
            self.refusal = str(error)
            raise

    def _connect_or_begin(self) -> sqlite3.Connection:
        path = self.folder / DATABASE
        try:
            return _connect(path, writable=self.owner)
        except (*FAULTS, StoreError, OSError) as error:
            if self.owner and is_damage(error):
                return self._replace_database()
            raise error if isinstance(error, StoreError) else StoreError(f"{path} can't be opened: {error}") from None

    def _begin_anew(self, known: History | None) -> None:
        """Move the damaged database aside, so that nothing more is built on it, and begin one with what is known."""
        kept: list[tuple[str, _Rows]] = [(_KEEP_REPORT, []), (_KEEP_MODEL, [])]
        kept.append(("INSERT INTO start (began, ended) VALUES (?, ?)", []))
        with suppress(*FAULTS):
            kept[0][1].extend(self._connection.execute("SELECT started, body FROM report ORDER BY id"))
        with suppress(*FAULTS):
            kept[1][1].extend(self._whole_models())
        with suppress(*FAULTS):
            kept[2][1].extend(self._connection.execute("SELECT began, ended FROM start ORDER BY id"))
        self._drop_connection()
        self._saves = None
        self._opened = self._replace_database()
        with suppress(*FAULTS):  # what can't be kept now is known all the same, and saved again soon
            if known is not None:
                sections = encode_history(known)
                self._saves = _transact(self._opened, lambda connection: write_base(connection, sections))
        for statement, rows in kept:
            with suppress(*FAULTS):
                _transact(self._opened, _inserting(statement, rows))

    def _replace_database(self) -> sqlite3.Connection:
        path = self.folder / DATABASE
        aside = set_aside(path)
        self.notice = f"{path} was damaged; it was moved to {aside} and a new one begun"
        return _connect(path, writable=True)

    def _drop_connection(self) -> None:
        if self._opened is not None:
            with suppress(sqlite3.Error):
                self._opened.close()
            self._opened = None

    def _take_lock(self) -> None:
        taken = take_lock(self.folder)
        self._lock, self.refusal = (taken, None) if isinstance(taken, int) else (None, taken)

    def _drop_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # ---------------------------------------------------------------------------------------------- fork

    def _pause(self) -> bool:
        """Wait for what is being written and leave no connection open; False if that takes too long."""
        if not self._busy.acquire(timeout=FORK_PATIENCE_SECONDS):
            return False
        self._drop_connection()
        return True

    def _resume(self) -> None:
        self._busy.release()

    def _start_over_in_child(self) -> None:
        self._busy = threading.Lock()
        if self._opened is not None:  # SQLite was in the middle of something, which nobody will ever finish
            _inherited.append(self._opened)
            self._opened, self._closed = None, True
        self._saves = None
        if self._lock is not None:
            self._drop_lock()
            self.refusal = f"another process owns {self.folder}; its history is read, nothing is written"


# ----------------------------------------------------------------------------------------------------------- forking

_stores: Living[SqliteStore] = Living()
_paused: dict[int, list[SqliteStore]] = {}  # by thread: two may fork at once
_inherited: list[sqlite3.Connection] = []  # never closed: that would end the parent's transactions


def _before_fork() -> None:
    paused = _paused[threading.get_ident()] = []
    for store in _stores:
        if store._pause():
            paused.append(store)


def _after_fork_in_parent() -> None:
    for store in _paused.pop(threading.get_ident()):
        store._resume()


def _after_fork_in_child() -> None:
    _paused.clear()
    for store in _stores:
        store._start_over_in_child()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


# -------------------------------------------------------------------------------------------------------- statements

_KEEP_REPORT = "INSERT INTO report (started, body) VALUES (?, ?)"
_KEEP_MODEL = "INSERT OR REPLACE INTO model (name, digest, body) VALUES (?, ?, ?)"
_READ_MODELS = """
SELECT CAST(name AS BLOB), digest, body FROM model
WHERE length(body) <= ? AND id IN (SELECT id FROM model ORDER BY id DESC LIMIT ?) ORDER BY id
"""
_COUNT_INTERRUPTED = """
SELECT count(*) FROM start WHERE id > coalesce((SELECT max(id) FROM start WHERE ended IS NOT NULL), 0)
"""


def _transact(connection: sqlite3.Connection, act: Callable[[sqlite3.Connection], _Result]) -> _Result:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = act(connection)
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # some faults have rolled it back already
            connection.execute("ROLLBACK")
        raise
    return result


def _inserting(statement: str, rows: _Rows) -> Callable[[sqlite3.Connection], object]:
    return lambda connection: connection.executemany(statement, rows)


def _seal(name: bytes, body: bytes) -> bytes:
    """The checksum of a model together with its name, so that none is taken for another's."""
    return xxhash.xxh3_128_digest(name + b"\0" + body)


def _decode_report(body: Any) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, TypeError, RecursionError):
        return None


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except FAULTS as error:
        raise StoreError(f"the history in {folder} can't be used: {error}") from error


def _connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    if not writable and not path.exists():
        connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        connection.executescript(_SCHEMA)
        return connection
    mode = "mode=rwc" if writable else "mode=ro"
    if writable:
        create_private(path)
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


def _prepare(connection: sqlite3.Connection, path: Path, *, writable: bool) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path} was written by a newer preheat (schema {version}); upgrade, or choose another folder")
    if writable:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {MOST_IDLE_WAL_BYTES}")
        connection.execute("PRAGMA cache_size = -256")  # KiB; what is written once and read at start needs no more
        if version < SCHEMA_VERSION:
            _transact(connection, _migrate)
        path.chmod(0o600)


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the database, whichever version it is of, to `SCHEMA_VERSION`, with the history that it holds."""
    known = find_older(connection).history
    for statement in filter(str.strip, _SCHEMA.split(";")):
        connection.execute(statement)
    if known is not None:
        write_base(connection, encode_history(known))
    connection.execute("DROP TABLE IF EXISTS history")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
