"""How a cache loads what is absent: once however many ask, threads and coroutines alike.

A coroutine never blocks its loop: what isn't a coroutine function itself is called in a thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from preheat._events import MemoryReporter
from preheat._record import is_quiet
from preheat._size import estimate_item_memory_usage
from preheat.abc import AccessLog, Clock
from preheat.caches._coroutines import begin, in_thread
from preheat.caches._flight import Flight
from preheat.caches._own_time import own_time
from preheat.caches._policy import MOST_USES, WATCHED
from preheat.caches._residents import Made, Residents
from preheat.caches._shelf import Places, Shelf
from preheat.errors import InvalidSetting, ItemTooLarge

V = TypeVar("V")

ABSENT: Any = object()


class Request(NamedTuple):
    """What a read asks for: `recipe` is what history keeps to make the value again."""

    key: str
    recipe: str
    version: str


class Misses(Generic[V]):
    """The part of a cache that loads; see `preheat.caches._loading` for the whole.  Thread-safe."""

    def __init__(
        self,
        name: str,
        capacity_bytes: int,
        ttl_seconds: float | None,
        *,
        shelf: Places[V] | None = None,
        is_async: bool = False,
        clock: Clock = time.monotonic,
    ) -> None:
        self.name, self.capacity_bytes, self.ttl_seconds = name, capacity_bytes, ttl_seconds
        self._is_async = is_async
        self._lock = threading.Lock()
        self._memory = MemoryReporter(name)
        places: Places[V] = Shelf() if shelf is None else shelf
        self._residents = Residents(capacity_bytes, places, self._memory, clock)
        self._flights: dict[str, Flight[V]] = {}
        self._log: AccessLog | None = None
        self._hits = self._misses = 0
        self._load_seconds = 0.0

    def kind_of(self, key: str) -> str:
        """The kind of the item called `key`; see `preheat.abc.TellsKinds`."""
        return ""

    def _size_of(self, key: str, value: V) -> int:
        return estimate_item_memory_usage(value, key=key)

    def _may_keep(self, version: str, value: V) -> bool:
        """Whether what was made in this version may be kept now."""
        return True

    def _expiry(self, made_at: float) -> float:
        return math.inf if self.ttl_seconds is None else made_at + self.ttl_seconds

    def _note_use(self, slot: int) -> None:
        uses = self._residents.policy.uses
        count = uses[slot]
        if count < MOST_USES:
            uses[slot] = count + 1
        elif count >= WATCHED:
            self._residents.use(slot)

    def _load_missing(self, requests: Sequence[Request], make: Callable[[list[int]], Sequence[V]]) -> list[V]:
        """The values of `requests`, distinct and all absent; `make` gets the positions that are ours to load."""
        self._demand_plain_loader()
        self._memory.tell()  # the look-up may have found that something has expired
        if is_quiet():
            return list(make(list(range(len(requests)))))
        flights, mine = self._board(requests)
        if mine:
            self._fly(requests, flights, mine, make)
        values = []
        for n, request in enumerate(requests):
            flights[n].wait()
            value = flights[n].result() if n in mine else self._share(request, flights[n])
            values.append(self._load_missing([request], partial(_only, make, n))[0] if value is ABSENT else value)
        return values

    async def _aload_missing(
        self, requests: Sequence[Request], make: Callable[[list[int]], Sequence[V] | Awaitable[Sequence[V]]]
    ) -> list[V]:
        """As `_load_missing`, in a coroutine."""
        self._memory.tell()
        if is_quiet():
            return list(await self._acall(make, list(range(len(requests)))))
        flights, mine = self._board(requests)
        if mine:
            self._take_off(requests, flights, mine, make)
        values = []
        for n, request in enumerate(requests):
            await flights[n].landed()
            value = flights[n].result() if n in mine else self._share(request, flights[n])
            if value is ABSENT:
                value = (await self._aload_missing([request], partial(_only, make, n)))[0]
            values.append(value)
        return values

    def _demand_plain_loader(self) -> None:
        if self._is_async:
            raise InvalidSetting(f"cache {self.name!r} loads by a coroutine function, so it is read by `await aget`")

    def _board(self, requests: Sequence[Request]) -> tuple[list[Flight[V]], set[int]]:
        flights, mine = [], set()
        with self._lock:
            self._misses += len(requests)
            for n, request in enumerate(requests):
                flight = self._flights.get(request.key)
                if flight is None:
                    flight = self._flights[request.key] = Flight(request.version)
                    mine.add(n)
                else:
                    flight.wanted = True
                flights.append(flight)
        return flights, mine

    def _fly(
        self,
        requests: Sequence[Request],
        flights: Sequence[Flight[V]],
        mine: set[int],
        make: Callable[[list[int]], Sequence[V]],
    ) -> None:
        with self._landing(requests, flights, mine) as land, own_time() as clock:
            values = make(sorted(mine))
            land(values, clock())

    def _take_off(
        self,
        requests: Sequence[Request],
        flights: Sequence[Flight[V]],
        mine: set[int],
        make: Callable[[list[int]], Any],
    ) -> None:
        """Begin to load, in a task of its own: whoever waits for it can be cancelled, and it goes on."""
        for n in mine:
            flights[n].wanted = True  # who began it waits as the others do

        async def fly() -> None:
            if not self._is_async:
                await in_thread(lambda: self._fly(requests, flights, mine, make))
                return
            with self._landing(requests, flights, mine) as land, own_time() as clock:
                land(await make(sorted(mine)), clock())

        begin(fly())

    async def _acall(self, make: Callable[[list[int]], Any], positions: list[int]) -> Sequence[V]:
        values: Sequence[V] = await (make(positions) if self._is_async else in_thread(lambda: make(positions)))
        return values

    @contextmanager
    def _landing(
        self, requests: Sequence[Request], flights: Sequence[Flight[V]], mine: set[int]
    ) -> Iterator[Callable[[Sequence[V], float], None]]:
        """Gives what takes the values and the seconds of a load; whatever happens, its flights land."""

        def land(values: Sequence[V], seconds: float) -> None:
            sizes = [self._size_of(requests[n].key, value) for n, value in zip(sorted(mine), values, strict=True)]
            for n, value, size_bytes in zip(sorted(mine), values, sizes, strict=True):
                self._keep(requests[n], value, size_bytes, unless=flights[n])
                self._end_flight(requests[n].key, flights[n], value=value)
                self._report_miss(requests[n], size_bytes, seconds / len(mine))
            with self._lock:
                self._load_seconds += seconds

        try:
            yield land
        except BaseException as error:
            for n in sorted(mine):
                self._end_flight(requests[n].key, flights[n], error=error)
                self._report_miss(requests[n], -1, -1.0)
            raise
        finally:
            self._memory.tell()

    def _share(self, request: Request, flight: Flight[V]) -> Any:
        """What somebody else's load made; `ABSENT` if it has to be loaded anew.

        That is so if it loaded another version, was a warm-up's that failed, was held to the limit of one, or was
        ended from outside, as when its loop is closed.
        """
        error = flight.error
        # the limit was that of a warm-up whose loader read from another thread, as coroutines do
        is_their_own = flight.warming or isinstance(error, ItemTooLarge) or not isinstance(error, Exception)
        if flight.version != request.version or (error is not None and is_their_own):
            with self._lock:
                self._misses -= 1  # the load that follows counts it
            return ABSENT
        value = flight.result()
        self._report_miss(request, -1, -1.0)
        with self._lock:
            slot = self._residents.find(request.key)
            if slot >= 0:
                self._note_use(slot)
        return value

    def _report_miss(self, request: Request, size_bytes: int, seconds: float) -> None:
        if self._log is not None:
            self._log.miss(request.key, size_bytes, seconds, request.version, request.recipe)

    def _end_flight(
        self, key: str, flight: Flight[V], value: V | None = None, error: BaseException | None = None
    ) -> None:
        with self._lock:
            self._leave(key, flight)
            flight.value = value
            # for whom waits only: an error leads to the frames it passed, and those back to the flight
            flight.error = error if flight.wanted else None
        flight.land()

    def _leave(self, key: str, flight: Flight[V]) -> None:
        if self._flights.get(key) is flight:  # not if it was invalidated and another one has begun
            del self._flights[key]

    def _keep(self, request: Request, value: V, size_bytes: int, unless: Flight[V]) -> None:
        """Insert what traffic loaded, evicting what is worth less."""
        if size_bytes > self.capacity_bytes:
            return
        now = time.time()
        with self._lock:
            if not unless.invalidated and self._may_keep(request.version, value):
                made = Made(value, request.version, now, size_bytes, self._expiry(now))
                self._residents.insert(request.key, made, "traffic", kind=self.kind_of(request.key))


def _only(make: Callable[[list[int]], Any], position: int, _positions: list[int]) -> Any:
    return make([position])
