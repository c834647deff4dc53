"""`preheat history curve`."""

from __future__ import annotations

from typing import Any

import click

from preheat.cli.history.known import known_history, named_caches
from preheat.cli.options import json_option, only_option, state_option
from preheat.cli.plots import print_bars
from preheat.cli.showing import mib, print_json, print_rows, print_text, printable

SHOWN = 16  # points of the plot


@click.command(
    short_help="Show the hit rate at other sizes.", epilog="Example: preheat history curve --cache pages --hit-rate 0.9"
)
@only_option
@click.option(
    "--hit-rate", "wished", type=click.FloatRange(0.0, 1.0), multiple=True, metavar="RATIO", help="May be repeated."
)
@state_option
@json_option
def curve(only: tuple[str, ...], wished: tuple[float, ...], state_dir: str | None, as_json: bool) -> None:
    """Show what the hit rate of each cache would be at other sizes, and which size a wished hit rate takes."""
    from preheat._analysis import curve_summary
    from preheat._analysis.summary import HIT_RATIOS

    known = known_history(state_dir)
    summary = curve_summary(known, named_caches(known, only), wished or HIT_RATIOS)
    if as_json:
        print_json(summary)
        return
    for cache in summary["caches"]:
        _print_curve(cache)


def _print_curve(cache: dict[str, Any]) -> None:
    print_text(
        f"{printable(cache['name'])}: an LRU cache over the last {cache['accesses']:,} requests for "
        f"{cache['items']:,} items of {mib(cache['footprint_bytes'])} MiB; "
        f"at best {cache['best_hit_ratio']:.1%} hit, first requests never do",
        hanging=2,
    )
    points = cache["bytes"][:: max(1, -(-len(cache["bytes"]) // SHOWN))]
    print_bars([(f"{mib(point['capacity'])} MiB", point["hit_ratio"], "") for point in points])
    print_rows(
        ("hit rate", "MiB", "items"),
        (
            (f"{wish['hit_ratio']:.1%}", *(_capacity(wish["bytes"], mib), _capacity(wish["items"], str)))
            for wish in cache["wished"]
        ),
    )


def _capacity(capacity: int | None, shown: Any) -> str:
    return "no size" if capacity is None else str(shown(capacity))
