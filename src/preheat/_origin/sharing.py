"""Which caches are loaded from the same origin, and what each origin may be asked for."""

from __future__ import annotations

from collections.abc import Mapping

from preheat._origin.origin import Limits, Origin
from preheat.abc import SharesOrigin


def origin_of(cache: object, name: str) -> str:
    """The name of the origin of `cache`, which is called `name`: its own unless it tells another."""
    told = cache.origin if isinstance(cache, SharesOrigin) else None
    return told if isinstance(told, str) and told else name


def origins_of(
    caches: Mapping[str, object],
    *,
    concurrency: int,
    loads_per_second: Mapping[str, float],
    bytes_per_second: Mapping[str, float],
    learned_limits: Mapping[str, float] | None = None,
    seed: int = 0,
) -> dict[str, Origin]:
    """By cache, its origin: the same object for those that share one.

    Args:
        caches: By name.
        concurrency: Loads at a time, of each origin, at most.
        loads_per_second: By origin, the loads that may start per second.
        bytes_per_second: By origin, the bytes that may be asked for per second.
        learned_limits: By origin, what it was found to bear in a run before.
        seed: Seed of all jitter.
    """
    names = {name: origin_of(cache, name) for name, cache in caches.items()}
    origins = {
        origin: Origin(
            origin,
            Limits(concurrency, loads_per_second.get(origin), bytes_per_second.get(origin)),
            learned_limit=(learned_limits or {}).get(origin, 1.0),
            seed=seed + n,
        )
        for n, origin in enumerate(dict.fromkeys(names.values()))
    }
    return {name: origins[origin] for name, origin in names.items()}
