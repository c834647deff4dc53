"""What several commands take, and how they end."""

from __future__ import annotations

import click

FAILED, USAGE, PARTIAL, PRESSURE, INTERRUPTED = 1, 2, 3, 4, 130

target_argument = click.argument("target", required=False)


def _strategies(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """What `--strategy` is completed to."""
    from preheat._plan.strategy import STRATEGIES

    return [name for name in STRATEGIES if name.startswith(begun)]


strategy_option = click.option(
    "--strategy", metavar="NAME", shell_complete=_strategies, help="Strategy; by default the configured one."
)
budget_option = click.option("--budget-mb", type=float, metavar="MIB", help="Upper bound of the budget, in MiB.")
only_option = click.option("--cache", "only", multiple=True, metavar="NAME", help="Only this cache; may be repeated.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
state_option = click.option("--state-dir", metavar="DIR", help="Folder of the history and the reports.")
