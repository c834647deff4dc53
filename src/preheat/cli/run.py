"""`preheat run`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from preheat.cli.configuring import on_service
from preheat.cli.interrupting import Interruption
from preheat.cli.options import (
    PARTIAL,
    PRESSURE,
    budget_option,
    json_option,
    only_option,
    state_option,
    strategy_option,
    target_argument,
)
from preheat.cli.reports import print_summary
from preheat.cli.showing import mib, print_json
from preheat.errors import UsageError

MOST_SHARDS = 4096

if TYPE_CHECKING:
    from preheat import CacheWarmupService, WarmupPlan, WarmupProgress, WarmupReport


@click.command(
    short_help="Plan, and warm in this process.", epilog="Example: preheat run shop.caches:caches --budget-mb 256"
)
@target_argument
@strategy_option
@budget_option
@only_option
@state_option
@click.option("--plan", "plan_file", metavar="FILE", help="Run the plan in this file, as far as it fits now.")
@click.option("--shard", metavar="I/N", help="Only this of N shards, from 1 on: the same items wherever it is run.")
@json_option
def run(
    target: str | None,
    strategy: str | None,
    budget_mb: float | None,
    only: tuple[str, ...],
    state_dir: str | None,
    plan_file: str | None,
    shard: str | None,
    as_json: bool,
) -> None:
    """Plan and warm, in this process: what lives in its memory goes when it ends, shared caches stay warm."""
    from preheat._bulk.sharding import shard_plan
    from preheat._target import read_plan

    if plan_file is not None and strategy is not None:
        raise UsageError("a saved plan has its strategy already; give --plan or --strategy, not both")
    number, shards = _shard(shard)
    saved = read_plan(plan_file) if plan_file is not None else None
    if saved is not None and shards > 1:
        saved = shard_plan(saved, number, shards)

    async def plan(service: CacheWarmupService) -> WarmupPlan:
        if saved is None:
            made = await service.create_warmup_plan(strategy, budget_mb)
            return shard_plan(made, number, shards) if shards > 1 else made
        made = await service.fit_warmup_plan(saved, budget_mb)
        _warn_of_left_out(made)
        return made

    async def warm(service: CacheWarmupService) -> tuple[WarmupReport | None, int | None]:
        with Interruption(lambda at_once: service.cancel_warmup(abandon=at_once)) as interruption:
            made = await plan(service)
            if interruption.exit_code is not None:
                return None, interruption.exit_code
            with _progress_bar(quiet=as_json) as show:
                return await service.execute_warmup_plan(made, show), interruption.exit_code

    report, interrupted = on_service(target, state_dir, only, warm)
    if report is None:
        click.echo("interrupted before anything was loaded", err=True)
    else:
        _print_report(report, as_json=as_json)
    sys.exit(exit_code(report) if report is not None and interrupted is None else interrupted)


def _shard(text: str | None) -> tuple[int, int]:
    """The shard that `text` names, from 0 on, and of how many.

    Raises:
        UsageError: It names none.
    """
    if text is None:
        return 0, 1
    number, _, shards = text.partition("/")
    if not (number.isdecimal() and shards.isdecimal() and 1 <= int(number[:9]) <= int(shards[:9]) <= MOST_SHARDS):
        raise UsageError(f"--shard is {text!r}; it has to be one of 1/n to n/n, n up to {MOST_SHARDS}")
    return int(number) - 1, int(shards)


def _warn_of_left_out(made: WarmupPlan) -> None:
    from preheat._summary import left_out_counts

    for reason, count in left_out_counts(made).items():
        click.echo(f"left out of the saved plan: {count} items; {reason}", err=True)


def exit_code(report: WarmupReport) -> int:
    """The exit code that says how a run ended."""
    from preheat._model import ItemStatus

    if report.stopped == "pressure":
        return PRESSURE
    return PARTIAL if report.count(ItemStatus.FAILED) or report.stopped in {"cancelled", "deadline"} else 0


class _progress_bar:  # noqa: N801 - used as a function
    """A bar on a terminal, nothing elsewhere; gives the callback that moves it."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._bar: Any = None

    def __enter__(self) -> Any:
        if self._quiet:
            return None
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.fields[phase]:10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(
                "{task.fields[memory]} MiB  {task.fields[rate]}/s  {task.fields[pressure]}  {task.fields[strategy]}"
            ),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(
            "", total=None, visible=False, phase="", memory="", rate="", pressure="", strategy=""
        )
        self._bar.start()
        return self._show

    def _show(self, progress: WarmupProgress) -> None:
        self._bar.update(
            self._task,
            visible=True,
            completed=progress.done,
            total=progress.total,
            phase=progress.waits_for or progress.phase,
            memory=f"{mib(progress.loaded_bytes)}/{mib(progress.budget_bytes)}",
            rate=f"{progress.items_per_second:.0f}",
            pressure=progress.pressure.name,
            strategy=progress.strategy,
        )

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _print_report(report: WarmupReport, *, as_json: bool) -> None:
    from preheat._summary import report_summary

    summary = report_summary(report)
    if as_json:
        print_json(summary)
    else:
        print_summary(summary)
