"""The page, made of trees: what stands in it, that nothing in a tree can break it, and how numbers read."""

import json
import re
from html import unescape
from html.parser import HTMLParser

import pytest

from preheat._page import part_of, report_page, watch_page
from preheat._page.figures import hit_rate_figure, miss_ratio_figure, strategies_figure, uplift_figure
from preheat._page.words import UNKNOWN, duration, instant, number, percent, points, size

EVIL = "<script>alert('x')</script>\"'&"
MEMORY = {"limit_bytes": 2**30, "used_bytes": 2**29, "available_bytes": 2**28, "process_bytes": 2**20}
IDLE = {"at": 1.0, "active": False, "progress": None, "pressure": "LOW", "memory": None}
PROGRESS = {
    "progress_percent": 25.0, "phase": "standard", "done": 1, "total": 4, "loaded_bytes": 2**20,
    "budget_bytes": 2**22, "items_per_second": 3.5, "remaining_seconds": 2.0, "strategy": "balanced",
    "waits_for": None,
}  # fmt: skip
RUNNING = IDLE | {"active": True, "progress": PROGRESS, "memory": MEMORY, "pressure": "HIGH"}


def a_plan(strategy=EVIL):
    return {
        "strategy": strategy, "why": EVIL, "adapted": [EVIL], "predictors": {EVIL: EVIL}, "budget_bytes": 2**22,
        "budget_reason": EVIL, "planned_items": 3, "planned_bytes": 2**21, "held_out_items": 1, "left_out": {EVIL: 2},
        "value_seconds": 1.5, "phases": [{"name": "critical", "caches": {EVIL: {"items": 3, "bytes": 2**21}}}],
    }  # fmt: skip


def a_cache(name=EVIL, **changes):
    item = {"key": EVIL, "per_hour": 2.0, "size_bytes": 10, "load_seconds": None, "saved_per_mib": None}
    wished = [{"hit_ratio": 0.5, "bytes": 2**20, "items": 3}, {"hit_ratio": 0.9, "bytes": None, "items": None}]
    curve = {"bytes": [{"capacity": 2**20 * n, "hit_ratio": n / 4} for n in (1, 2, 3)], "wished": wished}
    hours = [{"at": 3600.0 * n, "hits": 3, "misses": 1, "hit_ratio": 0.75} for n in (1, 2)]
    known = {"items": 1, "bytes": 10, "hits": 3, "misses": 1, "hit_ratio": 0.75, "top": [item], "hours": hours}
    return {"name": name, "curve": curve} | known | changes


def a_run(**changes):
    uplift = {"points": 20.0, "low": 18.0, "high": 22.5}
    phases = [{"name": "critical", "items": 3, "bytes": 30, "seconds": 0.5}]
    exposure = {"seconds": {"LOW": 1.0, "HIGH": 0.0}, "pauses": 0, "paused_seconds": 0.0}
    failures = [{"item": EVIL, "reason": EVIL, "count": 2}]
    return {
        "started": 1.7e9, "strategy": EVIL, "seconds": 1.0, "stopped": None, "counts": {"loaded": 3},
        "accounted_bytes": 30, "uplift": uplift, "phases": phases, "exposure": exposure, "failures": failures,
    } | changes  # fmt: skip


PARTS = {
    "plan": a_plan(),
    "strategies": [a_plan(), a_plan("balanced")],
    "history": {"since": 1.7e9, "caches": [a_cache(), a_cache("b", hours=[])]},
}


class Outline(HTMLParser):
    """Tags that are open, ids, and whether something is wrong with them."""

    EMPTY = frozenset({"meta", "link", "input", "br"})

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.scripts, self.text = [], [], 0, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]
        self.scripts += tag == "script"
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("live", [IDLE, RUNNING])
@pytest.mark.parametrize("parts", [{}, PARTS])
def test_the_page_is_whole_whatever_stands_in_the_trees(live, parts):
    outline = Outline(watch_page(live, [a_run()], parts, [EVIL], has_plots=False))
    assert outline.open == []
    assert len(set(outline.ids)) == len(outline.ids)
    assert outline.scripts == 1
    assert {"live", "plan", "strategies", "history", "runs"} <= set(outline.ids)


def test_a_part_is_the_section_that_stands_in_the_page():
    page = watch_page(IDLE, [a_run()], PARTS, ["balanced"], has_plots=True)
    for name, tree in PARTS.items():
        assert part_of(name, tree) in page
    assert part_of("runs", [a_run()]) in page


def test_what_takes_long_is_offered_by_a_link_that_works_without_scripts():
    assert "href='?show=plan#plan'" in watch_page(IDLE, [], {}, [], has_plots=False)


def test_a_run_is_shown_with_its_numbers():
    text = Outline(watch_page(RUNNING, [], {}, [], has_plots=False)).text
    for told in ("balanced, phase standard", "1 of 4", "1 MiB of 4 MiB", "3.5 items/s", "2 s", "HIGH"):
        assert told in text


def test_a_run_that_waits_is_shown_with_what_it_waits_for():
    live = RUNNING | {"progress": PROGRESS | {"waits_for": "waiting for a place"}}
    assert "balanced, waiting for a place" in Outline(watch_page(live, [], {}, [], has_plots=False)).text


def test_a_report_has_what_it_was_given_and_no_controls():
    page = report_page("today", [a_run()], {"history": PARTS["history"]}, plotly="drawing()")
    assert "<script>drawing()</script>" in page
    assert "id='controls'" not in page
    assert "id='plan'" not in page
    assert "data-live='false'" in page
    assert "<script src" not in page


def test_nothing_recorded_and_no_run_are_said_in_words():
    text = Outline(report_page("today", [], {"history": {"since": 0.0, "caches": []}}, plotly=None)).text
    assert "Nothing has been recorded yet." in text
    assert "No run has been kept yet." in text


def test_runs_kept_by_older_versions_lack_what_was_not_known_then():
    text = Outline(
        part_of("runs", [{"strategy": "balanced", "seconds": 1.0, "stopped": "pressure", "failures": []}])
    ).text
    assert "not known yet" in text
    assert "pressure" in text


def test_items_without_a_key_are_numbered():
    hidden = a_cache("pages")
    hidden["top"][0] |= {"key": None}
    assert "item 1" in Outline(part_of("history", {"since": 0.0, "caches": [hidden]})).text


def test_plots_are_read_back_as_they_were_drawn():
    drawn = re.findall(r"data-figure='([^']*)'", part_of("history", PARTS["history"]))
    assert [json.loads(unescape(each)) for each in drawn] == [
        hit_rate_figure(PARTS["history"]["caches"]),
        miss_ratio_figure(PARTS["history"]["caches"]),
    ]


def test_figures_show_what_is_known_and_nothing_else():
    assert hit_rate_figure([a_cache(hours=[])])["data"] == []
    assert [line["y"] for line in miss_ratio_figure([a_cache()])["data"]] == [[0.75, 0.5, 0.25]]
    assert [bars["x"] for bars in strategies_figure([a_plan("a"), a_plan("b")])["data"]] == [[1.5, 1.5], [2**21, 2**21]]
    won = uplift_figure([a_run(), a_run(uplift=None)])["data"]
    assert [(each["y"], each["error_y"]["array"], each["error_y"]["arrayminus"]) for each in won] == [
        ([20.0], [2.5], [2.0])
    ]
    assert uplift_figure([])["data"] == []


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (size(0), "0 B"), (size(999), "999 B"), (size(1023), "0.999 KiB"), (size(2**20), "1 MiB"),
        (size(3 * 2**40), "3 TiB"), (size(2**55), "32,768 TiB"), (size(None), UNKNOWN), (size(float("nan")), UNKNOWN),
        (duration(0.0215), "21.5 ms"), (duration(1.5), "1.5 s"), (duration(600), "10 min"), (duration(36_000), "10 h"),
        (duration(None), UNKNOWN), (percent(0.1234), "12.3 %"), (percent(None), UNKNOWN), (number(12_345), "12,345"),
        (number(1.23456), "1.235"), (number(None), UNKNOWN), (number(True), UNKNOWN), (instant(0), UNKNOWN),
        (instant(1.7e9), "2023-11-14 22:13:20 UTC"), (instant(1e30), UNKNOWN), (points(None), "not known yet"),
        (points({"points": 5.0, "low": None, "high": None}), "+5.0"),
        (points({"points": 5.0, "low": -1.0, "high": 11.0}), "+5.0 (-1.0 to +11.0)"),
    ],
)  # fmt: skip
def test_numbers_read_well(told, shown):
    assert told == shown
