"""What still fits a memcached server without evicting: by the size classes that it keeps its items in."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from preheat._sharing.rules import FULL_RATIO

PAGE_BYTES = 1 << 20
ITEM_BYTES = 48 + 8  # of an item's head and its number
ENDS_BYTES = 1 + 2  # after key and value
MOST_CLASSES = 63
LEASE_BYTES = 32  # of the value that stands for one that is being loaded


class SizeClass(NamedTuple):
    """Items of at most `chunk_bytes`, each of which takes a chunk: how many are free without a new page."""

    chunk_bytes: int
    free: int


class ServerRoom(NamedTuple):
    """What one server has left: chunks of each class, smallest first, and pages that no class has yet."""

    classes: tuple[SizeClass, ...]
    pages: int

    @classmethod
    def of(cls, slabs: Mapping[str, int], settings: Mapping[str, Any], limit_bytes: int) -> ServerRoom:
        """From the replies to `stats slabs` and `stats settings`, and the server's limit.

        A tenth of the chunks of each class and of all pages is left to traffic.
        """
        free = {
            slabs[f"{n}:chunk_size"]: slabs[f"{n}:free_chunks"] - round(slabs[f"{n}:total_chunks"] * (1 - FULL_RATIO))
            for n in range(1, MOST_CLASSES + 1)
            if f"{n}:chunk_size" in slabs
        }
        sizes = sorted({*_chunk_sizes(settings), *free})
        pages = int(limit_bytes * FULL_RATIO - slabs.get("total_malloced", 0)) // PAGE_BYTES
        return cls(tuple(SizeClass(size, max(0, free.get(size, 0))) for size in sizes), max(0, pages))

    def holds(self, sizes: Sequence[tuple[int, int]]) -> int:
        """How many of the first items fit, each with the lease that is there before it; `sizes` of key and value."""
        left = _Left([each.chunk_bytes for each in self.classes], [each.free for each in self.classes], self.pages)
        for n, (key_bytes, data_bytes) in enumerate(sizes):
            if not left.take(item_bytes(key_bytes, LEASE_BYTES)) or not left.take(item_bytes(key_bytes, data_bytes)):
                return n
        return len(sizes)


class _Left:
    """What is left while items are put in, in thought."""

    def __init__(self, chunk_bytes: list[int], free: list[int], pages: int) -> None:
        self._chunk_bytes, self._free, self._pages = chunk_bytes, free, pages

    def take(self, size_bytes: int) -> bool:
        """Whether an item of `size_bytes` fits; what is larger than the largest chunk takes several."""
        where = min(bisect_left(self._chunk_bytes, size_bytes), len(self._free) - 1)
        chunks = -(-size_bytes // self._chunk_bytes[where])
        while self._free[where] < chunks:
            if not self._pages:
                return False
            self._pages -= 1
            self._free[where] += PAGE_BYTES // self._chunk_bytes[where]
        self._free[where] -= chunks
        return True


class SlabRoom(NamedTuple):
    """What several servers have left.  Which of them an item goes to is not asked: each has to have room for all.

    Attributes:
        servers: What each has.
        evicted: How many items they have evicted since they started.
        most_item_bytes: The largest item that all of them take.
    """

    servers: tuple[ServerRoom, ...]
    evicted: int
    most_item_bytes: int

    @classmethod
    def of(cls, told: Sequence[tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]]) -> SlabRoom:
        """From what each server says: the replies to `stats`, `stats slabs` and `stats settings`."""
        return cls(
            tuple(ServerRoom.of(slabs, settings, int(stats["limit_maxbytes"])) for stats, slabs, settings in told),
            sum(int(stats.get("evictions", 0)) for stats, _, _ in told),
            min(int(settings["item_size_max"]) for _, _, settings in told),
        )

    def holds(self, sizes: Sequence[tuple[int, int]]) -> int:
        """How many of the first items of `sizes`, of key and value, fit without evicting."""
        return min(server.holds(sizes) for server in self.servers)

    def without_any(self) -> SlabRoom:
        """The same full."""
        return self._replace(servers=(ServerRoom((SizeClass(PAGE_BYTES, 0),), 0),))


def item_bytes(key_bytes: int, data_bytes: int) -> int:
    """What a server needs for an item."""
    return ITEM_BYTES + ENDS_BYTES + key_bytes + data_bytes


def _chunk_sizes(settings: Mapping[str, Any]) -> list[int]:
    """The sizes that a server makes of its settings, also of classes which nothing is in yet."""
    factor, largest = float(settings["growth_factor"]), int(settings.get("slab_chunk_max", PAGE_BYTES // 2))
    sizes: list[int] = []
    size = ITEM_BYTES - 8 + int(settings["chunk_size"])
    while len(sizes) < MOST_CLASSES - 1 and size <= largest / factor:
        size += -size % 8
        sizes.append(size)
        size = int(size * factor)
    return [*sizes, largest]
