"""`preheat bulk start`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from preheat.cli.bulk.showing import awaited, board_url, end, show, work_here, workers_option
from preheat.cli.configuring import configure, on_service
from preheat.cli.options import budget_option, json_option, only_option, state_option, strategy_option, target_argument
from preheat.errors import UsageError

if TYPE_CHECKING:
    from preheat import CacheWarmupService, WarmupPlan
    from preheat.bulk import Bulk


@click.command(
    short_help="Cut a plan into shards, and work on them.",
    epilog="Example: preheat bulk start shop.caches:caches --workers 2",
)
@target_argument
@strategy_option
@budget_option
@only_option
@state_option
@click.option("--plan", "plan_file", metavar="FILE", help="The plan in this file, as it is; by default one made now.")
@click.option("--id", "bulk_id", metavar="ID", help="What to call it; by default drawn at random.")
@click.option("--shards", type=click.IntRange(1, 4096), metavar="N", help="By default of up to 50,000 items, 64 MiB.")
@workers_option
@json_option
def start(
    target: str | None,
    strategy: str | None,
    budget_mb: float | None,
    only: tuple[str, ...],
    state_dir: str | None,
    plan_file: str | None,
    bulk_id: str | None,
    shards: int | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Cut a plan into shards, put them up, and have processes here work on them until none is left.

    With --workers 0 the workers are started elsewhere: preheat bulk work, Dask or Celery.
    """
    if plan_file is not None and (strategy is not None or budget_mb is not None or only):
        raise UsageError("a saved plan is taken as it is; give --plan, or what a new one is to be made by, not both")
    configured, url = configure(state_dir), board_url()
    name = target or configured.target
    if not name:
        raise UsageError("nothing says what to warm; name it as module:attribute, or set `target` under [tool.preheat]")
    plan = _plan(name, strategy, budget_mb, only, state_dir, plan_file)
    bulk = awaited(_start(plan, name, url, bulk_id, shards))
    click.echo(f"begun: {bulk.bulk_id}", err=True)
    report = awaited(bulk.report()) if workers == 0 else work_here(bulk, workers)
    show(bulk, awaited(bulk.progress()), report, as_json=as_json)
    if workers != 0:
        end(report)


def _plan(
    target: str,
    strategy: str | None,
    budget_mb: float | None,
    only: tuple[str, ...],
    state_dir: str | None,
    plan_file: str | None,
) -> WarmupPlan:
    if plan_file is not None:
        from preheat._target import read_plan

        return read_plan(plan_file)

    async def plan(service: CacheWarmupService) -> WarmupPlan:
        return await service.create_warmup_plan(strategy, budget_mb)

    made: WarmupPlan = on_service(target, state_dir, only, plan)
    return made


async def _start(plan: WarmupPlan, target: str, url: str, bulk_id: str | None, shards: int | None) -> Bulk:
    from preheat.bulk import start_bulk

    return await start_bulk(plan, target, url, bulk_id=bulk_id, shards=shards)
