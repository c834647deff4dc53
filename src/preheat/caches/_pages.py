"""Files in the operating system's page cache: brought there, weighed, found there, given back.

Only what the system tells and takes is used: `posix_fadvise` and `mincore`.  Where it has neither, nothing is known
to be resident, and advice is not given.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ADVISED_BYTES = 1 << 17  # the kernel reads no more than its window for readahead each time that it is advised
MOST_NOTED = 1 << 16


class Pages:
    """The pages of files that a warm-up brings in, and which of them were there before."""

    def __init__(self) -> None:
        self._were_there: dict[str, bool] = {}  # the oldest first

    def note(self, path: Path) -> None:
        """`path` is about to be read: ask for all of it, and remember whether it was there."""
        name = os.fspath(path)
        with suppress(OSError):
            self._were_there[name] = resident_bytes(path) > 0
            will_need(path)
        if len(self._were_there) > MOST_NOTED:
            self._were_there.pop(next(iter(self._were_there)), None)

    def size_bytes(self, path: Path) -> int:
        """What all of the file at `path` takes in the page cache: whole pages; 0 if it is gone."""
        try:
            return whole_pages(os.stat(path).st_size)
        except OSError:
            return 0

    def give_back(self, path: Path) -> None:
        """Drop the pages of `path` if none of them was there before it was noted."""
        if self._were_there.pop(os.fspath(path), True) is False:
            with suppress(OSError):
                wont_need(path)


def whole_pages(size_bytes: int) -> int:
    """`size_bytes` in whole pages, in bytes."""
    return -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE


def will_need(path: Path) -> None:
    """Have the system begin to read all of the file at `path`; does not wait for it.

    Raises:
        OSError: It can't be opened.
    """
    _advise(path, "POSIX_FADV_WILLNEED", ADVISED_BYTES)


def wont_need(path: Path) -> None:
    """Have the system drop what it holds of the file at `path` and nobody has mapped or written to.

    Raises:
        OSError: It can't be opened.
    """
    _advise(path, "POSIX_FADV_DONTNEED", 0)


def _advise(path: Path, advice: str, step_bytes: int) -> None:
    advise: Callable[[int, int, int, int], None] | None = getattr(os, "posix_fadvise", None)
    if advise is None:
        return
    file = _open(path)
    try:
        size_bytes = os.fstat(file).st_size
        for offset in range(0, size_bytes, step_bytes or max(size_bytes, 1)):
            advise(file, offset, step_bytes, getattr(os, advice))
    finally:
        os.close(file)


def resident_bytes(path: Path) -> int:
    """How much of the file at `path` is in the page cache, in whole pages; 0 where the system doesn't tell.

    Raises:
        OSError: It can't be opened.
    """
    import ctypes

    import numpy as np

    libc = ctypes.CDLL(None, use_errno=True)
    file = _open(path)
    try:
        size_bytes = os.fstat(file).st_size
        if size_bytes == 0 or not hasattr(libc, "mincore"):
            return 0
        with mmap.mmap(file, size_bytes, prot=mmap.PROT_READ) as mapped:
            view = np.frombuffer(mapped, np.uint8)
            states = np.zeros(whole_pages(size_bytes) // mmap.PAGESIZE, np.uint8)
            failed = libc.mincore(
                ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(size_bytes), ctypes.c_void_p(states.ctypes.data)
            )
            del view  # or the mapping can't be closed
        return 0 if failed else int((states & 1).sum()) * mmap.PAGESIZE
    finally:
        os.close(file)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
