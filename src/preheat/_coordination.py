"""What a replica knows of the others that warm up with it, over a Redis or Valkey server: a hint, no safety property.

Of what they share, each takes leases on the keys that it loads; of any cache, they keep the rate of its origin
together.  Whatever happens to the server, nothing of it reaches the run: a replica that nobody answers goes by its own
share of the keys and of the rate, and asks again about once a second.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import accumulate

from preheat._fleet import (
    AHEAD_SECONDS,
    BOOK,
    LEASE_SECONDS,
    MOST_BEATS_PER_SECOND,
    Booking,
    Draw,
    Pace,
    asking_seconds,
    beat_seconds,
    book_arguments,
    given_up_on,
    own_part,
    portion,
    start_delay,
    turn_lengths,
    turn_size,
)
from preheat._place import Place, TellWaiting
from preheat._reach import Door
from preheat._record import log_failure
from preheat._redis import Line, connect
from preheat._sharing.steps import Command, Refused
from preheat._threads import LoaderThreads

TellWait = Callable[[str, float, float], None]

LEAST_WAIT_SECONDS = 0.001
SLICE_SECONDS = 0.05  # how soon a wait notices that its run has ended

_PLACES = ("places", "queue", "waiting")
_LEASE_EXPIRY = ("PX", int(LEASE_SECONDS * 1000))


class Coordination:
    """One replica among the others, for the length of one run.  Its coroutines run on the loop of that run.

    Args:
        url: Of the server; None goes by this replica's share from the beginning.
        replicas: How many there are, at least.
        jitter_seconds: Upper bound of the random wait before the run begins.
        at_once: Replicas that may warm up at the same time, as far as the server answers; None if all.
        rates: By origin, the loads per second that it takes from all replicas together.
        bandwidths: By origin, the bytes per second, by the sizes that are expected.
        wait_seconds: After so long without an answer, the server counts as away.
        namespace: What the keys on the server begin with.
        loaders: Blocking loads at the same time, at most.
        shares_keys: Whether they share out the keys of shared caches too; else only rates.

    Attributes:
        threads: Where blocking loads are done.

    Raises:
        InvalidSetting: The URL can't be used, or the client library is missing.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        replicas: int = 1,
        jitter_seconds: float = 0.0,
        at_once: int | None = None,
        rates: Mapping[str, float] | None = None,
        bandwidths: Mapping[str, float] | None = None,
        wait_seconds: float = 0.25,
        namespace: str = "preheat",
        loaders: int = 4,
        shares_keys: bool = True,
    ) -> None:
        self.shares_keys = shares_keys
        self.threads = LoaderThreads(loaders, "preheat-joint")
        self._rng = random.Random()
        self._client = connect(url, is_async=True, wait_seconds=wait_seconds) if url else None
        self._line = Line(self._client, Door(self._rng)) if url else None
        self._jitter_seconds, self._namespace = jitter_seconds, namespace
        self._me = f"{self._rng.getrandbits(64):016x}"
        self._place: Place | None = None
        if self._line is not None and at_once is not None:
            self._place = Place(self._line, self._me, at_once, [self._key(what) for what in _PLACES])
        self._number: int | None = None
        self._gone: set[int] = set()
        self._asking = 0  # batches that wait for their turn
        self._leased: dict[str, float] = {}
        self._heart: asyncio.Task[None] | None = None
        self._rates, self._bandwidths, self.replicas = dict(rates or {}), dict(bandwidths or {}), replicas
        limited = (draw for origin in (*self._rates, *self._bandwidths) for draw in self._draws(origin, 0, 0))
        self._paces = {draw.limit: Pace(draw.per_second / replicas) for draw in limited}
        self.is_alone = self._line is None
        self._was_stopped = False
        self._is_over = self._is_held = _never
        self._tell_wait: TellWait = _nobody_asks

    # ------------------------------------------------------------------------------------ life of a run

    async def begin(self, tell: TellWaiting = lambda _: None) -> None:
        """Join the others, and wait a random while so that not all begin at once, and for a place if there are few.

        What it waits for is told as it changes.
        """
        if self._line is not None:
            await self.sleep(start_delay(self.replicas / MOST_BEATS_PER_SECOND, self._rng))
            await self._beat()
            self._heart = asyncio.ensure_future(self._go_on_beating())
        await self.sleep(start_delay(self._jitter_seconds, self._rng))
        if self._place is not None:
            await self._place.wait(self.sleep, lambda: self.is_stopped, tell)

    def follow(self, is_over: Callable[[], bool], is_held: Callable[[], bool]) -> None:
        """From now on ask the run itself whether it is to end, and whether nothing may start just now."""
        self._is_over, self._is_held = is_over, is_held

    def tell_waits(self, tell: TellWait) -> None:
        """From now on tell for which origin, from which instant and for how many seconds a load waits by its rate."""
        self._tell_wait = tell

    @property
    def is_stopped(self) -> bool:
        """Whether the run is to end, so that nothing is to be begun or waited for."""
        return self._was_stopped or self._is_over()

    def stop(self) -> None:
        """Have nothing wait any longer: the run is to end.  From any thread."""
        self._was_stopped = True

    async def end(self) -> None:
        """Leave the others."""
        self.stop()
        self.threads.close()
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.wait([self._heart])
        try:
            await self._leave()
        except Exception:
            log_failure("the coordinator could not be left in order")

    async def _leave(self) -> None:
        if self._line is None or self._client is None:
            return
        if self._leased:
            await self._line.ask_async([("DEL", place) for place in self._leased])
        if self._place is not None:
            await self._place.leave()
        if self._number is not None:
            await self._book(leaves=True)
        await self._client.aclose()

    async def _go_on_beating(self) -> None:
        while not self.is_stopped:
            await asyncio.sleep(beat_seconds(self.replicas) * self._rng.uniform(0.8, 1.2))
            await self._beat()

    async def _beat(self) -> None:
        try:
            await self._book()
            if not self.is_alone:
                await self._renew()
                if self._place is not None:
                    await self._place.keep()
        except Exception:
            log_failure("the coordinator could not be told that this replica is there")

    async def sleep(self, seconds: float) -> None:
        """Wait, or less if the run is to end."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self.is_stopped:
            await asyncio.sleep(min(left, SLICE_SECONDS))

    async def wait_while_held(self) -> None:
        """Wait until loads may start, or the run is to end."""
        while self._is_held() and not self.is_stopped:
            await asyncio.sleep(SLICE_SECONDS)

    # ------------------------------------------------------------------------------------------- leases

    async def take(self, shared_as: str, keys: Sequence[str], at_once: int = 1) -> list[int]:
        """The positions of those `keys` of a shared cache that are this replica's to load now; see `portion`."""
        if self.is_alone or self._line is None:
            return self._own(keys)
        wanted = portion(keys, self._number, self.replicas, at_once)
        places = [self._lease(shared_as, keys[n]) for n in wanted]
        replies = await self._line.ask_async([("SET", place, self._me, "NX", *_LEASE_EXPIRY) for place in places])
        if replies is None or any(isinstance(reply, Refused) for reply in replies):
            self._go_alone()
            return self._own(keys)
        now = time.monotonic()
        self._leased.update((place, now) for place, reply in zip(places, replies, strict=True) if reply)
        return [n for n, place in zip(wanted, places, strict=True) if place in self._leased]

    def _own(self, keys: Sequence[str]) -> list[int]:
        """By this replica's share; some at random, if it never was given a number."""
        if self._number is None:
            return self._rng.sample(range(len(keys)), min(len(keys), len(keys) // (4 * self.replicas) + 1))
        return own_part(keys, self._number, self.replicas, self._gone)

    async def give_back(self, shared_as: str, keys: Sequence[str], loaded: Collection[str]) -> None:
        """Let others have those of `keys` that were not `loaded`; the others stay leased until all see them there."""
        held = {key: place for key in keys if (place := self._lease(shared_as, key)) in self._leased}
        for place in held.values():
            del self._leased[place]
        commands: list[Command] = [("DEL", place) for key, place in held.items() if key not in loaded]
        if commands and self._line is not None:
            await self._line.ask_async(commands)

    def give_up_on(self, keys: Sequence[str]) -> bool:
        """Take those who should have loaded `keys` to be gone; False if that changes nothing."""
        if not self.is_alone or self._number is None:
            return False
        before, self._gone = self._gone, given_up_on(keys, self._number, self.replicas, self._gone)
        return len(self._gone) > len(before)

    async def _renew(self) -> None:
        now = time.monotonic()
        old = [place for place, since in self._leased.items() if now - since > LEASE_SECONDS / 3]
        if old and self._line is not None:
            await self._line.ask_async([("SET", place, self._me, *_LEASE_EXPIRY) for place in old])
            self._leased.update((place, now) for place in old if place in self._leased)

    # --------------------------------------------------------------------------------------------- rate

    def is_limited(self, origin: str) -> bool:
        """Whether there is a limit on what `origin` is asked for."""
        return origin in self._rates or origin in self._bandwidths

    def in_turns(self, origin: str, sizes: Sequence[int]) -> list[slice]:
        """Loads of those `sizes` in parts so small that the limits of `origin` are kept evenly."""
        ends = list(accumulate(self._turn_lengths(origin, sizes)))
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def at_once(self, origin: str, sizes: Sequence[int]) -> int:
        """How many of the first of loads of those `sizes` from `origin` may begin together."""
        return next(iter(self._turn_lengths(origin, sizes)), 0)

    def _turn_lengths(self, origin: str, sizes: Sequence[int]) -> Iterable[int]:
        most_loads, most_bytes = (
            turn_size(limits[origin], self.replicas) if origin in limits else math.inf
            for limits in (self._rates, self._bandwidths)
        )
        return turn_lengths(sizes, most_loads, most_bytes)

    async def wait_for_turn(self, origin: str, loads: int, size_bytes: int = 0) -> None:
        """Wait until so many loads from `origin`, of so many bytes, may begin by its limits."""
        self._asking += 1
        try:
            await self._ask_for_turn(origin, self._draws(origin, loads, size_bytes))
        finally:
            self._asking -= 1

    async def _ask_for_turn(self, origin: str, draws: Sequence[Draw]) -> None:
        while draws and not self.is_stopped:
            booking = await self._book(draws)
            if booking is None:
                await self._wait_for_rate(origin, self._book_own(draws))
                return
            is_booked, seconds = booking.wait_us >= 0, max(LEAST_WAIT_SECONDS, abs(booking.wait_us) / 1e6)
            least = 0.0 if is_booked else asking_seconds(self.replicas, self._asking)
            await self._wait_for_rate(origin, max(seconds, least))
            if is_booked:
                return

    def _draws(self, origin: str, loads: int, size_bytes: int) -> list[Draw]:
        wanted = (("rate", self._rates, loads), ("bytes", self._bandwidths, size_bytes))
        return [Draw(f"{what} {origin}", amount, of[origin]) for what, of, amount in wanted if origin in of]

    def _book_own(self, draws: Sequence[Draw]) -> float:
        """How long until loads may begin by this replica's share of each limit."""
        now = time.monotonic()
        wait = max(self._paces[each.limit].wait(now) for each in draws)
        for each in draws:
            pace = self._paces[each.limit]
            pace.change_rate(each.per_second / self.replicas)
            pace.book(each.amount, now + wait)
        return wait

    async def _wait_for_rate(self, origin: str, seconds: float) -> None:
        if seconds > LEAST_WAIT_SECONDS:
            self._tell_wait(origin, time.monotonic(), seconds)
        await self.sleep(seconds)

    async def _book(self, draws: Sequence[Draw] = (), *, leaves: bool = False) -> Booking | None:
        if self._line is None:
            return None
        places = map(self._key, ("seen", "numbers", "free", *(each.limit for each in draws)))
        arguments = book_arguments(self._me, self.replicas, draws, leaves=leaves)
        replies = await self._line.run_async(BOOK, (*places,), *arguments)
        if replies is None or not isinstance(replies[0], list):
            self._go_alone()
            return None
        booking = Booking(*map(int, replies[0]))
        self._number, self.replicas, self.is_alone = booking.number, booking.replicas, False
        self._gone.clear()
        return booking

    def _go_alone(self) -> None:
        """Go by the own share, beginning after what others may have booked."""
        if not self.is_alone:
            self.is_alone = True
            for pace in self._paces.values():
                pace.hold_until(time.monotonic() + 4 * AHEAD_SECONDS)

    # ---------------------------------------------------------------------------------------------- keys

    def _key(self, what: str) -> str:
        return f"{self._namespace}\x00fleet {what}"

    def _lease(self, shared_as: str, key: str) -> str:
        return f"{self._namespace}\x00lease {shared_as} {key}"


def _never() -> bool:
    return False


def _nobody_asks(origin: str, at: float, seconds: float) -> None:
    pass
