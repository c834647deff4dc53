"""What is known on disk: a state folder with one SQLite file, and how a history is written in it."""

from preheat._store.folder import DATABASE, LOCK
from preheat._store.sqlite import SQLITE_VERSION, SqliteStore

__all__ = ["DATABASE", "LOCK", "SQLITE_VERSION", "SqliteStore"]
