"""Where keys are on a cluster: in shards, each of which is whole on one server.

A cluster spreads keys over 16,384 slots, by a checksum of the part in braces where there is one [1], and what is done
at once has to be in one slot.  So the keys of a cache and its log are split into shards, each in a slot of its own; the
slots are spread evenly, and so are shards over servers.  A single server has one shard, and no braces.

[1] "Redis cluster specification", section "Hash tags".
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable
from functools import cache
from zlib import crc32

SLOTS = 16_384
CLUSTER_SHARDS = 64
"""Enough for servers to get about the same share; few enough for a batch to go out in not many more scripts."""


class Shards:
    """Which of its `tags` the keys of a cache belong to; without any, all are together."""

    def __init__(self, tags: tuple[str, ...] = ()) -> None:
        self._tags, self.is_one = tags, not tags
        self._marks = tuple(f"{{{tag}}}" for tag in tags) or ("",)

    def __len__(self) -> int:
        return len(self._marks)

    def of(self, key: str) -> int:
        """The shard that `key` is in."""
        return crc32(key.encode(errors="surrogatepass")) % len(self._marks) if self._tags else 0

    def mark(self, shard: int) -> str:
        """What stands in the names of all that is in `shard`."""
        return self._marks[shard]

    def group(self, keys: Iterable[str]) -> dict[int, list[int]]:
        """The places of `keys` by their shard."""
        if not self._tags:
            return {0: list(range(sum(1 for _ in keys)))}
        groups: dict[int, list[int]] = {}
        for n, key in enumerate(keys):
            groups.setdefault(self.of(key), []).append(n)
        return groups


@cache
def cluster_tags(count: int = CLUSTER_SHARDS) -> tuple[str, ...]:
    """Tags whose slots are in `count` equal parts of all slots, one in each; the same in every process."""
    tags: dict[int, str] = {}
    n = 0
    while len(tags) < count:
        tags.setdefault(slot_of(str(n)) * count // SLOTS, str(n))
        n += 1
    return tuple(tags[part] for part in range(count))


def slot_of(place: str) -> int:
    """The slot of a key on a cluster."""
    start = place.find("{")
    end = place.find("}", start + 1)
    tag = place[start + 1 : end] if 0 <= start < end - 1 else place
    return crc_hqx(tag.encode(errors="surrogatepass"), 0) % SLOTS
