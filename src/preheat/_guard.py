"""Admission by reservation: what a load may take is set aside before it starts.

Looking at free memory and then loading is not enough: loads that started together all saw the same free memory, and
an estimate can be wrong by any factor.  So three things hold at once.  *Reservation*: a load starts only if its
expected bytes, with a margin on top of the worst that was seen of its kind, fit what is left of the budget, and its
peak fits what is left of memory.  *Slow start*: until three real sizes of a cache are known, its loads go one by
one.  *A limit per load*: loaders are told how large a value may become, so that one giant can't kill the process.

All sizes are integers: whatever was reserved is given back to the byte.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from preheat._model import MIB, MemoryReading, SizeRecord

KNOWN_AFTER = 3
"""Real sizes of a cache that are asked for before its loads may run side by side."""

MARGIN = (5, 4)
"""A reservation is this much above the worst seen, as a fraction: numerator, denominator."""

REMEMBERED = 64
"""Batches of a kind whose worst item counts: a single outlier must not slow down the rest of the run."""

PEAK_RATIO = 2
"""How many times its size a load is taken to hold at its peak, until it has been seen."""

MOST_PEAK_RATIO = 16
LEAST_MEASURED_BYTES = 256 * 1024
"""Growth of the process around a load of less than this is mostly noise."""

FALL_SECONDS = 0.5
FALL_LEAST_BYTES = 2 * MIB
FALL_LIMIT_SHARE = 128
"""Headroom is falling if others took more than this in FALL_SECONDS: 1/128 of the limit, and 2 MiB at least."""

_PER_MILLE = 1000


class Group(NamedTuple):
    """Items that are expected to err alike: one kind in one cache."""

    cache: str
    kind: str


class _Window:
    """The newest numbers of a kind, in a place made before the run.

    Like the outcomes of `_execution`: an object made between the values that are loaded would pin the memory around
    it when they are dropped.
    """

    __slots__ = ("_added", "_numbers")

    def __init__(self) -> None:
        self._numbers = array("q", bytes(8 * REMEMBERED))
        self._added = 0

    def add(self, number: int) -> None:
        self._numbers[self._added % REMEMBERED] = min(number, 2**62)
        self._added += 1

    def largest(self) -> int:
        return max(self._numbers)

    def middle(self) -> int:
        known = sorted(self._numbers[: min(self._added, REMEMBERED)])
        return known[len(known) // 2]


class _Experience:
    """What loading really cost, of one kind or of a whole cache."""

    __slots__ = (
        "_peaks",
        "_ratios",
        "_sizes",
        "_usual_ratios",
        "_usual_sizes",
        "accounted_bytes",
        "compared_bytes",
        "estimated_bytes",
        "items",
        "peak_per_mille",
        "refused",
        "usual_per_mille",
        "usual_size_bytes",
        "worst_per_mille",
        "worst_size_bytes",
    )

    def __init__(self) -> None:
        self.items = self.refused = 0
        self.estimated_bytes = self.compared_bytes = self.accounted_bytes = 0
        self._ratios, self._sizes, self._peaks = _Window(), _Window(), _Window()
        self._usual_ratios, self._usual_sizes = _Window(), _Window()
        self.worst_per_mille = self.usual_per_mille = _PER_MILLE
        self.worst_size_bytes = self.usual_size_bytes = self.peak_per_mille = 0

    def learn(self, estimated: Sequence[int], accounted: Sequence[int], peak_bytes: int) -> None:
        estimated_bytes, accounted_bytes = sum(estimated), sum(accounted)
        self.items += len(accounted)
        self.estimated_bytes += estimated_bytes
        self.accounted_bytes += accounted_bytes
        self._sizes.add(max(accounted))
        self._usual_sizes.add(accounted_bytes // len(accounted))
        self.worst_size_bytes, self.usual_size_bytes = self._sizes.largest(), self._usual_sizes.middle()
        guessed = [(guess, real) for guess, real in zip(estimated, accounted, strict=True) if guess]
        if guessed:
            self._ratios.add(max(real * _PER_MILLE // guess + 1 for guess, real in guessed))
            compared_bytes = sum(real for _, real in guessed)
            self.compared_bytes += compared_bytes
            self._usual_ratios.add(compared_bytes * _PER_MILLE // estimated_bytes)
            self.worst_per_mille = max(_PER_MILLE, self._ratios.largest())
            self.usual_per_mille = self._usual_ratios.middle()
        if peak_bytes and accounted_bytes >= LEAST_MEASURED_BYTES:
            self._peaks.add(min(peak_bytes * _PER_MILLE // accounted_bytes, MOST_PEAK_RATIO * _PER_MILLE))
            # the middle one, since a first load often makes more than its value: a model, a connection
            self.peak_per_mille = self._peaks.middle()

    def expect(self, size_bytes: int) -> int:
        """The worst that an item estimated at `size_bytes` could weigh, going by what was seen."""
        return -(-size_bytes * self.worst_per_mille // _PER_MILLE) if size_bytes else self.worst_size_bytes

    def usually(self, size_bytes: int) -> int:
        """What an item estimated at `size_bytes` would weigh if it were like the others, giants apart."""
        return size_bytes * self.usual_per_mille // _PER_MILLE if size_bytes else self.usual_size_bytes


class _Headroom:
    """What there was to have of memory at the newest readings, whether or not the run has taken it by now."""

    __slots__ = ("_at", "_bytes", "_noted")

    def __init__(self) -> None:
        self._at, self._bytes = array("d", bytes(8 * REMEMBERED)), array("q", bytes(8 * REMEMBERED))
        self._noted = 0

    def fallen_bytes(self, at: float, free_bytes: int) -> int:
        """By how much it has fallen in FALL_SECONDS, now that it is `free_bytes`."""
        n = self._noted % REMEMBERED
        self._at[n], self._bytes[n] = at, min(free_bytes, 2**62)
        self._noted += 1
        newest_first = (
            number % REMEMBERED for number in range(self._noted - 1, max(-1, self._noted - 1 - REMEMBERED), -1)
        )
        before = free_bytes
        for n in newest_first:
            before = self._bytes[n]
            if self._at[n] <= at - FALL_SECONDS:
                break
        return before - free_bytes


class Guard:
    """Who may start to load now, and how large the value may become.

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
        self._of_kind = [_Experience() for _ in groups]
        self._of_cache = {each.cache: _Experience() for each in groups}
        self._claims: dict[int, tuple[int, int]] = {}  # reserved bytes and peak of what is in flight
        self._peak_bytes = 0
        self._room_bytes: int | None = None
        self._seen = _Headroom()
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

    def admits(self, item: int) -> bool:
        """Whether `item` may start beside what is in flight."""
        reserved_bytes, peak_bytes = self._claim(item)
        if self.loaded_bytes + self.reserved_bytes + reserved_bytes > self._budget_bytes:
            return False
        return self._room_bytes is None or self._peak_bytes + peak_bytes <= self._room_bytes

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

    def reserve(self, item: int) -> None:
        """Set aside what `item` may take; never more than the budget has left."""
        reserved_bytes, peak_bytes = self._claim(item)
        left_bytes = max(0, self._budget_bytes - self.loaded_bytes - self.reserved_bytes)
        reserved_bytes = min(reserved_bytes, left_bytes)
        self._claims[item] = reserved_bytes, peak_bytes
        self.reserved_bytes += reserved_bytes
        self._peak_bytes += peak_bytes

    def reserved_for(self, items: Sequence[int]) -> tuple[int, ...]:
        """What is set aside for each of `items`."""
        return tuple(self._claims[item][0] for item in items)

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

    def release(self, item: int) -> None:
        """`item` is in flight no longer."""
        reserved_bytes, peak_bytes = self._claims.pop(item)
        self.reserved_bytes -= reserved_bytes
        self._peak_bytes -= peak_bytes

    # --------------------------------------------------------------------------------------------- account

    def fits(self, size_bytes: int) -> bool:
        """Whether a value of `size_bytes` that has been loaded may stay."""
        return self.loaded_bytes + self.reserved_bytes + size_bytes <= self._budget_bytes

    def keep(self, size_bytes: int) -> None:
        """A value has come to stay."""
        self.loaded_bytes += size_bytes
        if self._room_bytes is not None:  # until the next reading shows it
            self._room_bytes -= size_bytes

    def drop(self, size_bytes: int) -> None:
        """A value has been undone."""
        self.loaded_bytes -= size_bytes

    def learn(self, items: Sequence[int], accounted: Sequence[int], peak_bytes: int = 0) -> None:
        """`items` of one batch have been loaded; `peak_bytes` is what the process grew by meanwhile, 0 if unknown."""
        by_group: dict[int, list[int]] = {}
        for n, item in enumerate(items):
            by_group.setdefault(self._group[item], []).append(n)
        for code, members in by_group.items():
            estimated = [self._sizes[items[n]] for n in members]
            real = [accounted[n] for n in members]
            peak = peak_bytes if len(by_group) == 1 else 0
            for experience in (self._of_kind[code], self._of_cache[self._groups[code].cache]):
                experience.learn(estimated, real, peak)

    def learned(self) -> tuple[SizeRecord, ...]:
        """What was learned, by group; groups of which nothing was loaded are absent."""
        return tuple(
            SizeRecord(
                *group,
                items=seen.items,
                estimated_bytes=seen.estimated_bytes,
                compared_bytes=seen.compared_bytes,
                accounted_bytes=seen.accounted_bytes,
                peak_ratio=seen.peak_per_mille / _PER_MILLE,
            )
            for group, seen in zip(self._groups, self._of_kind, strict=True)
            if seen.items
        )

    def _claim(self, item: int) -> tuple[int, int]:
        """The bytes to reserve for `item`, and what it may hold at its peak."""
        experience = self._experience(item)
        numerator, denominator = MARGIN
        expected = -(-experience.expect(self._sizes[item]) * numerator // denominator)
        peak = experience.peak_per_mille or PEAK_RATIO * _PER_MILLE
        return expected, expected * peak // _PER_MILLE if peak > _PER_MILLE else expected

    def _usually(self, item: int) -> int:
        return self._experience(item).usually(self._sizes[item])

    def _experience(self, item: int) -> _Experience:
        of_kind = self._of_kind[self._group[item]]
        return of_kind if of_kind.items >= self._known_after else self._cache_of(item)

    def _cache_of(self, item: int) -> _Experience:
        return self._of_cache[self._groups[self._group[item]].cache]
