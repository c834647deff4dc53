"""`preheat report`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from preheat.cli.configuring import configure, on_service, open_store
from preheat.cli.options import state_option, target_argument
from preheat.errors import UsageError

if TYPE_CHECKING:
    from preheat import CacheWarmupService

TOP_ITEMS = 20
SHOWN_RUNS = 50


@click.command(epilog="Example: preheat report --output report.html")
@target_argument
@click.option("--output", default="report.html", show_default=True, metavar="FILE", help="Where to write the page.")
@click.option("--show-keys", is_flag=True, help="Name items; keys may hold what is nobody else's business.")
@state_option
def report(target: str | None, output: str, show_keys: bool, state_dir: str | None) -> None:
    """Write what is known as one page.

    It shows past runs, history, and for TARGET the plan of each strategy.

    The page needs nothing else and can be sent to others. Plots take plotly; without it there are tables.
    """
    from preheat._page import report_page
    from preheat._page.words import instant
    from preheat._plotly import has_plotly, plotly_js
    from preheat._whole_file import write_whole

    named = target or configure(state_dir).target
    if named:
        runs, parts = on_service(named, state_dir, (), lambda service: _of_service(service, show_keys))
    else:
        runs, parts = _of_folder(state_dir, show_keys)
    text = report_page(instant(time.time()), runs, parts, plotly=plotly_js() if has_plotly() else None)
    try:
        write_whole(output, [text.encode("utf-8", "backslashreplace")])
    except OSError as error:
        raise UsageError(f"can't write {output}: {error.strerror}") from None
    click.echo(f"{output}: {len(runs)} runs, {len(parts['history']['caches'])} caches")


async def _of_service(service: CacheWarmupService, show_keys: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from preheat._summary import strategies_summary

    plans = strategies_summary(await service.compare_strategies())["strategies"]
    named = [plan for plan in plans if plan["strategy"] == service.settings.strategy]
    parts = {"plan": named[0]} if named else {}
    runs, known = _told(service.ledger.runs(SHOWN_RUNS), service.ledger.history(), show_keys)
    return runs, parts | {"strategies": plans} | known


def _of_folder(state_dir: str | None, show_keys: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from preheat._history import empty_history

    with open_store(state_dir) as store:
        return _told(store.reports(SHOWN_RUNS), store.load() or empty_history(), show_keys)


def _told(kept: list[dict[str, Any]], history: Any, show_keys: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from preheat._analysis import observed_history
    from preheat._summary import without_keys

    runs = [without_keys(run, shows_items=show_keys) for run in kept]
    return runs, {"history": observed_history(history, TOP_ITEMS, shows_keys=show_keys)}
