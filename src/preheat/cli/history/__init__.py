"""`preheat history`: what has been recorded, looked at, carried elsewhere and forgotten."""

from __future__ import annotations

import click

from preheat.cli.configuring import configure
from preheat.cli.groups import LazyGroup
from preheat.cli.options import json_option, state_option

PLACES = {
    "show": "preheat.cli.history.show:show",
    "top": "preheat.cli.history.top:top",
    "curve": "preheat.cli.history.curve:curve",
    "model": "preheat.cli.history.model:model",
    "export": "preheat.cli.history.transfer:export",
    "import": "preheat.cli.history.transfer:import_",
    "merge": "preheat.cli.history.merge:merge",
    "forget": "preheat.cli.history.forget:forget",
}


@click.group(
    cls=LazyGroup,
    places=PLACES,
    invoke_without_command=True,
    short_help="Show what is known; export, import, forget it.",
    epilog="Example: preheat history --top 20",
)
@state_option
@click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="Items to show per cache.")
@json_option
@click.pass_context
def history(context: click.Context, state_dir: str | None, top: int, as_json: bool) -> None:
    """Show what is known: hit rate, items and bytes per cache, and the items asked for most.

    Without a command, the same as `preheat history show`.
    """
    if state_dir is not None:
        configure(state_dir)  # also for the command that follows
    if context.invoked_subcommand is None:
        from preheat.cli.history.show import show_history

        show_history(state_dir, (), top, as_json=as_json)
