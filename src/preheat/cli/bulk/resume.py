"""`preheat bulk resume`."""

from __future__ import annotations

import click

from preheat.cli.bulk.showing import awaited, end, find_bulk, id_argument, show, work_here, workers_option
from preheat.cli.options import json_option


@click.command(short_help="Go on with what is left.", epilog="Example: preheat bulk resume nightly --workers 2")
@id_argument
@workers_option
@json_option
def resume(bulk_id: str, workers: int | None, as_json: bool) -> None:
    """Go on after it was cancelled, or after whoever began it has died: nothing that is resident is loaded again."""
    bulk = find_bulk(bulk_id)
    again = awaited(bulk.resume())
    click.echo(f"resumed: {bulk_id}; {again} shards are run again for what is left of them", err=True)
    report = awaited(bulk.report()) if workers == 0 else work_here(bulk, workers)
    show(bulk, awaited(bulk.progress()), report, as_json=as_json)
    if workers != 0:
        end(report)
