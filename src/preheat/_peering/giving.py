"""What a warm replica gives to others: what a read of its caches would be served now, quietly, and never too much.

It gives nothing while its own memory is short, to more than a few at a time, or faster than a rate: who is declined
asks somebody else, or its origin.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from preheat._model import HeldValue, MemoryPressureLevel
from preheat._origin.bucket import TokenBucket
from preheat._peering.wire import (
    MOST_ANSWER_BYTES,
    MOST_KEY_LENGTH,
    MOST_VALUE_BYTES,
    Asked,
    Given,
    sealed,
    write_answer,
)
from preheat.abc import GivesValues, WarmableCache

if TYPE_CHECKING:
    from preheat.abc import SnapshotCodec

MOST_AT_ONCE = 2
BYTES_PER_SECOND = 64 * 2**20
BURST_BYTES = 2 * MOST_ANSWER_BYTES


class Declined(Exception):
    """Nothing is given; the message says why."""


class UnknownValues(Declined):
    """There are no values of that cache to be given."""


class OtherVersion(Declined):
    """What there is would be read otherwise by whoever asks."""


class Busy(Declined):
    """Not just now."""


class Giver:
    """What one replica gives.  Thread-safe.

    Args:
        caches: By name, as they are at the time.
        application_version: Of this replica.
        pressure: How short its memory is.
        clock: Seconds, from any instant on.

    Attributes:
        name: What this replica calls itself, so that it knows itself when it asks around.
    """

    def __init__(
        self,
        caches: Mapping[str, WarmableCache],
        application_version: str,
        pressure: Callable[[], MemoryPressureLevel],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = secrets.token_hex(8)
        self._caches, self._application_version = caches, application_version
        self._pressure, self._clock = pressure, clock
        self._lock = threading.Lock()
        self._under_way = 0
        self._rate = TokenBucket(BYTES_PER_SECOND, BURST_BYTES)

    def answer(self, asked: Asked) -> bytes:
        """What is given of what was `asked` for.

        Raises:
            Declined: Nothing is.
        """
        with self._turn():
            cache = self._caches.get(asked.cache)
            if not isinstance(cache, GivesValues) or (codec := cache.snapshot_codec()) is None:
                raise UnknownValues("no values of that cache are given")
            own = (asked.cache, codec.name, codec.version, self._application_version)
            if asked.written_as != own:
                raise OtherVersion("the values of this replica are of another version")
            values = list(_given(asked.keys, cache.find_held(asked.keys), codec))
            self._pay(sum(len(given.data) for given in values))
            return write_answer(self.name, asked, values)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._pressure() >= MemoryPressureLevel.HIGH:
            raise Busy("memory is short here")
        with self._lock:
            now = self._clock()
            if self._under_way >= MOST_AT_ONCE or self._rate.ready_at(now, 1.0) > now:
                raise Busy("too many are asking")
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    def _pay(self, size_bytes: int) -> None:
        with self._lock:
            self._rate.take(self._clock(), float(size_bytes))


def _given(keys: Sequence[str], held: Sequence[HeldValue | None], codec: SnapshotCodec) -> Iterator[Given]:
    """What of `held` can be given, in the order of `keys`, as far as one answer goes."""
    left_bytes, now = MOST_ANSWER_BYTES, time.time()
    for n, value in enumerate(held):
        given = _written(n, value, codec, now) if value is not None else None
        if given is not None and len(given.data) <= left_bytes:
            left_bytes -= len(given.data)
            yield sealed(keys[n], given)


def _written(at: int, value: HeldValue, codec: SnapshotCodec, now: float) -> Given | None:
    """`value` as it is given; None if it can't be."""
    remaining = None if value.expires_at == math.inf else value.expires_at - now
    if len(value.version) > MOST_KEY_LENGTH or (remaining is not None and not remaining > 0.0):
        return None
    try:
        data = codec.encode(value.value)
    except Exception:  # codecs raise what they like; whoever asked loads it
        return None
    if not isinstance(data, bytes) or len(data) > MOST_VALUE_BYTES:
        return None
    return Given(at, value.version, max(0.0, now - value.made_at), remaining, value.size_bytes, data, bytes(16))
