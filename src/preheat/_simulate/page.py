"""Simulations as one page of plots: an HTML file that needs nothing else; takes the extra `report`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from preheat._plotly import plotly_js
from preheat._replay import Shares
from preheat._simulate.results import Row, Simulation, budget_curve, budget_knee, mean_captured
from preheat._simulate.text import amount, conclusion, percent
from preheat.errors import UsageError

COLORS = ("#3b7dd8", "#e07b39", "#2fa37c", "#a45fc1", "#c9a227", "#d1495b")
MEASURES = ("whole window, budget C", "first tenth, budget C", "whole window, budget C/4")
BAR_HEIGHT = 54

MAX_TICKS = 10

Figure = dict[str, Any]
"""`data` and `layout` of a plot, as plotly.js takes them."""


def check_page(path: str) -> None:
    """Say before the work begins that a page can't be written.

    Raises:
        UsageError: plotly is missing, or `path` is in no folder.
    """
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise UsageError(f"there is no folder {folder} to write the report to")
    plotly_js()


def write_page(path: str, simulations: Sequence[Simulation]) -> None:
    """Write the page of `simulations` to `path`.

    Raises:
        UsageError: plotly is missing, or the file can't be written.
    """
    sections = [_section(f"trace-{n}", simulation) for n, simulation in enumerate(simulations)]
    if len(simulations) > 1:
        sections.insert(0, _overview(simulations))
    try:
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(PAGE.replace("@SECTIONS@", "\n".join(sections)).replace("@PLOTLY@", plotly_js()))
    except OSError as error:
        raise UsageError(f"can't write {path}: {error.strerror}") from error


# ----------------------------------------------------------------------------------------------------------- the plots


def captured_figure(rows: Sequence[Row]) -> Figure:
    """Bars: the share of the possible saving that each warmer brought."""
    full, quarter = (mean_captured(row for row in rows if row.budget_share == share) for share in (1.0, 0.25))
    names = sorted(full, key=lambda name: full[name].whole or 0.0)
    none = Shares(None, None, None)
    values = (
        [full[name].whole for name in names],
        [full[name].tenth for name in names],
        [quarter.get(name, none).whole for name in names],
    )
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": measure,
            "y": names,
            "x": shares,
            "text": [percent(share) if share is not None else "" for share in shares],
            "textposition": "outside",
            "textfont": {"size": 11},
            "cliponaxis": False,
            "marker": {"color": color},
            "hovertemplate": "%{y}: %{x:.1%}<extra>" + measure + "</extra>",
        }
        for measure, shares, color in zip(MEASURES, values, COLORS, strict=False)
    ]
    layout = {
        "title": {"text": "Captured share by warmer"},
        "barmode": "group",
        "bargap": 0.28,
        "height": 190 + BAR_HEIGHT * len(names),
        "xaxis": {
            "title": {"text": "misses saved, of those that the best possible warm set saves"},
            "tickformat": ".0%",
        },
        "yaxis": {"automargin": True},
        "legend": {"traceorder": "reversed"},
    }
    return {"data": data[::-1], "layout": layout}


def miss_ratio_figure(simulation: Simulation) -> Figure:
    """A line: misses of an LRU cache by its size, with the capacities that were tried."""
    curve = simulation.curve
    if curve is None:
        return {"data": [], "layout": {}}
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": curve.capacity_bytes.tolist(),
        "y": curve.miss_ratio.tolist(),
        "line": {"color": COLORS[0], "width": 2.5},
        "customdata": [amount(simulation, size) for size in curve.capacity_bytes.tolist()],
        "hovertemplate": "%{customdata}: %{y:.1%} of requests miss<extra></extra>",
    }
    sampled = "" if curve.sampled == 1.0 else f", from {curve.sampled:.1%} of the items"
    ticks = _powers(simulation, int(curve.capacity_bytes[0]), int(curve.capacity_bytes[-1]))
    marks = [_mark(capacity, amount(simulation, capacity)) for capacity in simulation.capacities()]
    layout = {
        "title": {"text": f"Miss ratio by size of the cache (LRU, always running{sampled})"},
        "xaxis": _size_axis(simulation, "capacity", ticks) | {"type": "log"},
        "yaxis": {"title": {"text": "requests that miss"}, "tickformat": ".0%", "range": [0, 1]},
        "shapes": [shape for shape, _ in marks],
        "annotations": [label for _, label in marks],
        "showlegend": False,
    }
    return {"data": [line], "layout": layout}


def budget_figure(simulation: Simulation) -> Figure:
    """Lines: hit rate after a restart by what is loaded, one for each capacity, each with its knee."""
    data: list[dict[str, Any]] = []
    for capacity, color in zip(simulation.capacities(), COLORS * 100, strict=False):
        rows = [row for row in simulation.at(capacity) if row.cell.counts and row.cell.curve]
        if rows:
            data.extend(_budget_lines(simulation, capacity, rows, color))
    largest = max(simulation.capacities(), default=1)
    layout = {
        "title": {"text": "How much is worth loading: hit rate until the cache has refilled"},
        "xaxis": _size_axis(simulation, "loaded", _steps(simulation, largest)),
        "yaxis": {"title": {"text": "hit rate"}, "tickformat": ".0%", "rangemode": "tozero"},
    }
    return {"data": data, "layout": layout}


def _budget_lines(simulation: Simulation, capacity: int, rows: Sequence[Row], color: str) -> Iterator[dict[str, Any]]:
    budgets, ratios = budget_curve(rows)
    best = sum(row.cell.oracle.whole / row.cell.requests.whole for row in rows) / len(rows)
    found = budget_knee(rows)
    name = f"C = {amount(simulation, capacity)}"
    lines = {"type": "scatter", "mode": "lines", "legendgroup": str(capacity)}
    yield lines | {
        "name": f"{name}, knee at {amount(simulation, found.budget_bytes)}" if found else name,
        "x": budgets.tolist(),
        "y": ratios.tolist(),
        "line": {"color": color, "width": 2.5},
        "customdata": [amount(simulation, budget) for budget in budgets.tolist()],
        "hovertemplate": "%{customdata} loaded: %{y:.1%} hits<extra></extra>",
    }
    yield lines | {
        "showlegend": False,
        "x": [0, capacity],
        "y": [best, best],
        "line": {"color": color, "width": 1.2, "dash": "dot"},
        "hovertemplate": "best possible: %{y:.1%}<extra></extra>",
    }
    if found:
        at = float(ratios[budgets == found.budget_bytes][0])
        yield {"legendgroup": str(capacity)} | _knee_mark(found.budget_bytes, at, color)


def _knee_mark(budget: int, ratio: float, color: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "showlegend": False,
        "x": [budget],
        "y": [ratio],
        "marker": {"color": color, "size": 12, "symbol": "diamond", "line": {"width": 1.5, "color": "white"}},
        "hovertemplate": "knee: beyond it, more bytes buy little<extra></extra>",
    }


def _mark(size: int, label: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A vertical line and its label, on an axis of logarithms."""
    from math import log10

    shape = {"type": "line", "x0": size, "x1": size, "yref": "paper", "y0": 0, "y1": 1}
    label_at = {"x": log10(size), "yref": "paper", "y": 1, "text": label, "textangle": -90}
    return (
        shape | {"line": {"dash": "dot", "width": 1, "color": "#8a8f98"}},
        label_at | {"showarrow": False, "xanchor": "right", "yanchor": "top", "font": {"size": 11}},
    )


def _size_axis(simulation: Simulation, title: str, ticks: Sequence[int]) -> dict[str, Any]:
    unit = "items" if simulation.counts_items else "bytes"
    texts = [amount(simulation, size).removesuffix(" items") for size in ticks]
    return {"title": {"text": f"{title} ({unit})"}, "tickvals": list(ticks), "ticktext": texts}


def _powers(simulation: Simulation, low: int, high: int) -> list[int]:
    """Round sizes between `low` and `high`, each the same multiple of the one before."""
    step = 10 if simulation.counts_items else 4
    return [size for size in (step**n for n in range(32)) if low <= size <= high]


def _steps(simulation: Simulation, high: int) -> list[int]:
    """Round sizes from 0 to `high`, at equal distances."""
    decimal = (digit * 10**n for n in range(18) for digit in (1, 2, 5))
    binary = (2**n for n in range(62))
    step = next(size for size in (decimal if simulation.counts_items else binary) if high // size <= MAX_TICKS)
    return list(range(0, high + 1, step))


# ------------------------------------------------------------------------------------------------------------ the page


def _overview(simulations: Sequence[Simulation]) -> str:
    rows = [row for simulation in simulations for row in simulation.rows]
    counting = sum(row.cell.counts for row in rows if row.budget_share == 1.0)
    head = f"<h2>All {len(simulations)} traces</h2><p>Mean over {counting} restarts.</p>"
    return f"<section>{head}{_plot('all-captured', captured_figure(rows), CAPTURED_CAPTION)}</section>"


def _section(name: str, simulation: Simulation) -> str:
    facts = f"{simulation.requests:,} requests for {simulation.items:,} items"
    if not simulation.counts_items:
        facts += f", {amount(simulation, simulation.footprint_bytes)}"
    figures = {
        "captured": (captured_figure(simulation.rows), CAPTURED_CAPTION),
        "misses": (miss_ratio_figure(simulation), MISSES_CAPTION),
        "budget": (budget_figure(simulation), BUDGET_CAPTION),
    }
    plots = "".join(_plot(f"{name}-{what}", *drawn) for what, drawn in figures.items() if drawn[0]["data"])
    words = conclusion(simulation).removeprefix(f"{simulation.name}: ")
    words = escape(words[:1].upper() + words[1:])
    return f"<section><h2>{escape(simulation.name)}</h2><p>{facts}</p><p>{words}</p>{plots}</section>"


def _plot(name: str, figure: Figure, caption: str) -> str:
    """A place for a plot, and what is drawn there; nothing in it can end the script."""
    text = json.dumps(figure, allow_nan=False).replace("<", "\\u003c")
    script = f'<script>figures["{name}"] = {text};</script>'
    return f'<div class="plot" id="{name}"></div>{script}<p class="caption">{caption}</p>'


CAPTURED_CAPTION = "Mean over the restarts that had something to gain. C is the capacity of the cache."
MISSES_CAPTION = "Of all requests, first ones included. The upright lines are the capacities that were tried."
BUDGET_CAPTION = (
    "Mean over the same restarts. The plan is cut after so many bytes, most valuable first. Dotted: the best possible "
    "warm set. The diamond is the knee, where more bytes begin to buy little."
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What warming would have won</title>
<style>
:root { color-scheme: light dark; --text: #1c2128; --page: #fdfdfc; --faint: #59616c; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e7eb; --page: #15181d; --faint: #9aa3ae; } }
body { background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
       max-width: 1000px; padding: 1rem 1.5rem 4rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
p { max-width: 46rem; } .faint { color: var(--faint); }
.plot { margin: 1rem 0 0; } .caption { color: var(--faint); font-size: .9rem; margin: 0 0 2rem; }
</style>
<script>@PLOTLY@</script>
<script>const figures = {};</script>
</head>
<body>
<h1>What warming would have won</h1>
<p class="faint">A cache restarts empty in the midst of recorded requests. <em>Captured</em> is the share of the
misses that a warmer saved until the cache had refilled by itself, of those that the best possible choice saves, which
knows what comes: 0 % is a cold start.</p>
@SECTIONS@
<script>
const dark = window.matchMedia("(prefers-color-scheme: dark)");
function styled(layout) {
  const text = dark.matches ? "#e4e7eb" : "#1c2128", grid = dark.matches ? "#333a44" : "#e3e5e8";
  const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid };
  return Object.assign({ height: 420 }, layout, {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text, family: "system-ui, sans-serif", size: 13 },
    title: Object.assign({ x: 0, y: 0.97, xanchor: "left", font: { size: 16 } }, layout.title),
    margin: { l: 70, r: 30, t: 90, b: 60 },
    legend: Object.assign({ orientation: "h", y: 1, yanchor: "bottom", x: 0 }, layout.legend),
    xaxis: Object.assign({}, axis, layout.xaxis), yaxis: Object.assign({}, axis, layout.yaxis),
  });
}
function draw() {
  for (const [name, figure] of Object.entries(figures))
    Plotly.react(name, figure.data, styled(figure.layout), { responsive: true, displayModeBar: false });
}
dark.addEventListener("change", draw);
draw();
</script>
</body>
</html>
"""
