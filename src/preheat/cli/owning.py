"""A state folder that a command changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from preheat.cli.configuring import state_folder
from preheat.errors import StoreError, UsageError

if TYPE_CHECKING:
    from preheat._store import SqliteStore

LOCKS = "/proc/locks"


@contextmanager
def owned_store(state_dir: str | None, *, create: bool = False, instead: str = "") -> Iterator[SqliteStore]:
    """The store in the configured state folder, owned until the end of the context.

    `instead` says what else can be done while another process owns it.

    Raises:
        UsageError: There is no such folder, and it is not to be made.
        StoreError: Another process owns it; nothing has been changed.
    """
    from preheat._store import SqliteStore

    folder = state_folder(state_dir)
    if not create and not os.path.isdir(folder):
        raise UsageError(f"there is no state folder {folder}; name it with --state-dir or CACHE_WARMUP_STATE_DIR")
    store = SqliteStore(folder)
    try:
        if not store.owner:
            raise StoreError(
                f"{folder} belongs to {_holder(folder)} while that runs, so nothing was changed; stop it first{instead}"
            )
        yield store
    finally:
        store.close()


def _holder(folder: str) -> str:
    """The process that holds the folder's lock, as far as the kernel tells."""
    from preheat._store import LOCK

    try:
        status = os.stat(os.path.join(folder, LOCK))
        with open(LOCKS, encoding="ascii") as file:
            rows = [line.split() for line in file]
    except OSError:
        return "another process"
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    held = [row[4] for row in rows if len(row) > 5 and row[1] == "FLOCK" and row[5] == place]
    return f"process {held[0]}" if held and held[0].isdigit() and held[0] != "0" else "another process"
