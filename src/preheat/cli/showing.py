"""How anything is shown: numbers, text, tables, JSON."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

MIB = 2**20
LONGEST_WORD = 10  # of those that are not broken
NEVER_WRAPPED = frozenset(["started", "last"])
RIGHT_ALIGNED = frozenset(
    [
        "items",
        "MiB",
        "bytes",
        "seconds",
        "misses",
        "hits",
        "priority",
        "rate",
        "hour",
        "s/MiB",
        "captured",
        "tenth",
        "C/4",
        "churn",
    ]
)


def print_json(tree: Mapping[str, Any], *, on_one_line: bool = False) -> None:
    """Print plain data as JSON; its `schema` is the name of one in docs/reference/schemas."""
    import json

    click.echo(json.dumps(tree, ensure_ascii=True, indent=None if on_one_line else 2))


def mib(size_bytes: float) -> str:
    """`size_bytes` in MiB."""
    number = size_bytes / MIB
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"


def printable(text: str, width: int = 60) -> str:
    """`text` fit for a terminal: one line, no control characters, not too long."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return plain if len(plain) <= width else plain[: width - 1] + "…"


def instant(at: float | None) -> str:
    """Unix seconds as a local date and time."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S") if at else "-"


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """A table as wide as the terminal; elsewhere a line per row, its cells with tabs between them, the names first.

    Nothing where there are no rows.
    """
    told = list(rows)
    if not told:
        return
    if sys.stdout.isatty():
        _print_table(columns, told, title)
        return
    if title:
        click.echo(title)
    for line in columns, *told:
        click.echo("\t".join(line))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name, *cells in zip(columns, *rows, strict=True):
        words = max(len(word) for text in (name, *cells) for word in [*text.split(), ""])
        table.add_column(
            name,
            justify="right" if name.rsplit(" ", 1)[-1] in RIGHT_ALIGNED else "left",
            overflow="fold",
            no_wrap=name in NEVER_WRAPPED,
            min_width=min(LONGEST_WORD, words),
        )
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False, soft_wrap=False).print(table)


def print_text(text: str, *, indent: int = 0, hanging: int = 0, mark: str = "") -> None:
    """A sentence, after a `mark` if there is one; on a terminal broken between words, with `hanging` lines."""
    begun = f"{mark} " if mark else " " * indent
    if not sys.stdout.isatty():
        click.echo(begun + text)
        return
    width, first = shutil.get_terminal_size().columns - 1, len(click.unstyle(begun))
    broken = click.wrap_text(text, max(40, width), " " * first, " " * (indent + hanging))
    click.echo(begun + broken[first:])


def marked(text: str, colour: str) -> str:
    """`text` in a colour on a terminal, unless NO_COLOR asks for none."""
    return click.style(text, fg=colour) if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text
