"""The seams: what an application may implement, each with a contract suite in `preheat.testing`.

A cache that has the five members of `WarmableCache` can be warmed.  The others are optional abilities that the
service looks for (`RecordsAccesses`, `LoadsInBulk`, `UndoesWarmup`, `ReportsMemory`, `TellsKinds`, `SharesOrigin`,
`SharesValues`, `SnapshotsValues`, `GivesValues`) or parts that can be swapped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from preheat._model import (
    AccessBatch,
    CacheStatistics,
    CandidateTable,
    HeldValue,
    History,
    ItemRef,
    ItemResult,
    ItemStatus,
    MemoryEventKind,
    MemoryPressureLevel,
    MemoryReading,
    PhaseOutcome,
    WarmupItem,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "AccessBatch",
    "AccessLog",
    "CacheStatistics",
    "CandidateSource",
    "CandidateTable",
    "Clock",
    "GivesValues",
    "HeldValue",
    "History",
    "HistoryStore",
    "ItemRef",
    "ItemResult",
    "ItemStatus",
    "LoadsInBulk",
    "MemoryEventKind",
    "MemoryMonitor",
    "MemoryReading",
    "MemoryTracker",
    "PhaseOutcome",
    "Predictor",
    "PressureCallback",
    "RecordsAccesses",
    "ReportsMemory",
    "SharesOrigin",
    "SharesValues",
    "Snapshot",
    "SnapshotCodec",
    "SnapshotsValues",
    "TellsKinds",
    "UndoesWarmup",
    "WarmableCache",
    "WarmupItem",
]


class Clock(Protocol):
    """Returns the instant in Unix seconds."""

    def __call__(self) -> float: ...


@runtime_checkable
class WarmableCache(Protocol):
    """A cache that can be warmed.  Its methods are called from several threads."""

    name: str

    def get_warmup_candidates(self, history: History, rates: NDArray[np.float64]) -> Sequence[WarmupItem]:
        """Items of this cache that could be warmed.

        Args:
            history: What was asked for so far, over all caches.
            rates: (len(history),) accesses per second that the predictor expects of each row.

        Returns:
            Rows; a `CandidateTable` where there may be many.
        """
        ...

    def warmup_item(self, item: WarmupItem) -> ItemResult | Awaitable[ItemResult]:
        """Load `item` if it is absent and fits without evicting anything.

        Quiet: neither this call nor the reads inside it count as traffic.  A second call is RESIDENT.  May be
        a coroutine function, or a plain one that gives what is to be awaited.  What it raises is retried and then
        reported as FAILED; an attribute `retry_after` of it, in seconds, or the header of that name of its `response`,
        says when at the earliest.

        A coroutine that takes longer than an item may, or that nobody waits for any more, is cancelled.  Whatever it
        was reading from then holds half an answer: it has to close that connection, and not to give it back to a
        pool, whose next user would take the other half for its own.
        """
        ...

    def estimate_item_size(self, item: WarmupItem) -> int:
        """Bytes that `item` will occupy once loaded, container slot included."""
        ...

    def get_warmup_statistics(self) -> CacheStatistics:
        """What the cache holds and how it has served, warm-up loads apart."""
        ...


@runtime_checkable
class RecordsAccesses(Protocol):
    """A cache that reports its traffic."""

    def record_to(self, log: AccessLog) -> None:
        """From now on report every access to `log`."""
        ...


@runtime_checkable
class LoadsInBulk(Protocol):
    """A cache whose loader is cheaper for many items at once."""

    def warmup_items(self, items: Sequence[WarmupItem]) -> Sequence[ItemResult] | Awaitable[Sequence[ItemResult]]:
        """As `warmup_item` for each of `items`, results in their order; a failed one is a FAILED result.

        A coroutine function if `warmup_item` is one; otherwise items are loaded one by one.
        """
        ...


@runtime_checkable
class UndoesWarmup(Protocol):
    """A cache that can give back what a warm-up loaded."""

    def undo_warmup(self, key: str) -> int:
        """Drop `key` if a warm-up loaded it and traffic has neither used nor replaced it since.

        Returns:
            Accounted bytes released; 0 if it was kept or absent.
        """
        ...


@runtime_checkable
class ReportsMemory(Protocol):
    """A cache that reports what it allocates and drops."""

    def report_memory_to(self, track: MemoryTracker) -> None:
        """From now on report every byte allocated and dropped to `track`, beginning with what is resident.

        What was reported adds up to the `used_bytes` of the statistics.  A second call takes the place of the first.
        """
        ...


@runtime_checkable
class TellsKinds(Protocol):
    """A cache whose items are of several kinds, such as files of several languages."""

    def kind_of(self, key: str) -> str:
        """The kind of the item called `key`, always the same: at most 64 characters; "" if all are alike.

        There is a small number of kinds.  What the items of one kind turn out to weigh, in proportion to what was
        estimated, corrects the estimates of the others.
        """
        ...


@runtime_checkable
class SharesValues(Protocol):
    """A cache whose values several processes share, so that one of them loads each.

    Attributes:
        shared_as: What all of them call it.
    """

    shared_as: str

    def find_resident(self, keys: Sequence[str]) -> Sequence[bool] | Awaitable[Sequence[bool] | None] | None:
        """Whether a read of each of `keys` would be a hit; None if that can't be told now."""
        ...


@runtime_checkable
class SharesOrigin(Protocol):
    """A cache that names the origin it is loaded from.

    Caches that name the same one share its limits, its breaker and what is learned of it.  By default each cache has
    an origin of its own, which has the name of the cache.
    """

    origin: str


@runtime_checkable
class SnapshotsValues(Protocol):
    """A cache whose values can be kept on disk, and that looks there before it loads."""

    def snapshot_codec(self) -> SnapshotCodec | None:
        """How its values become bytes, always the same; None if they are not to be kept."""
        ...

    def held_values(self) -> Sequence[HeldValue]:
        """What it holds now, the hottest first."""
        ...

    def restore_from(self, snapshot: Snapshot | None) -> None:
        """From now on look in `snapshot` before loading what is absent; None ends that.

        What is found there is served as a hit and kept, with when it was made and when it expires; it is asked for
        in the version that a read would ask for now.  What is deleted or invalidated is erased there first.
        """
        ...


@runtime_checkable
class GivesValues(SnapshotsValues, Protocol):
    """A cache whose values other replicas may have, which then need not load them; in bytes as in a snapshot."""

    def find_held(self, keys: Sequence[str]) -> Sequence[HeldValue | None]:
        """What a read of each of `keys` would be served now, in their order; None where it would be a miss.

        Quiet: it counts as no use of them, and changes no order.
        """
        ...


class Snapshot(Protocol):
    """What was kept of a cache; thread-safe."""

    @property
    def erasures(self) -> int:
        """Changes with each erasure: a value that was found before it last changed may be one of those erased."""
        ...

    def find(self, key: str, version: str) -> HeldValue | None:
        """What is kept of `key` in this `version`, if it may still be served; never raises."""
        ...

    def erase(self, keys: Iterable[str]) -> None:
        """Never restore what is kept of `keys`, in this process or a later one; never raises."""
        ...

    def erase_all(self) -> None:
        """Never restore anything of what is kept so far; never raises."""
        ...


@runtime_checkable
class SnapshotCodec(Protocol):
    """How values become bytes in a snapshot, and values again.  See `preheat.codecs` for those that ship.

    `name` and `version` stand in the snapshot, at most 256 characters each; one of another codec or version is dropped.
    """

    @property
    def name(self) -> str:
        """What the codec is called."""
        ...

    @property
    def version(self) -> str:
        """Changes with what `encode` writes and `decode` gives."""
        ...

    def encode(self, value: Any) -> bytes:
        """`value` in bytes; raises whatever it likes if what is read back would not be identical."""
        ...

    def decode(self, data: memoryview) -> Any:
        """The value in `data`, which is read-only and lives as long as a view of it; raises if there is none.

        Runs nothing that it reads, and allocates nothing that it was not given the bytes for.
        """
        ...


class MemoryTracker(Protocol):
    """Takes what a cache reports.  Fast, and never calls the cache back."""

    def __call__(self, kind: MemoryEventKind, size_bytes: int, cause: str, items: int = 1) -> None:
        """`size_bytes` were allocated or dropped, as `kind` says; `cause` says why, in a few words."""
        ...


class AccessLog(Protocol):
    """Takes accesses on the hot path.  Never blocks, never raises, bounded in memory."""

    def hit(self, key: str) -> None:
        """`key` was asked for and resident."""
        ...

    def miss(self, key: str, size_bytes: int, load_seconds: float, version: str, recipe: str) -> None:
        """`key` was asked for and had to be loaded; `size_bytes` and `load_seconds` are -1 where the load failed."""
        ...


class Predictor(Protocol):
    """Expects the future from history."""

    def __call__(self, history: History, horizon_seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Accesses per second expected of each row over the horizon: (n,), finite, not negative.

        Args:
            history: What was asked for so far.
            horizon_seconds: (n,) the time in which the row's cache would refill by itself.
        """
        ...


class MemoryMonitor(Protocol):
    """Reads memory.  Called often: at most tens of microseconds."""

    def __call__(self) -> MemoryReading:
        """The state of memory now."""
        ...


class HistoryStore(Protocol):
    """Keeps history and reports across restarts, crash-safe: what is read is the last save or the one before.

    It may round: instants to a hundredth of a second, counts, gaps and load times by 0.1 %.
    """

    def load(self) -> History | None:
        """The last history saved; None if there is none."""
        ...

    def save(self, history: History) -> None:
        """Keep `history` in place of the last one.

        Raises:
            StoreError: It could not be kept; the last one still stands.
        """
        ...


CandidateSource = Callable[[History], Sequence[WarmupItem]]
PressureCallback = Callable[[MemoryPressureLevel, MemoryReading], None]
