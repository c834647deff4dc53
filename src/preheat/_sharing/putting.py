"""How what was loaded is put: under a claim from before the load, and only in place of what was seen then."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from preheat._sharing.rules import TOMBSTONE, Rules
from preheat._sharing.slots import Shards
from preheat._sharing.steps import NOBODY, Ask, Command, Refused, Reply, Steps, answer

TOKEN_BYTES = 16
MOST_NOTED = 10_000  # a load during which more is deleted or written is not put
MOST_ITEMS, MOST_PUT_BYTES = 512, 4 << 20  # of one command: the server does nothing else meanwhile
TAKES_NO_WRITES = frozenset({"READONLY", "MISCONF", "NOREPLICAS"})
"""Refusals of a server that can be read, and may be written to later."""

AWAY = "the server of the cache can't be reached, or takes no writes"

PUT = b"""
local noted = redis.call('XRANGE', KEYS[1], ARGV[1], '+')
if #noted == 0 or noted[1][1] ~= ARGV[1] then return 'lost' end
local changed = {}
for n = 2, #noted do changed[noted[n][2][2]] = true end
local seen_bytes, lives, value_bytes = unpack(cmsgpack.unpack(ARGV[2]))
local done, refused, seen_end, value_end = {}, '', 0, 0
for n = 1, #lives do
  local key, put = KEYS[n + 1], false
  local seen = string.sub(ARGV[3], seen_end + 1, seen_end + seen_bytes[n])
  local value = string.sub(ARGV[4], value_end + 1, value_end + value_bytes[n])
  seen_end, value_end = seen_end + seen_bytes[n], value_end + value_bytes[n]
  if not changed[key] and (seen == '' or redis.call('GET', key) == seen) then
    local how = seen == '' and 'NX' or 'XX'
    if lives[n] == 0 then put = redis.pcall('SET', key, value, how)
    else put = redis.pcall('SET', key, value, how, 'PX', string.format('%.0f', lives[n])) end
  end
  if put and put.err then refused = put.err end
  done[n] = put and (put.err and '-' or '+') or '='
end
return {table.concat(done), refused}
"""
"""Puts values, and answers with a sign for each: + put, = taken, - refused, and why the last one was.

KEYS are the log's and those of the values.  ARGV: the claim; for each value the length of what was seen in its place (0
for nothing), its life in milliseconds (0 for ever) and its length; all that was seen, and all values, one behind the
other.  An argument for each would take a client half as long again.
"""


class Claim(NamedTuple):
    """What was known before a load: where logs ended, by shard, and, without scripts, the instant to put by."""

    noted: Mapping[int, bytes]
    by: float


class Loaded(NamedTuple):
    """A value to be put: the `n`-th of its batch, encoded, with its life (0 for ever)."""

    n: int
    key: str
    data: bytes
    milliseconds: int


class Places:
    """The keys of one shared cache on its server, and what may be put there.

    Args:
        rules: Its rules.
        digest: Under which servers know `PUT`.
        clock: Seconds, monotonic.
        rng: Draws tokens.
        shards: How they are split, on a cluster.
    """

    def __init__(
        self, rules: Rules, digest: str, clock: Callable[[], float], rng: random.Random, shards: Shards
    ) -> None:
        self.rules, self.may_script, self.takes_writes = rules, True, True
        self.shards = shards
        self._digest, self._clock, self._rng = digest, clock, rng

    def place(self, key: str) -> str:
        """Where the value of `key` is."""
        if self.shards.is_one:  # a batch asks for each of its keys several times
            return f"{self.rules.namespace}:{key}"
        return f"{self.rules.namespace}{self.shards.mark(self.shards.of(key))}:{key}"

    def log_place(self, shard: int) -> str:
        """Where the server's log of deletes and writes is."""
        return f"{self.rules.namespace}{self.shards.mark(shard)}\x00log"

    def log_places(self) -> list[str]:
        """Where all of them are."""
        return [self.log_place(shard) for shard in range(len(self.shards))]

    def note(self, key: str) -> Command:
        """Notes that the value of `key` changes."""
        return self._note(self.shards.of(key), self.place(key))

    def _note(self, shard: int, place: str) -> Command:
        return ("XADD", self.log_place(shard), "MAXLEN", "~", MOST_NOTED, "*", "k", place)

    def tombstone(self) -> bytes:
        """A new one."""
        return TOMBSTONE + self._rng.randbytes(TOKEN_BYTES)

    def see_whether_it_takes_writes(self) -> Steps[bool]:
        """Try with a note of nothing, if it did not take the last one."""
        if not self.takes_writes:
            reply = yield from answer(self.note(""))
            self.takes_writes = reply is not NOBODY and not isinstance(reply, Refused)
        return self.takes_writes

    def claim(self, keys: Sequence[str]) -> Steps[Claim | None]:
        """What a load of `keys` that begins now is put by; None if it can't be put."""
        by = self._clock() + self.rules.load_deadline_seconds
        if not self.may_script:
            return Claim({}, by)
        shards = list(self.shards.group(keys))
        noted = (yield Ask([self._end(shard) for shard in shards])) or [NOBODY]
        if any(reply == [] for reply in noted):  # the first claims of all
            yield Ask([self._note(shard, "") for shard, reply in zip(shards, noted, strict=True) if reply == []])
            noted = (yield Ask([self._end(shard) for shard in shards])) or [NOBODY]
        if any(isinstance(reply, Refused) and reply.code == "NOPERM" for reply in noted):
            self.may_script = False
            return Claim({}, by)
        if not all(isinstance(reply, list) and reply for reply in noted):
            return None
        return Claim({shard: bytes(reply[0][0]) for shard, reply in zip(shards, noted, strict=True)}, by)

    def _end(self, shard: int) -> Command:
        return ("XREVRANGE", self.log_place(shard), "+", "-", "COUNT", 1)

    def put(self, claim: Claim, chunk: Sequence[Loaded], seen: Sequence[bytes]) -> Steps[Sequence[int | str] | None]:
        """For each of `chunk` 1, 0 (taken) or why not; None if nobody answers."""
        if not self.may_script:
            return (yield from self._put_plainly(claim, chunk, seen))
        groups = self.shards.group(each.key for each in chunk)
        commands = [
            self._script(shard, claim.noted[shard], [chunk[n] for n in group], [seen[n] for n in group])
            for shard, group in groups.items()
        ]
        replies = yield from self._run(commands)
        if replies is None:
            return None
        if any(isinstance(reply, Refused) and reply.code == "NOPERM" for reply in replies):
            self.may_script = False
            return (yield from self._put_plainly(claim, chunk, seen))
        told: list[Reply] = [None] * len(chunk)
        for group, reply in zip(groups.values(), replies, strict=True):
            for n, each in zip(group, _signs_of(reply, len(group)), strict=True):
                told[n] = each
        return self._told(told)

    def _run(self, commands: Sequence[Command]) -> Steps[list[Reply] | None]:
        """The replies of scripts, which are sent whole to a server that doesn't know them yet."""
        replies = yield Ask(commands)
        if replies is None:
            return None
        unknown = [n for n, reply in enumerate(replies) if isinstance(reply, Refused) and reply.code == "NOSCRIPT"]
        if unknown:
            again = yield Ask([("EVAL", PUT, *commands[n][2:]) for n in unknown])
            if again is None:
                return None
            replies = list(replies)
            for n, reply in zip(unknown, again, strict=True):
                replies[n] = reply
        return list(replies)

    def _script(self, shard: int, noted: bytes, chunk: Sequence[Loaded], seen: Sequence[bytes]) -> Command:
        lengths = ([len(each) for each in seen], [c.milliseconds for c in chunk], [len(c.data) for c in chunk])
        texts = (b"".join(seen), b"".join(c.data for c in chunk))
        places = [self.log_place(shard), *(self.place(each.key) for each in chunk)]
        return ("EVALSHA", self._digest, len(places), *places, noted, _pack(lengths), *texts)

    def _told(self, replies: Sequence[Reply]) -> Sequence[int | str] | None:
        """1, 0 or why not for each reply; None if the server takes no writes now, which counts as nobody there."""
        refused = {reply.code for reply in replies if isinstance(reply, Refused)}
        self.takes_writes = not refused & TAKES_NO_WRITES
        return [reply if isinstance(reply, int) else _reason(reply) for reply in replies] if self.takes_writes else None

    def _put_plainly(
        self, claim: Claim, chunk: Sequence[Loaded], seen: Sequence[bytes]
    ) -> Steps[Sequence[int | str] | None]:
        if self._clock() > claim.by:
            return [_LATE] * len(chunk)
        if any(seen):
            return [0] * len(chunk)
        commands: list[Command] = []
        for each in chunk:
            expiry = ("PX", each.milliseconds) if each.milliseconds else ()
            commands.append(("SET", self.place(each.key), each.data, "NX", *expiry))
        replies = yield Ask(commands)
        if replies is None:
            return None
        return self._told([reply if isinstance(reply, Refused) else int(reply is not None) for reply in replies])


def _signs_of(reply: Reply, count: int) -> Sequence[Reply]:
    """What a script says became of each of `count` values."""
    if not isinstance(reply, list):
        return [reply] * count
    refusal = Refused(bytes(reply[1]).decode(errors="replace").partition(" ")[0])
    return [_SIGNS.get(sign, refusal) for sign in bytes(reply[0]).decode()]


def chunks_of(loaded: Sequence[Loaded]) -> list[list[Loaded]]:
    """`loaded` in parts that a server carries out in a moment each."""
    chunks: list[list[Loaded]] = []
    size_bytes = MOST_PUT_BYTES
    for each in loaded:
        if size_bytes + len(each.data) > MOST_PUT_BYTES or len(chunks[-1]) >= MOST_ITEMS:
            chunks.append([])
            size_bytes = 0
        chunks[-1].append(each)
        size_bytes += len(each.data)
    return chunks


_pack = msgspec.msgpack.Encoder().encode
_SIGNS: dict[str, int] = {"+": 1, "=": 0}
_LATE = "its load took longer than load_deadline_seconds, so a newer value may exist"
_LOST = "the server lost what it held, or noted too many changes, while the value was being loaded"


def _reason(reply: Reply) -> str:
    if isinstance(reply, Refused):
        return "OOM" if reply.code == "OOM" else f"the server of the cache refused it: {reply.code}"
    return _LOST if reply == b"lost" else AWAY
