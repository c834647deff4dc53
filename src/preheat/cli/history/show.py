"""`preheat history show`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from preheat.cli.history.known import known_history, named_caches
from preheat.cli.options import json_option, only_option, state_option
from preheat.cli.plots import print_bars
from preheat.cli.showing import instant, mib, print_json, print_rows, printable

PERIODS = {3600.0: "hour", 86_400.0: "day"}


@click.command(
    short_help="Show hit rates, sizes, churn, top items.", epilog="Example: preheat history show --cache pages --top 20"
)
@only_option
@click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="Items to show per cache.")
@state_option
@json_option
def show(only: tuple[str, ...], top: int, state_dir: str | None, as_json: bool) -> None:
    """Show what is known of each cache: hit rate over time, items, working set, churn, top items."""
    show_history(state_dir, only, top, as_json=as_json)


def show_history(state_dir: str | None, only: Sequence[str], top: int, *, as_json: bool) -> None:
    """What `preheat history show` does."""
    from preheat._analysis import history_analysis

    known = known_history(state_dir)
    names = named_caches(known, only)
    summary = history_analysis(known, top)
    summary["caches"] = [cache for cache in summary["caches"] if cache["name"] in names]
    if as_json:
        print_json(summary)
    elif not len(known.caches):
        click.echo("nothing has been recorded yet")
    else:
        _print_history(summary)


def _print_history(summary: dict[str, Any]) -> None:
    click.echo(f"from {instant(summary['since'])} to {instant(summary['at'])}")
    print_rows(
        ("cache", "items", "MiB", "hits", "misses", "hit rate"),
        (
            (
                printable(cache["name"]),
                str(cache["items"]),
                mib(cache["bytes"]),
                str(cache["hits"]),
                str(cache["misses"]),
                f"{cache['hit_ratio']:.1%}" if cache["hits"] + cache["misses"] else "not told",
            )
            for cache in summary["caches"]
        ),
    )
    _print_turnover(summary["caches"])
    for cache in summary["caches"]:
        _print_hours(cache)
    for cache in summary["caches"]:
        for item in cache["top"]:
            click.echo(f"{printable(cache['name'], 12):12} {item['count']:>10.1f} x  {printable(item['label'])}")


def _print_turnover(caches: Sequence[dict[str, Any]]) -> None:
    """What was in use of late, and how much of it was new."""
    print_rows(
        ("cache", "in the last", "items", "MiB", "churn"),
        (
            (
                printable(cache["name"]),
                PERIODS[used["seconds"]],
                str(used["items"]),
                mib(used["size_bytes"]),
                "not known" if new["ratio"] is None else f"{new['ratio']:.1%}",
            )
            for cache in caches
            for used, new in zip(cache["working_sets"], cache["churn"], strict=True)
        ),
    )


def _print_hours(cache: dict[str, Any]) -> None:
    hours = cache["hours"]
    if hours:
        click.echo(f"hit rate of {printable(cache['name'])} by the hour")
        print_bars(
            [
                (instant(hour["at"])[:-3], hour["hit_ratio"], f"{hour['hits'] + hour['misses']} requests")
                for hour in hours
            ]
        )
