"""A model of a Redis server, and actors whose steps interleave: warm-ups, writers and readers of one shared key."""

import random
from collections.abc import Callable, Iterator, Sequence

import msgspec

from preheat._attempt import failure_of
from preheat._sharing.protocol import Sharing
from preheat._sharing.rules import TOMBSTONE, Codec, Life, Rules
from preheat._sharing.slots import slot_of
from preheat._sharing.steps import Ask, Make, Refused, Wait

RULES = Rules("s", hold_off_seconds=15.0, load_deadline_seconds=10.0, patience_seconds=0.0)
FOR_EVER = Life()
CODEC = Codec(lambda value: value.encode(), bytes.decode)


class ModelServer:
    """What the protocol relies on in a server: strings, expiry, and the script that puts."""

    def __init__(self, forbidden: Sequence[str] = ()) -> None:
        self.at = 1_000.0
        self.values: dict[str, tuple[bytes, float]] = {}
        self.log: list[tuple[bytes, str]] = []
        self.forbidden = set(forbidden)
        self.limit_bytes = self.evicted = 0
        self.is_away_until = 0.0
        self.is_cluster = False

    def ask(self, commands):
        return None if self.at < self.is_away_until else [self._carry_out(*command) for command in commands]

    def lose_everything(self):
        self.values.clear()
        self.log.clear()

    def value(self, place):
        value, until = self.values.get(place, (None, 0.0))
        return value if self.at < until else None

    def _carry_out(self, name, *arguments):
        if name in self.forbidden:
            return Refused("NOPERM")
        if self.is_cluster and len({slot_of(place) for place in places_of(name, arguments)}) > 1:
            return Refused("CROSSSLOT")
        return getattr(self, f"_{name.lower()}")(*arguments)

    def _get(self, place):
        return self.value(place)

    def _getrange(self, place, start, end):
        return (self.value(place) or b"")[start : end + 1]

    def _set(self, place, value, *options):
        there = self.value(place)
        if ("NX" in options and there is not None) or ("XX" in options and there is None):
            return None
        until = self.at + options[options.index("PX") + 1] / 1000 if "PX" in options else float("inf")
        self.values[place] = (value, until)
        return True

    def _del(self, place):
        return int(self.values.pop(place, None) is not None)

    def _exists(self, *places):
        return sum(self.value(place) is not None for place in places)

    def _info(self, section):
        used = sum(len(value) for value, _ in self.values.values())
        return {"maxmemory": self.limit_bytes, "used_memory": used, "evicted_keys": self.evicted}

    def _xadd(self, place, *options):
        self.log.append((f"{len(self.log)}-{random.random()}".encode(), options[-1]))

    def _xrevrange(self, place, *options):
        return [(self.log[-1][0], {})] if self.log else []

    def _evalsha(self, digest, count, *rest):
        places, (claim, packed, seen, values) = rest[:count], rest[count:]
        entries = [entry for entry, _ in self.log]
        if claim not in entries:
            return b"lost"
        changed = {place for _, place in self.log[entries.index(claim) + 1 :]}
        done = ""
        seen_bytes, lives, value_bytes = msgspec.msgpack.decode(packed)
        for place, seen_size, life, size in zip(places[1:], seen_bytes, lives, value_bytes, strict=True):
            saw, seen, value, values = seen[:seen_size], seen[seen_size:], values[:size], values[size:]
            expiry = ("PX", life) if life else ()
            is_free = place not in changed and (self.value(place) or b"") == saw
            done += "+" if is_free and self._set(place, value, *expiry) else "="
        return [done.encode(), b""]


def places_of(name, arguments):
    """The keys of a command."""
    if name == "EXISTS":
        return arguments
    return arguments[2 : 2 + arguments[1]] if name in ("EVALSHA", "EVAL") else arguments[: name != "INFO"]


def sharing(
    server_or_clock, rules: Rules = RULES, *, life: Life = FOR_EVER, digest: str = "put", shards=None
) -> Sharing:
    """The protocol as one process takes part in it, on the model's clock."""
    clock = (lambda: server_or_clock.at) if isinstance(server_or_clock, ModelServer) else server_or_clock
    made = Sharing(
        RULES, CODEC, life, put_digest=digest, clock=clock, rng=random.Random(), failed=failure_of, shards=shards
    )
    made.places.rules = rules  # unchecked, so that controls may break them
    return made


def drive(steps, server, load=lambda key: f"1 {key}", wait=lambda seconds: None):
    """What `steps` end with, answered by `server`, `load`, and `wait` when the server's time has passed."""
    answer = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return end.value
        match step:
            case Ask():
                answer = server.ask(step.commands)
            case Make():
                answer = [load(key) for key in step.keys]
            case Wait():
                server.at += step.seconds
                answer = wait(step.seconds)


class Origin:
    """Where values come from: each is its version, and who loaded it."""

    def __init__(self) -> None:
        self.version = 1

    def update(self) -> None:
        self.version += 1

    def load(self, who: str) -> str:
        return f"{self.version} {who}"


class Actor:
    """Does its generator's steps one by one; `ends` tells after which of them a turn of the schedule is over."""

    def __init__(self, steps, ask, origin: Origin, who: str, ends: Callable[[object, int], bool]) -> None:
        self._steps, self._ask, self._origin, self._who, self._ends = steps, ask, origin, who, ends
        self._answer, self._step, self._done = None, None, 0
        self.is_over = False

    def turn(self) -> None:
        """Everything until a turn ends."""
        while not self.is_over:
            try:
                step = self._steps.send(self._answer)
            except StopIteration:
                self.is_over = True
                return
            self._answer = self._perform(step)
            self._done += 1
            if self._ends(step, self._done):
                return

    def _perform(self, step):
        match step:
            case Ask():
                return self._ask(step.commands)
            case Make():
                return [self._origin.load(self._who) for _ in step.keys]
            case Wait():
                return None
        return step()  # of a control


def warm_up(made: Sharing, ask, origin, key="k", *, whole=True) -> Actor:
    ends = (lambda step, _: isinstance(step, Make)) if whole else (lambda *_: True)
    return Actor(made.warm([key], [9]), ask, origin, "warm-up", ends)


def reader(made: Sharing, ask, origin, key="k", *, whole=True) -> Actor:
    ends = (lambda step, done: done == 1 or isinstance(step, Make)) if whole else (lambda *_: True)
    return Actor(made.read(key), ask, origin, "traffic", ends)


def writer(made: Sharing, ask, origin, key="k", *, puts=False) -> Actor:
    """Updates the origin, then deletes the key or puts the new value itself."""

    def steps():
        yield origin.update
        yield from made.write(key, origin.load("writer")) if puts else made.delete([key])

    return Actor(steps(), ask, origin, "writer", lambda *_: True)


def control(protocol: str, server: ModelServer, origin: Origin, key="s:k") -> dict[str, Actor]:
    """The same three without any care: the warm-up sets, or only adds; a delete deletes."""
    how = ("NX",) if protocol == "add" else ()

    def warms():
        (value,) = yield Make([key], is_warm_up=True)
        yield Ask([("SET", key, value.encode(), *how)])

    def writes():
        yield origin.update
        yield Ask([("DEL", key)])

    def reads():
        (found,) = yield Ask([("GET", key)])
        if found is None:
            (value,) = yield Make([key], is_warm_up=False)
            yield Ask([("SET", key, value.encode())])

    each = {"w": (warms, "warm-up"), "u": (writes, "writer"), "r": (reads, "traffic")}
    return {name: Actor(steps(), server.ask, origin, who, lambda *_: True) for name, (steps, who) in each.items()}


def interleavings(counts: dict[str, int]) -> Iterator[str]:
    """Every order of `counts[name]` turns of each actor."""
    if not any(counts.values()):
        yield ""
    for name, count in counts.items():
        if count:
            for rest in interleavings({**counts, name: count - 1}):
                yield name + rest


WHOLE = {"w": 2, "u": 2, "r": 3}
"""Turns: load, put; update, delete; read, load, put.  210 orders, each on an empty and on a filled cache: 420."""


def is_stale(value: bytes | None, origin: Origin) -> bool:
    return value is not None and not value.startswith(TOMBSTONE) and int(value.split()[0]) != origin.version
