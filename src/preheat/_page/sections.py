"""The sections of the page, each made of one tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from preheat._page.figures import hit_rate_figure, miss_ratio_figure, strategies_figure, uplift_figure
from preheat._page.tables import facts, figure, section, table
from preheat._page.words import UNKNOWN, duration, instant, number, percent, points, size

Tree = Mapping[str, Any]

SHOWN_FAILURES = 20


def live_section(live: Tree) -> str:
    """What goes on just now; the script brings it up to date."""
    progress, memory = live["progress"] or {}, live["memory"] or {}
    done, total = progress.get("done", 0), progress.get("total", 0)
    state = f"{progress['strategy']}, {_doing(progress)}" if progress else "no run is active"
    told = [
        ("Items", f"{number(done)} of {number(total)}" if progress else UNKNOWN),
        ("Loaded", _of(progress.get("loaded_bytes"), progress.get("budget_bytes"))),
        ("Rate", f"{number(round(progress['items_per_second'], 1))} items/s" if progress else UNKNOWN),
        ("Left", duration(progress.get("remaining_seconds"))),
        ("Memory in use", _in_use(memory)),
        ("Pressure", live["pressure"]),
    ]
    percent_done = progress.get("progress_percent", 0.0)
    return (
        f"<p id='state' role='status'>{escape(state)}</p>"
        f"<label class='hidden' for='progress'>Items done</label><progress id='progress' max='100' "
        f"value='{percent_done:.1f}'>{percent_done:.0f} %</progress><div id='now'>{facts(told)}</div>"
    )


def _doing(progress: Tree) -> str:
    return progress["waits_for"] or f"phase {progress['phase']}"


def _in_use(memory: Tree) -> str:
    return _of(memory["limit_bytes"] - memory["available_bytes"], memory["limit_bytes"]) if memory else UNKNOWN


def _of(part: Any, whole: Any) -> str:
    return f"{size(part)} of {size(whole)}" if whole is not None and part is not None else UNKNOWN


def plan_section(plan: Tree) -> str:
    """What would be loaded, why, and what is left out."""
    phases = table(
        "What would be loaded, by phase and cache",
        ("Phase", "Cache", "Items", "Size"),
        [
            (phase["name"], name, number(part["items"]), size(part["bytes"]))
            for phase in plan["phases"]
            for name, part in phase["caches"].items()
        ],
        numbers_from=2,
    )
    left_out = table(
        "What is left out, and why",
        ("Reason", "Items"),
        [(reason, number(count)) for reason, count in plan["left_out"].items()],
    )
    told = facts(
        [
            ("Strategy", plan["strategy"]),
            ("Budget", size(plan["budget_bytes"])),
            ("Planned", f"{number(plan['planned_items'])} items, {size(plan['planned_bytes'])}"),
            ("Waiting it is expected to save", duration(plan["value_seconds"])),
            ("Held out to measure the gain", f"{number(plan['held_out_items'])} items"),
            ("Predicted by", ", ".join(f"{cache}: {name}" for cache, name in plan["predictors"].items()) or UNKNOWN),
        ]
    )
    why = [plan["why"], f"Budget: {plan['budget_reason']}.", *plan["adapted"]]
    return told + "".join(f"<p>{escape(line)}</p>" for line in why if line) + phases + left_out


def strategies_section(strategies: Sequence[Tree]) -> str:
    """What each strategy would buy within the present budget."""
    rows = [
        (
            plan["strategy"],
            size(plan["budget_bytes"]),
            number(plan["planned_items"]),
            size(plan["planned_bytes"]),
            duration(plan["value_seconds"]),
        )
        for plan in strategies
    ]
    told = table("Strategies side by side", ("Strategy", "Budget", "Items", "Size", "Waiting saved"), rows)
    return told + figure("Waiting that each strategy would save, and what it loads", strategies_figure(strategies))


def history_section(history: Tree) -> str:
    """What the caches were asked for."""
    caches = history["caches"]
    if not caches:
        return "<p>Nothing has been recorded yet.</p>"
    totals = table(
        f"What is known, since {instant(history['since'])}",
        ("Cache", "Items", "Size", "Hits", "Misses", "Hit rate"),
        [
            (
                cache["name"],
                number(cache["items"]),
                size(cache["bytes"]),
                number(cache["hits"]),
                number(cache["misses"]),
                percent(cache["hit_ratio"]),
            )
            for cache in caches
        ],
    )
    hours = [(f"{c['name']}, {instant(hour['at'])}", percent(hour["hit_ratio"])) for c in caches for hour in c["hours"]]
    wished = [
        (f"{c['name']}, {percent(wish['hit_ratio'])} hits", size(wish["bytes"]), number(wish["items"]))
        for c in caches
        for wish in c["curve"]["wished"]
        if wish["bytes"] is not None
    ]
    return (
        totals
        + figure("Hit rate by the hour", hit_rate_figure(caches), table("Hit rate", ("Hour", "Hit rate"), hours))
        + figure(
            "Misses by the size of the cache, were it an LRU cache",
            miss_ratio_figure(caches),
            table("What hit rates take", ("Cache", "Size", "Items"), wished),
        )
        + "".join(_top_items(cache) for cache in caches)
    )


def _top_items(cache: Tree) -> str:
    rows = [
        (
            item["key"] if item["key"] is not None else f"item {place}",
            number(round(item["per_hour"], 1)),
            size(item["size_bytes"]),
            duration(item["load_seconds"]),
            f"{item['saved_per_mib']:.3g} s" if item["saved_per_mib"] is not None else UNKNOWN,
        )
        for place, item in enumerate(cache["top"], 1)
    ]
    heads = ("Item", "Per hour", "Size", "Load", "Saved an hour per MiB")
    return table(f"{cache['name']}: items that save most per byte", heads, rows)


def runs_section(runs: Sequence[Tree]) -> str:
    """Past runs and what they won, the newest first."""
    if not runs:
        return "<p>No run has been kept yet.</p>"
    rows = [
        (
            instant(run.get("started")),
            str(run["strategy"]),
            number((run.get("counts") or {}).get("loaded")),
            size(run.get("accounted_bytes")),
            duration(run["seconds"]),
            run["stopped"] or "ended",
            points(run.get("uplift")),
        )
        for run in runs
    ]
    heads = ("Began", "Strategy", "Loaded", "Size", "Took", "How it ended", "Points of hit rate won (95 %)")
    told = table("Past runs", heads, rows, numbers_from=2)
    drawn = figure("Points of hit rate that runs won, with their 95 % intervals", uplift_figure(runs))
    return drawn + told + _last_run(runs[0])


def _last_run(run: Tree) -> str:
    phases = table(
        "The last run, by phase",
        ("Phase", "Items", "Size", "Took"),
        [
            (phase["name"], number(phase["items"]), size(phase["bytes"]), duration(phase.get("seconds")))
            for phase in run.get("phases") or ()
        ],
    )
    outcomes = table(
        "The last run, by outcome",
        ("Outcome", "Items"),
        [(name.replace("_", " "), number(count)) for name, count in (run.get("counts") or {}).items()],
    )
    failures = table(
        "What failed in the last run",
        ("What", "Reason", "Times"),
        [(row["item"], row["reason"], number(row.get("count", 1))) for row in run["failures"][:SHOWN_FAILURES]],
        numbers_from=2,
    )
    pressure = table(
        "The last run and memory pressure",
        ("Pressure", "For"),
        [
            (level, duration(seconds))
            for level, seconds in ((run.get("exposure") or {}).get("seconds") or {}).items()
            if seconds
        ],
    )
    return phases + outcomes + pressure + failures


SECTIONS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "plan": ("The plan", plan_section),
    "strategies": ("What would the other strategies buy?", strategies_section),
    "history": ("History", history_section),
}
"""The sections that take a while to make, by name: their titles, and what makes them of a tree."""


def made_section(name: str, tree: Any) -> str:
    """The section called `name`, made of `tree`."""
    title, make = SECTIONS[name]
    return section(name, title, make(tree))
