"""The lines of an exported history: a header, items, hours, the trail, an end; see docs/reference/history-file.md.

Every bound on what may stand in a line is here, since the file may come from anywhere.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

SCHEMA = "preheat-history/1"
MOST_LINE_CHARACTERS = 2**20
MOST_TEXT_CHARACTERS = 2**16
MOST_CACHES = 1000
MOST_NUMBER = 2**53  # beyond it, not every whole number is one in JSON
TRAIL_PER_LINE = 1000

Whole = Annotated[int, msgspec.Meta(ge=0, le=MOST_NUMBER)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
Text = Annotated[str, msgspec.Meta(max_length=MOST_TEXT_CHARACTERS)]


class Cache(msgspec.Struct):
    """A cache, and what was counted of it."""

    name: Text
    hits: Whole = 0
    misses: Whole = 0


class Header(msgspec.Struct):
    """The first line."""

    schema: str
    at: Amount
    since: Amount
    half_lives: Annotated[list[Amount], msgspec.Meta(min_length=1, max_length=16)]
    caches: Annotated[list[Cache], msgspec.Meta(max_length=MOST_CACHES)]


class Item(msgspec.Struct, tag_field="line", tag="item", omit_defaults=True):
    """An item; `number` is what the trail calls it."""

    number: Whole
    cache: Text
    key: Text
    last_at: Amount
    counts: list[Amount]
    gaps: list[Amount] = []
    size_bytes: Whole = 0
    load_seconds: Amount | None = None
    version: Text = ""
    recipe: Text = ""


class Hour(msgspec.Struct, tag_field="line", tag="hour"):
    """The hits and misses of each cache, in the order of the header, in one hour: Unix seconds // 3600."""

    hour: Whole
    traffic: Annotated[list[tuple[Whole, Whole]], msgspec.Meta(max_length=MOST_CACHES)]


class Trail(msgspec.Struct, tag_field="line", tag="trail"):
    """Some of the newest accesses, oldest first: the numbers of their items, and their instants."""

    items: Annotated[list[Whole], msgspec.Meta(max_length=TRAIL_PER_LINE)]
    at: Annotated[list[Amount], msgspec.Meta(max_length=TRAIL_PER_LINE)]


class End(msgspec.Struct, tag_field="line", tag="end"):
    """The last line: a file without it was cut."""


Line = Item | Hour | Trail | End
