"""A simulated origin under a virtual clock, and the drivers that warm up from it.

The origin has a number of servers and serves in the order of arrival; what a request takes is exponential.  Live
traffic arrives by chance and keeps a share of the servers busy.  The same seed gives the same live requests with and
without a warm-up, so the two can be compared.
"""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

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
            return at + self.timeout_seconds, FAILED._replace(wait_seconds=0.0, reason="TimeoutError")
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

    def requests(self) -> tuple[np.ndarray, np.ndarray]:
        """(n,) instants, and (n,) seconds that each takes of a server."""
        chance = np.random.default_rng(self.seed)
        rate = self.load * self.servers / self.mean_seconds
        at = np.cumsum(chance.exponential(1 / rate, int(rate * self.seconds * 1.1) + 100))
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
    """What became of live traffic and of the warm-up beside it."""

    at: np.ndarray
    latency: np.ndarray
    loads: np.ndarray

    def p99(self, start: float, stop: float) -> float:
        return float(np.percentile(self.latency[(self.at >= start) & (self.at < stop)], 99))

    def loads_between(self, start: float, stop: float) -> int:
        return int(((self.loads >= start) & (self.loads < stop)).sum())


def beside_traffic(traffic: Traffic, gate=None, *, tells_live: float = 0.0) -> Heard:
    """Live `traffic`, with a warm-up of endless loads that `gate` lets start; none without a gate.

    Of the live requests the share `tells_live` is told to the gate.
    """
    origin = SimulatedOrigin(
        traffic.servers, traffic.mean_seconds, traffic.seed + 7, lambda at, _: (LOADED, traffic.slowness(at))
    )
    at, seconds = traffic.requests()
    told = np.random.default_rng(traffic.seed + 9).random(len(at)) < tells_live
    latency, loads = np.empty(len(at)), []
    ends: list[tuple[float, float, bool]] = []
    wake = 0.0 if gate is not None else math.inf

    def start_loads(now: float) -> float:
        while (opens_at := gate.opens_at(now)) <= now:
            gate.admit(now, (1,))
            heapq.heappush(ends, (origin.serve(now)[0], now, True))
        return opens_at

    for n, (arrival, needs) in enumerate(zip(at.tolist(), seconds.tolist(), strict=True)):
        while (now := min(ends[0][0] if ends else math.inf, wake)) <= arrival:
            if ends and ends[0][0] <= wake:
                _, begun, is_ours = heapq.heappop(ends)
                if is_ours:
                    loads.append(begun)
                    gate.loaded(now, now - begun, 1)
                else:
                    gate.note_live(now - begun)
                    continue
            wake = start_loads(now)
        end = origin.serve_live(arrival, needs, traffic.slowness(arrival))
        latency[n] = end - arrival
        if gate is not None and told[n]:
            heapq.heappush(ends, (end, arrival, False))
    return Heard(at, latency, np.array(loads))
