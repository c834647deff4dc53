"""How a cache serves: what is resident at once, what is absent loaded by one however many ask.

Threads and coroutines share a load.  A coroutine never blocks its loop: what isn't a coroutine function itself is
called in a thread.  While a warm-up loads an item in this thread or task, reads count as no traffic, change no order
and keep nothing that they had to load.
"""

from __future__ import annotations

import inspect
import math
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from preheat._events import MemoryReporter
from preheat._record import is_quiet
from preheat._size import estimate_item_memory_usage
from preheat.abc import AccessLog, Clock, Snapshot
from preheat.caches._flight import Flight
from preheat.caches._policy import MOST_USES, WATCHED
from preheat.caches._residents import Made, Residents
from preheat.caches._shelf import Places, Shelf
from preheat.errors import InvalidSetting, ItemTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

V = TypeVar("V")

ABSENT: Any = object()
_inner_seconds: ContextVar[list[float] | None] = ContextVar("preheat_inner_seconds", default=None)


class Request(NamedTuple):
    """What a read asks for: `recipe` is what history keeps to make the value again."""

    key: str
    recipe: str
    version: str


class Traffic(Generic[V]):
    """The part of a cache that serves; see `preheat.caches._loading` for the whole.  Thread-safe."""

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
        self._find_value, self._uses = places.look, self._residents.policy.uses
        self._flights: dict[str, Flight[V]] = {}
        self._log: AccessLog | None = None
        self._snapshot: Snapshot | None = None
        self._hits = self._misses = 0
        self._load_seconds = 0.0

    def kind_of(self, key: str) -> str:
        """The kind of the item called `key`; see `preheat.abc.TellsKinds`."""
        return ""

    # ------------------------------------------------------------------------------- for the ready caches

    def _size_of(self, key: str, value: V) -> int:
        return estimate_item_memory_usage(value, key=key)

    def _may_keep(self, version: str, value: V) -> bool:
        """Whether what was made in this version may be kept now."""
        return True

    def _get(self, request: Request, make: Callable[[], V]) -> V:
        """The value of `request`, made by `make` if it is absent."""
        value = self._lookup(request)
        if value is ABSENT:
            value = self._restore(request)
        if value is not ABSENT:
            found: V = value
            return found
        return self._load_missing([request], lambda _: [make()])[0]

    async def _aget(self, request: Request, make: Callable[[], V | Awaitable[V]]) -> V:
        """As `_get`, in a coroutine; `make` is called in a thread, or awaited if the cache's loader is a coroutine."""
        value = self._lookup(request)
        if value is ABSENT:
            (value,) = await self._arestore([request])
        if value is not ABSENT:
            found: V = value
            return found
        return (await self._aload_missing([request], partial(_one_by_one, make)))[0]

    # --------------------------------------------------------------------------------- what is there already

    def _lookup(self, request: Request) -> Any:
        """The resident value, counted as a hit; `ABSENT` if there is none of this version."""
        residents = self._residents
        with self._lock:
            slot, value = self._find_value(request.key, request.version)
            if slot < 0 or (residents.dies_at is not None and residents.unless_expired(slot) < 0):
                return ABSENT
            if is_quiet():
                return value
            count = self._uses[slot]
            if count < MOST_USES:
                self._uses[slot] = count + 1
            elif count >= WATCHED:
                residents.use(slot)
            self._hits += 1
        if self._log is not None:
            self._log.hit(request.key)
        return value

    def _note_use(self, slot: int) -> None:
        uses = self._residents.policy.uses
        count = uses[slot]
        if count < MOST_USES:
            uses[slot] = count + 1
        elif count >= WATCHED:
            self._residents.use(slot)

    def _restore(self, request: Request) -> Any:
        """The value from the snapshot, kept and counted as a hit; `ABSENT` if it has none."""
        snapshot = self._snapshot
        if snapshot is None:
            return ABSENT
        erasures = snapshot.erasures
        made = self._find_kept(snapshot, request.key, request.version)
        if made is None or is_quiet():
            return ABSENT if made is None else made.value
        value = made.value
        with self._lock:
            slot = self._residents.find(request.key)
            if slot >= 0 and self._residents.shelf.version_of(slot) == request.version:  # another thread was faster
                value = self._residents.shelf.value_of(slot)
                self._note_use(slot)
            elif snapshot.erasures != erasures:  # this value may be what was erased
                return ABSENT
            elif made.size_bytes <= self.capacity_bytes and self._may_keep(request.version, value):
                self._residents.insert(request.key, made, "snapshot", kind=self.kind_of(request.key))
            self._hits += 1
        self._memory.tell()
        if self._log is not None:
            self._log.hit(request.key)
        return value

    async def _arestore(self, requests: Sequence[Request]) -> list[Any]:
        if self._snapshot is None:
            return [ABSENT] * len(requests)
        return await in_thread(lambda: [self._restore(request) for request in requests])

    def _find_kept(self, snapshot: Snapshot, key: str, version: str) -> Made[V] | None:
        """What `snapshot` has of it, if that may still be served; its time to live goes on from when it was made."""
        held = snapshot.find(key, version)
        if held is None:
            return None
        expires_at = min(held.expires_at, self._expiry(held.made_at))
        if expires_at <= time.time():
            return None
        return Made(held.value, held.version, held.made_at, held.size_bytes, expires_at)

    def _expiry(self, made_at: float) -> float:
        return math.inf if self.ttl_seconds is None else made_at + self.ttl_seconds

    # ------------------------------------------------------------------------------------- what is absent

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
        with self._landing(requests, flights, mine) as land, _own_time() as clock:
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
        import asyncio

        for n in mine:
            flights[n].wanted = True  # who began it waits as the others do

        async def fly() -> None:
            if not self._is_async:
                await in_thread(lambda: self._fly(requests, flights, mine, make))
                return
            with self._landing(requests, flights, mine) as land, _own_time() as clock:
                land(await make(sorted(mine)), clock())

        task = asyncio.get_running_loop().create_task(fly())
        _under_way.add(task)
        task.add_done_callback(_forget_task)

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

        That is so if it loaded another version, was a warm-up's that failed, or was held to the limit of one.
        """
        # the limit was that of a warm-up whose loader read from another thread, as coroutines do
        is_others = isinstance(flight.error, ItemTooLarge) or (flight.warming and flight.error is not None)
        if flight.version != request.version or is_others:
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


def _one_by_one(make: Callable[[], Any], positions: list[int]) -> Any:
    made = make()
    return _listed(made) if isinstance(made, Awaitable) else [made]


async def _listed(made: Awaitable[V]) -> list[V]:
    return [await made]


@contextmanager
def _own_time() -> Iterator[Callable[[], float]]:
    """Gives what tells the seconds that the load inside took so far, less those of the loads inside it.

    A search that had to parse a file waited for the file's sake: that miss is on the file's account.
    """
    outer, inner = _inner_seconds.get(), [0.0]
    token = _inner_seconds.set(inner)
    started = time.perf_counter()
    try:
        yield lambda: max(0.0, time.perf_counter() - started - inner[0])
    finally:
        _inner_seconds.reset(token)
        if outer is not None:
            outer[0] += time.perf_counter() - started


def is_coroutine_function(load: Callable[..., Any]) -> bool:
    """Whether what `load` returns has to be awaited."""
    call = getattr(load, "__call__", None)  # noqa: B004 - of an object that is called like a function
    return inspect.iscoroutinefunction(load) or inspect.iscoroutinefunction(call)


async def in_thread(call: Callable[[], V]) -> V:
    """What `call` returns, called in a thread, in the context of the caller."""
    import asyncio  # it is there where a coroutine runs

    return await asyncio.to_thread(call)


_under_way: set[Any] = set()  # the loop itself refers to its tasks weakly


def _forget_task(task: Any) -> None:
    _under_way.discard(task)
    if not task.cancelled():
        task.exception()  # whoever waits is told by the flight
