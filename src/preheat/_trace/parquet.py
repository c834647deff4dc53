"""Traces as Parquet, read in batches of columns; takes the extra `parquet`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from preheat._trace.columns import MAX_SIZE_BYTES, Columns, is_read, key_digest
from preheat._trace.text import Gathers
from preheat.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_ROWS = 1 << 18
ROWS_AT_ONCE = 1 << 12
BAD_KEY = -1


def read_parquet(path: str, columns: Columns) -> None:
    """Read the columns that a trace has; others are not touched.

    Raises:
        OSError, UsageError: See `read_trace`.
    """
    line = 1
    for batch, pa in _batches(path, columns, BATCH_ROWS):
        _add(batch.slice(0, columns.room), line, columns, pa)
        line += len(batch)
        if columns.full:
            return


def read_parquet_rows(path: str, columns: Gathers) -> None:
    """Read the wanted columns row by row, for what needs the keys themselves.

    Raises:
        OSError, UsageError: See `read_accesses`.
    """
    line = 0
    for batch, _ in _batches(path, columns, ROWS_AT_ONCE):
        there = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        nothing = [None] * len(batch)
        for row in zip(*(there.get(name, nothing) for name in columns.roles.values()), strict=True):
            line += 1
            try:
                columns.add(*_whole(row, columns))
            except ValueError as error:
                columns.bad(line, str(error))


def _whole(row: tuple[Any, ...], columns: Gathers) -> tuple[Any, ...]:
    if row[0] is None:
        raise ValueError("key is missing")
    return row


def _batches(path: str, columns: Gathers, rows: int) -> Iterator[tuple[Any, Any]]:
    """The wanted columns of the file, some rows at a time, and pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError("reading Parquet takes pyarrow: pip install 'preheat[parquet]'") from None
    try:
        with pq.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            columns.begin(names)
            _check_types(path, file.schema_arrow, columns.roles, pa)
            wanted = [name for name in columns.roles.values() if name in names]
            for batch in file.iter_batches(rows, columns=wanted):
                yield batch, pa
    except pa.ArrowException as error:
        raise UsageError(f"can't read {path} as Parquet: {str(error).splitlines()[0]}") from error


def _check_types(path: str, schema: Any, roles: Mapping[str, str], pa: Any) -> None:
    word = (_is_text, pa.types.is_integer, pa.types.is_boolean)
    kinds = {"key": (_is_text, pa.types.is_integer), "op": word, "hit": word, "version": word, "recipe": (_is_text,)}
    number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp)
    for role, name in roles.items():
        index = schema.get_field_index(name)
        kind = schema.field(index).type if index >= 0 else None
        if kind is not None and not any(fits(kind) for fits in kinds.get(role, number)):
            what = "text or whole numbers" if role in kinds else "numbers"
            raise UsageError(f"column `{name}` of {path} is {kind}; it has to be {what}")


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_string(kind) or types.is_large_string(kind)) or (
        types.is_dictionary(kind) and _is_text(kind.value_type)
    )


def _add(batch: Any, line: int, columns: Columns, pa: Any) -> None:
    there = {name: batch.column(name) for name in batch.schema.names}
    n = len(batch)
    items, bad_keys = _items(there["key"], columns, pa)
    times = _numbers(there.get("t"), np.zeros(n), pa)
    sizes = _numbers(there.get("size"), np.ones(n), pa)
    costs = _numbers(there.get("cost"), np.full(n, np.nan), pa)
    faults = {
        "key is missing, longer than 4096 bytes or not valid Unicode": bad_keys,
        "t is missing, negative or not finite": ~_usable(times),
        "size is missing, negative, not whole or more than 2**48 bytes": ~_usable(sizes)
        | (sizes > MAX_SIZE_BYTES)
        | (sizes != np.floor(sizes)),
        "cost is negative or not finite": ~(_usable(costs) | np.isnan(costs)),
    }
    good = np.ones(n, bool)
    for reason, fault in faults.items():
        rows = np.flatnonzero(fault & good)
        if len(rows):
            columns.bad(line + int(rows[0]), reason, len(rows))
        good &= ~fault
    reads = _reads(there.get("op"), n)
    columns.extend(items[good], times[good], sizes[good].astype(np.int64), costs[good], reads[good])


def _usable(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    usable: NDArray[np.bool_] = (values >= 0) & np.isfinite(values)
    return usable


def _items(column: Any, columns: Columns, pa: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The keys as whole numbers, and which are bad ones."""
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_integer(column.type):
        return column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64), missing
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    numbers = np.array([_number_of(key, columns) for key in encoded.dictionary], np.int64)
    items = np.append(numbers, BAD_KEY)[encoded.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)]
    return items, items == BAD_KEY


def _number_of(key: Any, columns: Columns) -> int:
    try:
        return columns.number(key_digest(key.as_py()))
    except ValueError:
        return BAD_KEY


def _numbers(column: Any, default: NDArray[np.float64], pa: Any) -> NDArray[np.float64]:
    """The column as floats, NaN where it is null; of instants, seconds."""
    if column is None:
        return default
    if pa.types.is_timestamp(column.type):
        micros = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        return _numbers(micros, default, pa) / 1e6
    values: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


def _reads(column: Any, n: int) -> NDArray[np.bool_]:
    if column is None:
        return np.ones(n, bool)
    encoded = column.dictionary_encode() if not hasattr(column, "dictionary") else column
    known = [is_read(int(op) if isinstance(op, bool) else op) for op in encoded.dictionary.to_pylist()]
    reads: NDArray[np.bool_] = np.array([*known, True])[
        encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
    ]
    return reads
