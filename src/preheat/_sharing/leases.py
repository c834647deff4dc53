"""How processes share a cache on memcached servers without ever keeping a stale value: leases, pure.

A server that has neither scripts nor a log gives every stored value a number that never comes again while it runs, and
stores a value in place of that number only (`gets`, `cas`).  So a load first puts a token where nothing is, which
expires by itself, and learns its number: the lease of [1] section 3.2.1.  What was loaded is put in place of that
number.  Every delete, write, eviction or flush meanwhile has taken the token away, and then nothing is put.  Who finds
another's token loads and keeps nothing.

No clock is involved: it holds for loads of any length and values of any life.  The steps are those of
`preheat._sharing.protocol`, in other commands: `gets`, `size`, `add`, `cas`, `set`, `delete` and `room`.

[1] Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013.  There the server makes the tokens, and holds readers
    off.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec.structs import replace

from preheat._model import ItemResult, ItemStatus
from preheat._sharing.putting import MOST_ITEMS, TOKEN_BYTES, Loaded, chunks_of
from preheat._sharing.rules import Codec, Life
from preheat._sharing.slabs import SlabRoom, item_bytes
from preheat._sharing.steps import WAIT_SECONDS, Ask, Command, Make, Refused, Reply, Steps, Wait, answer, patiently
from preheat.errors import InvalidSetting

V = TypeVar("V")

LEASE = b"\x00preheat loading "
"""What stands in the place of a value that is being loaded, followed by a token of its own."""

AWAY = "AWAY"  # the code of a `Refused` where a server does not answer
TOO_LARGE, REFUSED = "TOO_LARGE", "REFUSED"  # those of a server that does
MOST_OWED = 100_000
"""Deletes remembered while a server is away."""

MOST_KEY_BYTES = 250
MOST_NAMESPACE = 100
EVICTING_SECONDS = 60.0
_TOKEN_BYTES = len(LEASE) + TOKEN_BYTES
_ROUNDED_UP_SECONDS = 2  # a server counts whole seconds, and a lease is made one longer for it
AT_ONCE = -1
"""The life of what is to expire as it is stored."""


class Held(NamedTuple):
    """What a server holds for a key: the value, and its number."""

    data: bytes
    number: bytes


class LeaseRules(NamedTuple):
    """What has to hold for a cache on memcached.

    Attributes:
        namespace: What all its keys on the servers begin with.
        load_deadline_seconds: How long a lease lasts at most; what took longer to load is not put.
        patience_seconds: How long a warm-up waits for servers that are away before it gives an item up.
    """

    namespace: str
    load_deadline_seconds: float
    patience_seconds: float

    def demand(self) -> LeaseRules:
        """Itself.

        Raises:
            InvalidSetting: A value can't be.
        """
        if not 0 < len(self.namespace) <= MOST_NAMESPACE or not _is_plain(self.namespace):
            raise InvalidSetting(
                f"namespace is {self.namespace!r}; it has to be 1 to {MOST_NAMESPACE} ASCII letters without spaces"
            )
        if not 1 <= self.load_deadline_seconds <= 86_400 or not 0 <= self.patience_seconds <= 600:
            raise InvalidSetting("load_deadline_seconds has to be from 1 to 86400, patience_seconds from 0 to 600")
        return self

    def place(self, key: str) -> str:
        """Where the value of `key` is: under itself if a server takes that as a key, else under its digest."""
        place = f"{self.namespace}:{key}"
        if len(place) <= MOST_KEY_BYTES and _is_plain(place):
            return place
        return f"{self.namespace}#{blake2b(key.encode(errors='surrogatepass'), digest_size=24).hexdigest()}"


def _is_plain(text: str) -> bool:
    return text.isascii() and all(32 < ord(letter) < 127 for letter in text)


class Leases(Generic[V]):
    """The protocol of one cache on memcached, as one process takes part in it.

    Args:
        rules: Its rules.
        codec: How values become bytes.
        life: How long they live; in whole seconds, rounded down.
        clock: Seconds, monotonic.
        rng: Draws tokens and staggers lives.
        failed: What an item whose load raised becomes; it knows what the exception says of the origin.
    """

    def __init__(
        self,
        rules: LeaseRules,
        codec: Codec,
        life: Life,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        failed: Callable[[Exception], ItemResult],
    ) -> None:
        self.rules, self.codec, self.life = rules.demand(), codec, life
        self.owed: dict[str, None] = {}
        self._clock, self._rng, self._failed = clock, rng, failed
        self._at = rules.place
        self._settle_at = 0.0
        self._seen_evicted: tuple[float, int] | None = None

    # ------------------------------------------------------------------------------------------- traffic

    def read(self, key: str) -> Steps[tuple[V, bool]]:
        """The value of `key` and whether it was there; loaded, and kept if that is right, where it was not.

        Raises:
            Exception: What the load raised.
        """
        if self.owed:
            yield from self._settle()
        found = yield from answer(("gets", self._at(key)))
        number: bytes | None = None
        if isinstance(found, Held) and not found.data.startswith(LEASE) and key not in self.owed:
            try:
                return self.codec.decode(found.data), True
            except Exception:  # others write there too, or an older version of the application did
                number = found.number
        elif found is None and key not in self.owed:
            number = (yield from self._take([key])).get(key)
        (value,) = yield Make([key], is_warm_up=False)
        if isinstance(value, BaseException):
            yield from self._give_back({key: number} if found is None and number is not None else {})
            raise value
        if number is not None:
            yield from self._keep(key, value, number)
        return value, False

    def write(self, key: str, value: V) -> Steps[bool]:
        """Put the application's own, newer `value`; False if the server did not take it, and then it is deleted."""
        seconds = _seconds(self.life.milliseconds(key, value))
        reply: Reply = None
        if seconds >= 0:
            reply = yield from answer(("set", self._at(key), self._encode(value), seconds))
        if reply != 1:
            yield from self.delete([key])
            return False
        self.owed.pop(key, None)
        return True

    def delete(self, keys: Sequence[str]) -> Steps[bool]:
        """Delete `keys`; False if a server did not take it: it will be told as soon as it does again.

        Meanwhile this process reads none of them.  Deletes beyond `MOST_OWED` are forgotten, the oldest first.
        """
        self.owed.update(dict.fromkeys(keys))
        yield from self._tell(keys)
        while len(self.owed) > MOST_OWED:
            self.owed.pop(next(iter(self.owed)), None)
        return not any(key in self.owed for key in keys)

    def _settle(self) -> Steps[None]:
        if self._clock() < self._settle_at:
            return
        self._settle_at = self._clock() + 1.0
        yield from self._tell(list(self.owed)[:MOST_ITEMS])

    def _tell(self, keys: Sequence[str]) -> Steps[None]:
        for start in range(0, len(keys), MOST_ITEMS):
            some = keys[start : start + MOST_ITEMS]
            replies = (yield Ask([("delete", self._at(key)) for key in some])) or ()
            for key, reply in zip(some, replies, strict=False):
                if not isinstance(reply, Refused):
                    self.owed.pop(key, None)

    def _keep(self, key: str, value: V, number: bytes) -> Steps[None]:
        seconds = _seconds(self.life.milliseconds(key, value))
        if seconds < 0 or key in self.owed:
            yield from self._give_back({key: number})
        else:
            yield from answer(("cas", self._at(key), self._encode(value), seconds, number))

    # ------------------------------------------------------------------------------------------- leases

    def _take(self, keys: Sequence[str]) -> Steps[dict[str, bytes]]:
        """Leases for those of `keys` for which nothing is there: their numbers."""
        tokens = {key: LEASE + self._rng.randbytes(TOKEN_BYTES) for key in keys}
        seconds = int(self.rules.load_deadline_seconds) + 1  # a server counts whole ones, and the first is cut short
        replies = (yield Ask([("add", self._at(key), token, seconds) for key, token in tokens.items()])) or ()
        won = [key for key, reply in zip(tokens, replies, strict=False) if reply == 1]
        held = (yield Ask([("gets", self._at(key)) for key in won])) if won else ()
        found = zip(won, held or (), strict=False)
        return {key: each.number for key, each in found if isinstance(each, Held) and each.data == tokens[key]}

    def _give_back(self, numbers: Mapping[str, bytes]) -> Steps[None]:
        """Take our tokens away, so that the next reader may keep what it loads."""
        if numbers:
            yield Ask([("cas", self._at(key), b"", AT_ONCE, number) for key, number in numbers.items()])

    # ----------------------------------------------------------------------------------------- a warm-up

    def find(self, keys: Sequence[str]) -> Steps[list[bool] | None]:
        """Whether each of `keys` has a value; None if a server does not answer."""
        seen = yield from self._look(keys)
        return None if seen is None else [each is _RESIDENT for each in seen]

    def _look(self, keys: Sequence[str]) -> Steps[list[ItemResult | None] | None]:
        """What each of `keys` is: resident, begun, or None if absent; None if a server does not answer."""
        seen: list[ItemResult | None] = []
        for start in range(0, len(keys), MOST_ITEMS):
            some = [self._at(key) for key in keys[start : start + MOST_ITEMS]]
            sizes = (yield Ask([("size", place) for place in some])) or [Refused(AWAY)]
            if any(isinstance(size, Refused) for size in sizes):
                return None
            like_tokens = [place for place, size in zip(some, sizes, strict=True) if size == _TOKEN_BYTES]
            held = (yield Ask([("gets", place) for place in like_tokens])) if like_tokens else ()
            if held is None or any(isinstance(each, Refused) for each in held):
                return None
            values = dict(zip(like_tokens, held, strict=True))
            seen += [_seen(size, values.get(place)) for place, size in zip(some, sizes, strict=True)]
        return seen

    def warm(self, keys: Sequence[str], expected_bytes: Sequence[int]) -> Steps[list[ItemResult]]:
        """Load and put those of `keys` that are absent, as far as they fit without evicting: what became of each.

        What another process has begun to load is waited for: if it died, its lease ends by itself.
        """
        results = yield from self._warm(keys, expected_bytes)
        give_up_at = self._clock() + self.rules.load_deadline_seconds + _ROUNDED_UP_SECONDS
        while (begun := [n for n, each in enumerate(results) if each is _BEGUN]) and self._clock() < give_up_at:
            yield Wait(WAIT_SECONDS)
            again = yield from self._warm([keys[n] for n in begun], [expected_bytes[n] for n in begun])
            for n, result in zip(begun, again, strict=True):
                results[n] = result
        return results

    def _warm(self, keys: Sequence[str], expected_bytes: Sequence[int]) -> Steps[list[ItemResult]]:
        if self.owed:
            yield from self._settle()
        give_up_at = self._clock() + self.rules.patience_seconds
        begun = yield from patiently(lambda: self._begin(keys), self._clock, give_up_at)
        if begun is None:
            return [_AWAY] * len(keys)
        seen, room = begun
        results = [each or _AWAY for each in seen]
        if room is None:
            return results
        absent = [n for n, each in enumerate(seen) if each is None and keys[n] not in self.owed]
        fitting = room.holds([(len(self._at(keys[n])), expected_bytes[n]) for n in absent])
        for n in absent[fitting:]:
            results[n] = _FULL
        if fitting:
            yield from self._load([(n, keys[n]) for n in absent[:fitting]], room, results)
        return results

    def _load(self, wanted: Sequence[tuple[int, str]], room: SlabRoom, results: list[ItemResult]) -> Steps[None]:
        begun = self._clock()
        numbers = yield from self._take([key for _, key in wanted])
        for n, _ in wanted:
            results[n] = _BEGUN
        leased = [(n, key) for n, key in wanted if key in numbers]
        values = (yield Make([key for _, key in leased], is_warm_up=True)) if leased else []
        seconds = (self._clock() - begun) / len(wanted)
        loaded: list[Loaded] = []
        for (n, key), value in zip(leased, values, strict=True):
            made = self._made(n, key, value, room)
            if isinstance(made, Loaded):
                loaded.append(made)
            else:
                results[n] = replace(made, seconds=seconds)
        fitting = room.holds([(len(self._at(each.key)), len(each.data)) for each in loaded])
        for each in loaded[fitting:]:
            results[each.n] = replace(_FULL, seconds=seconds)
        put = {each.key for each in loaded[:fitting]}
        yield from self._give_back({key: number for key, number in numbers.items() if key not in put})
        for chunk in chunks_of(loaded[:fitting]):
            replies = yield from self._put_patiently(chunk, numbers, begun)
            for each, reply in zip(chunk, replies, strict=True):
                results[each.n] = self._outcome(each, reply, seconds)

    def _made(self, n: int, key: str, value: Any, room: SlabRoom) -> Loaded | ItemResult:
        if isinstance(value, Exception):
            return self._failed(value)
        try:
            milliseconds = self.life.milliseconds(key, value, self._rng)
            data = self._encode(value)
        except Exception as error:
            return ItemResult(ItemStatus.FAILED, reason=f"{type(error).__name__}: {error}")
        if _seconds(milliseconds) < 0:
            return ItemResult(ItemStatus.UNAVAILABLE, reason="its time is over already")
        if self._size(key, len(data)) > room.most_item_bytes:
            return ItemResult(ItemStatus.TOO_LARGE, reason="it is larger than the server takes")
        return Loaded(n, key, data, milliseconds)

    def _put_patiently(self, chunk: Sequence[Loaded], numbers: Mapping[str, bytes], begun: float) -> Steps[list[Reply]]:
        """Put again what a server that is away was to take, with the values in hand; leases make that safe."""
        replies: list[Reply] = [Refused(AWAY)] * len(chunk)
        give_up_at = begun + self.rules.load_deadline_seconds
        while left := [n for n, reply in enumerate(replies) if reply == Refused(AWAY)]:
            answers = yield Ask([self._cas(chunk[n], numbers[chunk[n].key]) for n in left])
            for n, reply in zip(left, answers or (), strict=False):
                replies[n] = reply
            if Refused(AWAY) in replies:
                if self._clock() >= give_up_at:
                    break
                yield Wait(WAIT_SECONDS)
        return replies

    def _cas(self, each: Loaded, number: bytes) -> Command:
        return ("cas", self._at(each.key), each.data, _seconds(each.milliseconds), number)

    def _outcome(self, each: Loaded, reply: Reply, seconds: float) -> ItemResult:
        if reply == 1:
            return ItemResult(ItemStatus.LOADED, self._size(each.key, len(each.data)), seconds)
        if reply == 0:
            return ItemResult(ItemStatus.REJECTED, 0, seconds, "it was put or deleted while it was being loaded")
        if reply == Refused(TOO_LARGE):
            return ItemResult(ItemStatus.TOO_LARGE, 0, seconds, "it is larger than the server takes")
        return replace(_REFUSED if reply == Refused(REFUSED) else _AWAY, seconds=seconds)

    def _begin(self, keys: Sequence[str]) -> Steps[tuple[list[ItemResult | None], SlabRoom | None] | None]:
        """What each of `keys` is, and what is free if any is absent; None if a server does not answer."""
        seen = yield from self._look(keys)
        if seen is None or None not in seen:
            return None if seen is None else (seen, None)
        room = yield from self._room()
        return None if room is None else (seen, room)

    def _room(self) -> Steps[SlabRoom | None]:
        """What is free on the fullest server, nothing if one has just evicted; None if one does not answer."""
        reply = yield from answer(("room",))
        room = SlabRoom.of(reply) if isinstance(reply, list) else None
        if room is None:
            return None
        now, before = self._clock(), self._seen_evicted
        self._seen_evicted = (now, room.evicted)
        if before is not None and room.evicted > before[1] and now - before[0] < EVICTING_SECONDS:
            return room.without_any()
        return room

    def _size(self, key: str, data_bytes: int) -> int:
        return item_bytes(len(self._at(key)), data_bytes)

    def _encode(self, value: V) -> bytes:
        data = self.codec.encode(value)
        if not isinstance(data, bytes) or data.startswith(LEASE):
            raise TypeError("the encoded value has to be bytes, and none that begin as a lease does")
        return data


def _seconds(milliseconds: int) -> int:
    """Whole seconds of a life, 0 for ever; -1 of one that is over before the first."""
    return milliseconds // 1000 or (-1 if milliseconds else 0)


_RESIDENT = ItemResult(ItemStatus.RESIDENT)
_BEGUN = ItemResult(ItemStatus.REJECTED, reason="other processes were loading it for as long as a load may take")
_REFUSED = ItemResult(ItemStatus.FAILED, reason="the server of the cache refused it")
_AWAY = ItemResult(ItemStatus.FAILED, reason="a server of the cache can't be reached")
_FULL = ItemResult(ItemStatus.REJECTED, reason="its server is nine tenths full, or evicts")


def _seen(size: int | None, held: Held | None) -> ItemResult | None:
    """What a key is whose value has `size`; `held` if that is the size of a token.  It may have gone in between."""
    if size is None or (size == _TOKEN_BYTES and held is None):
        return None
    return _BEGUN if held is not None and held.data.startswith(LEASE) else _RESIDENT
