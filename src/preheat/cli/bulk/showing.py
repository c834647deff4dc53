"""What the commands of a bulk warm-up take, and how they show it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from preheat.cli.configuring import configure
from preheat.cli.options import INTERRUPTED, PARTIAL
from preheat.cli.showing import mib, print_json
from preheat.errors import UsageError

if TYPE_CHECKING:
    from preheat.bulk import Bulk, BulkProgress, BulkReport

T = TypeVar("T")

SCHEMA = "preheat-bulk/1"

id_argument = click.argument("bulk_id", metavar="ID")
workers_option = click.option(
    "--workers",
    type=click.IntRange(0, 1024),
    metavar="N",
    help="Processes to work in here; 0 starts none. By default one for each processor.",
)


def board_url() -> str:
    """The configured server.

    Raises:
        UsageError: There is none.
    """
    url = configure(None).coordinator_url
    if url is None:
        raise UsageError(
            "nothing says which server the board is on; set CACHE_WARMUP_COORDINATOR_URL=redis://host:6379/0"
        )
    return url


def find_bulk(bulk_id: str) -> Bulk:
    """The bulk warm-up of that name on the configured server."""
    from preheat.bulk import Bulk

    return Bulk(board_url(), bulk_id)


def awaited(what: Coroutine[Any, Any, T]) -> T:
    """What `what` gives, on a loop of its own."""
    import asyncio

    return asyncio.run(what)


def work_here(bulk: Bulk, workers: int | None) -> BulkReport:
    """Keep so many processes at work until nothing is left to do; Ctrl-C ends them, and what they did stands."""
    from preheat.bulk.processes import run_workers

    try:
        return awaited(run_workers(bulk, workers))
    except KeyboardInterrupt:
        click.echo(f"interrupted; preheat bulk resume {bulk.bulk_id} goes on with it", err=True)
        raise SystemExit(INTERRUPTED) from None


def show(bulk: Bulk, progress: BulkProgress, report: BulkReport, *, as_json: bool) -> None:
    """Print how it stands."""
    if as_json:
        told = {"schema": SCHEMA, "id": bulk.bulk_id, "progress": progress._asdict(), "report": report._asdict()}
        print_json(told | {"complete": report.is_complete, "over": progress.is_over})
        return
    state = "complete" if report.is_complete else "over" if progress.is_over else "under way"
    cancelled = ", cancelled" if progress.is_cancelled else ""
    click.echo(
        f"{bulk.bulk_id}: {state}{cancelled}; {progress.ended} of {progress.shards} shards ended, "
        f"{progress.running} running, {progress.late} to be taken over"
    )
    counts = ", ".join(f"{count} {name}" for name, count in report.counts.items())
    click.echo(f"{report.items} items: {counts}; {mib(report.loaded_bytes)} MiB in {report.seconds:.1f} s")
    if report.taken_over or report.abandoned:
        click.echo(f"{report.taken_over} times a shard was taken over, {report.abandoned} were abandoned")


def end(report: BulkReport) -> None:
    """Exit with the code that says whether anything is left."""
    if not report.is_complete:
        raise SystemExit(PARTIAL)
