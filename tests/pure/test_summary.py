"""Plans and reports as plain data."""

import json
from dataclasses import replace

import numpy as np
import pytest

from builders import batch, history_of, item, plan_of, reading
from preheat._model import (
    PHASES,
    STATUS_CODE,
    CacheEffect,
    ItemStatus,
    MemoryEvent,
    MemoryEventKind,
    MemoryPressureLevel,
    OriginRecord,
    PeerRecord,
    SizeRecord,
    StrategySwitch,
    TimeToSteady,
    Uplift,
    WarmupProgress,
    WarmupReport,
)
from preheat._plan.fallback import with_fallback
from preheat._plan.strategy import STRATEGIES
from preheat._summary import (
    EVENTS_SHOWN,
    history_summary,
    left_out_counts,
    plan_summary,
    pressure_events,
    progress_summary,
    report_summary,
)

ROWS = [
    item("a:pin", priority=9, size=100),
    item("b:hot", rate=5.0, size=200),
    item("a:warm", "b:hot", rate=0.5, size=300),
    item("b:cold", rate=0.001, size=400),
    item("b:dead", rate=0.0),
]


def plan(**changes):
    return plan_of(ROWS, granted_bytes=1000, profile="balanced", **changes)


def report(made=None, **changes):
    made = made or plan()
    status = [ItemStatus.LOADED, ItemStatus.FAILED, ItemStatus.SKIPPED]
    fields = {
        "plan": made,
        "status": np.array([STATUS_CODE[s] for s in status], np.int8),
        "loaded_bytes": np.array([110, 0, 0], np.int64),
        "reasons": {1: "it broke", 2: "it needs b:hot"},
        "stopped": None,
        "before": reading(process_bytes=1000),
        "peak": reading(process_bytes=5000),
        "after": reading(process_bytes=1500),
        "seconds": 2.5,
        "phase_seconds": {"critical": 1.0},
        "attempts": 5,
    } | changes
    return WarmupReport(**fields)


UPLIFT = Uplift(1.0, 0.5, 1.5, 2.0, 1.0, 3.0, 10, 4, 3, 2, 1, 100)
STEADY = TimeToSteady(3.0, 150, 0.8, 0.83)
ORIGIN = OriginRecord("shop", 12, 3, 2, 4, 1, 1, 1.5, 1.0, 4.0)
SWITCH = StrategySwitch(1000.0, "adaptive", "conservative", "MODERATE pressure for 2.0 s")
MEASURED = report(
    uplift=UPLIFT,
    steady=STEADY,
    effects=(
        CacheEffect("a", "recency", 110, 10, 60, UPLIFT, STEADY),
        CacheEffect("b", "", 0, 0, 40, None, None),
    ),
    switches=(SWITCH,),
)


def as_json(tree):
    return json.loads(json.dumps(tree, allow_nan=False))


def test_the_counts_of_a_plan_add_up():
    summary = plan_summary(plan())
    assert summary["candidates"] == summary["planned_items"] + summary["held_out_items"] + summary["left_out_items"]
    assert summary["planned_items"] == sum(phase["items"] for phase in summary["phases"]) == 3
    assert summary["planned_bytes"] == sum(phase["bytes"] for phase in summary["phases"]) == 600
    assert summary["left_out_items"] == sum(summary["left_out"].values()) == 2


def test_each_phase_tells_its_caches():
    phases = plan_summary(plan())["phases"]
    assert list(PHASES) == [phase["name"] for phase in phases]
    assert phases[0]["caches"] == {"a": {"items": 1, "bytes": 100}}
    assert phases[1]["caches"] == {"b": {"items": 1, "bytes": 200}}


def test_plan_report_and_progress_are_plain_data():
    progress = WarmupProgress("standard", 1, 4, 10, 20, MemoryPressureLevel.HIGH, 2.0, origins=(ORIGIN,))
    for tree in (plan_summary(plan()), report_summary(MEASURED), progress_summary(progress)):
        assert tree == as_json(tree)


def test_what_was_asked_of_each_origin_is_told():
    progress = WarmupProgress("standard", 1, 4, 10, 20, MemoryPressureLevel.HIGH, 2.0, origins=(ORIGIN,))
    for summary in (report_summary(report(origins=(ORIGIN,))), progress_summary(progress)):
        (told,) = summary["origins"]
        assert (told["origin"], told["requests"], told["limited_seconds"]) == ("shop", 12, 1.5)


def test_what_came_from_peers_is_told():
    record = PeerRecord(3, 40, 4000, {"busy": 1})
    told = report_summary(report(peers=record))["peers"]
    assert told == as_json(told) == {"requests": 3, "items": 40, "size_bytes": 4000, "faults": {"busy": 1}}
    assert report_summary(report())["peers"] is None


@pytest.mark.parametrize(("waits_for", "told"), [("", None), ("a place", "a place")])
def test_progress_tells_what_a_run_waits_for(waits_for, told):
    progress = WarmupProgress("critical", 0, 4, 0, 20, MemoryPressureLevel.LOW, 0.0, waits_for=waits_for)
    assert progress_summary(progress)["waits_for"] == told


def test_progress_tells_percent_and_time_left():
    progress = WarmupProgress("standard", 1, 4, 10, 20, MemoryPressureLevel.HIGH, 2.0)
    summary = progress_summary(progress)
    assert (summary["progress_percent"], summary["remaining_seconds"], summary["pressure"]) == (25.0, 6.0, "HIGH")
    nothing = progress_summary(progress._replace(done=0, total=0))
    assert (nothing["progress_percent"], nothing["remaining_seconds"]) == (100.0, None)


def test_the_counts_of_a_report_add_up():
    summary = report_summary(report())
    assert summary["planned_items"] == sum(summary["counts"].values()) == 3
    assert {str(status) for status in ItemStatus} == set(summary["counts"])
    assert (summary["accounted_bytes"], summary["measured_bytes"], summary["attempts"]) == (110, 500, 5)


def test_a_report_names_its_failures():
    assert report_summary(report())["failures"] == [{"item": "b:hot", "reason": "it broke"}]


def test_a_report_without_readings_claims_no_memory():
    summary = report_summary(report(before=None, peak=None, after=None))
    assert (summary["measured_bytes"], summary["memory"]) == (None, {"before": None, "peak": None, "after": None})


def test_a_report_times_its_phases_and_shows_its_uplift():
    summary = report_summary(MEASURED)
    assert [phase["seconds"] for phase in summary["phases"]] == [1.0, 0.0, 0.0]
    assert (summary["uplift"]["points"], summary["uplift"]["accesses"]) == (1.0, 100)
    assert report_summary(report())["uplift"] is None


def test_a_report_tells_what_it_did_for_each_cache():
    a, b = report_summary(MEASURED)["caches"]
    assert (a["cache"], a["predictor"], a["loaded_bytes"], a["unused_bytes"]) == ("a", "recency", 110, 10)
    assert (a["uplift"]["saved_low"], a["uplift"]["saved_high"]) == (1.0, 3.0)
    assert a["steady"] == {"seconds": 3.0, "requests": 150, "hit_ratio": 0.8, "steady_ratio": 0.83}
    assert (b["uplift"], b["steady"], b["accesses"]) == (None, None, 40)
    assert report_summary(MEASURED)["steady"]["requests"] == 150


def test_switches_are_told_by_report_and_progress():
    told = {"at": 1000.0, "before": "adaptive", "after": "conservative", "reason": "MODERATE pressure for 2.0 s"}
    assert [told] == report_summary(MEASURED)["switches"]
    progress = WarmupProgress("standard", 1, 4, 10, 20, MemoryPressureLevel.LOW, 2.0, "conservative", (SWITCH,))
    summary = progress_summary(progress)
    assert (summary["strategy"], summary["switches"]) == ("conservative", [told])


def test_a_plan_tells_how_its_strategy_was_moved_and_what_it_does_about_pressure():
    made = replace(plan(), adapted=("share 40% instead of 70%",), predictors={"a": "recency"})
    summary = plan_summary(with_fallback(made, STRATEGIES["balanced"], STRATEGIES["conservative"]))
    assert summary["adapted"] == ["share 40% instead of 70%"]
    assert summary["falls_back_to"] == "conservative"
    assert summary["pressure_response"] == ["slow", "pause", "roll_back"]
    assert summary["predictors"] == {"a": "recency"}
    assert plan_summary(plan())["falls_back_to"] is None


def test_memory_is_told_with_what_is_available():
    assert reading().available_bytes == report_summary(report())["memory"]["before"]["available_bytes"]


def test_repr_of_a_report_shows_what_happened():
    assert repr(report()) == "WarmupReport(balanced: 1 loaded, 1 failed, 1 skipped, stopped=None)"
    empty = report(plan_of([]), status=np.empty(0, np.int8), loaded_bytes=np.empty(0, np.int64), reasons={})
    assert "nothing to do" in repr(empty)


def test_a_history_is_summed_up_by_cache_with_what_was_asked_for_most():
    history = history_of(
        batch(["a", "b", "b"], cache="x", hits=[False, False, True], loads={"b": (70, 1.0, "v", "the b")}),
        batch(["c"], at=2000.0, cache="y", hits=[False]),
    )
    summary = history_summary(history, top=1)
    assert summary == as_json(summary)
    assert (summary["since"], summary["at"]) == (1000.0, 2000.0)
    x, y = summary["caches"]
    assert (x["name"], x["items"], x["bytes"], x["hits"], x["misses"]) == ("x", 2, 70, 1, 2)
    assert [(top["key"], top["label"]) for top in x["top"]] == [("b", "the b")]
    assert (x["hit_ratio"], y["hit_ratio"]) == (1 / 3, 0.0)
    assert history_summary(history_of(), top=3)["caches"] == []


def test_left_out_is_counted_by_reason():
    assert left_out_counts(plan_of([item("a")])) == {}
    assert list(left_out_counts(plan()).values()) == [2]


# ------------------------------------------------------------------------------------------------------------- memory


def event(at: float, kind: MemoryEventKind, cause: str = "") -> MemoryEvent:
    return MemoryEvent(at, kind, "" if kind is MemoryEventKind.PRESSURE else "c", 10, cause)


def test_a_report_tells_sizes_and_what_was_undone():
    sizes = (SizeRecord("a", "", 3, 100, 1000, 1000, 2.0), SizeRecord("b", ".py", 1, 7, 7, 7, 0.0))
    summary = as_json(report_summary(report(sizes=sizes, rolled_back_bytes=50, released_bytes=-4)))
    assert (summary["estimated_bytes"], summary["accounted_bytes"]) == (107, 110)
    assert (summary["rolled_back_bytes"], summary["released_bytes"]) == (50, -4)
    assert summary["sizes"][1] == {
        "cache": "b",
        "kind": ".py",
        "items": 1,
        "estimated_bytes": 7,
        "compared_bytes": 7,
        "accounted_bytes": 7,
        "peak_ratio": 0.0,
    }


def test_a_report_shows_changes_of_pressure_and_drops_but_no_allocations():
    events = [event(n, kind) for n, kind in enumerate(MemoryEventKind)]
    shown = as_json(report_summary(report(events=events)))["memory_events"]
    assert [one["kind"] for one in shown] == ["release", "eviction", "rollback", "pressure"]
    assert shown[-1] == {"at": 4.0, "kind": "pressure", "cache": "", "size_bytes": 10, "cause": "", "items": 1}


def test_a_roll_back_of_thousands_does_not_hide_why_it_came():
    why = event(0.0, MemoryEventKind.PRESSURE, "LOW -> CRITICAL")
    undone = [event(1.0 + n, MemoryEventKind.ROLLBACK) for n in range(10 * EVENTS_SHOWN)]
    end = event(1e6, MemoryEventKind.PRESSURE, "the run was stopped: pressure")
    shown = pressure_events([why, *undone, end])
    assert len(shown) <= EVENTS_SHOWN
    assert [one["cause"] for one in shown if one["kind"] == "pressure"] == [why.cause, end.cause]
    assert [one["at"] for one in shown] == sorted(one["at"] for one in shown)
    assert shown[-2]["at"] == undone[-1].at


def test_of_many_changes_of_pressure_the_newest_are_shown():
    shown = pressure_events([event(n, MemoryEventKind.PRESSURE) for n in range(3 * EVENTS_SHOWN)])
    assert 0 < len(shown) <= EVENTS_SHOWN
    assert shown[-1]["at"] == 3 * EVENTS_SHOWN - 1
