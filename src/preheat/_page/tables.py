"""Tables and figures as HTML: what a screen reader, a phone, and a browser without scripts can show too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int = 1) -> str:
    """A table of texts; the first column names the row, those from `numbers_from` on are set as numbers."""
    rows = list(rows)
    if not rows:
        return ""
    ranks = ["" if n < numbers_from else " class='number'" for n in range(len(heads))]
    head = "".join(f"<th scope='col'{rank}>{escape(text)}</th>" for text, rank in zip(heads, ranks, strict=True))
    body = "".join(f"<tr>{_row(row, ranks)}</tr>" for row in rows)
    return (
        f"<div class='wide' tabindex='0' role='region' aria-label='{escape(caption)}'><table>"
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(row: Sequence[str], ranks: Sequence[str]) -> str:
    first = f"<th scope='row'>{escape(row[0])}</th>"
    return first + "".join(f"<td{rank}>{escape(text)}</td>" for text, rank in zip(row[1:], ranks[1:], strict=True))


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of named facts."""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in pairs)
    return f"<dl class='facts'>{rows}</dl>"


def figure(title: str, drawn: Mapping[str, Any], told: str = "") -> str:
    """A place for a plot, which the script draws; `told` is the same as a table, for those who don't see it."""
    if not drawn["data"]:
        return told
    data = escape(json.dumps(drawn, allow_nan=False))
    unfolded = f"<details><summary>The same as a table</summary>{told}</details>" if told else ""
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f"<div class='plot' role='img' aria-label='{escape(title)}' data-figure='{data}'></div>{unfolded}</figure>"
    )


def section(name: str, title: str, content: str) -> str:
    """A section of the page, with its heading."""
    return f"<section id='{name}' aria-labelledby='{name}-title'><h2 id='{name}-title'>{title}</h2>{content}</section>"
