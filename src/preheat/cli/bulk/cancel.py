"""`preheat bulk cancel`."""

from __future__ import annotations

import click

from preheat.cli.bulk.showing import awaited, find_bulk, id_argument


@click.command(short_help="Have all workers end.", epilog="Example: preheat bulk cancel nightly")
@id_argument
def cancel(bulk_id: str) -> None:
    """Have all workers, wherever they are, end what they do, report it, and leave."""
    awaited(find_bulk(bulk_id).cancel())
    click.echo(f"cancelled: {bulk_id}; preheat bulk resume {bulk_id} goes on with it")
