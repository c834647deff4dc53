"""The capacity model: what a fleet that warms one shared cache asks of origin, server and coordinator.

Formulas only, by the constants of the product; `simulation` plays the same fleets out.  `docs/explanation/scale.md`
tells them in words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from preheat._bulk.sharding import shard_count
from preheat._fleet import MOST_LOOKS_PER_SECOND, USED_RATIO, beat_seconds, turn_size
from preheat._joint import POLL_SECONDS
from preheat._pool.contributions import MOST_ITEMS
from preheat._pool.peers import EXCHANGE_SECONDS
from preheat._settings import Settings

BATCH = Settings().batch_size
ITEM_BYTES = 26
"""Of an item in a history beside its key: `bench/history.py`."""


@dataclass(frozen=True)
class Costs:
    """What an operation takes of its server, in seconds of processor time; `--real` measures them.

    Attributes:
        look, look_key: Looking up whether keys of a batch are there, and each of them.
        mixed_key: Each key once more, where some of a batch are there and some are not.
        lease: Of one key.
        book: One booking at a rate; a beat is one too.
        put, put_key: What a turn of loads asks of the cache's server, and each of its keys.
        round_trip: From asking to having understood the answer, beside the server's own time.
    """

    look: float = 10e-6
    look_key: float = 0.4e-6
    mixed_key: float = 1.7e-6
    lease: float = 10e-6
    book: float = 45e-6
    put: float = 130e-6
    put_key: float = 4.5e-6
    round_trip: float = 0.5e-3


@dataclass(frozen=True)
class Fleet:
    """A fleet and what it stands on.

    Attributes:
        replicas: Processes that start within the jitter.
        keys: Distinct keys of the plan.
        rate: Loads per second that the origin is given, by all replicas together.
        latency_seconds: Of a load.
        origin_capacity: Loads per second that it can really do.
        value_bytes, key_bytes: Of each.
        batches: What a replica has in flight at most.
        jitter_seconds: Upper bound of the random wait before the start.
        server_bytes: Bytes per second between the cache's server and all replicas.
        shards: Whether each goes through its part of the plan only, as in bulk, and not through all of it.
        costs: Of the servers' operations.
    """

    replicas: int
    keys: int
    rate: float = 2000.0
    latency_seconds: float = 0.05
    origin_capacity: float = math.inf
    value_bytes: int = 4096
    key_bytes: int = 40
    batches: int = 4
    jitter_seconds: float = 3.0
    server_bytes: float = 1e9
    shards: bool = False
    costs: Costs = Costs()

    @property
    def members(self) -> int:
        """How many of the replicas have something to do: of shards there may be fewer than replicas."""
        return (
            min(self.replicas, shard_count(self.keys, self.keys * self.value_bytes)) if self.shards else self.replicas
        )

    @property
    def own_keys(self) -> int:
        """The keys that each goes through."""
        return -(-self.keys // self.members) if self.shards else self.keys


@dataclass(frozen=True)
class Expected:
    """What the formulas say.

    Attributes:
        seconds: Until all is warm.
        bound_by: What that is waiting for.
        coordinator_load, server_load: What the two servers have to do, of what they can, before any in vain.
        herd_seconds: How long the origin would be busy at its rate if each replica loaded all by itself.
        history_bytes: What a replica keeps of so many keys.
        exchanged_bytes: Between a server and all replicas, per second, if they share their histories.
    """

    seconds: float
    bound_by: str
    coordinator_load: float
    server_load: float
    herd_seconds: float
    history_bytes: float
    exchanged_bytes: float


def expect(fleet: Fleet) -> Expected:
    """Each resource alone would take so long; the slowest says how long the whole takes."""
    beats = fleet.members / beat_seconds(fleet.members) * fleet.costs.book
    needs = {
        "the origin's rate": fleet.keys / (fleet.rate * USED_RATIO),
        "the origin itself": fleet.keys / fleet.origin_capacity,
        "loads in flight": fleet.own_keys * cycle(fleet) / (fleet.batches * BATCH),
        "the cache's server": server_seconds(fleet) / (1.0 - looks_in_vain(fleet)),
        "its bandwidth": fleet.keys * fleet.value_bytes / fleet.server_bytes,
        "the coordinator": coordinator_seconds(fleet) / max(1e-9, 1.0 - beats),
    }
    bound_by = max(needs, key=needs.__getitem__)
    return Expected(
        seconds=needs[bound_by] + fleet.jitter_seconds * start_share(fleet) + cycle(fleet),
        bound_by=bound_by,
        coordinator_load=coordinator_seconds(fleet) / needs[bound_by] + beats,
        server_load=server_seconds(fleet) / needs[bound_by],
        herd_seconds=fleet.replicas * fleet.keys / fleet.rate,
        history_bytes=fleet.keys * (ITEM_BYTES + fleet.key_bytes),
        exchanged_bytes=exchanged_bytes(fleet),
    )


def looks_in_vain(fleet: Fleet) -> float:
    """How busy looks at what is not all there yet keep the cache's server, at most."""
    if fleet.shards or fleet.members == 1:
        return 0.0
    most = fleet.members * fleet.batches / (sum(POLL_SECONDS) / 2)
    costs = fleet.costs
    return min(most, MOST_LOOKS_PER_SECOND) * (costs.look + BATCH * (costs.look_key + costs.mixed_key))


def start_share(fleet: Fleet) -> float:
    """When loading begins, as a part of the jitter: with the first of a fleet, but on average in shards."""
    return fleet.members / (fleet.members + 1) if fleet.shards else 1 / (fleet.members + 1)


def cycle(fleet: Fleet) -> float:
    """How long a batch takes if nothing but its loads has to be waited for: its turns one after another.

    For a fleet that is the most: where replicas have run ahead of each other, more than one batch each is under way.
    """
    part = BATCH if fleet.shards else -(-BATCH // fleet.members)
    turns = math.ceil(part / turn_size(fleet.rate, fleet.members))
    return turns * (fleet.latency_seconds + 4 * fleet.costs.round_trip)


def server_seconds(fleet: Fleet) -> float:
    """What the cache's server has to do: each replica looks up all that it goes through, and each key is put once."""
    costs, turn = fleet.costs, turn_size(fleet.rate, fleet.members)
    puts = fleet.keys * (costs.put / min(turn, BATCH) + costs.put_key)
    if fleet.shards:
        return puts
    return puts + fleet.members * fleet.keys * (costs.look / BATCH + costs.look_key)


def coordinator_seconds(fleet: Fleet) -> float:
    """What the coordinator has to do beside beats: a booking for each turn, and a lease for each key."""
    costs, turn = fleet.costs, turn_size(fleet.rate, fleet.members)
    return fleet.keys * (costs.book / min(turn, BATCH) + (0.0 if fleet.shards else costs.lease))


def exchanged_bytes(fleet: Fleet) -> float:
    """Per second, of histories: each replica tells its best items and takes those of all the others."""
    told = min(fleet.keys, MOST_ITEMS) * (ITEM_BYTES + fleet.key_bytes)
    return fleet.replicas * fleet.replicas * told / EXCHANGE_SECONDS
