"""Plots in text."""

from __future__ import annotations

from collections.abc import Iterable

import click

WIDTH = 40


def print_bars(rows: Iterable[tuple[str, float, str]]) -> None:
    """A line for each label, ratio and remark, with a bar as long as the ratio."""
    told = list(rows)
    width = max((len(label) for label, _, _ in told), default=0)
    for label, ratio, remark in told:
        bar = "#" * round(WIDTH * min(1.0, max(0.0, ratio)))
        click.echo(f"{label:>{width}}  {ratio:6.1%} |{bar:{WIDTH}}| {remark}".rstrip())
