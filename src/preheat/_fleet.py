"""How replicas share out the loading of what they share, and the origin's rate: the decisions, pure.

The server side of the rate is `BOOK`, a script; while no server can be asked, `Pace` keeps the same rate for one
replica's share.  Both are the generic cell rate algorithm (ITU-T I.371): all that is kept is the instant from which
on the next load may begin.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import NamedTuple

import xxhash

LEASE_SECONDS = 10.0
"""How long a key is left to whoever took it; what a replica that was killed had taken is free after that."""

BEAT_SECONDS = 0.4
"""How often a replica tells that it is there, at most, and so how soon it notices that nobody listens."""

MOST_BEATS_PER_SECOND = 12_500.0
"""How often all replicas together tell that: at some 40 us each, half of what a coordinator can do."""

SILENT_SECONDS = 1.8  # after so long without a word, a replica may have lost the server and keep to its own share
FORGOTTEN_SECONDS = 60.0
GRACE_SECONDS = 2.5  # after a server has come back, before those who have not noticed yet have
USED_RATIO = 0.97  # of a rate: loads begin a little later than booked, and then sometimes close together

TURN_SECONDS = 0.05
"""How much of its share of a rate a replica books at once."""

AHEAD_SECONDS = 0.05
"""How far ahead loads are booked; those who find nobody to book with wait as long before they go by their share."""

PATIENCE_SECONDS = 1.2 * LEASE_SECONDS
"""How long a replica waits for others to load a batch before it takes them to be gone."""

MOST_ASKS_PER_SECOND = 5000.0
"""How often all replicas together ask for turns that they did not get."""

MOST_LOOKS_PER_SECOND = 2000.0
"""How often all replicas together look again, in vain, whether a batch that others load is there."""

BOOK = b"""
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local me, replicas, does_leave = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local ahead, silence, forgotten, grace = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local seen, numbers, free = KEYS[1], KEYS[2], KEYS[3]
local function leave(who)
  local number = redis.call('HGET', numbers, who)
  redis.call('ZREM', seen, who)
  redis.call('HDEL', numbers, who)
  if number then redis.call('ZADD', free, number, number) end
end
if does_leave then
  leave(me)
  return {0, replicas, 0}
end
local long_ago = string.format('(%.0f', now - forgotten)
for _, who in ipairs(redis.call('ZRANGEBYSCORE', seen, '-inf', long_ago, 'LIMIT', 0, 100)) do leave(who) end
local mine = redis.call('HGET', numbers, me)
if not mine then
  mine = redis.call('ZPOPMIN', free)[1] or redis.call('HLEN', numbers)
  redis.call('HSET', numbers, me, mine)
end
redis.call('ZADD', seen, string.format('%.0f', now), me)
local fresh = redis.call('ZCOUNT', seen, string.format('%.0f', now - silence), '+inf')
local silent = redis.call('ZCARD', seen) - fresh
replicas = math.max(replicas, fresh + silent)
for n = 1, 3 do redis.call('PEXPIRE', KEYS[n], 120000) end
if #KEYS == 3 then return {tonumber(mine), replicas, 0} end
local begin, births = now, {}
for n = 4, #KEYS do
  local kept = redis.call('HMGET', KEYS[n], 'next', 'born', 'asked')
  begin, births[n] = math.max(begin, tonumber(kept[1] or 0)), tonumber(kept[2] or 0)
  if now - tonumber(kept[3] or 0) > 1000000 then births[n] = now end
  redis.call('HSET', KEYS[n], 'born', string.format('%.0f', births[n]), 'asked', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[n], 120000)
end
local wait = begin - now
if wait > ahead then return {tonumber(mine), replicas, -wait} end
for n = 4, #KEYS do
  local wanted, cap, parts = tonumber(ARGV[2 * n]), tonumber(ARGV[2 * n + 1]), replicas - silent
  if now - births[n] < grace then parts = fresh end
  local next = begin + wanted * 1000000 * replicas / (cap * math.max(parts, 1))
  redis.call('HSET', KEYS[n], 'next', string.format('%.0f', next))
end
return {tonumber(mine), replicas, wait}
"""
"""Notes that a replica is there, and books loads by the limits of an origin, by the server's clock in microseconds.

KEYS: when each was seen, their numbers, numbers that are free, and the origin's limits: on loads, on bytes, or both.
ARGV: who, how many replicas there are at least, 1 if it leaves, how far ahead loads may be booked, after how long a
member is silent and forgotten, and the grace; then for each limit how much is wanted of it, and its cap per second.
Without a limit it only tells that it is there.

Answers the member's number, the number of replicas, and in how long the loads may begin; negative: not booked, ask
again then.  Who is silent may be going by its own share, which is then left to it.  After a while in which nobody
asked, or if the server has forgotten everything, all who are silent may be: until the grace is over, only the shares of
those who have come back are given out.  Takes time in proportion to the logarithm of the number of replicas.
"""


def asking_seconds(replicas: int, batches: int = 1) -> float:
    """How long a replica waits at least between two times that it asks for a turn for each of its `batches`."""
    return replicas * batches / MOST_ASKS_PER_SECOND


def beat_seconds(replicas: int) -> float:
    """How long a replica waits between two times that it tells that it is there."""
    return max(BEAT_SECONDS, replicas / MOST_BEATS_PER_SECOND)


def looking_seconds(replicas: int, batches: int) -> float:
    """How long a replica waits at least between two looks at each of the `batches` that it waits for."""
    return replicas * batches / MOST_LOOKS_PER_SECOND


def turn_size(per_second: float, replicas: int) -> int:
    """The loads that a replica books at once: its share of a rate for so long as it waits to ask again."""
    return max(1, int(per_second / replicas * max(TURN_SECONDS, asking_seconds(replicas))))


class Booking(NamedTuple):
    """The answer to `BOOK`: the replica's number, how many there are, and the wait; not booked if it is negative."""

    number: int
    replicas: int
    wait_us: int


class Draw(NamedTuple):
    """What some loads draw of one limit of their origin: so much of what it allows `per_second`."""

    limit: str
    amount: float
    per_second: float


def book_arguments(me: str, replicas: int, draws: Sequence[Draw] = (), *, leaves: bool = False) -> tuple[str, ...]:
    """The ARGV of `BOOK`."""
    seconds = (AHEAD_SECONDS, SILENT_SECONDS, FORGOTTEN_SECONDS, GRACE_SECONDS)
    wanted = (text for each in draws for text in (repr(each.amount), repr(each.per_second * USED_RATIO)))
    return (me, str(replicas), str(int(leaves)), *(f"{each * 1e6:.0f}" for each in seconds), *wanted)


def turn_lengths(sizes: Sequence[int], most_loads: float, most_bytes: float) -> list[int]:
    """How many loads of the given `sizes` go in each turn, one at least: so many and so large at the most."""
    lengths, size_bytes = [0], 0
    for size in sizes:
        if lengths[-1] and (lengths[-1] >= most_loads or size_bytes + size > most_bytes):
            lengths.append(0)
            size_bytes = 0
        lengths[-1] += 1
        size_bytes += size
    return lengths if sizes else []


class Pace:
    """What one replica may take of a limit by itself: its share, without bursts."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second * USED_RATIO
        self._free_at = -float("inf")

    def change_rate(self, per_second: float) -> None:
        """Go by another share from now on."""
        self.per_second = per_second * USED_RATIO

    def hold_until(self, at: float) -> None:
        """Let nothing begin before the instant `at`."""
        self._free_at = max(self._free_at, at)

    def wait(self, at: float) -> float:
        """How long from the instant `at` until something may begin."""
        return max(0.0, self._free_at - at)

    def book(self, amount: float, at: float) -> float:
        """How long from the instant `at` until `amount` may begin; it counts as begun then."""
        wait = self.wait(at)
        self._free_at = at + wait + amount / self.per_second
        return wait


def owners(keys: Sequence[str], replicas: int, gone: Collection[int] = ()) -> list[int]:
    """The number of the replica that loads each of `keys` first, of those that are not `gone`; the same everywhere."""
    hashes = [xxhash.xxh3_64_intdigest(key.encode()) for key in keys]
    if not gone:
        return [each % replicas for each in hashes]
    there = [number for number in range(replicas) if number not in gone] or list(range(replicas))
    present = frozenset(there)
    return [each % replicas if each % replicas in present else there[each // replicas % len(there)] for each in hashes]


def own_part(keys: Sequence[str], number: int, replicas: int, gone: Collection[int] = ()) -> list[int]:
    """The positions in `keys` of those that the replica of this `number` loads first; see `owners`."""
    return [n for n, who in enumerate(owners(keys, replicas, gone)) if who == number % replicas]


def given_up_on(keys: Sequence[str], number: int, replicas: int, gone: Collection[int]) -> set[int]:
    """Who counts as gone, beside those that do, once nobody waits any longer for those who should have loaded `keys`.

    The replica of this `number`, which waits, does not.
    """
    return {*gone, *owners(keys, replicas, gone)} - {number % replicas}


def portion(keys: Sequence[str], number: int | None, replicas: int, at_once: int = 1) -> list[int]:
    """The positions in `keys` that a replica tries to take now: its own, or as many of the others'.

    So they all go through a batch together, the most valuable first, and whoever is ready helps the others: by what it
    may load `at_once` anyway, so that it is not held up by one load after another where the others are not there.
    """
    if number is None or replicas <= 1:
        return list(range(len(keys)))
    owner = owners(keys, replicas)
    own = [n for n, who in enumerate(owner) if who == number % replicas]
    if own:
        return own
    behind = sorted(range(len(keys)), key=lambda n: ((owner[n] - number) % replicas, n))
    return behind[: max(at_once, -(-len(keys) // replicas))]


def start_delay(jitter_seconds: float, rng: random.Random) -> float:
    """How long a replica waits before it begins: anything up to `jitter_seconds`."""
    return rng.uniform(0.0, jitter_seconds)
