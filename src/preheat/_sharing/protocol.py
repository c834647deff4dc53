"""How processes share a cache on a Redis or Valkey server without ever keeping a stale value: the protocol, pure.

Each operation is a generator of steps: commands for the server, loads, waits.  Whoever drives it does a step and
sends the answer back; a blocking client, an asyncio client and a test that interleaves them drive the same code.

Rules.  Every delete and every write of the application is noted in a log on the server, before it is done.  A load
first reads where the log ends: its claim.  What was loaded is put, by a script, only if the log still holds the claim
and no note of that key behind it, and only where nothing is; traffic also in place of the very tombstone that it saw.
No clock is involved, so it holds however long a load takes, for values of any life, and if the server evicts the log
or loses its data.  This is the lease of [1] section 3.2.1 with one log for the tokens of all keys.

A delete also leaves a tombstone, unique and in the value's own place, for the hold-off: [1] section 4.3.  Where the
server forbids scripts, that alone has to do, with `SET NX`, which puts within the load deadline; the hold-off is
longer.  That is as safe, but for a command that a frozen server carries out late, a server that loses its data or
evicts the tombstone, and values whose life is shorter than a load; and traffic keeps nothing in place of a tombstone.

[1] Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec.structs import replace

from preheat._model import ItemResult, ItemStatus
from preheat._sharing.putting import AWAY, MOST_ITEMS, Claim, Loaded, Places, chunks_of
from preheat._sharing.rules import ENTRY_BYTES, TOMBSTONE, Codec, Life, Room, Rules
from preheat._sharing.slots import Shards
from preheat._sharing.steps import Ask, Command, Make, Refused, Reply, Steps, answer, patiently, side_by_side

V = TypeVar("V")

MOST_OWED = 100_000
"""Deletes remembered while the server is away."""

EVICTING_SECONDS = 60.0

ROOM_SECONDS = 0.02
"""How long it counts what a server said of its memory: as long as a run's own reading.  To ask takes a client about as
long as to put a batch."""


class _Seen(NamedTuple):
    """What a server said of its memory, when, and what has been given out of it since."""

    room: Room
    at: float
    taken_bytes: list[int]


class Sharing(Generic[V]):
    """The protocol of one shared cache, as one process takes part in it.

    Args:
        rules: Its rules.
        codec: How values become bytes.
        life: How long they live.
        put_digest: The digest under which servers know `PUT`.
        clock: Seconds, monotonic.
        rng: Draws tokens and staggers lives.
        failed: What an item whose load raised becomes; it knows what the exception says of the origin.
        shards: How keys are split, on a cluster.
    """

    def __init__(
        self,
        rules: Rules,
        codec: Codec,
        life: Life,
        *,
        put_digest: str,
        clock: Callable[[], float],
        rng: random.Random,
        failed: Callable[[Exception], ItemResult],
        shards: Shards | None = None,
    ) -> None:
        self.places = Places(rules.demand(), put_digest, clock, rng, shards or Shards())
        self.codec, self.life = codec, life
        self.owed: dict[str, bytes] = {}
        self._clock, self._rng, self._failed = clock, rng, failed
        self._at = self.places.place
        self._settle_at = 0.0
        self._seen: _Seen | None = None
        self._look_at = -math.inf  # when what was seen is to be seen anew

    # ------------------------------------------------------------------------------------------- traffic

    def read(self, key: str) -> Steps[tuple[V, bool]]:
        """The value of `key` and whether it was there; loaded, and kept if that is right, where it was not.

        Raises:
            Exception: What the load raised.
        """
        if self.owed:
            yield from self._settle()
        found = yield from answer(("GET", self._at(key)))
        is_there = isinstance(found, bytes) and key not in self.owed
        if is_there and not found.startswith(TOMBSTONE):
            try:
                return self.codec.decode(found), True
            except Exception:  # others write there too, or an older version of the application did
                is_there = True
        claim = (yield from self.places.claim([key])) if found is None or is_there else None
        (value,) = yield Make([key], is_warm_up=False)
        if isinstance(value, BaseException):
            raise value
        if claim is not None:
            yield from self._keep(claim, key, value, found or b"")
        return value, False

    def write(self, key: str, value: V) -> Steps[bool]:
        """Put the application's own, newer `value`; False if the server did not take it, and then it is deleted."""
        milliseconds = self.life.milliseconds(key, value)
        expiry = ("PX", milliseconds) if milliseconds > 0 else ()
        reply: Any = None
        if milliseconds >= 0:
            put = ("SET", self._at(key), self._encode(value), *expiry)
            replies = yield Ask([self.places.note(key), put])
            reply = replies[1] if replies is not None else None
        if reply is None or isinstance(reply, Refused):
            yield from self.delete([key])
            return False
        self.owed.pop(key, None)
        return True

    def delete(self, keys: Sequence[str]) -> Steps[bool]:
        """Delete `keys`; False if the server did not take it: it will be told as soon as it does again.

        Meanwhile this process reads none of them.  Deletes beyond `MOST_OWED` are forgotten, the oldest first.
        """
        tombs = {key: self.places.tombstone() for key in keys}
        self.owed.update(tombs)
        yield from self._bury(tombs)
        while len(self.owed) > MOST_OWED:
            self.owed.pop(next(iter(self.owed)), None)
        return not any(key in self.owed for key in tombs)

    def _settle(self) -> Steps[None]:
        if self._clock() < self._settle_at:
            return
        self._settle_at = self._clock() + 1.0
        before = len(self.owed)
        yield from self._bury(dict(list(self.owed.items())[:MOST_ITEMS]))
        if len(self.owed) < before:
            self._settle_at = 0.0

    def _bury(self, tombs: Mapping[str, bytes]) -> Steps[None]:
        expiry = ("PX", int(self.places.rules.hold_off_seconds * 1000))
        commands: list[Command] = []
        for key, tomb in tombs.items():
            commands += (self.places.note(key), ("SET", self._at(key), tomb, *expiry))
        replies = (yield Ask(commands)) or ()
        for key, noted, buried in zip(tombs, replies[::2], replies[1::2], strict=False):
            is_told = not isinstance(noted, Refused) and not isinstance(buried, Refused)
            if is_told and self.owed.get(key) == tombs[key]:
                del self.owed[key]

    def _keep(self, claim: Claim, key: str, value: V, seen: bytes) -> Steps[None]:
        milliseconds = self.life.milliseconds(key, value)
        if milliseconds >= 0 and key not in self.owed:
            yield from self.places.put(claim, [Loaded(0, key, self._encode(value), milliseconds)], [seen])

    # ----------------------------------------------------------------------------------------- a warm-up

    def find(self, keys: Sequence[str]) -> Steps[list[bool] | None]:
        """Whether each of `keys` is there, or was deleted within the hold-off; None if nobody answers."""
        taken: list[bool] = []
        for start in range(0, len(keys), MOST_ITEMS):
            some = yield from self._find_some(keys[start : start + MOST_ITEMS])
            if some is None:
                return None
            taken += some
        return taken

    def _find_some(self, keys: Sequence[str]) -> Steps[list[bool] | None]:
        """Counted at once first, by shard; one by one only where some are there and some are not."""
        groups = list(self.places.shards.group(keys).values())
        counts = yield Ask([("EXISTS", *(self._at(keys[n]) for n in group)) for group in groups])
        if counts is None or not all(isinstance(count, int) for count in counts):
            return None
        taken = [False] * len(keys)
        mixed: list[int] = []
        for group, count in zip(groups, counts, strict=True):
            if count in (0, len(group)):
                for n in group:
                    taken[n] = count > 0
            else:
                mixed += group
        replies = (yield Ask([("EXISTS", self._at(keys[n])) for n in mixed])) if mixed else []
        if replies is None:
            return None
        for n, reply in zip(mixed, replies, strict=True):
            taken[n] = reply == 1
        return taken

    def warm(self, keys: Sequence[str], expected_bytes: Sequence[int]) -> Steps[list[ItemResult]]:
        """Load and put those of `keys` that are absent, as far as they fit without evicting: what became of each."""
        results: list[ItemResult] = [_RESIDENT] * len(keys)
        if self.owed:
            yield from self._settle()
        give_up_at = self._clock() + self.places.rules.patience_seconds
        begun = yield from patiently(lambda: self._begin(keys), self._clock, give_up_at)
        if begun is None:
            return [ItemResult(ItemStatus.FAILED, reason=AWAY)] * len(keys)
        claim, taken, room = begun
        absent = [n for n, is_taken in enumerate(taken) if not is_taken]
        if any(taken):
            yield from self._tell_tombstones(keys, taken, results)
        fitting = room.holds([self._cost(keys[n], expected_bytes[n]) for n in absent])
        for n in absent[fitting:]:
            results[n] = _full(room)
        if fitting:
            yield from self._load([(n, keys[n]) for n in absent[:fitting]], claim, room, results)
        return results

    def _load(
        self, wanted: Sequence[tuple[int, str]], claim: Claim, room: Room, results: list[ItemResult]
    ) -> Steps[None]:
        begun = self._clock()
        values = yield Make([key for _, key in wanted], is_warm_up=True)
        seconds = (self._clock() - begun) / len(wanted)
        loaded: list[Loaded] = []
        for (n, key), value in zip(wanted, values, strict=True):
            made = self._made(n, key, value)
            if isinstance(made, Loaded):
                loaded.append(made)
            else:
                results[n] = replace(made, seconds=seconds)
        costs = [self._cost(each.key, len(each.data)) for each in loaded]
        fitting = room.holds(costs)
        for each in loaded[fitting:]:
            results[each.n] = replace(_full(room), seconds=seconds)
        if self._seen is not None:
            self._seen.taken_bytes.append(sum(costs[:fitting]))
        for chunk in chunks_of(loaded[:fitting]):
            codes = yield from self._put_patiently(claim, chunk)
            for each, code in zip(chunk, codes, strict=True):
                results[each.n] = self._outcome(each, code, seconds)
            if "OOM" in codes:
                self._look_at = -math.inf

    def _made(self, n: int, key: str, value: Any) -> Loaded | ItemResult:
        if isinstance(value, Exception):
            return self._failed(value)
        try:
            milliseconds = self.life.milliseconds(key, value, self._rng)
            data = self._encode(value)
        except Exception as error:
            return ItemResult(ItemStatus.FAILED, reason=f"{type(error).__name__}: {error}")
        if milliseconds < 0:
            return ItemResult(ItemStatus.UNAVAILABLE, reason="its time is over already")
        return Loaded(n, key, data, milliseconds)

    def _outcome(self, each: Loaded, code: Reply, seconds: float) -> ItemResult:
        if code == 1:
            return ItemResult(ItemStatus.LOADED, len(each.key) + len(each.data) + ENTRY_BYTES, seconds)
        if code == 0:
            return ItemResult(ItemStatus.RESIDENT, 0, seconds, "it was put or deleted while it was being loaded")
        if code.startswith("OOM"):
            return ItemResult(ItemStatus.REJECTED, 0, seconds, "the server has no memory left")
        return ItemResult(ItemStatus.FAILED, 0, seconds, code)

    def _tell_tombstones(self, keys: Sequence[str], taken: Sequence[bool], results: list[ItemResult]) -> Steps[None]:
        there = [n for n, is_taken in enumerate(taken) if is_taken]
        heads = yield Ask([("GETRANGE", self._at(keys[n]), 0, len(TOMBSTONE) - 1) for n in there])
        for n, head in zip(there, heads or (), strict=False):
            if head == TOMBSTONE:
                results[n] = ItemResult(ItemStatus.REJECTED, reason="it was deleted a moment ago")

    def _begin(self, keys: Sequence[str]) -> Steps[tuple[Claim, list[bool], Room] | None]:
        """The claim on `keys`, which of them are there, and what is free; None if a server does not answer."""
        if not (yield from self.places.see_whether_it_takes_writes()):
            return None
        claim, taken = yield from side_by_side(self.places.claim(keys), self.find(keys))
        room = (yield from self._room()) if claim is not None and taken is not None else None
        return None if room is None else (claim, taken, room)

    def _put_patiently(self, claim: Claim, chunk: Sequence[Loaded]) -> Steps[Sequence[int | str]]:
        """`_put` again while the server is away, with the values in hand: what was loaded is not loaded again."""
        seen = [b""] * len(chunk)
        codes = yield from patiently(lambda: self.places.put(claim, chunk, seen), self._clock, claim.by)
        return codes if codes is not None else [AWAY] * len(chunk)

    # ---------------------------------------------------------------------------------------------- room

    def _room(self) -> Steps[Room | None]:
        """What is free on the server, by what it said a moment ago; None if it does not answer."""
        before, now = self._seen, self._clock()
        if before is not None and now < self._look_at:
            return before.room.less(sum(list(before.taken_bytes)))
        replies = yield Ask([("INFO", "memory"), ("INFO", "stats")])
        if replies is None:
            return None
        parts = [reply if isinstance(reply, list) else [reply] for reply in replies]  # a cluster's: of each
        if any(not isinstance(told, Mapping) for part in parts for told in part):
            return _UNTOLD
        room = Room.tightest([Room.of(memory, statistics) for memory, statistics in zip(*parts, strict=True)])
        if before is not None and room.evicted > before.room.evicted and now - before.at < EVICTING_SECONDS:
            room = Room(0, room.evicted)
        self._seen, self._look_at = _Seen(room, now, []), now + ROOM_SECONDS
        return room

    def _cost(self, key: str, size_bytes: int) -> int:
        return len(self.places.rules.namespace) + len(key) + size_bytes + ENTRY_BYTES

    def _encode(self, value: V) -> bytes:
        data = self.codec.encode(value)
        if not isinstance(data, bytes) or data.startswith(TOMBSTONE):
            raise TypeError("the encoded value has to be bytes, and none that begin as a tombstone does")
        return data


_RESIDENT = ItemResult(ItemStatus.RESIDENT)
_UNTOLD = Room(0, 0)


def _full(room: Room) -> ItemResult:
    reason = (
        "the server does not tell how full it is; its user has to be allowed INFO"
        if room is _UNTOLD
        else "its server is nine tenths full, or evicts"
    )
    return ItemResult(ItemStatus.REJECTED, reason=reason)
