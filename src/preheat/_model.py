"""The nouns that the stages exchange, in the order of the flow.

Values only: frozen, comparable, printable, without behaviour beyond views of themselves.  Sizes are `int` bytes,
durations `float` seconds, instants Unix seconds, ratios lie in [0, 1].  What a stage handles by the million is a
table of columns (`History`, `CandidateTable`); `WarmupItem` is the row that people see and pass in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum, StrEnum
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from msgspec import Struct

from preheat._columns import TextColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIB = 2**20
DEFAULT_PRIORITY = 5
CRITICAL_PRIORITY = 8
PHASES = ("critical", "standard", "background")


class WarmupStrategy(StrEnum):
    """The five strategies that ship; what each does is a row of the strategy table."""

    AGGRESSIVE = "aggressive"
    BALANCED = "balanced"
    CONSERVATIVE = "conservative"
    ADAPTIVE = "adaptive"
    PRIORITY_BASED = "priority_based"


class MemoryPressureLevel(IntEnum):
    """How short memory is; levels compare by severity."""

    LOW = 0
    MODERATE = 1
    HIGH = 2
    CRITICAL = 3


class PressureResponse(IntEnum):
    """What a run does about pressure; responses compare by severity."""

    CONTINUE = 0
    SLOW = 1  # half as many loads at a time
    PAUSE = 2  # nothing starts
    STOP = 3  # the run ends, what it has loaded stays
    ROLL_BACK = 4  # the run ends and undoes what nobody has used


class PressureResponses(NamedTuple):
    """The response to each level of pressure above LOW."""

    moderate: PressureResponse = PressureResponse.SLOW
    high: PressureResponse = PressureResponse.PAUSE
    critical: PressureResponse = PressureResponse.ROLL_BACK

    def at(self, level: MemoryPressureLevel) -> PressureResponse:
        """The response to `level`; at LOW a run always continues."""
        return self[level - 1] if level else PressureResponse.CONTINUE


USUAL_RESPONSES = PressureResponses()


class ItemRef(NamedTuple):
    """The identity of an item.  It outlives the process, so both parts are text."""

    cache: str
    key: str

    def __str__(self) -> str:
        return f"{self.cache}:{self.key}"


# ---------------------------------------------------------------------------------------------- record and history


class AccessBatch(NamedTuple):
    """The accesses of one cache since the last drain, in order, as columns.

    `keys` holds each distinct key once; `row` (n,) says for each access which of them was asked for, `hit` (n,)
    whether it was resident.  The columns below it have one entry per *key*: the size and the load time (-1 where
    this batch saw no load of it), the version and the recipe (empty likewise).

    Where a drain counts only some of the hits, each of them stands for `stride` of them; a miss for itself.
    """

    cache: str
    at: float
    keys: Sequence[str]
    row: NDArray[np.int64]
    hit: NDArray[np.bool_]
    size_bytes: NDArray[np.int64]
    load_seconds: NDArray[np.float64]
    versions: Sequence[str]
    recipes: Sequence[str]
    stride: int = 1

    def times(self) -> NDArray[np.int64]:
        """How many accesses each of them stands for: (n,)."""
        return np.where(self.hit, self.stride, 1)


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What was asked for so far, one row per item.

    Attributes:
        at: Instant of the newest access.
        since: Instant of the oldest access that the counts can speak of.
        half_lives: Half-lives of the counts, in seconds: h of them, ascending.
        caches: Names that `cache` indexes.
        cache: (n,) int16.
        keys: (n,) the items' keys.
        counts: (n, h) float32, decayed number of accesses as of `last_at`.
        last_at: (n,) instant of the last access.
        gaps: (n, g) float32, the newest gaps between accesses in seconds, newest first, NaN where there is none.
        size_bytes: (n,) int64, of the last value loaded; 0 if never seen.
        load_seconds: (n,) float32, smoothed own time of a load, without that of the loads inside it; NaN if never seen.
        versions: (n,) version of the last value loaded, as its cache names it.
        recipes: (n,) what the cache's loader needs to make the value again.
        hits: (number of caches,) int64, accesses that found their item resident.
        misses: (number of caches,) int64, accesses that did not.
        trail: (m,) int32, the newest accesses over all caches, as rows of this history, oldest first.
        trail_at: (m,) instants of those accesses, never falling, none after `at`.
        hours: (p,) int64, the hours in which there was traffic, as Unix seconds // 3600, ascending.
        hourly: (p, number of caches, 2) int64, the hits and the misses of each cache in each of them.
    """

    at: float
    since: float
    half_lives: tuple[float, ...]
    caches: tuple[str, ...]
    cache: NDArray[np.int16]
    keys: TextColumn
    counts: NDArray[np.float32]
    last_at: NDArray[np.float64]
    gaps: NDArray[np.float32]
    size_bytes: NDArray[np.int64]
    load_seconds: NDArray[np.float32]
    versions: TextColumn
    recipes: TextColumn
    hits: NDArray[np.int64]
    misses: NDArray[np.int64]
    trail: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    trail_at: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    hours: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    hourly: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0, 2), np.int64))

    def __len__(self) -> int:
        return len(self.keys)

    def rows_of(self, cache: str) -> NDArray[np.int64]:
        """Row numbers of the items of `cache`; none if it is not known."""
        if cache not in self.caches:
            return np.empty(0, np.int64)
        return np.flatnonzero(self.cache == self.caches.index(cache))

    def decayed_counts(self, at: float) -> NDArray[np.float64]:
        """The counts as of `at`: (n, h)."""
        age = np.maximum(0.0, at - self.last_at)[:, None]
        decay: NDArray[np.float64] = self.counts * np.exp2(-age / np.array(self.half_lives))
        return decay


class HistoryChanges(NamedTuple):
    """What happened to a history since it was last looked at, its rows being numbered as before.

    `rows` is a history of the changed rows only: its columns are their new values, its scalars, caches, counts of hits
    and misses and hours those of the whole; its trail is what has been added to the trail, as rows of the whole
    history.  `row` (m,), ascending, says where each stands in the whole, which has `size` rows now; those beyond the
    former end are new.
    """

    rows: History
    row: NDArray[np.int64]
    size: int


# ------------------------------------------------------------------------------------------------------- memory


class MemoryReading(NamedTuple):
    """Memory as seen at one instant, under the limit that binds first.

    `used_bytes` is what that limit counts; `reclaimable_bytes` the part of it that the kernel can drop without
    harm (inactive file pages).  `stall` is the share of the last ten seconds in which some task waited for memory.
    """

    at: float
    limit_bytes: int
    used_bytes: int
    reclaimable_bytes: int
    process_bytes: int
    stall: float
    source: str

    @property
    def available_bytes(self) -> int:
        """What can still be allocated: limit - (used - reclaimable), never negative."""
        return max(0, self.limit_bytes - max(0, self.used_bytes - self.reclaimable_bytes))

    @property
    def headroom_ratio(self) -> float:
        """Available over limit."""
        return self.available_bytes / self.limit_bytes if self.limit_bytes else 0.0


class MemoryBudget(NamedTuple):
    """The bytes that a plan may fill, and why.

    Beside them `reserve_bytes` stay free for others, and `in_flight_bytes` for what loads hold at their peak.
    """

    granted_bytes: int
    reserve_bytes: int
    in_flight_bytes: int
    pressure: MemoryPressureLevel
    reading: MemoryReading | None
    reason: str


class MemoryEventKind(StrEnum):
    """What happened to memory."""

    ALLOCATION = "allocation"
    RELEASE = "release"  # dropped by its owner: deleted, replaced, invalidated
    EVICTION = "eviction"  # dropped by its cache to make room
    ROLLBACK = "rollback"  # dropped because a warm-up undid it
    PRESSURE = "pressure"  # memory, or how a run answered to it, changed


class MemoryEvent(NamedTuple):
    """One thing that happened to memory.

    Attributes:
        at: Unix seconds.
        kind: What happened.
        cache: Name of the cache; empty where the process as a whole is meant.
        size_bytes: Bytes allocated or dropped; of a PRESSURE event the bytes available then.
        cause: Why, in a few words.
        items: How many items it was about.
    """

    at: float
    kind: MemoryEventKind
    cache: str
    size_bytes: int
    cause: str
    items: int = 1


class CacheMemory(NamedTuple):
    """Memory of one cache, as the sum of its events: `current = allocated - released`.

    `released_bytes` is everything dropped, for whatever reason; `evictions` counts the items evicted.
    """

    current_bytes: int = 0
    peak_bytes: int = 0
    allocated_bytes: int = 0
    released_bytes: int = 0
    evictions: int = 0


class SizeRecord(NamedTuple):
    """What the items of one kind in one cache were expected to weigh in a run, and what they did.

    Attributes:
        cache, kind: Which items; `kind` is empty where the cache tells none apart.
        items: How many were loaded.
        estimated_bytes: What the plan took them for.
        compared_bytes: What the cache accounts for those of which the plan had an estimate.
        accounted_bytes: What the cache accounts for all of them.
        peak_ratio: How many times its accounted bytes a load held at its peak; 0 where it could not be seen.
    """

    cache: str
    kind: str
    items: int
    estimated_bytes: int
    compared_bytes: int
    accounted_bytes: int
    peak_ratio: float


# --------------------------------------------------------------------------------------------------------- plan


def label_of(key: str, recipe: str) -> str:
    """What people are shown of an item: its recipe, but its key where there is none or it is JSON, for programs."""
    return recipe if recipe and not recipe.startswith("[") else key


class WarmupItem(NamedTuple):
    """One item that could be warmed: the row that people see.

    Attributes:
        ref: Which item of which cache.
        priority: The operator's word, 1 to 10; 8 and above is loaded in the critical phase.
        size_bytes: What the value is expected to occupy, container slot included.
        usage_frequency: Accesses per second expected.
        warmup_cost: Seconds that a miss would cost.
        dependencies: What has to be resident before it can be loaded without a miss of its own.
        recipe: What the loader needs to make the value; empty where the key says it all.
        value_seconds: Waiting that warming it is expected to save, once a plan has found out; else 0.
        covers: Items that nobody asks for but to make this one and others that cover them, such as the vector of a
            query: while this one is resident, they are not asked for on its account.
    """

    ref: ItemRef
    priority: int = DEFAULT_PRIORITY
    size_bytes: int = 0
    usage_frequency: float = 0.0
    warmup_cost: float = 0.0
    dependencies: tuple[ItemRef, ...] = ()
    recipe: str = ""
    value_seconds: float = 0.0
    covers: tuple[ItemRef, ...] = ()

    def worth(self, size_bytes: int) -> tuple[bool, float]:
        """What a cache goes by that keeps the best of what a warm-up loaded: critical first, then value per byte.

        `size_bytes` is what the value really weighs.  An item that no plan has valued is valued as frequency x cost.
        """
        value = self.value_seconds or self.usage_frequency * self.warmup_cost
        return self.priority >= CRITICAL_PRIORITY, value / max(size_bytes, 1)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CandidateTable(Sequence[WarmupItem]):
    """Items that could be warmed, as columns; as a sequence, rows.

    Attributes:
        caches: Names that `cache` indexes.
        cache: (n,) int16.
        keys, recipes: (n,) text.
        priority: (n,) int8.
        size_bytes: (n,) int64.
        usage_frequency: (n,) float64, accesses per second expected.
        warmup_cost: (n,) float64, seconds that a miss would cost.
        needs: Dependencies of some rows; a row that has none is absent.
        value_seconds: (n,) float64, waiting that warming the row is expected to save; None before there is a plan.
        covers: What nobody asks for but to make some rows; a row that covers nothing is absent.
    """

    caches: tuple[str, ...]
    cache: NDArray[np.int16]
    keys: TextColumn
    recipes: TextColumn
    priority: NDArray[np.int8]
    size_bytes: NDArray[np.int64]
    usage_frequency: NDArray[np.float64]
    warmup_cost: NDArray[np.float64]
    needs: Mapping[int, tuple[ItemRef, ...]] = field(default_factory=dict)
    value_seconds: NDArray[np.float64] | None = None
    covers: Mapping[int, tuple[ItemRef, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Iterable[WarmupItem]) -> CandidateTable:
        """The table whose rows are `items`."""
        rows = list(items)
        caches = tuple(dict.fromkeys(item.ref.cache for item in rows))
        index = {name: i for i, name in enumerate(caches)}
        return cls(
            caches=caches,
            cache=np.array([index[i.ref.cache] for i in rows], np.int16),
            keys=TextColumn.of(i.ref.key for i in rows),
            recipes=TextColumn.of(i.recipe for i in rows),
            priority=np.array([i.priority for i in rows], np.int8),
            size_bytes=np.array([i.size_bytes for i in rows], np.int64),
            usage_frequency=np.array([i.usage_frequency for i in rows], np.float64),
            warmup_cost=np.array([i.warmup_cost for i in rows], np.float64),
            needs={n: i.dependencies for n, i in enumerate(rows) if i.dependencies},
            value_seconds=np.array([i.value_seconds for i in rows]) if any(i.value_seconds for i in rows) else None,
            covers={n: i.covers for n, i in enumerate(rows) if i.covers},
        )

    @classmethod
    def concatenate(cls, tables: Sequence[CandidateTable]) -> CandidateTable:
        """The rows of `tables`, one table after another."""
        caches = tuple(dict.fromkeys(name for t in tables for name in t.caches))
        index = {name: i for i, name in enumerate(caches)}
        starts = np.cumsum([0] + [len(t) for t in tables])
        columns: dict[str, Any] = {
            name: np.concatenate([np.empty(0, kind), *(getattr(t, name) for t in tables)])
            for name, kind in _NUMERIC.items()
        }
        renumbered = [np.array([index[c] for c in t.caches] or [0], np.int16)[t.cache] for t in tables if len(t)]
        return cls(
            caches=caches,
            cache=np.concatenate([np.empty(0, np.int16), *renumbered]),
            keys=TextColumn.concatenate([t.keys for t in tables]),
            recipes=TextColumn.concatenate([t.recipes for t in tables]),
            needs=_shifted(starts, (t.needs for t in tables)),
            covers=_shifted(starts, (t.covers for t in tables)),
            value_seconds=_concatenate_values(tables),
            **columns,
        )

    def take(self, rows: NDArray[np.integer]) -> CandidateTable:
        """The table of the rows at `rows`, in that order."""
        return CandidateTable(
            caches=self.caches,
            cache=self.cache[rows],
            keys=self.keys.take(rows),
            recipes=self.recipes.take(rows),
            needs=_taken(self.needs, rows),
            covers=_taken(self.covers, rows),
            value_seconds=None if self.value_seconds is None else self.value_seconds[rows],
            **{name: getattr(self, name)[rows] for name in _NUMERIC},
        )

    def with_sizes(self, size_bytes: NDArray[np.int64]) -> CandidateTable:
        """The same rows with other sizes: (n,) int64."""
        return replace(self, size_bytes=size_bytes)

    def with_value(self, value_seconds: NDArray[np.float64]) -> CandidateTable:
        """The same rows with what warming each is worth: (n,) float64."""
        return replace(self, value_seconds=value_seconds)

    def ref(self, row: int) -> ItemRef:
        """The identity of the item at `row`."""
        return ItemRef(self.caches[self.cache[row]], self.keys[row])

    def refs(self) -> Iterator[ItemRef]:
        """The identities of all items, in order."""
        names = self.caches
        return (ItemRef(names[c], key) for c, key in zip(self.cache.tolist(), self.keys, strict=True))

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, row: int) -> WarmupItem: ...
    @overload
    def __getitem__(self, row: slice) -> CandidateTable: ...
    def __getitem__(self, row: int | slice) -> WarmupItem | CandidateTable:
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of a table of {len(self)}")
        row %= len(self)
        return WarmupItem(
            ref=self.ref(row),
            priority=int(self.priority[row]),
            size_bytes=int(self.size_bytes[row]),
            usage_frequency=float(self.usage_frequency[row]),
            warmup_cost=float(self.warmup_cost[row]),
            dependencies=self.needs.get(row, ()),
            recipe=self.recipes[row],
            value_seconds=0.0 if self.value_seconds is None else float(self.value_seconds[row]),
            covers=self.covers.get(row, ()),
        )

    def __iter__(self) -> Iterator[WarmupItem]:
        return self.rows(0, len(self))

    def rows(self, start: int, stop: int) -> Iterator[WarmupItem]:
        """The rows from `start` to `stop`, each made when it is asked for."""
        numbers = [_numbers(getattr(self, name), start, stop) for name in _NUMERIC]
        needs, covers = (_refs(refs, start, stop) for refs in (self.needs, self.covers))
        values = repeat(0.0) if self.value_seconds is None else _numbers(self.value_seconds, start, stop)
        recipes = self.recipes.strings(start, stop) if len(self.recipes.blob) else repeat("")
        # not through their constructors, whose calls would take most of the time that a row takes
        names = map(self.caches.__getitem__, _numbers(self.cache, start, stop))
        refs = map(tuple.__new__, repeat(ItemRef), zip(names, self.keys.strings(start, stop), strict=True))
        columns = zip(refs, *numbers, needs, recipes, values, covers, strict=False)
        return map(tuple.__new__, repeat(WarmupItem), columns)

    def __repr__(self) -> str:
        return f"CandidateTable({len(self)} items of {', '.join(self.caches) or 'no cache'})"


_NUMERIC: dict[str, type] = {
    "priority": np.int8,
    "size_bytes": np.int64,
    "usage_frequency": np.float64,
    "warmup_cost": np.float64,
}


def _numbers(column: NDArray[Any], start: int, stop: int) -> Iterator[Any]:
    """The numbers of `column` from `start` to `stop` as Python's, each made when it is asked for."""
    return iter(np.ascontiguousarray(column).data[start:stop])


def _refs(refs: Mapping[int, tuple[ItemRef, ...]], start: int, stop: int) -> Iterable[tuple[ItemRef, ...]]:
    """What each row from `start` to `stop` refers to."""
    return (refs.get(row, ()) for row in range(start, stop)) if refs else repeat(())


def _taken(refs: Mapping[int, tuple[ItemRef, ...]], rows: NDArray[np.integer]) -> dict[int, tuple[ItemRef, ...]]:
    """What the rows at `rows` refer to, numbered by their place there."""
    return {n: refs[row] for n, row in enumerate(rows.tolist()) if row in refs} if refs else {}


def _shifted(
    starts: NDArray[np.integer], parts: Iterable[Mapping[int, tuple[ItemRef, ...]]]
) -> dict[int, tuple[ItemRef, ...]]:
    """What the rows of several tables refer to, numbered from where each starts."""
    return {
        start + row: refs for start, part in zip(starts.tolist(), parts, strict=False) for row, refs in part.items()
    }


def _concatenate_values(tables: Sequence[CandidateTable]) -> NDArray[np.float64] | None:
    if all(t.value_seconds is None for t in tables):
        return None
    return np.concatenate([np.zeros(len(t)) if t.value_seconds is None else t.value_seconds for t in tables])


class Reason(Enum):
    """Why a candidate is not in a plan; the value is the sentence that people read."""

    LOW_PRIORITY = "its priority is below what the strategy asks for"
    RARELY_USED = "it is less likely to be asked for than the strategy demands"
    WORTHLESS = "nothing would be saved: it is not expected to be asked for, or a miss costs nothing"
    OVER_BUDGET = "other items save more per byte and fill the budget"
    OVER_CAPACITY = "other items save more per byte and fill its cache, or its quota"
    BEYOND_KNEE = "past the knee of the value curve: more memory buys little here"
    NEEDS_LEFT_OUT = "something it needs is left out or held out"
    INTERRUPTED = "warm-ups before this one never ended, so only the first items are loaded"
    COVERED = "it is asked for only to make items that are loaded themselves"


class WarmupPhase(NamedTuple):
    """One phase of a plan: its items in loading order, every dependency before its dependants."""

    name: str
    items: CandidateTable

    @property
    def size_bytes(self) -> int:
        """Expected bytes of the phase."""
        return int(self.items.size_bytes.sum())


class Fallback(NamedTuple):
    """The strategy under which a run goes on while memory is short.

    Attributes:
        strategy: Its name.
        takes: (n,) bool, by row of the candidates: what it would take of the plan, with all that this needs.
        pressure_response: What it does about pressure.
    """

    strategy: str
    takes: NDArray[np.bool_]
    pressure_response: PressureResponses = USUAL_RESPONSES


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class WarmupPlan:
    """What will be loaded, in which order, what won't, and why.

    `chosen`, `held_out` and the keys of `left_out` are disjoint row sets of `candidates` and cover it.

    Attributes:
        strategy: Name of the strategy.
        budget: The bytes it may fill.
        candidates: Everything that was considered.
        value: (n,) seconds of waiting that warming the row is expected to save.
        chosen: For each of the three phases, the rows in loading order.
        held_out: Rows that deserved a place and were kept back at random, to measure against.
        comparable: The chosen rows that could have been held out: what `held_out` is compared with.
        left_out: (n,) int8; index into `reasons`, or -1 where the row is chosen or held out.
        reasons: The reasons that `left_out` indexes.
        seed: What the hold-out was drawn with.
        why: One sentence about the strategy's choice.
        size_factors: By cache and kind, what estimates were multiplied by, going by earlier runs.
        predictors: By cache, the name of the predictor that priced it; a cache that is absent has none of its own.
        pressure_response: What a run of it does about pressure.
        fallback: What a run of it goes on as while memory is short; None if it never changes.
        adapted: Why the strategy's share or thresholds were changed for this plan, in sentences.
        is_shard: Whether it is a part of a larger plan, of which no other process loads anything.
    """

    strategy: str
    budget: MemoryBudget
    candidates: CandidateTable
    value: NDArray[np.float64]
    chosen: tuple[NDArray[np.int64], ...]
    held_out: NDArray[np.int64]
    comparable: NDArray[np.int64]
    left_out: NDArray[np.int8]
    reasons: tuple[Reason, ...]
    seed: int
    why: str
    size_factors: Mapping[tuple[str, str], float] = field(default_factory=dict)
    predictors: Mapping[str, str] = field(default_factory=dict)
    pressure_response: PressureResponses = USUAL_RESPONSES
    fallback: Fallback | None = None
    adapted: tuple[str, ...] = ()
    is_shard: bool = False

    @property
    def phases(self) -> tuple[WarmupPhase, ...]:
        """The three phases, empty ones included."""
        return tuple(
            WarmupPhase(name, self.candidates.take(rows)) for name, rows in zip(PHASES, self.chosen, strict=True)
        )

    @property
    def order(self) -> NDArray[np.int64]:
        """Rows of `candidates` in loading order, over all phases."""
        return np.concatenate(self.chosen)

    @property
    def size_bytes(self) -> int:
        """Expected bytes of everything chosen; never above the budget."""
        return int(self.candidates.size_bytes[self.order].sum())

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.chosen)

    def __repr__(self) -> str:
        return (
            f"WarmupPlan({self.strategy}, {len(self)} of {len(self.candidates)} items, "
            f"{self.size_bytes} of {self.budget.granted_bytes} bytes)"
        )


# ---------------------------------------------------------------------------------------------- execute and measure


class ItemStatus(StrEnum):
    """How an item of a run ended; each item ends in exactly one."""

    LOADED = "loaded"
    RESIDENT = "resident"  # it was there already
    UNAVAILABLE = "unavailable"  # its loader has no value for it any more
    REJECTED = "rejected"  # it did not fit its cache or what is left of the budget
    FAILED = "failed"
    SKIPPED = "skipped"  # not started: the run stopped, or something it needs failed
    ROLLED_BACK = "rolled_back"
    TOO_LARGE = "too_large"  # its loader found it to be beyond the limit that it was given


class ItemResult(Struct, frozen=True, gc=False):
    """What became of one item: `size_bytes` is what its cache accounts for it now, 0 unless LOADED.

    `wait_seconds` is for how long its origin asked to be left alone; 0 if it is overloaded and did not say how long,
    None if it is not known to be.  `from_peer` says that its origin was not asked, since a peer had the value.
    """

    status: ItemStatus
    size_bytes: int = 0
    seconds: float = 0.0
    reason: str = ""
    wait_seconds: float | None = None
    from_peer: bool = False


class OriginRecord(NamedTuple):
    """What a run asked of one origin, and how the origin bore it.

    Attributes:
        origin: Its name: that of its cache, unless several caches share it.
        requests: Loads started, retries included.
        failures: Those that failed.
        retries: Loads of items that had failed before, in the same pass.
        deferred: Items put off to the later pass, so often as they were.
        refused: Those of them that were not let start, since the origin failed nearly always or asked for a rest.
        opened: How often the breaker opened.
        limited_seconds: Time in which a rate held loads up.
        limit, highest_limit: Loads at a time that it was found to bear: in the end, and at the most.
    """

    origin: str
    requests: int
    failures: int
    retries: int
    deferred: int
    refused: int
    opened: int
    limited_seconds: float
    limit: float
    highest_limit: float


class PeerRecord(NamedTuple):
    """What a run had from peers instead of its origins.

    Attributes:
        requests: Batches of values that peers were asked for.
        items, size_bytes: What was loaded of their answers, as the caches account for it.
        faults: By reason, how often a peer gave nothing or was not believed.
    """

    requests: int
    items: int
    size_bytes: int
    faults: Mapping[str, int]


class HeldValue(NamedTuple):
    """A value that a cache holds, as a snapshot keeps it: `size_bytes` is what the cache accounts for it.

    `made_at` is when it was loaded, and `expires_at` when it must not be served any more, infinite where it may be for
    ever: Unix seconds, which it keeps however often it is saved and restored.
    """

    key: str
    version: str
    value: Any
    size_bytes: int
    made_at: float
    expires_at: float = math.inf


class CacheStatistics(NamedTuple):
    """What a cache says of itself.  `capacity_bytes` is None where the cache has no limit in bytes.

    `expirations` counts what was dropped because its time had come; `load_seconds` is what misses waited in all.
    """

    items: int
    used_bytes: int
    capacity_bytes: int | None
    hits: int
    misses: int
    evictions: int
    warmed_items: int = 0
    warmed_bytes: int = 0
    expirations: int = 0
    load_seconds: float = 0.0

    @property
    def hit_ratio(self) -> float:
        """Hits over accesses; 0 before the first access."""
        accesses = self.hits + self.misses
        return self.hits / accesses if accesses else 0.0


class StrategySwitch(NamedTuple):
    """A run went on under another strategy.

    Attributes:
        at: Unix seconds.
        before, after: Names of the strategies.
        reason: Why, in a few words.
    """

    at: float
    before: str
    after: str
    reason: str


class WarmupProgress(NamedTuple):
    """A run as it stands: `done` of `total` items have ended, `loaded_bytes` of `budget_bytes` are filled.

    `strategy` is the one under which it goes on just now; `switches` tells how it came there.  The rates are those
    of the last seconds, 0 before anything has ended; `is_paused` while nothing starts, be it for want of memory or
    because somebody wants it so.  `origins` is what was asked of each origin so far.  `waits_for` says what the run
    waits for before it begins; empty once it has.
    """

    phase: str
    done: int
    total: int
    loaded_bytes: int
    budget_bytes: int
    pressure: MemoryPressureLevel
    elapsed_seconds: float
    strategy: str = ""
    switches: tuple[StrategySwitch, ...] = ()
    items_per_second: float = 0.0
    bytes_per_second: float = 0.0
    is_paused: bool = False
    origins: tuple[OriginRecord, ...] = ()
    waits_for: str = ""

    @property
    def progress_percent(self) -> float:
        """Items ended, in percent; 100 for an empty plan."""
        return 100.0 * self.done / self.total if self.total else 100.0

    @property
    def remaining_seconds(self) -> float | None:
        """Time left at the pace of the last seconds, or else the pace so far; None before an item has ended."""
        if self.items_per_second > 0.0:
            return (self.total - self.done) / self.items_per_second
        return self.elapsed_seconds * (self.total - self.done) / self.done if self.done else None


class PressureExposure(NamedTuple):
    """How long a run was under pressure.

    Attributes:
        seconds: By level, from LOW to CRITICAL.
        pauses: How often it began to wait for memory.
        paused_seconds: How long nothing started for want of it.
    """

    seconds: tuple[float, ...] = (0.0,) * len(MemoryPressureLevel)
    pauses: int = 0
    paused_seconds: float = 0.0


NO_EXPOSURE = PressureExposure()


class PhaseOutcome(NamedTuple):
    """How a phase of a run ended.

    Attributes:
        phase: Its name.
        counts: Its items by status, without those that no item has; empty where the phase had none.
        stopped: Why the run was stopped before the phase had ended; None if it was not.
        put_off: Items that their origin did not give, and that are tried again after everything else.
    """

    phase: str
    counts: Mapping[ItemStatus, int]
    stopped: str | None = None
    put_off: int = 0

    @property
    def is_warm(self) -> bool:
        """Whether every item of it is resident."""
        return self.stopped is None and not self.put_off and self.counts.keys() <= _RESIDENT

    @property
    def reason(self) -> str:
        """Why not all of it is warm, in a few words; empty if it is."""
        if self.is_warm:
            return "" if self.counts else "the phase had no items"
        missing = [f"{n} {status}" for status, n in self.counts.items() if status not in _RESIDENT]
        missing += [f"{self.put_off} put off"] if self.put_off else []
        stopped = f"the run was stopped ({self.stopped})" if self.stopped else ""
        return ": ".join(filter(None, (stopped, ", ".join(missing))))


class Uplift(NamedTuple):
    """What a warm-up won, against items held out at random: of one cache, or of all caches together.

    Attributes:
        points: Percentage points of hit rate gained over the traffic of the window.
        low, high: Bounds of the 95 % interval of `points`.
        saved_seconds: Waiting saved.
        saved_low, saved_high: Bounds of the 95 % interval of `saved_seconds`.
        unused_bytes: Loaded by the run and not asked for in the window.
        warmed_asked, warmed_hit: Comparable warmed items that were asked for, and whose first request was a hit.
        held_out_asked, held_out_hit: The same of the items held out.
        accesses: Requests in the window.
    """

    points: float
    low: float
    high: float
    saved_seconds: float
    saved_low: float
    saved_high: float
    unused_bytes: int
    warmed_asked: int
    warmed_hit: int
    held_out_asked: int
    held_out_hit: int
    accesses: int


class TimeToSteady(NamedTuple):
    """When the hit rate came near what it was before the restart.

    Attributes:
        seconds: Since the run began; as coarse as accesses are timed.
        requests: Since the run began.
        hit_ratio: The hit rate that was reached.
        steady_ratio: The hit rate known from history.
    """

    seconds: float
    requests: int
    hit_ratio: float
    steady_ratio: float


class CacheEffect(NamedTuple):
    """What a run did for one cache.

    Attributes:
        cache: Its name.
        predictor: What priced its candidates; empty if that is not known.
        loaded_bytes: What the run loaded, as accounted at loading.
        unused_bytes: The part of it that was not asked for in the window.
        accesses: Requests of the cache in the window.
        uplift: What was won; None until items of both groups have been asked for.
        steady: When its hit rate was steady; None if that has not been seen.
    """

    cache: str
    predictor: str
    loaded_bytes: int
    unused_bytes: int
    accesses: int
    uplift: Uplift | None
    steady: TimeToSteady | None


class PastRun(NamedTuple):
    """What is remembered of a run that was measured.

    Attributes:
        started: Unix seconds; 0 if not known.
        strategy: Name of its strategy.
        points, low, high: Percentage points of hit rate that it won, with their 95 % interval.
        unused_ratio: Part of the loaded bytes that nobody asked for; None until traffic was steady.
    """

    started: float
    strategy: str
    points: float
    low: float
    high: float
    unused_ratio: float | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class WarmupReport:
    """A finished run.

    Attributes:
        plan: What was to be done.
        status: (number of planned items,) index into `ItemStatus` by definition order, in the plan's order.
        loaded_bytes: (number of planned items,) int64, as accounted by the caches at loading.
        reasons: For items that did not end well, by their position in the plan's order.
        stopped: None if the run went through; else the reason: "cancelled", "pressure", "deadline", "disabled".
        before, peak, after: Memory readings; None where memory could not be read.
        seconds: Duration of the run.
        phase_seconds: Duration by phase.
        attempts: Loads started, retries included.
        sizes: Estimated and accounted bytes by cache and kind.
        rolled_back_bytes: Accounted bytes that were undone.
        released_bytes: By how much the process shrank while they were undone; None if nothing was.
        events: What happened to memory in the run, oldest first; the oldest may have been dropped.
        switches: When and why it went on under another strategy, oldest first.
        origins: What was asked of each origin, and how it bore that.
        peers: What came from peers instead; None where there are none.
        exposure: How long it was under pressure, and stood still for it.
        uplift: What it won, over all caches; None until traffic has been seen.
        steady: When traffic was steady over all caches; None if that has not been seen.
        effects: What it did for each cache of the plan; empty until traffic has been seen.
    """

    plan: WarmupPlan
    status: NDArray[np.int8]
    loaded_bytes: NDArray[np.int64]
    reasons: Mapping[int, str]
    stopped: str | None
    before: MemoryReading | None
    peak: MemoryReading | None
    after: MemoryReading | None
    seconds: float
    phase_seconds: Mapping[str, float]
    attempts: int
    sizes: tuple[SizeRecord, ...] = ()
    rolled_back_bytes: int = 0
    released_bytes: int | None = None
    events: Sequence[MemoryEvent] = ()
    switches: tuple[StrategySwitch, ...] = ()
    origins: tuple[OriginRecord, ...] = ()
    peers: PeerRecord | None = None
    exposure: PressureExposure = NO_EXPOSURE
    uplift: Uplift | None = None
    steady: TimeToSteady | None = None
    effects: tuple[CacheEffect, ...] = ()

    def count(self, status: ItemStatus) -> int:
        """How many items ended in `status`."""
        return int((self.status == STATUS_CODE[status]).sum())

    @property
    def counts(self) -> dict[ItemStatus, int]:
        """Items by status; they add up to the items planned."""
        return {status: self.count(status) for status in ItemStatus}

    @property
    def accounted_bytes(self) -> int:
        """Bytes loaded and still held when the run ended, as the caches account for them."""
        return int(self.loaded_bytes.sum())

    @property
    def failures(self) -> dict[ItemRef, str]:
        """The items that FAILED, each with its reason."""
        order, failed = self.plan.order, STATUS_CODE[ItemStatus.FAILED]
        return {
            self.plan.candidates.ref(int(order[n])): self.reasons.get(n, "")
            for n in np.flatnonzero(self.status == failed).tolist()
        }

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {status}" for status, n in self.counts.items() if n)
        return f"WarmupReport({self.plan.strategy}: {counts or 'nothing to do'}, stopped={self.stopped!r})"


_RESIDENT = frozenset({ItemStatus.LOADED, ItemStatus.RESIDENT})
STATUS_CODE: dict[ItemStatus, int] = {status: code for code, status in enumerate(ItemStatus)}
