"""A simulated origin under a virtual clock, and a performer that warms up from it as a run tells it to.

The origin has a number of servers and serves in the order of arrival; what a request takes is exponential.  Live
traffic arrives by chance and keeps a share of the servers busy.  The same seed gives the same live requests with and
without a warm-up, so the two can be compared.
"""

import heapq
import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from msgspec.structs import replace

from preheat._execution import Ended, Execution, Finish, Load, Loaded, Missed, Start, Tick, WakeAt
from preheat._model import ItemResult, ItemStatus

LOADED, FAILED = ItemResult(ItemStatus.LOADED, 1), ItemResult(ItemStatus.FAILED, reason="the origin said no")


@dataclass
class SimulatedOrigin:
    """`answer(at)` says how a request that starts at `at` ends: a result, and a factor of what it takes.

    A request that would take longer than `timeout_seconds` fails after that, and goes on to occupy its server.
    """

    servers: int = 16
    mean_seconds: float = 0.05
    seed: int = 0
    answer: Callable[[float, np.random.Generator], tuple[ItemResult, float]] = lambda at, chance: (LOADED, 1.0)
    timeout_seconds: float = math.inf
    requests: list[float] = field(default_factory=list)

    def __post_init__(self):
        self._chance = np.random.default_rng(self.seed)
        self._free = [0.0] * self.servers

    def serve(self, at: float) -> tuple[float, ItemResult]:
        """When a request of the warm-up made at `at` ends, and how."""
        self.requests.append(at)
        result, factor = self.answer(at, self._chance)
        end = self._occupy(at, self._chance.exponential(self.mean_seconds) * factor)
        if end - at > self.timeout_seconds:
            return at + self.timeout_seconds, replace(FAILED, wait_seconds=0.0, reason="TimeoutError")
        return end, result

    def serve_live(self, at: float, seconds: float, factor: float) -> float:
        """When a live request made at `at`, that takes `seconds` of a server, ends."""
        return self._occupy(at, seconds * factor)

    def _occupy(self, at: float, seconds: float) -> float:
        end = max(at, self._free[0]) + seconds
        heapq.heapreplace(self._free, end)
        return end


@dataclass(frozen=True)
class Traffic:
    """Live requests for `seconds`, and a brownout: a span in which everything takes `factor` times as long."""

    servers: int
    mean_seconds: float
    seconds: float = 90.0
    load: float = 0.6
    brownout: tuple[float, float] = (50.0, 70.0)
    factor: float = 1.4
    seed: int = 0

    @property
    def rate(self) -> float:
        """Live requests a second."""
        return self.load * self.servers / self.mean_seconds

    def requests(self) -> tuple[np.ndarray, np.ndarray]:
        """(n,) instants, and (n,) seconds that each takes of a server."""
        chance = np.random.default_rng(self.seed)
        at = np.cumsum(chance.exponential(1 / self.rate, int(self.rate * self.seconds * 1.1) + 100))
        at = at[at < self.seconds]
        return at, chance.exponential(self.mean_seconds, len(at))

    def slowness(self, at: float) -> float:
        return self.factor if self.brownout[0] <= at < self.brownout[1] else 1.0

    def spare_loads(self, start: float, stop: float) -> float:
        """Loads that the origin could serve between two instants beside all live ones."""
        slow = max(0.0, min(stop, self.brownout[1]) - max(start, self.brownout[0]))
        spare = (stop - start - slow) * (1 - self.load) + slow * max(0.0, 1 / self.factor - self.load)
        return spare * self.servers / self.mean_seconds


@dataclass(frozen=True)
class Heard:
    """What became of live traffic: (n,) instants and (n,) latencies."""

    at: np.ndarray
    latency: np.ndarray

    def p99(self, start: float, stop: float) -> float:
        return float(np.percentile(self.latency[(self.at >= start) & (self.at < stop)], 99))


class VirtualRun:
    """Does what the state machine of a run says, under a virtual clock, against simulated origins.

    As the real performer does, it ends a run of loads at a failure that asks for rest, and at the third one.

    Args:
        execution: The machine; None for live traffic alone.
        caches: (n,) the cache of each item.
        origins: By cache.
        traffic: Live requests to the one origin.
        tells_live: The share of them that the run hears of, as misses of its own process.
    """

    def __init__(self, execution, caches=(), origins=None, *, traffic=None, tells_live=0.0):
        self.execution, self.caches, self.origins = execution, caches, origins or {}
        self.now, self.finished = 0.0, None
        self.heard = None
        self._traffic, self._tells_live = traffic, tells_live
        self._events, self._count = [], 0
        self._wake_at = math.inf

    def perform(self, until: float = math.inf) -> "VirtualRun":
        """Go on until the run ends, or until an instant."""
        if self._traffic is not None:
            self._arrivals = self._live()
            self._next_arrival()
        if self.execution is not None:
            self._tell(Start(0.0))
        while self.finished is None:
            at = min(self._events[0][0] if self._events else math.inf, self._wake_at)
            if at > until or at == math.inf:
                break
            self.now = at
            if at == self._wake_at:
                self._wake_at = math.inf
                self._tell(Tick(at))
            else:
                self._pop(at)
        return self

    def _pop(self, at: float) -> None:
        _, _, act = heapq.heappop(self._events)
        act(at)

    def _at(self, at: float, act) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, act))

    # ---------------------------------------------------------------------------------------------- the run

    def _tell(self, event) -> None:
        self._wake_at = math.inf
        for instruction in self.execution.handle(event):
            match instruction:
                case Load():
                    self._load(instruction.positions, [])
                case WakeAt():
                    self._wake_at = instruction.at
                case Finish():
                    self.finished = instruction

    def _load(self, positions, results) -> None:
        end, result = self.origins[self.caches[positions[0]]].serve(self.now)
        self._at(end, lambda at: self._go_on(positions, [*results, result]))

    def _go_on(self, positions, results) -> None:
        failures = [result for result in results if result.status is ItemStatus.FAILED]
        is_refused = len(failures) >= 3 or any(result.wait_seconds is not None for result in failures)
        if len(results) < len(positions) and not is_refused:
            self._load(positions, results)
        elif failures:
            results += [None] * (len(positions) - len(results))
            self._tell(Ended(self.now, positions, results))
        else:
            self._tell(Loaded(self.now, positions, [result.size_bytes for result in results]))

    # ------------------------------------------------------------------------------------------ live traffic

    def _live(self):
        at, seconds = self._traffic.requests()
        told = np.random.default_rng(self._traffic.seed + 9).random(len(at)) < self._tells_live
        self.heard = Heard(at, np.full(len(at), np.nan))
        yield from enumerate(zip(at.tolist(), seconds.tolist(), told.tolist(), strict=True))

    def _next_arrival(self) -> None:
        n, (at, seconds, is_told) = next(self._arrivals, (None, (math.inf, 0.0, False)))
        if n is not None:
            self._at(at, lambda now: self._arrive(n, now, seconds, is_told))

    def _arrive(self, n: int, at: float, seconds: float, is_told: bool) -> None:
        (origin,) = self.origins.values()
        end = origin.serve_live(at, seconds, self._traffic.slowness(at))
        self.heard.latency[n] = end - at
        if is_told and self.execution is not None:
            cache = self.caches[0]
            self._at(end, lambda now: self._tell(Missed(now, cache, 1, now - at)))
        self._next_arrival()


def execution_of(items: int, gates, *, cache: str = "shop", concurrency_limit: int = 64, **changes) -> Execution:
    """A run over `items` of one byte each, all of one cache, as the service would make it."""
    given = {"batch_size": 32, "run_seconds": {cache: 0.02}, "budget_bytes": 2**40} | changes
    return Execution(
        [cache] * items,
        array("q", [1]) * items,
        bytes(items),
        {},
        concurrency_limit=concurrency_limit,
        gates=gates,
        **given,
    )
