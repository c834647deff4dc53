"""A digest of a folder's state, from names and status alone: no file is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import xxhash

from preheat.errors import ItemTooLarge

SKIPPED = "__pycache__"


def folder_state(folder: str, most_entries: int) -> str:
    """A digest of name, times and size of everything below `folder`, hidden names and byte code apart.

    Links are not followed.  What was added, removed, renamed or written to changes it, as far as the file system's
    clock can tell one instant from the next: to within some milliseconds, and since Linux 6.13 always.

    Raises:
        ItemTooLarge: There are more than `most_entries` files and folders.
        OSError: It is no folder, or can't be read.
    """
    digest = xxhash.xxh3_64()
    for count, line in enumerate(_walk(folder, most_entries), 1):
        if count > most_entries:
            raise ItemTooLarge(
                f"{folder} has more than {most_entries} files and folders; give its cache a `state_of` of its own, or "
                "a higher `most_entries`"
            )
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _walk(folder: str, most_entries: int) -> Iterator[str]:
    """A line for each file and folder, always in the same order.  One folder's entries are held at a time."""
    entries, folders = _entries(folder, most_entries), []
    while True:
        for entry in entries:
            with suppress(FileNotFoundError):  # went away since it was listed
                is_folder = entry.is_dir(follow_symlinks=False)
                yield _folder_line(entry) if is_folder else _file_line(entry)
                folders += [entry.path] if is_folder else []
        if not folders:
            return
        entries = []
        with suppress(OSError):  # it went away, or nobody may look into it: that it is there has been said
            entries = _entries(folders.pop(), most_entries)


def _folder_line(entry: os.DirEntry[str]) -> str:
    return f"{entry.path}/\n"


def _file_line(entry: os.DirEntry[str]) -> str:
    status = entry.stat(follow_symlinks=False)
    # the time of the last change of its status as well: that of its content can be set back
    return f"{entry.path}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\0{status.st_size}\n"


def _entries(folder: str, most_entries: int) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        kept = (entry for entry in entries if not entry.name.startswith(".") and entry.name != SKIPPED)
        return sorted(islice(kept, most_entries + 1), key=lambda entry: entry.name)
