"""At most so many replicas warm up at once: who has a place, who waits for one, and how often those ask; pure.

The queue is on the coordinator's server and goes by its clock (`PLACES`): who came first is let in first.  A place and
a wait are leases, so that what a replica leaves behind that was killed is free after `LEASE_SECONDS`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from preheat._fleet import BEAT_SECONDS, LEASE_SECONDS

MOST_ASK_SECONDS = LEASE_SECONDS / 3
"""How long a replica that waits is silent at the most; after `LEASE_SECONDS` it loses its turn."""

PLACES = b"""
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local taken, queue, seen = KEYS[1], KEYS[2], KEYS[3]
local act, me, most, lease = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local function instant(at) return string.format('%.0f', at) end
local function leave_queue(who)
  redis.call('ZREM', seen, who)
  redis.call('ZREM', queue, who)
end
redis.call('ZREMRANGEBYSCORE', taken, '-inf', instant(now))
for _, who in ipairs(redis.call('ZRANGEBYSCORE', seen, '-inf', instant(now), 'LIMIT', 0, 100)) do leave_queue(who) end
local has_place, ahead = act == 'keep' or redis.call('ZREM', taken, me) == 1, 0
if act == 'ask' and not has_place then
  redis.call('ZADD', queue, 'NX', instant(now), me)
  redis.call('ZADD', seen, instant(now + lease), me)
  ahead = redis.call('ZRANK', queue, me)
  has_place = redis.call('ZCARD', taken) + ahead < most
end
if act == 'leave' or has_place then leave_queue(me) end
if act ~= 'leave' and has_place then redis.call('ZADD', taken, instant(now + lease), me) end
for n = 1, 3 do redis.call('PEXPIRE', KEYS[n], 120000) end
return {has_place and 1 or 0, redis.call('ZCARD', taken), ahead}
"""
"""Asks for a place, keeps or leaves it, by the server's clock in microseconds.

KEYS: until when each place is leased, since when each replica waits, and until when its turn is kept.  ARGV: an `Act`,
who, how many places there are, and the lease.

Answers whether the replica has a place, how many are taken, and how many wait before it.  A place that is kept is one
even if the server has forgotten it: whoever keeps it warms up, and nobody else is let in for it.  Takes time in
proportion to the logarithm of the number of replicas.
"""


class Act(StrEnum):
    """What a replica wants of the places."""

    ASK = "ask"
    KEEP = "keep"
    LEAVE = "leave"


class Standing(NamedTuple):
    """The answer to `PLACES`: whether the replica has a place, how many are taken, and how many wait before it."""

    has_place: bool
    taken: int
    ahead: int


def place_arguments(act: Act, me: str, most: int) -> tuple[str, ...]:
    """The ARGV of `PLACES`."""
    return (act, me, str(most), f"{LEASE_SECONDS * 1e6:.0f}")


def ask_seconds(standing: Standing, most: int) -> float:
    """How long a replica that waits is silent before it asks again: the longer, the more are let in before it."""
    return min(BEAT_SECONDS * (1 + standing.ahead // most), MOST_ASK_SECONDS)


def shown_wait(standing: Standing, most: int) -> str:
    """What a replica waits for, for people."""
    before = f", {standing.ahead} waiting before it" if standing.ahead else ""
    return f"waiting for a place: {standing.taken} of {most} taken{before}"
