"""`preheat status`."""

from __future__ import annotations

import click

from preheat.cli.configuring import open_store
from preheat.cli.options import json_option, state_option
from preheat.cli.reports import print_runs, print_summary, runs_tree
from preheat.cli.showing import print_json


@click.command(epilog="Example: preheat status --state-dir /var/lib/shop/preheat")
@state_option
@click.option("--runs", type=click.IntRange(1, 50), metavar="N", help="List the last N runs instead, newest first.")
@json_option
def status(state_dir: str | None, runs: int | None, as_json: bool) -> None:
    """Show the last run that was kept, and what it has won since, in all and for each cache."""
    with open_store(state_dir) as store:
        reports = store.reports(runs or 1)
    if as_json:
        print_json(runs_tree(reports) if runs else {"last": reports[0] if reports else None})
    elif reports and runs:
        print_runs(reports)
    elif reports:
        print_summary(reports[0])
    else:
        click.echo(f"no run has been kept in {store.folder} yet; `preheat run` makes one")
