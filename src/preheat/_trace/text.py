"""Traces as text: CSV with a line of names, and JSON objects line by line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import msgspec

from preheat._bad_lines import without_place
from preheat._trace.lines import Lines
from preheat.errors import UsageError


class Gathers(Protocol):
    """What rows are added to.

    Attributes:
        roles: What the file calls each column that is wanted, the key first.
        types: What may stand in them.
        required: The roles of those that every row has to have if the file has them.
        full: Whether no more rows are wanted.
    """

    roles: dict[str, str]
    types: Mapping[str, Any]
    required: tuple[str, ...]

    @property
    def full(self) -> bool: ...
    def begin(self, names: list[str]) -> tuple[bool, ...]: ...
    def add(self, key: Any, *values: Any) -> None: ...
    def bad(self, line: int, reason: str, times: int = 1) -> None: ...


def read_csv(path: str, columns: Gathers) -> None:
    """Read comma-separated lines; the first one names the columns.

    Raises:
        OSError, UsageError: See `read_trace`.
    """
    with Lines(path, columns.bad) as lines:
        rows = csv.reader(lines, strict=True)
        try:
            names = [name.strip() for name in next(rows, [])]
        except csv.Error as error:
            raise UsageError(f"the first line of {path} is not CSV: {error}") from error
        present = columns.begin(names)
        has = (True, *present)
        places = [names.index(n) if there else -1 for n, there in zip(columns.roles.values(), has, strict=True)]
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


def read_jsonl(path: str, columns: Gathers) -> None:
    """Read one JSON object per line; the first one tells which columns there are.

    Raises:
        OSError, UsageError: See `read_trace`.
    """
    decode = msgspec.json.Decoder(_line_type(columns)).decode
    _, *optional = columns.roles
    present: tuple[bool, ...] = ()
    with Lines(path, columns.bad) as lines:
        for text in lines:
            if columns.full:
                return
            if not text.strip():
                continue
            present = present or _begin_jsonl(path, text, columns)
            try:
                row = decode(text)
                columns.add(row.key, *_values(row, optional, present, columns.required))
            except (ValueError, RecursionError) as error:
                columns.bad(lines.number, without_place(error))


def _line_type(columns: Gathers) -> Any:
    """The type of a line: an object of which only the wanted fields are looked at."""
    fields = [
        (role, kind) if role == "key" else (role, kind, None)
        for role, kind in ((role, columns.types[role]) for role in columns.roles)
    ]
    return msgspec.defstruct("Line", fields, rename=columns.roles)


def _begin_jsonl(path: str, text: str, columns: Gathers) -> tuple[bool, ...]:
    try:
        first = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the first line of {path} is no JSON object: {without_place(error)}") from error
    return columns.begin(list(first))


def _values(row: Any, roles: list[str], present: tuple[bool, ...], required: tuple[str, ...]) -> Iterator[Any]:
    for role, has in zip(roles, present, strict=True):
        value = getattr(row, role) if has else None
        if has and value is None and role in required:
            raise ValueError(f"{role} is missing")
        yield value
