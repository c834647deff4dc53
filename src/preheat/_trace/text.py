"""Traces as text: CSV with a line of names, and JSON objects line by line."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import msgspec

from preheat._trace.columns import OPTIONAL, Columns
from preheat.errors import UsageError

MAX_LINE = 65_536  # characters


def read_csv(path: str, columns: Columns) -> None:
    """Read comma-separated lines; the first one names the columns.

    Raises:
        OSError, UsageError: See `read_trace`.
    """
    with _open(path) as file:
        lines = _Lines(path, file, columns.bad)
        rows = csv.reader(lines, strict=True)
        try:
            names = [name.strip() for name in next(rows, [])]
        except csv.Error as error:
            raise UsageError(f"the first line of {path} is not CSV: {error}") from error
        present = columns.begin(names)
        places = [names.index("key"), *(names.index(name) if has else -1 for name, has in _optional(present))]
        while not columns.full:
            try:
                row = next(rows)
                if row:
                    columns.add(*(row[place] if place >= 0 else None for place in places))
            except StopIteration:
                return
            except IndexError:
                columns.bad(lines.number, "it has too few columns")
            except (csv.Error, ValueError) as error:
                columns.bad(lines.number, str(error))


class _Line(msgspec.Struct):
    key: str | int
    t: float | None = None
    size: float | None = None
    op: str | int | None = None
    cost: float | None = None


def read_jsonl(path: str, columns: Columns) -> None:
    """Read one JSON object per line; the first one tells which columns there are.

    Raises:
        OSError, UsageError: See `read_trace`.
    """
    decode = msgspec.json.Decoder(_Line).decode
    present: tuple[bool, ...] = ()
    with _open(path) as file:
        lines = _Lines(path, file, columns.bad)
        for text in lines:
            if columns.full:
                return
            if not text.strip():
                continue
            present = present or _begin_jsonl(path, text, columns)
            try:
                row = decode(text)
                columns.add(row.key, *_values(row, present))
            except (ValueError, RecursionError) as error:
                columns.bad(lines.number, _said(error))


def _begin_jsonl(path: str, text: str, columns: Columns) -> tuple[bool, ...]:
    try:
        first = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the first line of {path} is no JSON object: {_said(error)}") from error
    return columns.begin(list(first))


def _values(row: _Line, present: tuple[bool, ...]) -> Iterator[Any]:
    for name, has in _optional(present):
        value = getattr(row, name) if has else None
        if has and value is None and name in ("t", "size"):
            raise ValueError(f"{name} is missing")
        yield value


def _optional(present: tuple[bool, ...]) -> Iterator[tuple[str, bool]]:
    return zip(OPTIONAL, present, strict=True)


def _said(error: Exception) -> str:
    return str(error).partition(" (byte")[0] if str(error) else "it is nested too deeply"


def _open(path: str) -> TextIO:
    opened: Callable[..., Any] = gzip.open if path.endswith(".gz") else open
    file: TextIO = opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")
    return file


class _Lines:
    """The lines of a file, each of bounded length; those that are longer are bad ones."""

    def __init__(self, path: str, file: TextIO, bad: Callable[[int, str], None]) -> None:
        self._path, self._file, self._bad = path, file, bad
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while True:
            line = self._read()
            if not line:
                raise StopIteration
            self.number += 1
            if len(line) < MAX_LINE:
                return line
            self._bad(self.number, f"it is longer than {MAX_LINE} characters")
            while line and not line.endswith("\n"):
                line = self._read()

    def _read(self) -> str:
        try:
            return self._file.readline(MAX_LINE)
        except (EOFError, zlib.error) as error:
            raise UsageError(f"{self._path} is no whole gzip file: {error}") from error
