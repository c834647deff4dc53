"""What is known of each shard -> how far a bulk warm-up has come, and one report over all shards, which adds up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from preheat._model import ItemStatus, WarmupReport
from preheat.errors import StoreCorrupt

T = TypeVar("T")

ABANDONED, LEFT_OUT = "abandoned", "left_out"
_DONE = frozenset({ItemStatus.LOADED, ItemStatus.RESIDENT, ItemStatus.UNAVAILABLE, ItemStatus.TOO_LARGE})
"""How an item may end so that a shard is not run again for it."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bulk warm-up is, as it was begun.

    Attributes:
        target: What the workers warm, as `module:attribute`.
        items: (shards,) what each shard loads.
        size_bytes: What all of them weigh by the plan.
        lease_seconds: How long a shard is left to a worker that tells nothing of itself.
        rates: By cache or origin, the loads per second of all workers together.
        begun_at: Unix seconds, by the server's clock.
        bandwidths_mb: By cache or origin, the MiB per second of all workers together.
    """

    target: str
    items: tuple[int, ...]
    size_bytes: int
    lease_seconds: float
    rates: dict[str, float]
    begun_at: float
    bandwidths_mb: dict[str, float] = {}


class ShardResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one shard ended: its items by status, and those that did not fit any more as `left_out`.

    `cpu_seconds` are those of the whole worker while it had the shard.
    """

    counts: dict[str, int]
    loaded_bytes: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    stopped: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing that running it again might load."""
        return self.stopped is None and not any(n for status, n in self.counts.items() if status not in _DONE)


class Standing(NamedTuple):
    """A board as it was read: what each shard is, by its number."""

    head: Head
    is_cancelled: bool
    now: float
    ended_at: float | None
    free: frozenset[int]
    leased: Mapping[int, float]
    attempts: Mapping[int, int]
    progress: Mapping[int, Sequence[int]]
    results: Mapping[int, ShardResult]


class BulkProgress(NamedTuple):
    """A bulk warm-up as it stands: `done` of `items` have ended, in `ended` of `shards`.

    `running` shards are leased to a worker, `late` ones to one that has told nothing for the length of a lease: they
    are taken over by the next worker that asks.  `is_over` once no shard is left, or it was cancelled and nobody runs.
    """

    shards: int
    ended: int
    running: int
    late: int
    items: int
    done: int
    loaded_bytes: int
    is_cancelled: bool
    seconds: float

    @property
    def progress_percent(self) -> float:
        """Items ended, in percent; 100 for an empty plan."""
        return 100.0 * self.done / self.items if self.items else 100.0

    @property
    def is_over(self) -> bool:
        """Whether no worker has anything to do."""
        return self.ended == self.shards or (self.is_cancelled and not self.running)


class BulkReport(NamedTuple):
    """All shards together; of each, the last result counts.

    Attributes:
        items: How many there were to load.
        counts: Items by status, those that did not fit as `left_out`, and those of shards without a result as
            `unfinished`; they add up to `items`.
        shards, complete: How many there are, and of how many nothing is left.
        abandoned: Shards at which worker after worker died.
        taken_over: How often a shard was given to another worker.
        loaded_bytes: Bytes loaded, as the caches account for them.
        seconds: From the beginning to the last result, or until now.
        worker_seconds, cpu_seconds: What the workers took, over all shards.
        is_cancelled: Whether it was cancelled.
    """

    items: int
    counts: Mapping[str, int]
    shards: int
    complete: int
    abandoned: int
    taken_over: int
    loaded_bytes: int
    seconds: float
    worker_seconds: float
    cpu_seconds: float
    is_cancelled: bool

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to load."""
        return self.complete == self.shards


def result_of_run(report: WarmupReport, planned: int, cpu_seconds: float) -> ShardResult:
    """The result of a shard of `planned` items, whose plan as far as it fitted was run."""
    counts = {str(status): count for status, count in report.counts.items() if count}
    missing = planned - sum(counts.values())
    return ShardResult(
        counts=counts | ({LEFT_OUT: missing} if missing else {}),
        loaded_bytes=report.accounted_bytes,
        seconds=report.seconds,
        cpu_seconds=cpu_seconds,
        stopped=report.stopped,
    )


def failed_result(planned: int) -> ShardResult:
    """The result of a shard that could not be run at all."""
    return ShardResult({str(ItemStatus.SKIPPED): planned} if planned else {}, stopped="failed")


def add_up(standing: Standing) -> BulkReport:
    """The report over all shards."""
    head, results = standing.head, standing.results
    counts: Counter[str] = Counter()
    for shard, items in enumerate(head.items):
        told = results[shard].counts if shard in results else {}
        counts.update({**told, "unfinished": items - sum(told.values())})
    until = standing.now if standing.ended_at is None or standing.leased else standing.ended_at
    return BulkReport(
        items=sum(head.items),
        counts={name: count for name, count in sorted(counts.items()) if count},
        shards=len(head.items),
        complete=sum(result.is_complete for result in results.values()),
        abandoned=sum(result.stopped == ABANDONED for result in results.values()),
        taken_over=sum(max(0, count - 1) for count in standing.attempts.values()),
        loaded_bytes=sum(result.loaded_bytes for result in results.values()),
        seconds=max(0.0, until - head.begun_at),
        worker_seconds=sum(result.seconds for result in results.values()),
        cpu_seconds=sum(result.cpu_seconds for result in results.values()),
        is_cancelled=standing.is_cancelled,
    )


def progress_of(standing: Standing) -> BulkProgress:
    """How far it has come; a shard that is run again counts as far as it has come again."""
    head, results, leased, now = standing.head, standing.results, standing.leased, standing.now
    ended = [shard for shard in results if shard not in leased and shard not in standing.free]
    under_way = [pair for shard, pair in standing.progress.items() if shard in leased and len(pair) == 2]
    return BulkProgress(
        shards=len(head.items),
        ended=len(ended),
        running=sum(until > now for until in leased.values()),
        late=sum(until <= now for until in leased.values()),
        items=sum(head.items),
        done=sum(head.items[shard] for shard in ended) + sum(done for done, _ in under_way),
        loaded_bytes=sum(results[shard].loaded_bytes for shard in ended) + sum(size for _, size in under_way),
        is_cancelled=standing.is_cancelled,
        seconds=max(0.0, now - head.begun_at),
    )


def unfinished(results: Mapping[int, ShardResult]) -> list[int]:
    """The shards that have ended with something left."""
    return sorted(shard for shard, result in results.items() if not result.is_complete)


def encode(value: Head | ShardResult) -> bytes:
    """`value` as the board keeps it."""
    return msgspec.json.encode(value)


def head_of(text: bytes) -> Head:
    """What `encode` was given.

    Raises:
        StoreCorrupt: It is nothing of that kind.
    """
    return _decoded(text, Head)


def result_of(text: bytes) -> ShardResult:
    """What `encode` was given.

    Raises:
        StoreCorrupt: It is nothing of that kind.
    """
    return _decoded(text, ShardResult)


def _decoded(text: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreCorrupt(f"what stands on the board is nothing that preheat wrote: {error}") from None
