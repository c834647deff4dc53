"""Files of requests -> history: what people have recorded already, without preheat."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

import xxhash

from preheat._bad_lines import BadLines
from preheat._model import History
from preheat._trace.access_log import read_access_log
from preheat._trace.gathering import ROLES, UNITS, GatheredAccesses
from preheat._trace.lines import STDIN
from preheat._trace.text import read_csv, read_jsonl
from preheat.errors import UsageError

READ_AT_ONCE = 2**20


class Recorded(NamedTuple):
    """What a file tells.

    Attributes:
        history: Its accesses, of one cache.
        accesses: How many there are.
        passed_over: Lines that tell of something else.
        bad_lines: Lines that can't be used.
        dated: Whether it has times.
    """

    history: History
    accesses: int
    passed_over: int
    bad_lines: BadLines
    dated: bool


def read_accesses(
    path: str,
    cache: str,
    *,
    now: float,
    names: Mapping[str, str] | None = None,
    kind: str = "auto",
    unit: str = "s",
    max_items: int,
    most_bytes: int,
) -> Recorded:
    """The accesses of `cache` in the file at `path`, `-` being standard input.

    Args:
        path: Its name tells the format, unless `kind` does; a name that tells none is that of an access log.
        cache: Whose accesses these are.
        now: Unix seconds; an access after that can't be used.  Those of a file without times all happened when it was
            changed last.
        names: What the file calls `key` and other columns, where that is not their usual name.
        kind: A name in `FORMATS`.
        unit: What times count that are numbers, a name in `UNITS`.
        max_items, most_bytes: See `GatheredAccesses`.

    Raises:
        UsageError: The file can't be read, has no such column, or not a line that can be used.
    """
    read = FORMATS[kind if kind != "auto" else _format_of(path)]
    roles = {"key": "key"} | {role: role for role in ROLES}
    if read is read_access_log:
        roles["key"] = "path"
    try:
        changed_at = now if path == STDIN else min(now, os.stat(path).st_mtime)
        accesses = GatheredAccesses(
            path,
            cache,
            roles | dict(names or {}),
            until=now,
            undated_at=changed_at,
            unit=unit,
            max_items=max_items,
            most_bytes=most_bytes,
        )
        read(path, accesses)
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror or error}") from error
    history = accesses.history()
    bad = accesses.bad_lines
    if not accesses.accesses:
        named = f"; {bad.named[0]}" if bad.named else ""
        raise UsageError(
            f"{path} tells of no access: {bad.count} lines can't be used, {accesses.passed_over} tell of something "
            f"else{named}"
        )
    return Recorded(history, accesses.accesses, accesses.passed_over, bad, accesses.dated)


def file_digest(path: str) -> str:
    """What tells the content of a file from any other.

    Raises:
        UsageError: It can't be read.
    """
    digest = xxhash.xxh3_128()
    try:
        with open(path, "rb") as file:
            while data := file.read(READ_AT_ONCE):
                digest.update(data)
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror or error}") from error
    return digest.hexdigest()


def _format_of(path: str) -> str:
    suffix = os.path.splitext(os.path.basename(path).removesuffix(".gz"))[1]
    return _SUFFIXES.get(suffix, "combined")


def _read_parquet(path: str, accesses: GatheredAccesses) -> None:
    from preheat._trace.parquet import read_parquet_rows  # pyarrow is an extra, and slow to import

    if path == STDIN:
        raise UsageError("Parquet can't be read from standard input; name a file")
    read_parquet_rows(path, accesses)


_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}

FORMATS: dict[str, Callable[[str, GatheredAccesses], None]] = {
    "combined": read_access_log,
    "csv": read_csv,
    "jsonl": read_jsonl,
    "parquet": _read_parquet,
}

__all__ = ["FORMATS", "ROLES", "UNITS", "Recorded", "file_digest", "read_accesses"]
