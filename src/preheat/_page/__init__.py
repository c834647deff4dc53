"""The page for people: what goes on, what would be loaded, what was asked for and what runs have won.

One text that needs nothing else, served while the process lives, or written as a file.  It is whole without scripts:
they draw the plots, and bring a served page up to date.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from preheat._page.sections import SECTIONS, live_section, made_section, runs_section
from preheat._page.tables import section

Tree = Mapping[str, Any]

RUNS = "runs"


def watch_page(
    live: Tree, runs: Sequence[Tree], parts: Mapping[str, Any], strategies: Sequence[str], *, has_plots: bool
) -> str:
    """The page as it is served.

    Args:
        live: What goes on just now.
        runs: Past runs, newest first.
        parts: Of the sections that take long to make, the trees of those that are to be shown at once, by name.
        strategies: The names to choose from.
        has_plots: Whether plots can be drawn.
    """
    sections = [section("live", "Now", live_section(live) + _controls(strategies) + _LIVE_PLOT)]
    sections += [made_section(name, parts[name]) if name in parts else _offer(name) for name in SECTIONS]
    sections.append(_runs(runs))
    scripts = '<script src="plotly.js"></script>' if has_plots else ""
    return _page("preheat", "".join(sections), scripts, is_live=True)


def report_page(at: str, runs: Sequence[Tree], parts: Mapping[str, Any], *, plotly: str | None) -> str:
    """The page as a file: what was known `at` an instant; `plotly` is the script that draws, if there is one."""
    sections = [made_section(name, parts[name]) for name in SECTIONS if name in parts]
    sections.insert(0, _runs(runs))
    scripts = f"<script>{plotly}</script>" if plotly else ""
    return _page(f"preheat, {at}", "".join(sections), scripts, is_live=False)


def part_of(name: str, tree: Any) -> str:
    """The section called `name` alone, made of `tree`."""
    return _runs(tree) if name == RUNS else made_section(name, tree)


def _runs(runs: Sequence[Tree]) -> str:
    return section(RUNS, "Past runs", runs_section(runs))


def _offer(name: str) -> str:
    """A section that is made when it is asked for: by the script, or without one by a link."""
    title, _ = SECTIONS[name]
    link = f"<a class='offer' data-part='{name}' href='?show={name}#{name}'>Show the {name}</a>"
    return section(name, title, f"<p>{link}</p>")


def _controls(strategies: Sequence[str]) -> str:
    options = "".join(f"<option>{escape(name)}</option>" for name in strategies)
    return (
        "<form id='controls' hidden><label>Strategy <select name='strategy'><option value=''>as configured</option>"
        f"{options}</select></label> <label>Budget in MiB <input name='budget_mb' type='number' min='0' "
        "placeholder='as memory allows'></label> <button name='start'>Start a run</button> "
        "<button name='pause' type='button'>Pause</button> <button name='continue' type='button'>Continue</button> "
        "<button name='cancel' type='button'>Cancel</button></form>"
        "<p id='said' role='alert'></p><noscript><p>Without scripts this page shows what was so when it was loaded; "
        "load it anew to see more. Runs are started and stopped by <code>preheat run</code>.</p></noscript>"
    )


_LIVE_PLOT = (
    "<figure id='memory' hidden><figcaption>Memory since this page was opened</figcaption>"
    "<div class='plot' role='img' aria-label='Memory in use, its limit, and what the run has loaded of its budget'>"
    "</div></figure>"
)


def _page(title: str, body: str, scripts: str, *, is_live: bool) -> str:
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<link rel='icon' href='data:,'><title>{escape(title)}</title><style>{_asset('page.css')}</style></head>"
        f"<body data-live='{str(is_live).lower()}'><a class='skip' href='#main'>Skip to what goes on</a>"
        f"<header><h1>{escape(title)}</h1><button id='theme' type='button' hidden>Theme: automatic</button></header>"
        f"<main id='main'>{body}</main>{scripts}<script>{_asset('page.js')}</script></body></html>"
    )


@cache
def _asset(name: str) -> str:
    return (files("preheat._page") / name).read_text("utf-8")
