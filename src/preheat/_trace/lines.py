"""The lines of a text file from anywhere, plain or gzipped: none longer than said, and no bomb."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, TextIO, cast

from preheat.errors import UsageError

MAX_LINE = 65_536  # characters
MOST_UNPACKED_RATIO = 400  # logs shrink to a tenth, the most repetitive to a hundredth; a bomb to a thousandth
UNPACKED_FREELY_BYTES = 2**26
STDIN = "-"


class Lines:
    """The lines of the file at `path`, `-` being standard input; those that are too long are bad ones.

    `number` is that of the line given last, from 1.  Bytes that are no UTF-8 become lone surrogates.

    Raises:
        OSError: It can't be opened.
        UsageError: While reading: it is no whole gzip file, or one that unpacks to far more than any log does.
    """

    def __init__(self, path: str, bad: Callable[[int, str], None], max_line: int = MAX_LINE) -> None:
        self.number = 0
        self._path, self._bad, self._max_line = path, bad, max_line
        self._packed: BinaryIO = sys.stdin.buffer if path == STDIN else open(path, "rb")  # noqa: SIM115 - closed in close
        self._unpacked = _Counted(self._packed) if path.endswith(".gz") else None
        raw = cast(BinaryIO, self._unpacked or self._packed)
        self._file: TextIO = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._packed.close()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while True:
            line = self._read()
            if not line:
                raise StopIteration
            self.number += 1
            if len(line) < self._max_line:
                return line
            self._bad(self.number, f"it is longer than {self._max_line} characters")
            while line and not line.endswith("\n"):
                line = self._read()

    def numbered(self) -> Iterator[tuple[int, str]]:
        """The lines, each with its number."""
        for line in self:
            yield self.number, line

    def _read(self) -> str:
        try:
            return self._file.readline(self._max_line)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UsageError(f"{self._path} is no whole gzip file: {error}") from error
        except _Bomb:
            raise UsageError(
                f"{self._path} unpacks to more than {MOST_UNPACKED_RATIO} times its size, as no log does; "
                "unpack it first if it is one"
            ) from None


class _Bomb(Exception):
    pass


class _Counted(gzip.GzipFile):
    """Unpacks until far more came out than went in."""

    def __init__(self, packed: BinaryIO) -> None:
        super().__init__(fileobj=packed, mode="rb")
        self._packed, self._came_out = packed, 0

    def read1(self, size: int | None = -1) -> bytes:
        data = super().read1(-1 if size is None else size)
        self._came_out += len(data)
        if self._came_out > UNPACKED_FREELY_BYTES + MOST_UNPACKED_RATIO * self._packed.tell():
            raise _Bomb
        return data
