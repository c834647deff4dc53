"""`preheat bulk work`."""

from __future__ import annotations

import sys

import click

from preheat.cli.bulk.showing import awaited, board_url, id_argument
from preheat.cli.interrupting import Interruption


@click.command(short_help="Be one worker.", epilog="Example: preheat bulk work nightly")
@id_argument
def work(bulk_id: str) -> None:
    """Be one worker, in this process: take shards and run them until none is left, or it is cancelled.

    Asked to end, it reports how far it has come with its shard; preheat bulk resume frees the rest.
    """
    exit_code = awaited(_work(board_url(), bulk_id))
    if exit_code is not None:
        sys.exit(exit_code)


async def _work(url: str, bulk_id: str) -> int | None:
    import asyncio

    from preheat.bulk import work

    stop = asyncio.Event()

    async def end(_: bool) -> None:
        stop.set()

    with Interruption(end) as interruption:
        tally = await work(url, bulk_id, stop)
    click.echo(f"{tally.shards} shards of {tally.items} items ended, {tally.lost} lost to other workers")
    return interruption.exit_code
