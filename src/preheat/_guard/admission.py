"""Who may start to load now, and how large the value may become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, overload

from preheat._guard.columns import count_zeros, total_of
from preheat._guard.experience import MARGIN, PER_MILLE, Experience, lesson_of
from preheat._guard.headroom import FALL_LEAST_BYTES, FALL_LIMIT_SHARE, Headroom
from preheat._model import MemoryReading, SizeRecord

KNOWN_AFTER = 3
"""Real sizes of a cache that are asked for before its loads may run side by side."""


class Group(NamedTuple):
    """Items that are expected to err alike: one kind in one cache."""

    cache: str
    kind: str


class Claims(Sequence[int]):
    """What is set aside for each load of a run; a number is made when somebody looks at it.

    Hundreds of loads go together in a run, and few loaders ever ask for their limit.
    """

    __slots__ = ("_sizes", "_worst_bytes", "_worst_per_mille")

    def __init__(self, sizes: Sequence[int], experience: Experience) -> None:
        self._sizes = sizes
        self._worst_per_mille, self._worst_bytes = experience.worst_per_mille, experience.worst_size_bytes

    def __len__(self) -> int:
        return len(self._sizes)

    @overload
    def __getitem__(self, n: int) -> int: ...
    @overload
    def __getitem__(self, n: slice) -> list[int]: ...
    def __getitem__(self, n: int | slice) -> int | list[int]:
        if isinstance(n, slice):
            return [self._claim(size_bytes) for size_bytes in self._sizes[n]]
        return self._claim(self._sizes[n])

    def _claim(self, size_bytes: int) -> int:
        return _with_margin(_worst(size_bytes, self._worst_per_mille) if size_bytes else self._worst_bytes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Claims({list(self)})"

    @property
    def total_bytes(self) -> int:
        """No less than all of them together; exactly as much for a single one."""
        n, unknown = len(self._sizes), count_zeros(self._sizes)
        expected = _worst(total_of(self._sizes), self._worst_per_mille) + unknown * self._worst_bytes
        return _with_margin(expected) + (n - 1) * _MOST_ROUNDING


def _worst(size_bytes: int, per_mille: int) -> int:
    return -(-size_bytes * per_mille // PER_MILLE)


def _with_margin(size_bytes: int) -> int:
    numerator, denominator = MARGIN
    return -(-size_bytes * numerator // denominator)


_MOST_ROUNDING = 3
"""Bytes by which rounding up an item's size and then its margin can exceed the item's part of a sum."""


class _Claim(NamedTuple):
    """What a run of loads may take: bytes set aside, and held at its peak."""

    reserved_bytes: int
    peak_bytes: int


class Guard:
    """Who may start to load now, and how large the value may become.

    What goes together is a run of loads of one cache, known by its first item.

    Args:
        size_bytes: (n,) estimates; 0 where nothing is known.
        group: (n,) index into `groups`.
        groups: What the items fall into.
        budget_bytes: What loaded and reserved bytes may add up to.
        reserve_bytes: Bytes of memory that no load may touch.
        known_after: Real sizes asked for before the loads of a cache run side by side.
    """

    def __init__(
        self,
        size_bytes: Sequence[int],
        group: Sequence[int],
        groups: Sequence[Group],
        *,
        budget_bytes: int,
        reserve_bytes: int = 0,
        known_after: int = KNOWN_AFTER,
    ) -> None:
        self.loaded_bytes = self.reserved_bytes = 0
        self._sizes, self._group, self._groups = size_bytes, group, groups
        self._budget_bytes, self._reserve_bytes = budget_bytes, reserve_bytes
        self._known_after = known_after
        self._of_kind = [Experience() for _ in groups]
        self._of_cache = {each.cache: Experience() for each in groups}
        self._is_only_kind = [sum(other.cache == each.cache for other in groups) == 1 for each in groups]
        self._claims: dict[int, _Claim] = {}  # what is in flight, by its first item
        self._asked: tuple[Sequence[int], _Claim] | None = None  # what was admitted last, and not yet reserved
        self._peak_bytes = 0
        self._room_bytes: int | None = None
        self._seen = Headroom()
        self._is_falling = False

    # ---------------------------------------------------------------------------------------------- memory

    def note(self, at: float, reading: MemoryReading) -> None:
        """Memory was read: what is available above the reserve is what loads in flight may hold at their peaks."""
        self._room_bytes = reading.available_bytes - self._reserve_bytes
        fallen = self._seen.fallen_bytes(at, reading.available_bytes + self.loaded_bytes)
        fall_bytes = max(FALL_LEAST_BYTES, reading.limit_bytes // FALL_LIMIT_SHARE)
        self._is_falling = fallen - self._peak_bytes > fall_bytes

    @property
    def is_falling(self) -> bool:
        """Whether others, not this run, have lately been taking memory."""
        return self._is_falling

    # ------------------------------------------------------------------------------------------- admission

    def is_known(self, item: int) -> bool:
        """Whether enough real sizes of the item's cache have been seen."""
        return self._cache_of(item).items >= self._known_after

    def admits(self, items: Sequence[int]) -> int:
        """How many of the first of `items` may start together, beside what is in flight."""
        if self._admits(items):
            return len(items)
        least, most = 0, len(items) - 1
        while least < most:
            middle = (least + most + 1) // 2
            if self._admits(items[:middle]):
                least = middle
            else:
                most = middle - 1
        return least

    def _admits(self, items: Sequence[int]) -> bool:
        claim = self._claim(items)
        self._asked = items, claim
        if self.loaded_bytes + self.reserved_bytes + claim.reserved_bytes > self._budget_bytes:
            return False
        return self._room_bytes is None or self._peak_bytes + claim.peak_bytes <= self._room_bytes

    def fits_budget(self, item: int) -> bool:
        """Whether the budget has room for `item` if nothing else is in flight and it is like the others."""
        return self.loaded_bytes + self._usually(item) <= self._budget_bytes

    def fits_memory(self, item: int) -> bool:
        """Whether memory has."""
        return self._room_bytes is None or self._usually(item) <= self._room_bytes

    def sharers(self, item: int, loaders: int) -> int:
        """How many loads share the spare memory with that of `item`, when there may be so many.

        As many as there may be, even while it is alone: one giant would cost the place of all the others.  But where
        nothing ever fitted that way, it is the estimates that are wrong.
        """
        cache = self._cache_of(item)
        return 1 if not cache.items and cache.refused >= KNOWN_AFTER else loaders

    def refused(self, item: int) -> None:
        """`item` turned out larger than its limit."""
        self._cache_of(item).refused += 1

    def reserve(self, items: Sequence[int]) -> Sequence[int]:
        """Set aside what `items` may take, and no more than the budget has left; the bytes of each."""
        asked, self._asked = self._asked, None
        claim = asked[1] if asked is not None and asked[0] is items else self._claim(items)
        left_bytes = max(0, self._budget_bytes - self.loaded_bytes - self.reserved_bytes)
        claims = self._claims_of(items)
        if claim.reserved_bytes > left_bytes:  # it starts alone
            claim, claims = claim._replace(reserved_bytes=left_bytes), (left_bytes,)
        self._claims[items[0]] = claim
        self.reserved_bytes += claim.reserved_bytes
        self._peak_bytes += claim.peak_bytes
        return claims

    def reserved_for(self, items: Sequence[int]) -> int:
        """What is set aside for the run of `items`, in bytes."""
        return self._claims[items[0]].reserved_bytes

    def spare_bytes(self, loaders: int) -> int | None:
        """What one of so many loaders may take beyond its reservation; None while memory is unknown.

        Half of the memory that is spare is shared by all of them; the other half is for what they hold while they
        make their values.
        """
        if self._room_bytes is None:
            return None
        in_memory = (self._room_bytes - self._peak_bytes) // (2 * loaders)
        in_budget = self._budget_bytes - self.loaded_bytes - self.reserved_bytes
        return max(0, min(in_memory, in_budget))

    def release(self, items: Sequence[int]) -> None:
        """The run of `items` is in flight no longer."""
        claim = self._claims.pop(items[0])
        self.reserved_bytes -= claim.reserved_bytes
        self._peak_bytes -= claim.peak_bytes

    # --------------------------------------------------------------------------------------------- account

    def fits(self, size_bytes: int) -> bool:
        """Whether values of `size_bytes` that have been loaded may stay."""
        return self.loaded_bytes + self.reserved_bytes + size_bytes <= self._budget_bytes

    def keep(self, size_bytes: int) -> None:
        """Values have come to stay."""
        self.loaded_bytes += size_bytes
        if self._room_bytes is not None:  # until the next reading shows it
            self._room_bytes -= size_bytes

    def drop(self, size_bytes: int) -> None:
        """A value has been undone."""
        self.loaded_bytes -= size_bytes

    def learn(self, items: Sequence[int], accounted: Sequence[int], peak_bytes: int = 0) -> None:
        """`items` of one run have been loaded; `peak_bytes` is what the process grew by meanwhile, 0 if unknown."""
        parts = self._by_group(items)
        for code, members in parts.items():
            is_all = len(parts) == 1
            estimated = self._sizes_of(items if is_all else [items[n] for n in members])
            lesson = lesson_of(
                estimated,
                accounted if is_all else [accounted[n] for n in members],
                peak_bytes if is_all else 0,
            )
            self._of_kind[code].learn(lesson)
            self._of_cache[self._groups[code].cache].learn(lesson)

    def learned(self) -> tuple[SizeRecord, ...]:
        """What was learned, by group; groups of which nothing was loaded are absent."""
        return tuple(
            SizeRecord(
                *group,
                items=seen.items,
                estimated_bytes=seen.estimated_bytes,
                compared_bytes=seen.compared_bytes,
                accounted_bytes=seen.accounted_bytes,
                peak_ratio=seen.peak_per_mille / PER_MILLE,
            )
            for group, seen in zip(self._groups, self._of_kind, strict=True)
            if seen.items
        )

    # ------------------------------------------------------------------------------------------- expectations

    def _claim(self, items: Sequence[int]) -> _Claim:
        parts = self._by_group(items)
        if len(parts) == 1:
            experience = self._experience(items[0])
            reserved_bytes = Claims(self._sizes_of(items), experience).total_bytes
            return _Claim(reserved_bytes, experience.peak_of(reserved_bytes))
        each = [self._claim([items[n] for n in members]) for members in parts.values()]
        return _Claim(sum(claim.reserved_bytes for claim in each), sum(claim.peak_bytes for claim in each))

    def _claims_of(self, items: Sequence[int]) -> Sequence[int]:
        if len(self._by_group(items)) == 1:
            return Claims(self._sizes_of(items), self._experience(items[0]))
        return tuple(Claims(self._sizes_of([item]), self._experience(item))[0] for item in items)

    def _by_group(self, items: Sequence[int]) -> dict[int, Sequence[int]]:
        """The places in `items` of each group."""
        first = self._group[items[0]]
        if self._is_only_kind[first] or len(items) == 1:
            return {first: range(len(items))}
        parts: dict[int, list[int]] = {}
        for n, item in enumerate(items):
            parts.setdefault(self._group[item], []).append(n)
        return dict(parts)

    def _sizes_of(self, items: Sequence[int]) -> Sequence[int]:
        start, stop = items[0], items[-1] + 1
        if stop - start == len(items):
            return self._sizes[start:stop]
        return [self._sizes[item] for item in items]

    def _usually(self, item: int) -> int:
        return self._experience(item).usually(self._sizes[item])

    def _experience(self, item: int) -> Experience:
        of_kind = self._of_kind[self._group[item]]
        return of_kind if of_kind.items >= self._known_after else self._cache_of(item)

    def _cache_of(self, item: int) -> Experience:
        return self._of_cache[self._groups[self._group[item]].cache]
