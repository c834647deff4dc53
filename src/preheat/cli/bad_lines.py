"""What is said of lines that could not be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from preheat.cli.showing import printable

if TYPE_CHECKING:
    from preheat._bad_lines import BadLines


def warn_of(bad: BadLines) -> None:
    """Say on standard error how many lines could not be used, and name the first of them."""
    if bad.count:
        click.echo(f"{bad.count} lines can't be used:", err=True)
        for named in bad.named:
            click.echo(f"  {printable(named, 200)}", err=True)
        if bad.count > len(bad.named):
            click.echo(f"  and {bad.count - len(bad.named)} more", err=True)


def bad_lines_tree(bad: BadLines) -> dict[str, Any]:
    """The same as plain data."""
    return {"bad_lines": bad.count, "bad_examples": list(bad.named)}
