"""`preheat history top`."""

from __future__ import annotations

import click

from preheat.cli.history.known import known_history, named_caches
from preheat.cli.options import json_option, only_option, state_option
from preheat.cli.showing import instant, print_json, print_rows, printable


@click.command(
    short_help="Show the items asked for most.", epilog="Example: preheat history top 20 --by value --cache pages"
)
@click.argument("count", type=click.IntRange(1, 100_000), default=10)
@click.option("--by", type=click.Choice(("rate", "value")), default="rate", show_default=True, help="What counts.")
@only_option
@state_option
@json_option
def top(count: int, by: str, only: tuple[str, ...], state_dir: str | None, as_json: bool) -> None:
    """Show the COUNT items of each cache asked for most of late; by value, those that save most waiting per byte."""
    from preheat._analysis import top_summary

    known = known_history(state_dir)
    summary = top_summary(known, named_caches(known, only), count, by_value=by == "value")
    if as_json:
        print_json(summary)
        return
    for cache in summary["caches"]:
        print_rows(
            ("cache", "per hour", "bytes", "load seconds", "saved s/MiB", "last", "item"),
            (
                (
                    printable(cache["name"], 20),
                    f"{item['per_hour']:.2f}",
                    str(item["size_bytes"] or "-"),
                    _number(item["load_seconds"]),
                    _number(item["saved_per_mib"]),
                    instant(item["last_at"]),
                    printable(item["recipe"] or item["key"]),
                )
                for item in cache["items"]
            ),
        )


def _number(number: float | None) -> str:
    return "-" if number is None else f"{number:.4g}"
