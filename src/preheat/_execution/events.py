"""What can happen to a run, and what it can ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from preheat._guard import total_of
from preheat._model import ItemResult, MemoryPressureLevel, MemoryReading


class Start(NamedTuple):
    """The run begins; its deadline counts from `since`, if that is earlier."""

    at: float
    since: float | None = None


class Loaded(NamedTuple):
    """A run of loads went smoothly: all of `positions` were loaded, and nothing is to be said of any.

    `sizes` is what the cache accounts for each, in bytes; the rest is as in `Ended`.
    """

    at: float
    positions: Sequence[int]
    sizes: Sequence[int]
    peak_bytes: int = 0
    seconds: float | None = None

    @property
    def size_bytes(self) -> int:
        """What all of them weigh."""
        return total_of(self.sizes)


class Ended(NamedTuple):
    """A run of loads has been tried: the results of `positions`, in their order; None where a load was not begun.

    `peak_bytes` is what the process grew by at the most while nothing else was loaded; 0 if that is not known.
    `seconds` is how long it took, apart from what it waited for others; None if that is the time since it began.
    """

    at: float
    positions: Sequence[int]
    results: Sequence[ItemResult | None]
    peak_bytes: int = 0
    seconds: float | None = None


class Drawn(NamedTuple):
    """Of the shared run that begins with the item `first`, all loads have begun."""

    at: float
    first: int


class RolledBack(NamedTuple):
    """A roll-back has been done: the bytes released for each of `positions`, 0 where the item was kept."""

    at: float
    positions: Sequence[int]
    released_bytes: Sequence[int]


class MemoryRead(NamedTuple):
    """Memory has been read, and means this level of pressure; no reading where only the level is known.

    `outlook` is what it would mean had the rest of the plan been loaded too.
    """

    at: float
    level: MemoryPressureLevel
    reading: MemoryReading | None = None
    outlook: MemoryPressureLevel = MemoryPressureLevel.LOW


class Missed(NamedTuple):
    """The application itself had to load `misses` items of a cache, which took `seconds` altogether."""

    at: float
    cache: str
    misses: int
    seconds: float


class Pause(NamedTuple):
    """Somebody wants nothing to start until `Resume`."""

    at: float


class Resume(NamedTuple):
    """Somebody wants the run to go on."""

    at: float


class Cancel(NamedTuple):
    """Somebody wants the run to end; what is in flight is awaited, or given up if `abandon`."""

    at: float
    abandon: bool = False


class Tick(NamedTuple):
    """Time has passed."""

    at: float


class Load(NamedTuple):
    """Load these items of one cache, one after another or in batches: a run of loads.

    Each may become as large as was reserved for it, and together they may take `spare_bytes` more; None while
    nothing is known of memory.  A run with a `width` is *shared*: from now on that many workers take the loads of all
    shared runs of this cache, in the order in which these were handed out, and each may take `spare_bytes`.
    """

    positions: Sequence[int]
    reserved_bytes: Sequence[int] = ()
    spare_bytes: int | None = None
    width: int | None = None


class Abandon(NamedTuple):
    """Give these loads up, which are in flight, and answer with `Ended` without waiting for them for long."""

    positions: Sequence[int]


class RollBack(NamedTuple):
    """Undo these loads, in this order, and answer with `RolledBack`."""

    positions: Sequence[int]


class WakeAt(NamedTuple):
    """Send a `Tick` at this time, if nothing else has happened before."""

    at: float


class Finish(NamedTuple):
    """The run has ended; `stopped` says why if it ended early."""

    stopped: str | None


Event = Start | Loaded | Ended | Drawn | RolledBack | MemoryRead | Missed | Pause | Resume | Cancel | Tick
Instruction = Load | Abandon | RollBack | WakeAt | Finish
