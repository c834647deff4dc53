"""How anything is shown: numbers, text, tables, JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

MIB = 2**20
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


def print_json(tree: Any) -> None:
    """Print plain data as JSON."""
    import json

    click.echo(json.dumps(tree, ensure_ascii=True, indent=2))


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


def new_table(*columns: str, title: str | None = None) -> Table:
    """An empty table; columns of numbers are aligned to the right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for name in columns:
        right = name.rsplit(" ", 1)[-1] in RIGHT_ALIGNED
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    return table


def print_table(table: Table) -> None:
    """Print a table, as wide as the terminal."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False, markup=False, soft_wrap=False).print(table)


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere a line per row, its cells with tabs between them, the names first."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            click.echo("\t".join(row))
        return
    table = new_table(*columns)
    for row in rows:
        table.add_row(*row)
    print_table(table)
