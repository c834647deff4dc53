"""What a run of the service gets where replicas warm up together: joint caches, gates, and a start among the others.

The limits of an origin are kept in one place: by the coordinator where there is one, for all replicas together, and
otherwise by the gate of each replica, which has its share.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from preheat._model import MIB, WarmupReport
from preheat._settings import Settings
from preheat.abc import WarmableCache

if TYPE_CHECKING:
    from preheat._coordination import Coordination
    from preheat._execution import Gate
    from preheat._origin import Origin
    from preheat._peering import Peering, Taker
    from preheat._run import Run


logger = logging.getLogger("preheat")


class Replicas:
    """The others that warm up with this process, if there are any; for all runs of a service.

    Args:
        settings: Those of the service.
        peering: What is had from peers; None for nothing.
    """

    def __init__(self, settings: Settings, *, peering: Peering | None = None) -> None:
        self._settings, self._peering = settings, peering
        self._taker: Taker | None = None
        self._together: Coordination | None = None
        self._origins: dict[str, Origin] = {}  # by name, as the newest run of each has left it

    def prepare(self, caches: Mapping[str, WarmableCache], *, shares_keys: bool = True) -> Mapping[str, WarmableCache]:
        """`caches` as the next run is to see them.

        `shares_keys` says whether the others load the same keys of shared caches, which are shared out then; else only
        rates are.

        Raises:
            InvalidSetting: The coordinator's URL can't be used, or its client library is missing.
            UsageError: The token for the peers can't be read.
        """
        if self._settings.replicas_at_once is not None and self._settings.coordinator_url is None:
            logger.warning("nobody hands out places, so this replica waits for none: set coordinator_url too")
        self._taker = self._peering.taker() if self._peering is not None else None
        if not self._settings.has_replicas and self._taker is None:
            return caches
        from preheat._coordination import Coordination
        from preheat._joint import joint

        self._together = Coordination(
            self._settings.coordinator_url,
            replicas=self._settings.replicas,
            jitter_seconds=self._settings.jitter_seconds,
            at_once=self._settings.replicas_at_once,
            rates=self._settings.rate_limits if self._settings.coordinator_url else {},
            bandwidths=self._bytes_per_second if self._settings.coordinator_url else {},
            loaders=self._settings.concurrency_limit,
            shares_keys=shares_keys,
        )
        return joint(caches, self._together, self._taker)

    def gates(self, caches: Mapping[str, WarmableCache], seed: int) -> Mapping[str, Gate]:
        """By cache, what protects the origin it is loaded from, for one run."""
        from preheat._origin import origins_of

        settings, replicas = self._settings, self._settings.replicas
        rates, bandwidths = settings.rate_limits, self._bytes_per_second
        if settings.coordinator_url:
            rates, bandwidths = {}, {}
        by_cache = origins_of(
            caches,
            concurrency=settings.concurrency_limit,
            loads_per_second={name: rate / replicas for name, rate in rates.items()},
            bytes_per_second={name: most / replicas for name, most in bandwidths.items()},
            learned_limits={name: origin.learned_limit for name, origin in self._origins.items()},
            seed=seed,
        )
        self._origins |= {origin.name: origin for origin in by_cache.values()}
        if self._together is not None:
            self._together.tell_waits(self._note_limited)
        return by_cache

    @property
    def _bytes_per_second(self) -> dict[str, float]:
        return {name: mb * MIB for name, mb in self._settings.bandwidth_limits_mb.items()}

    def _note_limited(self, origin: str, at: float, seconds: float) -> None:
        if origin in self._origins:
            self._origins[origin].note_limited(at, seconds)

    async def perform(self, run: Run) -> WarmupReport:
        """Perform `run`, which was made of what `prepare` gave, among the others.

        The waits for the start and for a place are over before the run begins.  Of the two, the second is part of the
        time that the run may take.
        """
        together, self._together = self._together, None
        taker, self._taker = self._taker, None
        if together is None:
            return await run.perform()
        together.follow(lambda: run.is_stopping, lambda: run.is_holding)
        try:
            await together.begin(run.wait_for)
            return await _perform_taking(run, taker)
        finally:
            await together.end()


async def _perform_taking(run: Run, taker: Taker | None) -> WarmupReport:
    """The report of `run`, with what came from peers."""
    if taker is None:
        return await run.perform()
    try:
        await taker.begin()
        return replace(await run.perform(), peers=taker.record())
    finally:
        taker.end()
