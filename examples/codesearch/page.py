"""`report.html`: the figures of a demo as one page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from codesearch.charts import NARROW, WIDE, Axis, Plot, Segment, legend, linear_axis, log_axis, stacked_bars
from codesearch.figures import (
    CACHES,
    MIB,
    RECOVERED,
    ROLLING,
    count_or_never,
    interval,
    megabytes,
    percent,
    rolling_percentile,
    table_of,
)

Report = Mapping[str, Any]
_LATENCY_WINDOW = 200


def page_of(report: Report) -> str:
    """The page."""
    style = Path(__file__).with_name("page.css").read_text("utf-8")
    title = "A restart, cold and warm"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
<p class="kicker">preheat · code search</p>
<h1>{title}</h1>
<p class="lead">{_lead(report)}</p>
</header>
{_headlines(report)}
{_hit_rate(report)}
{_latency(report)}
{_memory(report)}
{_planned(report)}
{_table(report)}
{_notes(report)}
</main>
</body>
</html>
"""


def _lead(report: Report) -> str:
    corpus, warmup = report["corpus"], report["warmup"]
    return (
        f"A service that searches {corpus['files']:,} source files served traffic and ended. A new process then "
        "started twice from what the first had learnt: once cold, once after preheat had loaded "
        f"{warmup['counts']['loaded']:,} items in {warmup['seconds']:.1f} s inside a budget of "
        f"{megabytes(warmup['budget_bytes'])}. "
        "Both got the same next traffic."
    )


def _headlines(report: Report) -> str:
    cold, warm = report["runs"]["cold"], report["runs"]["warm"]
    figures = [
        ("answered without a load", *(percent(r["first"]["without_load_ratio"]) for r in (cold, warm))),
        ("95th percentile of latency", *(f"{r['first']['latency_ms']['p95']:.1f} ms" for r in (cold, warm))),
        (
            f"requests until {100 * RECOVERED:.0f} % of the steady hit rate",
            *(count_or_never(r["requests_until_steady"]) for r in (cold, warm)),
        ),
    ]
    cards = "".join(
        f'<div><dt>{escape(label)}</dt><dd><span class="was">{escape(was)}</span> '
        f'<span class="arrow" aria-label="to">→</span> <span class="is">{escape(now)}</span></dd></div>'
        for label, was, now in figures
    )
    first = cold["first"]["requests"]
    return f'<dl class="headlines">{cards}</dl><p class="aside">Cold → warm, over the first {first:,} requests.</p>'


def _figure(title: str, note: str, key: str, draw: Callable[[int], str]) -> str:
    """A plot in two widths with its heading, its legend and a note."""
    return (
        f"<section><h2>{escape(title)}</h2>{key}<figure>"
        f'<div class="wide">{draw(WIDE)}</div><div class="narrow">{draw(NARROW)}</div>'
        f"<figcaption>{escape(note)}</figcaption></figure></section>"
    )


def _requests_axis(report: Report, width: int) -> Axis:
    requests = report["runs"]["cold"]["requests"]
    return linear_axis("requests since the start", requests, lambda v: f"{v:,.0f}", most_ticks=width // 90)


_COLD_WARM = legend([("cold", "cold"), ("warm", "warm")])


def _hit_rate(report: Report) -> str:
    title, runs, steady = "Hit rate over requests", report["runs"], report["steady_hit_ratio"]

    def draw(width: int) -> str:
        x = _requests_axis(report, width)
        y = linear_axis("answered without a load, %", 100, lambda v: f"{v:.0f}")
        described = f"Cold settles at {percent(steady)}. Until {100 * RECOVERED:.0f} % of that: " + ", ".join(
            f"{name} {runs[name]['requests_until_steady'] or 'never'} requests" for name in ("cold", "warm")
        )
        plot = Plot(title, described, x, y, width=width)
        for name in ("cold", "warm"):
            plot.line([(at, 100 * ratio) for at, ratio in runs[name]["series"]["hit_ratio"]], name)
        plot.level(100 * RECOVERED * steady, f"{100 * RECOVERED:.0f} % of steady", "quiet", below=True)
        return plot.svg()

    note = f"Share of the last {ROLLING} requests that were answered from the caches alone."
    return _figure(title, note, _COLD_WARM, draw)


def _latency(report: Report) -> str:
    title, runs = "Latency over requests", report["runs"]
    latency = {name: runs[name]["series"]["latency_ms"] for name in ("cold", "warm")}
    every = [v for values in latency.values() for v in values]

    def draw(width: int) -> str:
        x = _requests_axis(report, width)
        y = log_axis("milliseconds, logarithmic", max(min(every), 0.01), max(every), lambda v: f"{v:g}")
        described = "95th percentile of the first requests: " + ", ".join(
            f"{name} {runs[name]['first']['latency_ms']['p95']:.1f} ms" for name in latency
        )
        plot = Plot(title, described, x, y, width=width, height=320)
        for name, values in latency.items():
            plot.dots(list(enumerate(values, 1)), name)
        for name, values in latency.items():
            plot.line(rolling_percentile(values, 95, window=_LATENCY_WINDOW, step=20), name)
        return plot.svg()

    note = f"A dot for each request; the lines are the 95th percentile of the last {_LATENCY_WINDOW}."
    return _figure(title, note, _COLD_WARM, draw)


def _memory(report: Report) -> str:
    title, warmup = "Memory during the warm-up", report["warmup"]
    timeline, budget = warmup["timeline"], warmup["budget_bytes"]
    if not timeline:
        return ""
    before = timeline[0]["process_bytes"]
    loaded = [(t["seconds"], t["loaded_bytes"] / MIB) for t in timeline]
    grown = [(t["seconds"], max(0, t["process_bytes"] - before) / MIB) for t in timeline]
    starts = {t["phase"]: t["seconds"] for t in reversed(timeline) if t["phase"] in _PHASES}

    def draw(width: int) -> str:
        x = linear_axis("seconds since the listener opened", loaded[-1][0], lambda v: f"{v:g}", most_ticks=width // 90)
        highest = max(budget / MIB, *(y for _, y in loaded + grown))
        y = linear_axis("MB", highest * 1.12, lambda v: f"{v:g}")
        described = f"Accounted {megabytes(warmup['accounted_bytes'])} of {megabytes(budget)}."
        plot = Plot(title, described, x, y, width=width)
        plot.area(loaded, "warm")
        plot.line(loaded, "warm")
        plot.line(grown, "process")
        plot.level(budget / MIB, f"budget {megabytes(budget)}", "limit")
        for line, (phase, at) in enumerate(sorted(starts.items(), key=lambda start: start[1])):
            plot.mark(at, phase, "quiet", line=line)
        return plot.svg()

    key = legend([("warm", "accounted by the caches"), ("process", "growth of the process")])
    note = (
        "The process grows by more than the caches hold: planning, parsing and encoding need memory of their own, and "
        "much of it stays with the process for reuse."
    )
    return _figure(title, note, key, draw)


_PHASES = ("critical", "standard", "background")


def _planned(report: Report) -> str:
    title, phases = "Planned per phase and cache", report["warmup"]["phases"]
    phases = [phase for phase in phases if phase["items"]]
    if not phases:
        return ""

    def draw(width: int) -> str:
        bars = []
        for phase in phases:
            segments = [
                Segment(f"c-{name}", cache["bytes"], f"{name}: {cache['items']:,} items, {megabytes(cache['bytes'])}")
                for name in CACHES
                if (cache := phase["caches"].get(name)) is not None
            ]
            total = f"{phase['items']:,} items, {megabytes(phase['bytes'])}, {phase['seconds']:.1f} s"
            bars.append((phase["name"], total, segments))
        described = "; ".join(f"{label}: " + ", ".join(s.text for s in segments) for label, _, segments in bars)
        return stacked_bars(title, described, bars, width=width)

    totals = {
        name: [sum(p["caches"].get(name, {}).get(kind, 0) for p in phases) for kind in ("items", "bytes")]
        for name in CACHES
    }
    key = legend(
        (f"c-{name}", f"{name}: {items:,} items, {megabytes(size)}") for name, (items, size) in totals.items() if items
    )
    return _figure(title, f"The strategy {report['settings']['strategy']} {report['warmup']['why']}.", key, draw)


def _table(report: Report) -> str:
    body = []
    for row in table_of(report):
        label = escape(row.label)
        if row.cold or row.warm:
            body.append(f'<tr><th scope="row">{label}</th><td>{escape(row.cold)}</td><td>{escape(row.warm)}</td></tr>')
        else:
            body.append(f'<tr class="group"><th scope="colgroup" colspan="3">{label}</th></tr>')
    return (
        '<section><h2>All figures</h2><table><thead><tr><th scope="col"><span class="hidden">figure</span></th>'
        '<th scope="col">cold</th><th scope="col">warm</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></section>"
    )


def _notes(report: Report) -> str:
    settings, uplift, machine = report["settings"], report["uplift"], report["machine"]
    capacities = ", ".join(f"{name} {megabytes(size)}" for name, size in settings["capacity_bytes"].items())
    notes = [
        f"Corpus: {report['corpus']['root']}. Traffic: {report['traffic']['origin']} "
        f"(seed {report['traffic']['seed']}).",
        f"Capacities: {capacities}. Strategy: {settings['strategy']}; {100 * settings['holdout_ratio']:.0f} % of the "
        "deserving items were held out at random, to measure against.",
        "The steady hit rate is the share of the last quarter of the cold run's requests that needed no load. Hit "
        "rates of the caches count every access inside a request. A search that misses makes many and one that hits "
        "makes one, so the warmed process makes fewer: that is why the observed difference of the hit rates is near "
        "the uplift of the hold-out, which compares item by item, but is not the same figure.",
        f"{report['created_at']}, Python {machine['python']}, {machine['system']}; {report['seconds']:.0f} s in all.",
    ]
    if uplift is not None:
        notes.insert(
            3,
            f"Hold-out: of the warmed items asked for, {uplift['warmed_hit']:,} of {uplift['warmed_asked']:,} were "
            f"hits the first time; of those held out, {uplift['held_out_hit']:,} of {uplift['held_out_asked']:,}. "
            f"Over all {uplift['accesses']:,} accesses that is {interval(uplift)} percentage points.",
        )
    paragraphs = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f'<section class="notes"><h2>How it was measured</h2>{paragraphs}</section>'
