"""Files of requests: CSV, JSONL (both also gzipped), Parquet, and access logs.

`read_trace` makes them a `preheat._replay.Trace`, without the keys themselves; `recording` makes them a history.  The
columns are described in docs/reference/traces.md.  Lines that can't be used are left out, counted and named.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from preheat._trace.columns import Columns, Recording
from preheat._trace.text import read_csv, read_jsonl
from preheat.errors import UsageError

__all__ = ["DEFAULT_LIMIT", "Recording", "read_trace"]

DEFAULT_LIMIT = 20_000_000
MIN_REQUESTS = 100


def read_trace(path: str, *, limit: int = DEFAULT_LIMIT, reads_only: bool = False) -> Recording:
    """Read at most `limit` requests of the file at `path`; its name tells the format.

    With `reads_only`, rows whose `op` says that they are no reads are passed over.

    Raises:
        UsageError: The file can't be read, has no column `key`, or hardly a line that can be used.
    """
    name = os.path.basename(path)
    stem, suffix = os.path.splitext(name.removesuffix(".gz"))
    if suffix not in _FORMATS or (suffix == ".parquet" and name.endswith(".gz")):
        raise UsageError(
            f"the name of {path} doesn't tell its format; call it .csv, .jsonl or .parquet (the first two also .gz)"
        )
    columns = Columns(path, limit=limit, reads_only=reads_only)
    try:
        _FORMATS[suffix](path, columns)
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror or error}") from error
    recording = columns.recording(stem)
    _check(path, recording)
    return recording


def _read_parquet(path: str, columns: Columns) -> None:
    from preheat._trace.parquet import read_parquet  # pyarrow is an extra, and slow to import

    read_parquet(path, columns)


_FORMATS: dict[str, Callable[[str, Columns], None]] = {
    ".csv": read_csv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": _read_parquet,
}


def _check(path: str, recording: Recording) -> None:
    requests = len(recording.trace)
    if recording.bad_lines > requests:
        examples = "; ".join(recording.bad_examples)
        raise UsageError(f"{path} is hardly a trace: {recording.bad_lines} lines can't be used ({examples})")
    if requests < MIN_REQUESTS:
        raise UsageError(f"{path} has {requests} requests; to restart in the midst of them takes {MIN_REQUESTS}")
