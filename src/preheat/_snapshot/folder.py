"""The folder of the snapshots: who may have written what is in it, and how files get there and away.

Everything goes through the descriptor of the folder, opened once and never through a link, and by names that are made
here: a file is never looked for where its content says.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import xxhash

from preheat._snapshot.refusal import FOREIGN, NOT_A_FILE, WRITABLE, Refused
from preheat.errors import StoreError

FOLDER = "snapshots"
PART, VALUES, LOG = ".tmp", ".values", ".erased"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class SnapshotFolder:
    """The folder at `path`, made with mode 0700 if there is none.

    One that others may write to is emptied of snapshots and closed to them; `notice` says so.

    Raises:
        StoreError: It can't be made or used, or belongs to somebody else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.notice: str | None = None
        self._at = -1
        try:
            with suppress(FileExistsError):
                self.path.mkdir(mode=0o700, parents=True)
            self._at = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"the folder of snapshots {self.path} can't be used: {error.strerror}") from None
        try:
            self._claim()
        except BaseException:
            self.close()
            raise

    def _claim(self) -> None:
        status = os.fstat(self._at)
        if status.st_uid != os.geteuid():
            raise StoreError(
                f"the folder of snapshots {self.path} belongs to somebody else (uid {status.st_uid}); remove it"
            )
        try:
            if status.st_mode & _OTHERS_WRITE:
                os.fchmod(self._at, 0o700)
                self._clear((PART, VALUES, LOG))
                self.notice = f"others could write to {self.path}, so the snapshots in it were dropped"
            self._clear((PART,))
        except OSError as error:
            raise StoreError(f"the folder of snapshots {self.path} can't be used: {error.strerror}") from None

    def _clear(self, endings: tuple[str, ...]) -> None:
        for name in self.names():
            if name.endswith(endings):
                self.remove(name)

    def names(self) -> list[str]:
        """The names of all files."""
        return os.listdir(self._at)

    def open(self, name: str) -> int:
        """A descriptor to read the file `name`.

        Raises:
            Refused: It is no plain file of ours that only we may write.
            OSError: There is none, or it can't be opened.
        """
        try:
            found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._at)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Refused(NOT_A_FILE) from None
            raise
        status = os.fstat(found)
        reason = (
            NOT_A_FILE
            if not stat.S_ISREG(status.st_mode)
            else FOREIGN
            if status.st_uid != os.geteuid()
            else WRITABLE
            if status.st_mode & _OTHERS_WRITE
            else None
        )
        if reason is not None:
            os.close(found)
            raise Refused(reason)
        return found

    def append_to(self, name: str) -> int:
        """A descriptor to append to the file `name`, which is made if there is none.

        Raises:
            OSError: It can't be opened.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self._at)

    @contextmanager
    def replacing(self, name: str) -> Iterator[int]:
        """A descriptor to write what takes the place of the file `name` when the block ends: durably or not at all.

        Raises:
            OSError: It could not be written; what was there stays.
        """
        part = name + PART
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.remove(part)
        written = os.open(part, flags, 0o600, dir_fd=self._at)
        try:
            try:
                yield written
                os.fsync(written)
                _let_go(written)
            finally:
                os.close(written)
            os.rename(part, name, src_dir_fd=self._at, dst_dir_fd=self._at)
        except BaseException:
            with suppress(OSError):
                self.remove(part)
            raise
        self.sync()

    def remove(self, name: str) -> None:
        """Remove the file `name` if there is one.

        Raises:
            OSError: It can't be removed.
        """
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._at)

    def sync(self) -> None:
        """Make durable which files there are.

        Raises:
            OSError: It failed.
        """
        os.fsync(self._at)

    def close(self) -> None:
        """Give up the descriptor."""
        if self._at >= 0:
            os.close(self._at)
            self._at = -1

    def __del__(self) -> None:
        self.close()


def _let_go(descriptor: int) -> None:
    """Take what was just written out of the page cache, which a container's memory is charged for."""
    with suppress(OSError, AttributeError):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def stem_of(cache: str) -> str:
    """What the names of the files of `cache` begin with."""
    return xxhash.xxh3_128_hexdigest(cache.encode("utf-8", "surrogatepass"))


def name_of(stem: str, number: int) -> str:
    """The name of the generation `number`."""
    return f"{stem}-{number:016x}{VALUES}"


def number_of(stem: str, name: str) -> int | None:
    """The number of the generation that the file `name` holds; None if it is none of this cache's."""
    digits = name.removeprefix(f"{stem}-").removesuffix(VALUES)
    if name_of(stem, 0)[: -16 - len(VALUES)] + digits + VALUES != name or len(digits) != 16:
        return None
    try:
        number = int(digits, 16)
    except ValueError:
        return None
    return number if 0 < number < 2**62 and name_of(stem, number) == name else None
