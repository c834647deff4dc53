"""Plots of plain trees, as `data` and `layout` that plotly.js takes; colours are the page's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from preheat._page.words import duration, instant, number, points, size

Tree = Mapping[str, Any]
Figure = dict[str, Any]

PAGE_COLORS = ("--one", "--two", "--three", "--four", "--five")
"""Names of the page's colours; a figure has them where plotly takes a colour, and the script puts them in."""


def hit_rate_figure(caches: Sequence[Tree]) -> Figure:
    """Lines: the hit rate of each cache by the hour."""
    data = [
        _line(cache["name"], PAGE_COLORS[n % len(PAGE_COLORS)])
        | {
            "mode": "lines+markers",
            "x": [hour["at"] * 1000 for hour in cache["hours"]],
            "y": [hour["hit_ratio"] for hour in cache["hours"]],
            "text": [f"{number(hour['hits'] + hour['misses'])} requests" for hour in cache["hours"]],
            "hovertemplate": "%{y:.1%} of %{text}",
        }
        for n, cache in enumerate(caches)
        if cache["hours"]
    ]
    return {"data": data, "layout": {"xaxis": {"type": "date"}, "yaxis": _share_axis("hit rate")}}


def miss_ratio_figure(caches: Sequence[Tree]) -> Figure:
    """Lines: the misses of each cache, were it an LRU cache of another size."""
    data = [
        _line(cache["name"], PAGE_COLORS[n % len(PAGE_COLORS)])
        | {
            "x": [point["capacity"] for point in cache["curve"]["bytes"]],
            "y": [1 - point["hit_ratio"] for point in cache["curve"]["bytes"]],
            "text": [size(point["capacity"]) for point in cache["curve"]["bytes"]],
            "hovertemplate": "%{text}: %{y:.1%} miss",
        }
        for n, cache in enumerate(caches)
        if cache["curve"]["bytes"]
    ]
    return {"data": data, "layout": {"xaxis": _size_axis(data, "capacity"), "yaxis": _share_axis("requests that miss")}}


def strategies_figure(strategies: Sequence[Tree]) -> Figure:
    """Bars: the seconds of waiting that each strategy would save, and the bytes that it takes for it."""
    names = [plan["strategy"] for plan in strategies]
    saved = [plan["value_seconds"] for plan in strategies]
    loaded = [plan["planned_bytes"] for plan in strategies]
    data = [
        _bars("seconds saved", names, saved, [duration(seconds) for seconds in saved], PAGE_COLORS[0]),
        _bars("loaded", names, loaded, [size(nbytes) for nbytes in loaded], PAGE_COLORS[1])
        | {"xaxis": "x2", "yaxis": "y2"},
    ]
    hidden = {"showticklabels": False, "rangemode": "tozero"}
    layout = {
        "grid": {"rows": 1, "columns": 2, "pattern": "independent"},
        "xaxis": hidden | {"title": {"text": "waiting saved"}},
        "xaxis2": hidden | {"title": {"text": "bytes loaded"}},
        "yaxis": {"autorange": "reversed"},
        "yaxis2": {"autorange": "reversed", "showticklabels": False},
        "showlegend": False,
        "height": 90 + 44 * len(names),
    }
    return {"data": data, "layout": layout}


def uplift_figure(runs: Sequence[Tree]) -> Figure:
    """Points with their intervals: what past runs won, oldest first; runs of which that is not known are left out."""
    known = [run for run in reversed(runs) if (run.get("uplift") or {}).get("points") is not None]
    won = [run["uplift"] for run in known]
    data = {
        "type": "scatter",
        "mode": "markers",
        "name": "points of hit rate",
        "x": [instant(run.get("started")) for run in known],
        "y": [each["points"] for each in won],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [each["high"] - each["points"] for each in won],
            "arrayminus": [each["points"] - each["low"] for each in won],
        },
        "text": [f"{run['strategy']}: {points(each)}" for run, each in zip(known, won, strict=True)],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": PAGE_COLORS[0], "size": 9},
    }
    layout = {
        "xaxis": {"type": "category", "showticklabels": False, "title": {"text": "runs, the newest on the right"}},
        "yaxis": {"title": {"text": "points of hit rate won"}, "rangemode": "tozero"},
        "showlegend": False,
    }
    return {"data": [data] if known else [], "layout": layout}


def _line(name: str, color: str) -> Figure:
    return {"type": "scatter", "mode": "lines", "name": name, "line": {"color": color, "width": 2}}


def _bars(name: str, names: list[str], values: list[float], texts: list[str], color: str) -> Figure:
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": names,
        "x": values,
        "text": texts,
        "textposition": "auto",
        "hovertemplate": "%{y}: %{text}<extra></extra>",
        "marker": {"color": color},
    }


def _share_axis(title: str) -> Figure:
    return {"title": {"text": title}, "tickformat": ".0%", "range": [0, 1.02]}


def _size_axis(data: Sequence[Tree], title: str) -> Figure:
    top = max((line["x"][-1] for line in data), default=0)
    step = next((2**n for n in range(62) if top // 2**n <= TICKS), 1)
    ticks = list(range(0, int(top) + 1, step))
    return {"title": {"text": title}, "tickvals": ticks, "ticktext": [size(tick) for tick in ticks]}


TICKS = 6
