"""A history -> JSON lines."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from preheat._model import History
from preheat._portable.lines import SCHEMA, TRAIL_PER_LINE, Cache, End, Header, Hour, Item, Trail

AT_ONCE = 4096  # items: what stands in memory as objects


def history_lines(history: History) -> Iterator[bytes]:
    """The lines of `history`, some at a time, each with its end."""
    encode = msgspec.json.Encoder().encode_lines
    caches = zip(history.caches, history.hits.tolist(), history.misses.tolist(), strict=True)
    header = Header(
        schema=SCHEMA,
        at=history.at,
        since=history.since,
        half_lives=list(history.half_lives),
        caches=[Cache(*cache) for cache in caches],
    )
    yield encode([header])
    for start in range(0, len(history), AT_ONCE):
        yield encode(_items(history, slice(start, start + AT_ONCE)))
    yield encode(_hours(history))
    for start in range(0, len(history.trail), TRAIL_PER_LINE):
        span = slice(start, start + TRAIL_PER_LINE)
        yield encode([Trail(history.trail[span].tolist(), history.trail_at[span].tolist())])
    yield encode([End()])


def _items(history: History, span: slice) -> list[Item]:
    columns = zip(
        range(span.start, span.stop),
        map(history.caches.__getitem__, history.cache[span].tolist()),
        history.keys[span],
        history.last_at[span].tolist(),
        history.counts[span].tolist(),
        map(_known, history.gaps[span].tolist()),
        history.size_bytes[span].tolist(),
        (None if cost != cost else cost for cost in history.load_seconds[span].tolist()),
        history.versions[span],
        history.recipes[span],
        strict=False,  # the last span is shorter than its range
    )
    return [Item(*row) for row in columns]


def _known(gaps: list[float]) -> list[float]:
    return [gap for gap in gaps if gap == gap]


def _hours(history: History) -> list[Hour]:
    if not len(history.hours):
        return []
    counted = zip(history.hours.tolist(), history.hourly.tolist(), strict=True)
    return [Hour(hour, [(hits, misses) for hits, misses in traffic]) for hour, traffic in counted]
