"""`preheat status`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from preheat.cli.configuring import open_store
from preheat.cli.options import json_option, state_option
from preheat.cli.reports import print_runs, print_summary, runs_tree
from preheat.cli.showing import instant, print_json

STATUS_SCHEMA, RUNS_SCHEMA = "preheat-status/1", "preheat-runs/1"
LOOK_SECONDS = 1.0
HOME_AND_CLEAR = "\x1b[H\x1b[2J"


@click.command(short_help="Show the last run, and what it has won since.", epilog="Example: preheat status --runs 5")
@state_option
@click.option("--runs", type=click.IntRange(1, 50), metavar="N", help="List the last N runs instead, newest first.")
@click.option("--watch", is_flag=True, help="Show it anew whenever it changes, until interrupted.")
@json_option
def status(state_dir: str | None, runs: int | None, watch: bool, as_json: bool) -> None:
    """Show the last run that was kept, and what it has won since, in all and for each cache."""
    if not watch:
        folder, reports = _look(state_dir, runs)
        _show(folder, reports, runs, as_json=as_json, on_one_line=False)
        return
    for folder, reports in _changes(state_dir, runs):
        if not as_json:
            click.echo(HOME_AND_CLEAR if sys.stdout.isatty() else "", nl=False)
            click.echo(f"{folder} at {instant(time.time())}")
        _show(folder, reports, runs, as_json=as_json, on_one_line=True)
        sys.stdout.flush()


def _look(state_dir: str | None, runs: int | None) -> tuple[str, list[dict[str, Any]]]:
    with open_store(state_dir) as store:
        return str(store.folder), store.reports(runs or 1)


def _changes(state_dir: str | None, runs: int | None) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The folder and its reports, now and whenever they are not what they were."""
    last: object = None
    while True:
        folder, reports = _look(state_dir, runs)
        if reports != last:
            yield folder, reports
        last = reports
        time.sleep(LOOK_SECONDS)


def _show(folder: str, reports: list[dict[str, Any]], runs: int | None, *, as_json: bool, on_one_line: bool) -> None:
    if as_json and runs:
        print_json({"schema": RUNS_SCHEMA} | runs_tree(reports), on_one_line=on_one_line)
    elif as_json:
        last = reports[0] if reports else None
        print_json({"schema": STATUS_SCHEMA, "last": last}, on_one_line=on_one_line)
    elif reports and runs:
        print_runs(reports)
    elif reports:
        print_summary(reports[0])
    else:
        click.echo(f"no run has been kept in {folder} yet; `preheat run` makes one")
