"""`preheat history merge`."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from preheat.cli.configuring import most_items
from preheat.cli.options import json_option, state_option
from preheat.cli.owning import owned_store
from preheat.cli.showing import print_json
from preheat.errors import StoreCorrupt, UsageError

if TYPE_CHECKING:
    from preheat._pool.files import Told

MERGED_SCHEMA = "preheat-merged/1"


@click.command(epilog="Example: preheat history merge web-1.pool web-2.pool --output fleet.pool")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--output", metavar="FILE", help="Write what was merged here, in place of the state folder.")
@state_option
@json_option
def merge(sources: tuple[str, ...], output: str | None, state_dir: str | None, as_json: bool) -> None:
    """Make the histories of many replicas one, for this one to plan by.

    Each SOURCE is the state folder of a replica, or a file that this command wrote. Of each replica the newest
    counts, so sources may overlap, and come in any order and again. Without --output, what they tell goes into the
    state folder, beside what was recorded there; FILE is joined with what it has already.
    """
    from preheat._pool.files import fold_pool, join_told
    from preheat._pool.peers import FILE

    pools = [_told_by(source) for source in sources]
    if output is not None:
        pools.append(_read(output) if os.path.exists(output) else [])
        pool = _written(output, join_told(pools))
    else:
        with owned_store(state_dir, create=True) as store:
            path = str(store.folder / FILE)
            pools.append(_read(path) if os.path.exists(path) else [])
            pool = _written(path, join_told(pools))
    folded = fold_pool(pool, time.time(), max_items=most_items())
    items, missed = (len(folded.history), folded.missed) if folded is not None else (0, 0.0)
    if as_json:
        replicas = [{"replica": head.replica, "version": head.version, "bytes": head.size_bytes} for head, _ in pool]
        print_json({"schema": MERGED_SCHEMA, "replicas": replicas, "items": items, "missed_accesses": missed})
    else:
        click.echo(f"{items} items of {len(pool)} replicas; no count is too low by more than {missed:.3g} accesses")


def _told_by(source: str) -> list[Told]:
    """What the folder or file `source` tells."""
    from preheat._pool.contributions import contribute
    from preheat._pool.files import told
    from preheat._pool.peers import replica_name
    from preheat._store import SqliteStore

    if not os.path.isdir(source):
        return _read(source)
    try:
        with closing(SqliteStore(source, read_only=True)) as store:
            history = store.load()
        if history is None:
            raise UsageError(f"nothing has been recorded in {source}")
        name = replica_name(Path(source), make=True)
        return [told(contribute(name, round(history.at * 1000), history))]
    except OSError as error:
        raise UsageError(f"{source} can't be read: {error.strerror}") from None


def _read(path: str) -> list[Told]:
    from preheat._pool.files import read_pool

    try:
        return read_pool(path)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from None
    except StoreCorrupt as error:
        raise UsageError(str(error)) from None


def _written(path: str, pool: list[Told]) -> list[Told]:
    from preheat._pool.files import write_pool

    try:
        damaged = write_pool(path, pool)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from None
    for each in damaged:
        click.echo(f"{each}; it was left out", err=True)
    return _read(path)
