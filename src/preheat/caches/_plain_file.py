"""A plain file read whole: what is in it, and what tells later that it is still the same.

Fifos, sockets and devices are refused before they are opened, so nothing blocks; what grows while it is read is
bounded.  A file's stamp changes with every change of the file, as far as its file system's clock can tell one instant
from the next: of a file that changed right before it was read no stamp is given, so that it is read again.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from pathlib import Path
from typing import NamedTuple

import xxhash

from preheat._limit import demand_within_limit, load_limit_bytes
from preheat.errors import ItemTooLarge

NO_STAMP = b""
"""Stands for no state at all, not even the same one."""

READINGS = 3  # of a file that changes while it is read
CHUNK_BYTES = 1 << 20

SETTLED_NS = 100_000_000  # the clocks of file systems tick every 10 ms or faster
COARSE_NS = 2_000_000_000  # but for those that keep whole seconds, or every other

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)


class NotPlain(OSError):
    """There is something of that name, but no file that can be read to an end."""


class Contents(NamedTuple):
    """A file as it was read.

    Attributes:
        data: All of it.
        digest: Of `data`: equal for equal data.
        stamp: Of the state that it was read in; `NO_STAMP` where that may have changed since unseen.
        is_steady: False if it changed in each of the attempts to read it, so that `data` may be of no one state.
    """

    data: bytes
    digest: str
    stamp: bytes
    is_steady: bool


def inside(root: Path, path: str) -> Path:
    """`path` under `root`.

    Raises:
        FileNotFoundError: It is absolute or leads out of `root`.
    """
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise FileNotFoundError(f"{path!r} is not a path inside {root}")
    return Path(os.path.join(root, path))  # not root / path, which may intern `path`: then it weighs nothing as a key


def stamp_of(path: Path) -> bytes:
    """The stamp of the file at `path`, a link followed.

    Raises:
        OSError: There is no plain file.
    """
    return _stamp(_demand_plain(os.stat(path), path))


def demand_readable(path: Path, most_bytes: int) -> None:
    """Raise what `read_plain` would, as far as it can be told from without.

    Raises:
        ItemTooLarge, OSError: As `read_plain` does.
    """
    _demand_size(_demand_plain(os.stat(path), path).st_size, path, most_bytes)


def read_plain(path: Path, most_bytes: int) -> Contents:
    """The file at `path`, a link followed.

    Raises:
        ItemTooLarge: It has more than `most_bytes`, or more than the warm-up that loads it may have.
        OSError: There is no plain file, or it can't be read.
    """
    _demand_plain(os.stat(path), path)  # before it is opened: to open a device can be an act
    file = os.open(path, _FLAGS)
    try:
        return _read_steadily(file, path, most_bytes)
    finally:
        os.close(file)


def _read_steadily(file: int, path: Path, most_bytes: int) -> Contents:
    after = _demand_plain(os.fstat(file), path)
    for _ in range(READINGS):
        os.lseek(file, 0, os.SEEK_SET)
        before, began_ns = after, time.time_ns()
        data = _read_all(file, before.st_size, path, most_bytes)
        after = os.fstat(file)
        is_steady = _stamp(before) == _stamp(after)
        if is_steady:
            break
    is_telling = is_steady and _is_settled(after, began_ns)
    return Contents(data, xxhash.xxh3_128_hexdigest(data), _stamp(after) if is_telling else NO_STAMP, is_steady)


def _read_all(file: int, says_bytes: int, path: Path, most_bytes: int) -> bytes:
    """What `file` had when it said how much that is: a log that grows is not run after."""
    _demand_size(says_bytes, path, most_bytes)
    limit_bytes = load_limit_bytes()
    room_bytes = most_bytes if limit_bytes is None else min(most_bytes, limit_bytes)
    chunks: list[bytes] = []
    size_bytes, left_bytes = 0, says_bytes or room_bytes + 1  # files of /proc have more than the none that they say
    while left_bytes and (chunk := os.read(file, min(left_bytes, says_bytes or CHUNK_BYTES))):
        chunks.append(chunk)
        size_bytes, left_bytes = size_bytes + len(chunk), left_bytes - len(chunk)
        _demand_size(size_bytes, path, most_bytes)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _demand_size(size_bytes: int, path: Path, most_bytes: int) -> None:
    demand_within_limit(size_bytes, path)
    if size_bytes > most_bytes:
        raise ItemTooLarge(f"{path} has {size_bytes} bytes; its cache reads files of up to {most_bytes}")


def _demand_plain(status: os.stat_result, path: Path) -> os.stat_result:
    if stat.S_ISREG(status.st_mode):
        return status
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise NotPlain(errno.EINVAL, f"it is a {_kind_of(status.st_mode)}, not a file", str(path))


def _kind_of(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def _stamp(status: os.stat_result) -> bytes:
    # the time of the last change of its status as well: that of its content can be set back
    return struct.pack("=QQqqq", status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _is_settled(status: os.stat_result, at_ns: int) -> bool:
    """Whether a change after the instant `at_ns` changes the stamp, however coarse the file system's clock is."""
    changed_ns = status.st_ctime_ns  # not when its content was: that can be set to anything
    return at_ns - changed_ns > (COARSE_NS if changed_ns % 1_000_000_000 == 0 else SETTLED_NS)
