"""`preheat bulk status`."""

from __future__ import annotations

import click

from preheat.cli.bulk.showing import awaited, find_bulk, id_argument, show
from preheat.cli.options import json_option


@click.command(short_help="Show how far it has come.", epilog="Example: preheat bulk status nightly")
@id_argument
@json_option
def status(bulk_id: str, as_json: bool) -> None:
    """Show how far it has come, and one report over all shards."""
    bulk = find_bulk(bulk_id)
    show(bulk, awaited(bulk.progress()), awaited(bulk.report()), as_json=as_json)
