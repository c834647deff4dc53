"""The plots of a report: time and origin load against the size of the fleet, and origin load in trouble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model import Expected, Fleet
from simulation import Outcome

from preheat._plotly import plotly_js

Found = Sequence[tuple[Fleet, Expected, Outcome]]


def write_plots(path: str, found: Found, troubles: Mapping[str, Outcome]) -> None:
    """Write the page; without requests to anybody else.

    Raises:
        UsageError: plotly is not installed.
    """
    script = plotly_js()
    from plotly.graph_objects import Figure

    together = [each for each in found if not each[0].shards]
    figures = [
        Figure(_times(found), _layout("Time until all is warm", "replicas", "seconds", logarithmic=True)),
        Figure(_loads(together), _layout("Load of the origin", "replicas", "fetches per key", logarithmic=True)),
        Figure(_in_trouble(troubles), _layout("Load of the origin in trouble", "seconds", "loads per second")),
    ]
    drawn = "\n".join(figure.to_html(full_html=False, include_plotlyjs=False) for figure in figures)
    Path(path).write_text(f"<!doctype html><meta charset='utf-8'><title>Fleets</title><script>{script}</script>{drawn}")


def _times(found: Found) -> list[dict[str, Any]]:
    curves = []
    for shards, name in ((False, "one plan of 100,000 keys"), (True, "shards, up to a billion keys")):
        some = [each for each in found if each[0].shards is shards]
        at = [fleet.replicas for fleet, _, _ in some]
        texts = [f"{fleet.keys:,} keys, bound by {expected.bound_by}" for fleet, expected, _ in some]
        curves += [
            _curve(f"{name}: simulated", at, [outcome.seconds for _, _, outcome in some], text=texts),
            _curve(f"{name}: by the formulas", at, [expected.seconds for _, expected, _ in some], dash="dot"),
        ]
    herd = [(fleet.replicas, expected.herd_seconds) for fleet, expected, _ in found if not fleet.shards]
    return [*curves, _curve("one plan, nothing shared, at the same rate", *zip(*herd, strict=True), dash="dash")]


def _loads(together: Found) -> list[dict[str, Any]]:
    at = [fleet.replicas for fleet, _, _ in together]
    return [
        _curve("simulated", at, [outcome.fetches_per_key for _, _, outcome in together]),
        _curve("nothing shared", at, at, dash="dash"),
    ]


def _in_trouble(troubles: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    return [_curve(name, range(len(outcome.loads)), outcome.loads) for name, outcome in troubles.items()]


def _curve(name: str, x: Sequence[float], y: Sequence[float], dash: str = "solid", **more: Any) -> dict[str, Any]:
    return {"type": "scatter", "name": name, "x": list(x), "y": list(y), "line": {"dash": dash}, **more}


def _layout(title: str, x: str, y: str, *, logarithmic: bool = False) -> dict[str, Any]:
    axis = {"type": "log", "dtick": 1} if logarithmic else {"rangemode": "tozero"}
    return {"title": {"text": title}, "xaxis": {"title": {"text": x}, **axis}, "yaxis": {"title": {"text": y}, **axis}}
