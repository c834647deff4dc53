"""`preheat plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from preheat.cli.configuring import on_service
from preheat.cli.options import (
    budget_option,
    json_option,
    only_option,
    state_option,
    strategy_option,
    target_argument,
)
from preheat.cli.reports import print_phases
from preheat.cli.showing import mib, print_json, print_text, printable

if TYPE_CHECKING:
    from preheat import WarmupPlan


@click.command(
    short_help="Show what would be loaded, in which order, and why.",
    epilog="Example: preheat plan shop.caches:caches --strategy conservative --explain",
)
@target_argument
@strategy_option
@budget_option
@only_option
@state_option
@click.option("--explain", is_flag=True, help="Say for each item what becomes of it, and why.")
@click.option("--save", metavar="FILE", help="Write the plan to this file too, to be reviewed, edited and run.")
@json_option
def plan(
    target: str | None,
    strategy: str | None,
    budget_mb: float | None,
    only: tuple[str, ...],
    state_dir: str | None,
    explain: bool,
    save: str | None,
    as_json: bool,
) -> None:
    """Show what would be loaded, in which order, and why; load nothing."""
    from preheat._plan.explanation import explain_plan
    from preheat._summary import plan_summary
    from preheat._target import write_plan

    made = on_service(target, state_dir, only, lambda service: service.create_warmup_plan(strategy, budget_mb))
    if save is not None:
        write_plan(made, save)
    if as_json:
        items = {"items": [choice._asdict() for choice in explain_plan(made)]} if explain else {}
        print_json(plan_summary(made) | items)
        return
    print_plan(made)
    if explain:
        print_choices(made)


def print_plan(made: WarmupPlan) -> None:
    from preheat._summary import plan_summary

    summary = plan_summary(made)
    print_text(f"{made.strategy}: {made.why}", hanging=2)
    for reason in made.adapted:
        print_text(f"adapted: {reason}", hanging=2)
    print_text(f"budget {mib(summary['budget_bytes'])} MiB: {made.budget.reason}", hanging=2)
    print_phases(summary)
    print_text(
        f"{summary['planned_items']} of {summary['candidates']} candidates, {mib(summary['planned_bytes'])} MiB, "
        f"{summary['value_seconds']:.2f} s of waiting expected to be saved; "
        f"{summary['held_out_items']} held out to measure it",
        hanging=2,
    )
    for reason, count in summary["left_out"].items():
        click.echo(f"left out: {count:6d}  {reason}")


def print_choices(made: WarmupPlan) -> None:
    """A line per candidate: where it stands, what makes its value, and what becomes of it."""
    from preheat._plan.explanation import explain_plan

    for choice in explain_plan(made):
        place = f"{choice.rank:>6} {choice.phase:10}" if choice.phase else " " * 17
        likely = "   -" if choice.probability is None else f"{choice.probability:4.0%}"
        brings = f", brings {', '.join(map(printable, choice.brings))}" if choice.brings else ""
        click.echo(
            f"{place} {printable(choice.cache, 12):12} {choice.size_bytes:>9} B  priority {choice.priority:>2}  "
            f"{likely} x {choice.cost_seconds:.3g} s = {choice.seconds_per_mib:>9.3g} s/MiB  "
            f"{printable(choice.label)}  ({choice.decision}{brings})"
        )
