"""History and its changes <-> bytes, in named sections of raw columns.

Beside its key, an item takes some 26 bytes: 16 bits for each count, each gap and the cost of a load; the last access
in 32 bits; everything else as narrow as its range allows.  What is rounded is rounded once (`as_kept`), so loading and
saving again changes nothing.

Nothing that is read is believed: all sections have to have the lengths that follow from each other before anything is
made from them, and no more is ever made than a small multiple of what is there.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from preheat._columns import TextColumn
from preheat._history import GAPS, TRAIL_LIMIT
from preheat._history.demanding import demand
from preheat._model import History, HistoryChanges
from preheat._store.compact import (
    MOST_INTEGER,
    decode_floats,
    decode_integers,
    encode_floats,
    encode_integers,
    from_ticks,
    to_ticks,
)
from preheat.errors import StoreCorrupt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Section = bytes | bytearray | memoryview
    Sections = Mapping[str, Section]

MOST_CACHES = 2**15
MOST_HALF_LIVES = 16
MOST_EXPANDED_BYTES = 32 * 2**20
MOST_EXPANDED_PER_ROW = 16
"""Texts that are kept as numbers of distinct ones take no more than this many bytes each, or that many in all."""

_AT_ONCE = 2**20  # bytes of text that are looked at together
_SAMPLE = 4096  # rows, to see whether texts repeat


class _About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is no column.  `integers` says for each section of integers what they count from, and their width."""

    at: float
    since: float
    half_lives: tuple[float, ...]
    caches: tuple[str, ...]
    integers: dict[str, tuple[int, int]]
    size: int | None = None  # rows of the whole, of changes


def as_kept(history: History) -> History:
    """`history` as loading gives it back: rounded, and no item weighing less than nothing."""
    return replace(
        history,
        counts=decode_floats(encode_floats(history.counts)),
        gaps=decode_floats(encode_floats(history.gaps)),
        load_seconds=decode_floats(encode_floats(history.load_seconds)),
        last_at=from_ticks(to_ticks(history.last_at)),
        trail=history.trail[-TRAIL_LIMIT:],
        trail_at=from_ticks(to_ticks(history.trail_at[-TRAIL_LIMIT:])),
        size_bytes=np.clip(history.size_bytes, 0, MOST_INTEGER),
        hourly=history.hourly.reshape(len(history.hours), len(history.caches), 2),
    )


# -------------------------------------------------------------------------------------------------------- encoding


def encode_history(history: History) -> dict[str, Section]:
    """The sections of `history`."""
    return _encode(history, {}, None)


def encode_changes(changes: HistoryChanges) -> bytes:
    """`changes` in one piece."""
    gaps = np.diff(changes.row, prepend=0)
    return msgspec.msgpack.encode(_encode(changes.rows, {"row": gaps}, changes.size))


def _encode(history: History, more: dict[str, NDArray[Any]], size: int | None) -> dict[str, Section]:
    sections: dict[str, Section] = {
        "counts": _raw(encode_floats(history.counts)),
        "gaps": _raw(encode_floats(history.gaps)),
        "load_seconds": _raw(encode_floats(history.load_seconds)),
        "keys": _raw(_text(history.keys)),
    }
    columns: dict[str, NDArray[Any]] = {
        "cache": history.cache,
        "key_lengths": history.keys.lengths(),
        "last_at": to_ticks(history.last_at),
        "size_bytes": np.maximum(history.size_bytes, 0),
        "hits": history.hits,
        "misses": history.misses,
        "hours": history.hours,
        "hourly": history.hourly.reshape(-1),
        **_trail_columns(history),
        **more,
    }
    fixed = set(_OF_KNOWN_LENGTH)
    for name in ("version", "recipe"):
        texts, codes = _fold_texts(getattr(history, f"{name}s"))
        fixed |= set() if len(codes) else {f"{name}_lengths"}
        sections[f"{name}s"] = _raw(_text(texts))
        columns |= {f"{name}_lengths": texts.lengths(), f"{name}_codes": codes}
    integers: dict[str, tuple[int, int]] = {}
    for name, values in columns.items():
        base, width, sections[name] = encode_integers(values, least_width=int(name not in fixed))
        integers[name] = (base, width)
    about = _About(history.at, history.since, history.half_lives, history.caches, integers, size)
    sections["about"] = msgspec.msgpack.encode(about)
    return sections


_OF_KNOWN_LENGTH = ("cache", "key_lengths", "last_at", "size_bytes", "hits", "misses", "hourly", "row")


def _text(column: TextColumn) -> NDArray[np.uint8]:
    return column.blob[column.offsets[0] : column.offsets[-1]]


def _raw(array: NDArray[Any]) -> Section:
    return array.data.cast("B") if array.size else b""


def _trail_columns(history: History) -> dict[str, NDArray[Any]]:
    """The trail: of its instants each once, as the time since the one before, with the accesses that share it."""
    ticks = to_ticks(history.trail_at[-TRAIL_LIMIT:])
    first = np.flatnonzero(np.diff(ticks, prepend=ticks[:1] - 1))
    return {
        "trail": history.trail[-TRAIL_LIMIT:],
        "trail_start": ticks[:1],
        "trail_waits": np.diff(ticks[first]),
        "trail_times": np.diff(first, append=len(ticks)),
    }


def _fold_texts(column: TextColumn) -> tuple[TextColumn, NDArray[np.int64]]:
    """`column` as its distinct texts and the number of each row's, where that is shorter; else itself, and none."""
    none = np.empty(0, np.int64)
    n = len(column)
    if n < 2 or not len(column.blob) or not _may_expand(len(column.blob), n) or not _repeats(column[: min(n, _SAMPLE)]):
        return column, none
    _, first, codes = np.unique(column.hashes(np.zeros(n, np.int64)), return_index=True, return_inverse=True)
    texts, codes = column.take(first), codes.reshape(-1)
    shorter = len(texts.blob) + 8 * len(texts) + 2 * n < len(column.blob) + n
    if not shorter or texts.take(codes) != column:  # two texts with the same 64 bits
        return column, none
    return texts, codes


def _repeats(column: TextColumn) -> bool:
    return 2 * len(np.unique(column.hashes(np.zeros(len(column), np.int64)))) <= len(column)


def _may_expand(nbytes: int, rows: int) -> bool:
    return nbytes <= max(MOST_EXPANDED_BYTES, MOST_EXPANDED_PER_ROW * rows)


# -------------------------------------------------------------------------------------------------------- decoding


def decode_history(sections: Sections) -> History:
    """The history that `encode_history` made `sections` from, rounded.

    Raises:
        StoreCorrupt: They don't fit each other.
    """
    try:
        reader = _Reader.of(sections)
        return reader.history(reader.rows)
    except MISFITS as error:
        raise StoreCorrupt(f"its columns don't fit each other: {error}") from None


def decode_changes(encoded: bytes) -> HistoryChanges:
    """The changes that `encode_changes` made `encoded` from, rounded.

    Raises:
        StoreCorrupt: Its columns don't fit each other.
    """
    try:
        reader = _Reader.of(msgspec.msgpack.decode(encoded, type=dict[str, bytes]))
        size = reader.about.size
        if size is None or not 0 <= size < 2**31:
            raise ValueError("they don't say of how many rows")
        row = np.cumsum(reader.integers("row", reader.rows))
        demand(not len(row) or bool(row[0] >= 0 and (np.diff(row) > 0).all() and row[-1] < size), "its rows don't rise")
        return HistoryChanges(reader.history(size), row, size)
    except MISFITS as error:
        raise StoreCorrupt(f"its columns don't fit each other: {error}") from None


MISFITS = (msgspec.DecodeError, KeyError, TypeError, ValueError, OverflowError, RecursionError)


class _Reader(NamedTuple):
    """Sections, and the number of rows that they have to have."""

    sections: Sections
    about: _About
    rows: int

    @classmethod
    def of(cls, sections: Sections) -> _Reader:
        about = msgspec.msgpack.decode(sections["about"], type=_About)
        demand(math.isfinite(about.at) and math.isfinite(about.since), "its instants are none")
        demand(len(about.half_lives) <= MOST_HALF_LIVES, "it has too many half-lives")
        demand(all(0 < each < math.inf for each in about.half_lives), "a half-life is none")
        demand(len(about.caches) <= MOST_CACHES, "it has too many caches")
        demand(len(set(about.caches)) == len(about.caches), "two caches have one name")
        return cls(sections, about, len(sections["load_seconds"]) // 2)

    def history(self, trail_rows: int) -> History:
        """The history whose trail names rows below `trail_rows`."""
        about, n, caches = self.about, self.rows, len(self.about.caches)
        cache = self.integers("cache", n)
        demand(not n or bool(cache.min() >= 0 and cache.max() < caches), "a cache number is unknown")
        hours, (trail, trail_at) = self.integers("hours"), self.trail(trail_rows)
        demand(bool((np.diff(hours) > 0).all()), "its hours don't rise")
        counts = self.floats("counts", n, len(about.half_lives))
        demand(not np.isnan(counts).any(), "a count is none")
        return History(
            at=about.at,
            since=about.since,
            half_lives=about.half_lives,
            caches=about.caches,
            cache=cache.astype(np.int16),
            keys=self.texts("keys", "key_lengths", n),
            counts=counts,
            last_at=from_ticks(self.integers("last_at", n)),
            gaps=self.floats("gaps", n, GAPS),
            size_bytes=self.counts("size_bytes", n),
            load_seconds=self.floats("load_seconds", n, 1).reshape(n),
            versions=self.folded_texts("version"),
            recipes=self.folded_texts("recipe"),
            hits=self.counts("hits", caches),
            misses=self.counts("misses", caches),
            trail=trail,
            trail_at=trail_at,
            hours=hours,
            hourly=self.counts("hourly", len(hours) * caches * 2).reshape(len(hours), caches, 2),
        )

    def floats(self, name: str, rows: int, width: int) -> NDArray[np.float32]:
        codes = np.frombuffer(self.sections[name], "<u2")
        demand(len(codes) == rows * width, f"{name} has another length than the rows")
        return decode_floats(codes).reshape(rows, width)

    def integers(self, name: str, length: int | None = None) -> NDArray[np.int64]:
        try:
            return decode_integers(*self.about.integers[name], self.sections[name], length)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def counts(self, name: str, length: int) -> NDArray[np.int64]:
        values = self.integers(name, length)
        demand(not length or int(values.min()) >= 0, f"{name} is less than none")
        return values

    def texts(self, name: str, lengths: str, rows: int | None) -> TextColumn:
        blob = np.frombuffer(self.sections[name], np.uint8)
        if rows is not None and not self.about.integers[lengths][1]:
            return self.texts_of_one_length(name, self.about.integers[lengths][0], blob)
        each = self.integers(lengths, rows)
        demand(not len(each) or bool(each.min() >= 0 and each.max() <= len(blob)), f"{lengths} can't be")
        offsets = np.zeros(len(each) + 1, np.int64)
        np.cumsum(each, out=offsets[1:])
        demand(int(offsets[-1]) == len(blob), f"{lengths} miss their text")
        column = TextColumn(blob, offsets)
        demand_text(column, name)
        return column

    def texts_of_one_length(self, name: str, length: int, blob: NDArray[np.uint8]) -> TextColumn:
        demand(length >= 0 and length * self.rows == len(blob), f"{name} miss their text")
        ends = np.arange(0, len(blob) + 1, length) if length else np.zeros(self.rows + 1, np.int64)
        column = TextColumn(blob, ends)
        demand_text(column, name)
        return column

    def folded_texts(self, name: str) -> TextColumn:
        codes = self.integers(f"{name}_codes")
        if not len(codes):
            return self.texts(f"{name}s", f"{name}_lengths", self.rows)
        texts = self.texts(f"{name}s", f"{name}_lengths", None)
        demand(len(codes) == self.rows, f"{name}s has another length than the rows")
        demand(bool(codes.min() >= 0 and codes.max() < len(texts)), f"a number of {name}s is unknown")
        expanded = int(texts.lengths()[codes].sum())
        demand(_may_expand(expanded, self.rows), f"{name}s are too long")
        return texts.take(codes)

    def trail(self, rows: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The newest accesses and their instants."""
        trail, times = self.integers("trail"), self.integers("trail_times")
        ticks = np.cumsum(np.concatenate([self.integers("trail_start"), self.integers("trail_waits")]))
        demand(len(trail) <= TRAIL_LIMIT, f"the trail is longer than {TRAIL_LIMIT} accesses")
        demand(len(times) == len(ticks), "the trail has other instants than counts of them")
        # before `repeat` makes as many as they say
        demand(not len(times) or bool(times.min() > 0 and times.max() <= len(trail)), "the trail's counts don't add up")
        demand(int(times.sum()) == len(trail), "the trail's counts don't add up")
        demand(bool(((trail >= 0) & (trail < rows)).all()), "the trail names a row that is not there")
        demand(bool((np.diff(ticks) > 0).all()), "the instants of the trail don't rise")
        instants = from_ticks(ticks)
        demand(not len(ticks) or float(instants[-1]) <= self.about.at, "the trail goes on after the history's end")
        return trail.astype(np.int32), np.repeat(instants, times)


def demand_text(column: TextColumn, name: str) -> None:
    """That the whole of `column` is UTF-8, and no string begins inside of a character.

    Raises:
        ValueError: It isn't, or one does.
    """
    blob, offsets = column.blob, column.offsets
    if not len(blob) or int(blob.max()) < 0x80:
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(blob), _AT_ONCE):
        decoder.decode(blob[start : start + _AT_ONCE].data)
    decoder.decode(b"", final=True)
    starts = blob[offsets[offsets < len(blob)]]
    demand(not bool(((starts & 0xC0) == 0x80).any()), f"{name} are cut inside of a character")
