"""`preheat history forget`."""

from __future__ import annotations

import sys

import click

from preheat.cli.options import json_option, state_option
from preheat.cli.owning import owned_store
from preheat.cli.showing import print_json, printable
from preheat.errors import UsageError

MOST_STDIN_BYTES = 2**26
FORGOTTEN_SCHEMA = "preheat-forgotten/1"


@click.command(
    short_help="Forget items, to the last byte.",
    epilog="Example: preheat history forget sessions user-17 --prefix user-17/",
)
@click.argument("cache")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--prefix", "prefixes", multiple=True, metavar="TEXT", help="All keys that begin so; may be repeated.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read keys from standard input too, one a line.")
@state_option
@json_option
def forget(
    cache: str, keys: tuple[str, ...], prefixes: tuple[str, ...], from_stdin: bool, state_dir: str | None, as_json: bool
) -> None:
    """Forget items of CACHE: what is known and kept of them, to the last byte in the state folder.

    What a running cache holds is not touched. A key that is not known is no mistake.
    """
    from preheat._history import empty_history
    from preheat._history.forgetting import Forgotten, without_failures, without_items
    from preheat._pool.peers import forget_in
    from preheat._snapshot import forget_values

    named = frozenset((*keys, *(_lines() if from_stdin else ())))
    if not named and not prefixes:
        raise UsageError("nothing says what to forget; name keys, or give --prefix or --stdin")
    gone = Forgotten(cache, named, prefixes)
    with owned_store(state_dir, instead=", or call `await service.forget(cache, keys)` in it") as store:
        history, found = without_items(store.load() or empty_history(), gone)
        forget_values(store.folder, gone, is_owner=lambda: store.owner)
        forget_in(store.folder, gone)
        store.rewrite(history, [without_failures(report, gone) for report in store.reports()])
        damaged = sorted(str(path) for path in store.folder.glob("*.damaged*"))
    if as_json:
        print_json({"schema": FORGOTTEN_SCHEMA, "cache": cache, "items": len(found), "damaged_files": damaged})
    else:
        click.echo(f"{len(found)} items of {printable(cache)} forgotten")
    for path in damaged:
        click.echo(f"{path} was moved aside because it was damaged; it may still hold keys, so delete it", err=True)


def _lines() -> list[str]:
    data = sys.stdin.buffer.read(MOST_STDIN_BYTES + 1)
    if len(data) > MOST_STDIN_BYTES:
        raise UsageError(f"more than {MOST_STDIN_BYTES >> 20} MiB of keys; give them in several parts")
    return [line for line in data.decode(errors="surrogateescape").split("\n") if line]
