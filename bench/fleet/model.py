"""The capacity model: what a fleet that warms up together asks of the origin, the shared cache and the coordinator.

Formulas only; `simulation` plays the same fleet out, and `__main__` holds the one against the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from preheat._fleet import BEAT_SECONDS, TURN_SECONDS, USED_RATIO, asking_seconds

BOOKINGS_AHEAD = 0.05
HISTORY_BYTES_PER_ITEM = 26
CONTRIBUTED_ITEMS = 100_000
EXCHANGE_SECONDS = 300.0
POLL_SECONDS = 0.09  # the middle of what replicas wait between two looks at what others load
BATCH = 32


@dataclass(frozen=True)
class Fleet:
    """A fleet and what it stands on.

    Attributes:
        replicas: Processes that start within the jitter.
        keys: Distinct keys of the plan.
        value_bytes, key_bytes: Of each.
        rate: Loads per second that the origin is given, by all replicas together.
        origin_capacity: Loads per second that it can really do.
        latency_seconds: Of a load.
        batches: That a replica has in flight.
        jitter_seconds: Upper bound of the random wait before the start.
        server_commands: Commands that the coordinator answers per second.
        server_lookups: Keys that the shared cache looks up per second.
        server_bytes: Bytes per second between it and all replicas.
        shards: Whether each replica goes through its shard of the plan only, and not through all of it.
    """

    replicas: int
    keys: int
    value_bytes: int = 4096
    key_bytes: int = 40
    rate: float = 2000.0
    origin_capacity: float = 4000.0
    latency_seconds: float = 0.05
    batches: int = 4
    jitter_seconds: float = 3.0
    server_commands: float = 100_000.0
    server_lookups: float = 1_000_000.0
    server_bytes: float = 1e9
    shards: bool = False


@dataclass(frozen=True)
class Expected:
    """What the formulas say.

    Attributes:
        seconds: Until all is warm.
        bound_by: What that is waiting for.
        fetches_per_key: Of the origin.
        commands_per_second: That the coordinator is asked to carry out while loads go on.
        herd_seconds: How long the origin would be busy if each replica loaded all by itself.
        history_bytes: What a replica keeps of so many keys.
        exchanged_bytes_per_second: Between a server and all replicas, of their histories.
    """

    seconds: float
    bound_by: str
    fetches_per_key: float
    commands_per_second: float
    herd_seconds: float
    history_bytes: float
    exchanged_bytes_per_second: float


def expect(fleet: Fleet) -> Expected:
    """Each resource alone takes so long; the slowest says how long the whole takes."""
    looked_up = fleet.keys * (1 if fleet.shards else fleet.replicas)
    seconds = {
        "the origin's rate": fleet.keys / min(fleet.rate * USED_RATIO, fleet.origin_capacity),
        "loads in flight": fleet.keys * fleet.latency_seconds / (fleet.replicas * fleet.batches * turn(fleet)),
        "looking up what is there": looked_up / fleet.server_lookups,
        "bandwidth": fleet.keys * fleet.value_bytes / fleet.server_bytes,
    }
    bound_by = max(seconds, key=seconds.__getitem__)
    exchanged = min(fleet.keys, CONTRIBUTED_ITEMS) * (HISTORY_BYTES_PER_ITEM + fleet.key_bytes)
    return Expected(
        seconds=seconds[bound_by] + fleet.jitter_seconds / (fleet.replicas + 1) + fleet.latency_seconds,
        bound_by=bound_by,
        fetches_per_key=1.0,
        commands_per_second=commands(fleet),
        herd_seconds=fleet.replicas * fleet.keys / fleet.origin_capacity,
        history_bytes=fleet.keys * (HISTORY_BYTES_PER_ITEM + fleet.key_bytes),
        exchanged_bytes_per_second=fleet.replicas * exchanged * (fleet.replicas if fleet.replicas < 2 else 2)
        / EXCHANGE_SECONDS,
    )


def turn(fleet: Fleet) -> int:
    """The loads that a replica books at once."""
    return max(1, int(fleet.rate / fleet.replicas * max(TURN_SECONDS, asking_seconds(fleet.replicas))))


def commands(fleet: Fleet) -> float:
    """Beats, and each of the batches in flight asking for its turn as often as it may."""
    beats = fleet.replicas / BEAT_SECONDS
    waiting = max(BOOKINGS_AHEAD, asking_seconds(fleet.replicas))
    asked = min(fleet.replicas * fleet.batches / waiting, fleet.replicas * fleet.batches / BOOKINGS_AHEAD)
    leases = fleet.rate  # each key is leased once
    return beats + asked + leases
