"""The state folder itself: whose it is, who may write to it, and the files in it that are not SQLite's own.

The database file is never opened other than by SQLite: closing such a descriptor would drop SQLite's own locks.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from preheat.errors import StoreError

DATABASE = "history.db"
LOCK = "owner.lock"


def claim_folder(folder: Path) -> None:
    """Make `folder` with mode 0700 unless it is there.

    Raises:
        StoreError: It can't be made or used, it is somebody else's, or others may write to it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise StoreError(f"the state folder {folder} can't be used: {error.strerror}") from None
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreError(f"others may write to the state folder {folder}; run: chmod go-w {folder}")
    if status.st_uid not in (os.geteuid(), 0):
        raise StoreError(f"the state folder {folder} belongs to somebody else (uid {status.st_uid}); choose another")


def take_lock(folder: Path) -> int | str:
    """Own `folder` until the returned descriptor is closed, or the process ends; else why it can't be owned now.

    A forked child shares the descriptor, and has to close its own before the lock is anybody's again.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:  # a folder that can't be written to can still be read
        return f"{folder} can't be written to ({error.strerror}); its history is read, nothing is kept"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return f"another process owns {folder}; its history is read, nothing is written"
    return descriptor


def create_private(path: Path) -> None:
    """Make the file at `path` durably with mode 0600, which SQLite then gives the files beside it too."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def set_aside(database: Path) -> Path:
    """Move a damaged database to `history.db.damaged`, in place of the one before; where it is now.

    Raises:
        StoreError: It can't be moved.
    """
    aside = database.with_name(f"{database.name}.damaged")
    try:
        database.replace(aside)
        for rest in ("-wal", "-shm"):
            database.with_name(f"{database.name}{rest}").unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{database} is damaged and can't be moved aside: {error.strerror}") from None
    return aside
