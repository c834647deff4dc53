"""`preheat simulate`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from preheat.cli.options import json_option
from preheat.cli.showing import MIB, print_json, print_rows, printable

if TYPE_CHECKING:
    from preheat._simulate import Simulation, text


def _shares(_: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """Numbers with commas between them."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of numbers like 0.01,0.05", param=parameter) from None


@click.command(
    short_help="Tell what warming would have won on recorded requests.",
    epilog="Example: preheat simulate access.csv --capacity-mb 64 --report access.html",
)
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...")
@click.option("--warmer", "names", multiple=True, metavar="NAME", help="Judge only this one; may be repeated.")
@click.option("--capacity-mb", type=float, multiple=True, metavar="MIB", help="Size of the cache; may be repeated.")
@click.option("--capacities", callback=_shares, metavar="LIST", help="Sizes as shares of all items' bytes.")
@click.option("--restarts", callback=_shares, metavar="LIST", help="Where to restart, as shares of the requests.")
@click.option("--reads-only", is_flag=True, help="Pass over rows whose `op` is not that of a read.")
@click.option("--limit", type=click.IntRange(min=1), default=20_000_000, show_default=True, help="Requests to read.")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes to use.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of what draws.")
@click.option("--report", metavar="FILE", help="Write a page of plots, one HTML file.")
@json_option
def simulate(
    traces: tuple[str, ...],
    names: tuple[str, ...],
    capacity_mb: tuple[float, ...],
    capacities: tuple[float, ...] | None,
    restarts: tuple[float, ...] | None,
    reads_only: bool,
    limit: int,
    jobs: int,
    seed: int,
    report: str | None,
    as_json: bool,
) -> None:
    """Restart a cache in the midst of recorded requests, and see what warming it would have won.

    TRACE is a CSV, JSONL or Parquet file with a column `key`, and where known `t` (seconds), `size` (bytes), `op` and
    `cost` (seconds that a miss takes).
    """
    from preheat import _simulate as judge

    if report is not None:
        from preheat._simulate.page import check_page

        check_page(report)
    experiment = judge.Experiment(
        names,
        restarts or judge.RESTARTS,
        capacities or judge.CAPACITIES,
        tuple(int(mib * MIB) if abs(mib) < MIB * MIB else -1 for mib in capacity_mb),
        seed,
    )
    played = []
    for simulation in judge.simulate(
        traces,
        experiment,
        limit=limit,
        reads_only=reads_only,
        curves=report is not None,
        jobs=jobs,
        on_progress=_progress_line(),
    ):
        played.append(simulation)
        _print_simulation(simulation, quiet=as_json)
    if as_json:
        print_json(judge.simulation_summary(played, experiment))
    elif len(played) > 1:
        from preheat._simulate.text import means_table

        _print_text_table(means_table(played))
    if report is not None:
        from preheat._simulate.page import write_page

        write_page(report, played)
        click.echo(f"wrote {report}", err=True)


def _progress_line() -> Any:
    """Where a simulation is, in one line of a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int, name: str) -> None:
        text = f"{printable(name)}: {done} of {total} restarts" if done < total else ""
        click.echo(f"\r\x1b[2K{text}", nl=False, err=True)

    return show


def _print_simulation(simulation: Simulation, *, quiet: bool) -> None:
    from preheat._simulate import text

    for note in text.notes(simulation):
        click.echo(printable(note, 1000), err=True)
    if not quiet:
        for table in text.tables(simulation):
            _print_text_table(table)
        click.echo(printable(text.conclusion(simulation), 1000) + "\n")


def _print_text_table(shown: text.Table) -> None:
    if shown.rows:
        print_rows(shown.columns, shown.rows, title=printable(shown.title, 120))
    else:
        click.echo(shown.title)
    if shown.note:
        click.echo(f"{shown.note}\n")
