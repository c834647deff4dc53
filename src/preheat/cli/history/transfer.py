"""`preheat history export` and `preheat history import`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from preheat._whole_file import write_whole
from preheat.cli.bad_lines import bad_lines_tree, warn_of
from preheat.cli.configuring import most_history_bytes, most_items
from preheat.cli.history.known import known_history
from preheat.cli.imports import demand_new, note_file
from preheat.cli.options import json_option, state_option
from preheat.cli.owning import owned_store
from preheat.cli.showing import print_json
from preheat.errors import UsageError

if TYPE_CHECKING:
    from preheat._bad_lines import BadLines
    from preheat._portable import Imported

IMPORTED_SCHEMA = "preheat-imported/1"
STDOUT = "-"


@click.command(short_help="Write what is known as JSON lines.", epilog="Example: preheat history export history.jsonl")
@click.argument("file")
@state_option
def export(file: str, state_dir: str | None) -> None:
    """Write what is known to FILE, - being standard output: one JSON object a line, nothing rounded."""
    from preheat._portable import history_lines

    lines = history_lines(known_history(state_dir))
    if file == STDOUT:
        for line in lines:
            sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    else:
        _write(file, lines)


def _write(path: str, lines: Iterable[bytes]) -> None:
    """Write `lines` to `path`, for its owner only: whole or, if that fails, not at all."""
    try:
        write_whole(path, lines, mode=0o600)
    except OSError as error:
        raise UsageError(f"the history can't be written to {path}: {error.strerror}") from None


@click.command(
    "import",
    short_help="Add what was exported to what is known.",
    epilog="Example: preheat history import history.jsonl --state-dir state",
)
@click.argument("file")
@click.option("--again", is_flag=True, help="Add the file even if it has been added before.")
@state_option
@json_option
def import_(file: str, again: bool, state_dir: str | None, as_json: bool) -> None:
    """Add what was exported to FILE, - being standard input, to what is known; nothing that is known is replaced.

    Lines that can't be used are counted, and the first of them named; the others are added.
    """
    from preheat._bad_lines import BadLines
    from preheat._history import empty_history
    from preheat._history.merging import merge_histories
    from preheat._trace.lines import STDIN
    from preheat._trace.recording import file_digest

    bad = BadLines()
    digest = None if file == STDIN else file_digest(file)
    with owned_store(state_dir, create=True) as store:
        if digest is not None and not again:
            demand_new(store, file, digest, "")
        imported = _read(file, bad)
        known = store.load() or empty_history(imported.history.half_lives)
        try:
            merged = merge_histories(known, imported.history, max_items=most_items())
        except ValueError as error:
            raise UsageError(f"{file} can't be added: {error}") from None
        store.save(merged)
        if digest is not None:
            note_file(store, digest, "")
    _print(file, imported, bad, as_json=as_json)


def _read(file: str, bad: BadLines) -> Imported:
    from preheat._portable import read_history
    from preheat._portable.lines import MOST_LINE_CHARACTERS
    from preheat._trace.lines import Lines

    try:
        with Lines(file, bad.note, MOST_LINE_CHARACTERS) as lines:
            return read_history(
                lines.numbered(), bad, until=time.time(), max_items=most_items(), most_bytes=most_history_bytes()
            )
    except OSError as error:
        raise UsageError(f"can't read {file}: {error.strerror or error}") from None
    except UsageError as error:
        raise UsageError(f"{file} can't be imported: {error}") from None


def _print(file: str, imported: Imported, bad: BadLines, *, as_json: bool) -> None:
    history = imported.history
    if as_json:
        told = {"schema": IMPORTED_SCHEMA, "items": len(history), "caches": list(history.caches), "cut": imported.cut}
        print_json(told | bad_lines_tree(bad))
        return
    warn_of(bad)
    if imported.cut:
        click.echo(f"{file} ends before its end: it was cut, and what it has was added", err=True)
    click.echo(f"{len(history)} items of {len(history.caches)} caches added")
