"""`preheat bulk`: a plan of millions of keys for a shared cache, by workers wherever they run."""

from __future__ import annotations

import click

from preheat.cli.groups import LazyGroup

PLACES = {
    "start": "preheat.cli.bulk.start:start",
    "status": "preheat.cli.bulk.status:status",
    "cancel": "preheat.cli.bulk.cancel:cancel",
    "resume": "preheat.cli.bulk.resume:resume",
    "work": "preheat.cli.bulk.work:work",
}


@click.group(
    cls=LazyGroup,
    places=PLACES,
    short_help="Warm a shared cache by many workers.",
    epilog="Example: preheat bulk start shop.caches:caches --workers 2",
)
def bulk() -> None:
    """Warm a cache that processes share: a plan is cut into shards, and workers take them until none is left.

    The board that hands them out is on the Redis or Valkey server at CACHE_WARMUP_COORDINATOR_URL.
    """
