"""`preheat record`: history that people already have."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from preheat.cli.bad_lines import bad_lines_tree, warn_of
from preheat.cli.configuring import most_history_bytes, most_items
from preheat.cli.imports import demand_new, note_file
from preheat.cli.options import json_option, state_option
from preheat.cli.owning import owned_store
from preheat.cli.showing import instant, print_json, printable
from preheat.errors import UsageError

if TYPE_CHECKING:
    from preheat._store import SqliteStore
    from preheat._trace.recording import Recorded

RECORDED_SCHEMA = "preheat-recorded/1"

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _field(role: str, shown: str) -> Callable[[_Command], _Command]:
    return click.option(f"--{role}-field", f"{role}_field", metavar="NAME", help=f"The column that has {shown}.")


@click.command(
    short_help="Add accesses logged elsewhere to the history.",
    epilog="Example: preheat record --from access.log --cache pages",
)
@click.option("--from", "source", required=True, metavar="FILE", help="Access log, .csv, .jsonl (.gz too) or .parquet.")
@click.option("--cache", required=True, metavar="NAME", help="The cache whose accesses these are.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(("auto", "combined", "csv", "jsonl", "parquet")),
    default="auto",
    show_default=True,
    help="By default what the name of the file tells; combined is an access log.",
)
@_field("key", "the keys; of an access log, path (without the query) or target")
@_field("time", "the times")
@_field("size", "the sizes, in bytes")
@_field("cost", "the seconds that a load took")
@_field("hit", "whether it was a hit")
@_field("version", "the versions")
@_field("recipe", "what the loader needs")
@click.option(
    "--time-unit",
    type=click.Choice(("s", "ms", "us", "ns")),
    default="s",
    show_default=True,
    help="What times that are numbers count, since 1970.",
)
@click.option("--again", is_flag=True, help="Record the file even if it has been recorded before.")
@state_option
@json_option
def record(
    source: str, cache: str, kind: str, time_unit: str, again: bool, state_dir: str | None, as_json: bool, **fields: Any
) -> None:
    """Add the accesses in a file to the history of a cache; nothing that is known is replaced.

    Lines that can't be used are counted, and the first of them named; the others are recorded.
    """
    from preheat._trace.lines import STDIN
    from preheat._trace.recording import file_digest, read_accesses

    names = {_ROLES.get(field, field): name for field, name in _named(fields).items()}
    digest = None if source == STDIN else file_digest(source)
    with owned_store(state_dir, create=True) as store:
        if digest is not None and not again:
            demand_new(store, source, digest, cache)
        recorded = read_accesses(
            source,
            cache,
            now=time.time(),
            names=names,
            kind=kind,
            unit=time_unit,
            max_items=most_items(),
            most_bytes=most_history_bytes(),
        )
        _save(store, recorded)
        if digest is not None:
            note_file(store, digest, cache)
    _print(recorded, cache, as_json=as_json)


_ROLES = {"time": "t"}


def _named(fields: dict[str, str | None]) -> dict[str, str]:
    return {name.removesuffix("_field"): given for name, given in fields.items() if given is not None}


def _save(store: SqliteStore, recorded: Recorded) -> None:
    from preheat._history import merge_histories

    known = store.load()
    merged = recorded.history
    if known is not None:
        try:
            merged = merge_histories(known, recorded.history, max_items=most_items())
        except ValueError as error:
            raise UsageError(str(error)) from None
    store.save(merged)


def _print(recorded: Recorded, cache: str, *, as_json: bool) -> None:
    history = recorded.history
    if as_json:
        told = {
            "schema": RECORDED_SCHEMA,
            "cache": cache,
            "accesses": recorded.accesses,
            "items": len(history),
            "passed_over": recorded.passed_over,
            "since": history.since,
            "at": history.at,
            "dated": recorded.dated,
        }
        print_json(told | bad_lines_tree(recorded.bad_lines))
        return
    warn_of(recorded.bad_lines)
    if not recorded.dated:
        click.echo("it has no times: all of it is taken to have happened when the file was changed last", err=True)
    passed_over = f"; {recorded.passed_over} lines tell of something else" if recorded.passed_over else ""
    click.echo(
        f"{recorded.accesses} accesses to {len(history)} items of {printable(cache)} recorded, "
        f"from {instant(history.since)} to {instant(history.at)}{passed_over}"
    )
