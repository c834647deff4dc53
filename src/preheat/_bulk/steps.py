"""What the board of a bulk warm-up is asked, and what its answers mean; it decides by scripts on the server.

All instants are the server's, in microseconds.  A shard is free, leased to a worker, or ended: then it has a result and
is none of the other two.  A lease that has run out is given to whoever asks next, and to nobody else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from preheat._bulk.adding import Standing, head_of, result_of
from preheat.errors import InvalidSetting

LEASE_SECONDS = 15.0
"""How long a shard is left to a worker that tells nothing of itself."""

MOST_ATTEMPTS = 5
"""How many workers a shard is given to; one at which all of them die ends as abandoned."""

KEEP_SECONDS = 7 * 24 * 3600
"""So long after its last shard was given out, a board is forgotten."""

PARTS = ("head", "plans", "free", "leased", "owners", "attempts", "progress", "results")

CLAIM = b"""
local head, free, leased, owners, attempts, results = KEYS[1], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[8]
local me, lease, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if redis.call('EXISTS', head) == 0 then return {'gone'} end
for n = 1, #KEYS do redis.call('EXPIRE', KEYS[n], ARGV[5]) end
if redis.call('HGET', head, 'cancelled') == '1' then return {'cancelled'} end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
while true do
  local shard = redis.call('ZRANGEBYSCORE', leased, '-inf', string.format('%.0f', now), 'LIMIT', 0, 1)[1]
  if not shard then shard = redis.call('ZPOPMIN', free)[1] end
  if not shard then
    local first = redis.call('ZRANGE', leased, 0, 0, 'WITHSCORES')
    if not first[2] then return {'ended'} end
    return {'wait', string.format('%.0f', first[2] - now)}
  end
  local attempt = redis.call('HINCRBY', attempts, shard, 1)
  if attempt <= most then
    redis.call('ZADD', leased, string.format('%.0f', now + lease), shard)
    redis.call('HSET', owners, shard, me)
    return {'shard', shard, attempt, redis.call('HGET', KEYS[2], shard)}
  end
  redis.call('ZREM', leased, shard)
  redis.call('HDEL', owners, shard)
  if redis.call('HEXISTS', results, shard) == 0 then redis.call('HSET', results, shard, ARGV[4]) end
end
"""
"""Gives a shard to a worker.  ARGV: who, the lease, the most attempts, the result of what is abandoned, and how long
the board is kept from now on.

Answers `shard`, its number, which attempt it is, and its plan; `wait` and for how long; `ended`, `cancelled` or `gone`.
"""

RENEW = b"""
if redis.call('HGET', KEYS[5], ARGV[1]) ~= ARGV[2] then return 'lost' end
local clock = redis.call('TIME')
redis.call('ZADD', KEYS[4], string.format('%.0f', clock[1] * 1000000 + clock[2] + ARGV[3]), ARGV[1])
redis.call('HSET', KEYS[7], ARGV[1], ARGV[4])
if redis.call('HGET', KEYS[1], 'cancelled') == '1' then return 'cancelled' end
return 'yours'
"""
"""Keeps a shard.  ARGV: the shard, who, the lease, and how far it has come.  Answers `yours`, `cancelled` or `lost`."""

FINISH = b"""
if redis.call('HGET', KEYS[5], ARGV[1]) ~= ARGV[2] then return 'lost' end
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('HDEL', KEYS[5], ARGV[1])
redis.call('HDEL', KEYS[7], ARGV[1])
redis.call('HSET', KEYS[8], ARGV[1], ARGV[3])
redis.call('EXPIRE', KEYS[8], ARGV[4])
local clock = redis.call('TIME')
redis.call('HSET', KEYS[1], 'ended_us', string.format('%.0f', clock[1] * 1000000 + clock[2]))
return 'yours'
"""
"""Ends a shard.  ARGV: the shard, who, its result, and how long that is kept.

What whoever has lost it would tell is not taken.
"""

RESUME = b"""
redis.call('HSET', KEYS[1], 'cancelled', '0')
for n = 1, #ARGV do
  if not redis.call('ZSCORE', KEYS[4], ARGV[n]) then
    redis.call('ZADD', KEYS[3], ARGV[n], ARGV[n])
    redis.call('HDEL', KEYS[6], ARGV[n])
  end
end
return #ARGV
"""
"""Frees shards, ARGV, that have ended with something left; nothing is cancelled any more."""


class Claim(NamedTuple):
    """The answer to `CLAIM`: its state, which is shard, wait, ended, cancelled or gone, and what belongs to that."""

    state: str
    shard: int = -1
    attempt: int = 0
    data: bytes = b""
    wait_seconds: float = 0.0


def demand_id(bulk_id: str) -> str:
    """`bulk_id`, if a bulk warm-up can be called that.

    Raises:
        InvalidSetting: It can't.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", bulk_id):
        raise InvalidSetting("a bulk warm-up is called by up to 64 letters, digits, dots, dashes and underscores")
    return bulk_id


def places(bulk_id: str) -> tuple[str, ...]:
    """The keys of the board, in the order of `PARTS`; all in one slot of a cluster."""
    return tuple(f"preheat\0bulk {{{bulk_id}}} {part}" for part in PARTS)


def claim_of(reply: Sequence[Any]) -> Claim:
    """The claim that `CLAIM` has answered."""
    state = _text(reply[0])
    if state == "wait":
        return Claim(state, wait_seconds=max(0.0, float(reply[1]) / 1e6))
    if state == "shard":
        return Claim(state, int(reply[1]), int(reply[2]), bytes(reply[3] or b""))
    return Claim(state)


def standing_of(replies: Sequence[Any]) -> Standing | None:
    """What stands on the board, of the replies to reading its parts and the server's time; None if there is none."""
    head, free, leased, attempts, progress, results, clock = replies
    fields = {_text(name): value for name, value in _pairs(head)}
    if "head" not in fields:
        return None
    ended = fields.get("ended_us")
    return Standing(
        head=head_of(fields["head"]),
        is_cancelled=fields.get("cancelled") == b"1",
        now=int(clock[0]) + int(clock[1]) / 1e6,
        ended_at=None if ended is None else float(ended) / 1e6,
        free=frozenset(int(shard) for shard in free),
        leased={int(shard): float(until) / 1e6 for shard, until in _pairs(leased)},
        attempts={int(shard): int(count) for shard, count in _pairs(attempts)},
        progress={int(shard): [int(n) for n in json.loads(told)[:2]] for shard, told in _pairs(progress)},
        results={int(shard): result_of(told) for shard, told in _pairs(results)},
    )


def _pairs(reply: Any) -> Sequence[tuple[Any, Any]]:
    """The pairs of a hash or a sorted set, which a client gives as a mapping or as lists of one kind or another."""
    if isinstance(reply, Mapping):
        return list(reply.items())
    rows = list(reply or ())
    if rows and isinstance(rows[0], list | tuple):
        return [(row[0], row[1]) for row in rows]
    return list(zip(rows[::2], rows[1::2], strict=True))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
